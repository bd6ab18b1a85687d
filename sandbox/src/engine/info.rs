//! What the engine says about itself: one call that the Docker-compatible API
//! does not have.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::OLDEST_PODMAN;
use crate::error::{Code, Error, Result};
use crate::host::write_atomically;
use crate::selinux::{self, Mode};

/// Longest answer that is read, in bytes. Podman's is about 4 kB.
const MAX_ANSWER: u64 = 1 << 20;

/// The parts of `podman info` that decide something.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EngineInfo {
    host: HostInfo,
    version: VersionInfo,
    #[serde(default)]
    store: StoreInfo,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoreInfo {
    #[serde(default)]
    graph_driver_name: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostInfo {
    #[serde(default)]
    cgroup_version: String,
    #[serde(default)]
    cgroup_controllers: Option<Vec<String>>,
    #[serde(default)]
    cpus: u32,
    #[serde(default)]
    mem_total: u64,
    #[serde(default)]
    id_mappings: Option<IdMappings>,
    security: Security,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct IdMappings {
    #[serde(default)]
    uidmap: Option<Vec<IdRange>>,
    #[serde(default)]
    gidmap: Option<Vec<IdRange>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct IdRange {
    size: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Security {
    rootless: bool,
    #[serde(default, rename = "selinuxEnabled")]
    selinux: bool,
    #[serde(default, rename = "seccompEnabled")]
    seccomp: bool,
    #[serde(default, rename = "apparmorEnabled")]
    apparmor: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct VersionInfo {
    #[serde(rename = "Version")]
    version: String,
}

impl EngineInfo {
    /// The release, for instance `4.3.1`.
    pub fn version(&self) -> &str {
        &self.version.version
    }

    /// How images are stored, for instance `overlay`; empty when it does not say.
    pub fn storage_driver(&self) -> &str {
        &self.store.graph_driver_name
    }

    /// SELinux labels are in use, so what is mounted needs one.
    pub fn selinux(&self) -> bool {
        self.host.security.selinux
    }

    /// Layers of the system-call wall that are live here, in words.
    pub fn hardening(&self) -> Vec<&'static str> {
        let security = &self.host.security;
        let layers = [
            ("seccomp", security.seccomp),
            ("SELinux", security.selinux && selinux::mode() == Mode::Enforcing),
            ("AppArmor", security.apparmor),
        ];
        layers.into_iter().filter(|(_, live)| *live).map(|(name, _)| name).collect()
    }

    /// Refuses what rcc cannot work with.
    pub(super) fn check(&self, user: &str) -> Result<()> {
        if !self.host.security.rootless {
            return Err(Error::new(
                Code::EngineRootful,
                "Podman at the user's socket says that it is not rootless.",
            ));
        }
        if release(self.version()) < OLDEST_PODMAN {
            let (major, minor) = OLDEST_PODMAN;
            return Err(Error::new(
                Code::EngineTooOld,
                format!("This is Podman {}, rcc needs {major}.{minor}.", self.version()),
            ));
        }
        if !self.host.security.seccomp {
            return Err(Error::new(
                Code::Engine,
                "Podman says that it cannot filter system calls (seccomp) on this computer.",
            ));
        }
        if let Some(ids) = &self.host.id_mappings {
            let enough = |ranges: &Option<Vec<IdRange>>| {
                ranges.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.size >= 1000))
            };
            if !enough(&ids.uidmap) || !enough(&ids.gidmap) {
                return Err(no_subordinate_ids(user));
            }
        }
        Ok(())
    }

    /// Cores of a sandbox for which nobody wished anything. With one core there is
    /// none to keep back.
    fn default_cores(&self) -> u32 {
        self.host.cpus.saturating_sub(1).max(1)
    }

    /// What a sandbox gets for which nobody wished anything: memory in bytes,
    /// cores, processes.
    pub fn default_limits(&self) -> (u64, u32, u32) {
        let memory = LimitsWanted::default().memory_or_default(self.host.mem_total);
        (memory, self.default_cores(), PROCESSES)
    }

    /// The next larger memory for a sandbox whose `memory` was not enough, in
    /// bytes: half as much again, in whole GiB where that is possible, and never
    /// all that the computer has.
    pub fn more_memory(&self, memory: u64) -> Option<u64> {
        const STEP: u64 = 1 << 29;
        const GIB: u64 = 1 << 30;
        let step = if memory >= 2 * GIB { GIB } else { STEP };
        let wanted = (memory / 2).saturating_add(memory).next_multiple_of(step);
        let most = self.host.mem_total.saturating_sub(GIB) / STEP * STEP;
        Some(wanted.min(most)).filter(|more| *more > memory)
    }

    /// What of `wanted` this computer can hold, and in words what it cannot.
    pub fn limits(&self, wanted: &LimitsWanted) -> Limits {
        let has = |name: &str| {
            self.host.cgroup_version == "v2"
                && self
                    .host
                    .cgroup_controllers
                    .iter()
                    .flatten()
                    .any(|controller| controller == name)
        };
        let mut limits = Limits {
            tmpfs: wanted.memory_or_default(self.host.mem_total) / 2,
            ..Limits::default()
        };
        let mut missing = Vec::new();
        if has("memory") {
            let memory = wanted.memory_or_default(self.host.mem_total);
            limits.memory = Some(memory);
            limits.memory_soft = Some(memory / 8);
        } else {
            missing.push("memory");
        }
        if has("pids") {
            limits.processes = Some(wanted.processes.unwrap_or(PROCESSES));
        } else {
            missing.push("number of processes");
        }
        if has("cpu") {
            // The engine refuses more cores than there are.
            let cores = wanted
                .cores
                .map_or(self.default_cores(), |cores| cores.clamp(1, self.host.cpus.max(1)));
            limits.cpus = Some(cores);
        } else {
            missing.push("CPU time");
        }
        if !missing.is_empty() {
            let why = if self.host.cgroup_version == "v2" {
                "its control group controllers are not delegated to you"
            } else {
                "it does not use unified control groups"
            };
            limits.note = Some(format!(
                "This computer cannot limit a sandbox's {}: {why}.",
                missing.join(", ")
            ));
        }
        limits
    }
}

/// Processes and threads of one sandbox, at most.
const PROCESSES: u32 = 4096;

/// Memory that the default never exceeds.
const DEFAULT_MEMORY_CAP: u64 = 8 << 30;

/// What the person asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsWanted {
    /// Bytes; `None` is half of the RAM, at most 8 GiB.
    pub memory: Option<u64>,
    /// Whole cores; `None` is all but one.
    pub cores: Option<u32>,
    /// Processes and threads; `None` is 4096.
    pub processes: Option<u32>,
}

impl LimitsWanted {
    fn memory_or_default(&self, total: u64) -> u64 {
        self.memory.unwrap_or_else(|| (total / 2).clamp(512 << 20, DEFAULT_MEMORY_CAP))
    }
}

/// What is asked of the engine. `None`: this computer cannot hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes; swap is then 0.
    pub memory: Option<u64>,
    /// Bytes that the kernel takes from it last when the host is short (`memory.low`).
    pub memory_soft: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u32>,
    /// Whole cores.
    pub cpus: Option<u32>,
    /// Bytes that `/tmp` may hold.
    pub tmpfs: u64,
    /// A sentence, when something cannot be held.
    pub note: Option<String>,
}

pub(super) fn no_subordinate_ids(user: &str) -> Error {
    Error::new(
        Code::NoSubordinateIds,
        format!("A sandbox needs a range of ids of its own; /etc/subuid and /etc/subgid give {user} none."),
    )
    .hint_is(format!(
        "Ask the administrator: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`, then run `podman system migrate`."
    ))
}

/// The engine's answer, kept with what it belongs to: asking takes a third of a
/// second, half of what a warm start may take.
#[derive(Serialize, Deserialize)]
struct Kept {
    socket: String,
    program: String,
    answer: EngineInfo,
}

/// Asks the engine behind `socket`, or takes the answer from `kept`, a file of
/// this login, when neither the socket nor the program changed since.
pub(super) async fn of(socket: &Path, kept: &Path) -> Result<EngineInfo> {
    let now = (stamp(Some(socket)), stamp(crate::programs::find("podman").as_deref()));
    if let Ok(text) = fs::read(kept)
        && let Ok(kept) = serde_json::from_slice::<Kept>(&text)
        && (&kept.socket, &kept.program) == (&now.0, &now.1)
    {
        return Ok(kept.answer);
    }
    let answer = ask(socket).await?;
    let (socket, program) = now;
    if let Ok(text) = serde_json::to_vec(&Kept { socket, program, answer: answer.clone() }) {
        // It only costs time when it cannot be kept.
        let _ = write_atomically(kept, &text);
    }
    Ok(answer)
}

/// Which file this is: its name, inode and time of change.
fn stamp(path: Option<&Path>) -> String {
    let Some((path, meta)) = path.and_then(|path| Some((path, fs::metadata(path).ok()?))) else {
        return String::new();
    };
    format!("{} {} {}.{}", path.display(), meta.ino(), meta.ctime(), meta.ctime_nsec())
}

async fn ask(socket: &Path) -> Result<EngineInfo> {
    let body = get(socket, "/v4.0.0/libpod/info").await.map_err(|e| {
        Error::new(Code::EngineUnreachable, format!("Asking {} failed: {e}.", socket.display()))
    })?;
    serde_json::from_slice(&body).map_err(|e| {
        Error::new(
            Code::EngineUnreachable,
            format!("What answers at {} is not Podman: {e}.", socket.display()),
        )
    })
}

/// One GET. HTTP/1.0, so the end of the stream is the end of the answer.
pub(super) async fn get(socket: &Path, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    let text = |message: &str| std::io::Error::other(message.to_string());
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or_else(|| text("the answer is not HTTP"))?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        return Err(std::io::Error::other(format!("it answered with status {status}")));
    }
    Ok(answer.split_off(end + 4))
}

fn release(version: &str) -> (u32, u32) {
    let mut parts = version.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(edit: impl FnOnce(&mut serde_json::Value)) -> EngineInfo {
        let mut value = serde_json::json!({
            "host": {
                "cgroupVersion": "v2", "cgroupControllers": ["cpu", "memory", "pids"], "cpus": 8,
                "memTotal": 32_u64 << 30,
                "idMappings": {"uidmap": [{"size": 1}, {"size": 65536}], "gidmap": [{"size": 65536}]},
                "security": {"rootless": true, "seccompEnabled": true, "selinuxEnabled": false}
            },
            "version": {"Version": "4.3.1"}
        });
        edit(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_rcc_cannot_work_with_is_refused() {
        let code = |edit: fn(&mut serde_json::Value)| info(edit).check("ann").unwrap_err().code();
        assert!(info(|_| ()).check("ann").is_ok());
        assert_eq!(code(|v| v["host"]["security"]["rootless"] = false.into()), Code::EngineRootful);
        assert_eq!(code(|v| v["host"]["security"]["seccompEnabled"] = false.into()), Code::Engine);
        assert_eq!(code(|v| v["version"]["Version"] = "4.2.9".into()), Code::EngineTooOld);
        assert_eq!(code(|v| v["version"]["Version"] = "nonsense".into()), Code::EngineTooOld);
        assert_eq!(
            code(|v| v["host"]["idMappings"]["uidmap"] = serde_json::json!([{"size": 1}])),
            Code::NoSubordinateIds
        );
    }

    #[test]
    fn limits_are_the_documented_ones() {
        let limits = info(|_| ()).limits(&LimitsWanted::default());
        assert_eq!(limits.memory, Some(8 << 30));
        assert_eq!(limits.memory_soft, Some(1 << 30));
        assert_eq!((limits.processes, limits.cpus), (Some(4096), Some(7)));
        assert_eq!(limits.note, None);
        let small =
            info(|v| v["host"]["memTotal"] = (4_u64 << 30).into()).limits(&LimitsWanted::default());
        assert_eq!(small.memory, Some(2 << 30));
    }

    #[test]
    fn what_cannot_be_held_is_not_asked_for_and_is_said() {
        let limits = info(|v| v["host"]["cgroupControllers"] = serde_json::json!([]))
            .limits(&LimitsWanted::default());
        assert_eq!((limits.memory, limits.processes, limits.cpus), (None, None, None));
        assert!(limits.note.unwrap().contains("not delegated"));
        let old =
            info(|v| v["host"]["cgroupVersion"] = "v1".into()).limits(&LimitsWanted::default());
        assert!(old.memory.is_none() && old.note.unwrap().contains("unified"));
    }
}
