//! What a sandbox's container looks like: a pure function from a description to
//! the engine's request.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    Mount, MountBindOptions, MountBindOptionsPropagationEnum, MountType, ResourcesUlimits,
};

use super::Limits;
use crate::error::{Code, Error, Result};

/// Labels on the container: the only record of a session.
pub mod label {
    /// The project's id.
    pub const PROJECT: &str = "dev.rcc.project";
    /// The session's id, the same as the container's name.
    pub const SESSION: &str = "dev.rcc.session";
    /// The project's path, for display.
    pub const PATH: &str = "dev.rcc.path";
    /// Device and inode of the folder that was mounted, in decimal, with a colon between.
    pub const FOLDER: &str = "dev.rcc.folder";
    /// Another one for each opening: which container an opening made.
    pub const OPENING: &str = "dev.rcc.opening";
    /// The image as the person named it.
    pub const IMAGE: &str = "dev.rcc.image";
    /// Version of Claude Code that is mounted, or empty.
    pub const CLAUDE: &str = "dev.rcc.claude";
    /// `1` when the person asked to start offline.
    pub const OFFLINE: &str = "dev.rcc.offline";
    /// `1` when programs inside may make namespaces of their own.
    pub const USER_NAMESPACES: &str = "dev.rcc.user-namespaces";
}

/// Where things are inside.
pub const HOME: &str = "/home/agent";
/// The project's place inside.
pub const WORKSPACE: &str = "/workspace";

/// The SELinux label that the engine gives a file or folder and what is in it. A
/// container reads what bears the label of containers, and not much else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileLabel {
    /// It keeps the one that it has.
    Kept,
    /// This container's own: no other may touch it.
    Own,
    /// That of all containers.
    Shared,
}

/// One mount. Sources are names of the engine's API, never `source:target`
/// strings, except where SELinux leaves no other way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// A path of the host, or a volume's name.
    pub source: String,
    /// Absolute path inside.
    pub target: String,
    /// Not writable inside.
    pub read_only: bool,
    /// `source` names a volume.
    pub volume: bool,
    /// Where SELinux is in use.
    pub label: FileLabel,
}

impl MountSpec {
    /// A file or folder of the host that the sandbox may only read.
    pub fn read_only(source: impl Into<String>, target: impl Into<String>) -> Self {
        let (source, target) = (source.into(), target.into());
        Self { source, target, read_only: true, volume: false, label: FileLabel::Kept }
    }

    /// A folder of the host that the sandbox may write.
    pub fn writable(source: impl Into<String>, target: impl Into<String>) -> Self {
        Self { read_only: false, ..Self::read_only(source, target) }
    }

    /// A volume of the engine's.
    pub fn volume(name: impl Into<String>, target: impl Into<String>) -> Self {
        Self { volume: true, ..Self::writable(name, target) }
    }

    /// The same with this label.
    pub fn label(self, label: FileLabel) -> Self {
        Self { label, ..self }
    }
}

/// Whether a name means the same to the engine wherever it is put: the engine
/// makes text of a mount, with separators, and takes that apart again.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.contains([',', ':', '"', '\\', '=']) && !name.chars().any(char::is_control)
}

/// Everything that differs between containers.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// Image reference.
    pub image: String,
    /// `[a-z0-9-]`.
    pub hostname: String,
    /// The person's ids; keep-id gives the agent the same.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// In no order; the project is one of them.
    pub mounts: Vec<MountSpec>,
    /// What this computer can hold.
    pub limits: Limits,
    /// See [`label`].
    pub labels: HashMap<String, String>,
    /// Give the mounts their SELinux labels.
    pub relabel: bool,
    /// The file with the filter of system calls, which the engine reads.
    pub filter: String,
}

impl ContainerSpec {
    /// Refuses mounts that would become other mounts on their way.
    pub(super) fn check(&self) -> Result<()> {
        let odd = |mount: &&MountSpec| !is_plain(&mount.source) || !is_plain(&mount.target);
        match self.mounts.iter().find(odd) {
            None => Ok(()),
            Some(mount) => Err(Error::new(
                Code::SandboxStart,
                format!(
                    "{} cannot be mounted: its path has a comma, colon, quote, backslash, equals sign or control character.",
                    crate::display::line(&mount.source, 200)
                ),
            )
            .hint_is("Rename the folder that it is in.")),
        }
    }

    /// The request. No environment but `HOME` and `PATH`: what is in here shows
    /// in `inspect`.
    pub(super) fn body(&self) -> ContainerCreateBody {
        let inside = rcc_inside::PROGRAM;
        ContainerCreateBody {
            image: Some(self.image.clone()),
            hostname: Some(self.hostname.clone()),
            user: Some(format!("{}:{}", self.uid, self.gid)),
            // Without HOME keep-id makes the working directory the home (THREATS F9).
            env: Some(vec![format!("HOME={HOME}"), format!("PATH={}", crate::terminal::PATH)]),
            entrypoint: Some(vec![inside.into()]),
            cmd: Some(vec!["init".into()]),
            working_dir: Some(WORKSPACE.into()),
            labels: Some(self.labels.clone()),
            // PID 1 ends on TERM; what it leaves is killed after so many seconds.
            stop_timeout: Some(5),
            // An image of the person's choice may ask for a program that is run again and again.
            healthcheck: Some(HealthConfig {
                test: Some(vec!["NONE".into()]),
                ..HealthConfig::default()
            }),
            host_config: Some(self.host_config()),
            ..ContainerCreateBody::default()
        }
    }

    fn host_config(&self) -> HostConfig {
        let (binds, mounts) = self.split_mounts();
        let tmp = |mode: &str| {
            format!("rw,nosuid,nodev,mode={mode},size={}", self.limits.tmpfs.max(64 << 20))
        };
        HostConfig {
            network_mode: Some("none".into()),
            userns_mode: Some("keep-id".into()),
            // Said, whatever containers.conf says.
            ipc_mode: Some("private".into()),
            pid_mode: Some("private".into()),
            uts_mode: Some("private".into()),
            cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
            privileged: Some(false),
            readonly_rootfs: Some(true),
            cap_drop: Some(vec!["ALL".into()]),
            security_opt: Some(vec![
                "no-new-privileges".into(),
                format!("seccomp={}", self.filter),
            ]),
            tmpfs: Some(HashMap::from([
                ("/tmp".to_string(), tmp("1777")),
                ("/var/tmp".to_string(), tmp("1777")),
            ])),
            mounts: Some(mounts),
            binds: Some(binds),
            memory: self.limits.memory.map(signed),
            // Equal to the memory limit: no swap on top of it.
            memory_swap: self.limits.memory.map(signed),
            memory_reservation: self.limits.memory_soft.map(signed),
            // 0 asks for none, against an engine's default that cannot be held.
            pids_limit: Some(self.limits.processes.map_or(0, i64::from)),
            nano_cpus: self.limits.cpus.map(|cpus| i64::from(cpus) * 1_000_000_000),
            ulimits: Some(vec![ResourcesUlimits {
                // A crash must not write the agent's memory, with its token, into the project.
                name: Some("core".into()),
                soft: Some(0),
                hard: Some(0),
            }]),
            log_config: Some(HostConfigLogConfig {
                typ: Some("k8s-file".into()),
                config: Some(HashMap::from([("max-size".to_string(), "1mb".to_string())])),
            }),
            ..HostConfig::default()
        }
    }

    /// The API's mounts cannot ask for a label; the short string form can.
    fn split_mounts(&self) -> (Vec<String>, Vec<Mount>) {
        let labelled = |mount: &&MountSpec| self.relabel && mount.label != FileLabel::Kept;
        let binds = self
            .mounts
            .iter()
            .filter(labelled)
            .map(|MountSpec { source, target, read_only, volume, label }| {
                let access = if *read_only { "ro" } else { "rw" };
                let propagation = if *volume { "" } else { ",rprivate" };
                let label = if *label == FileLabel::Own { "Z" } else { "z" };
                format!("{source}:{target}:{access}{propagation},{label}")
            })
            .collect();
        let mounts = self
            .mounts
            .iter()
            .filter(|mount| !labelled(mount))
            .map(|mount| Mount {
                target: Some(mount.target.clone()),
                source: Some(mount.source.clone()),
                typ: Some(if mount.volume { MountType::VOLUME } else { MountType::BIND }),
                read_only: Some(mount.read_only),
                bind_options: (!mount.volume).then(|| MountBindOptions {
                    propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
                    ..MountBindOptions::default()
                }),
                ..Mount::default()
            })
            .collect();
        (binds, mounts)
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(relabel: bool) -> ContainerSpec {
        ContainerSpec {
            image: "localhost/x".into(),
            hostname: "web".into(),
            uid: 1000,
            gid: 1000,
            mounts: vec![
                MountSpec::writable("/p", WORKSPACE).label(FileLabel::Own),
                MountSpec::read_only("/p/.git/config", "/workspace/.git/config"),
                MountSpec::volume("rcc-home-1", HOME).label(FileLabel::Own),
                MountSpec::read_only("/d/claude", "/usr/bin/claude").label(FileLabel::Shared),
            ],
            limits: Limits {
                memory: Some(4 << 30),
                processes: Some(4096),
                tmpfs: 2 << 30,
                ..Limits::default()
            },
            labels: HashMap::new(),
            relabel,
            filter: "/run/user/1000/rcc/files/1/seccomp.json".into(),
        }
    }

    #[test]
    fn the_walls_are_asked_for() {
        let body = spec(false).body();
        let host = body.host_config.unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.userns_mode.as_deref(), Some("keep-id"));
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.privileged, Some(false));
        for mode in [host.ipc_mode, host.pid_mode, host.uts_mode] {
            assert_eq!(mode.as_deref(), Some("private"));
        }
        assert_eq!(host.cgroupns_mode, Some(HostConfigCgroupnsModeEnum::PRIVATE));
        assert_eq!(body.healthcheck.unwrap().test.unwrap(), ["NONE"]);
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(host.cap_add, None);
        let filter = "seccomp=/run/user/1000/rcc/files/1/seccomp.json";
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges", filter]);
        assert_eq!(host.memory, host.memory_swap);
        assert_eq!(body.env.unwrap()[0], "HOME=/home/agent");
    }

    #[test]
    fn a_mount_that_the_engine_would_take_apart_is_refused() {
        assert!(spec(false).check().is_ok());
        for name in ["a,readonly=false", "a:b", "a=b", "a\"b", "a\\b", "a\nb"] {
            let mut source = spec(false);
            source.mounts.push(MountSpec::read_only(format!("/p/{name}"), "/t"));
            assert!(source.check().is_err(), "{name}");
            let mut target = spec(false);
            target.mounts.push(MountSpec::read_only("/p/x", format!("/workspace/{name}")));
            assert!(target.check().is_err(), "{name}");
        }
    }

    #[test]
    fn only_the_project_is_writable_and_nothing_of_the_session_is_inside() {
        let host = spec(false).body().host_config.unwrap();
        let mounts = host.mounts.unwrap();
        let writable: Vec<_> = mounts
            .iter()
            .filter(|mount| mount.read_only == Some(false) && mount.typ == Some(MountType::BIND))
            .map(|mount| mount.target.as_deref().unwrap())
            .collect();
        assert_eq!(writable, [WORKSPACE]);
        assert!(host.binds.unwrap().is_empty());
    }

    #[test]
    fn with_selinux_each_mount_gets_its_label() {
        let host = spec(true).body().host_config.unwrap();
        let expected = [
            "/p:/workspace:rw,rprivate,Z",
            "rcc-home-1:/home/agent:rw,Z",
            "/d/claude:/usr/bin/claude:ro,rprivate,z",
        ];
        assert_eq!(host.binds.unwrap(), expected);
        let others: Vec<_> = host.mounts.unwrap().into_iter().map(|mount| mount.source).collect();
        assert_eq!(others, [Some("/p/.git/config".to_owned())]);
    }

    #[test]
    fn limits_that_cannot_be_held_are_not_asked_for() {
        let mut spec = spec(false);
        spec.limits = Limits { tmpfs: 1 << 30, ..Limits::default() };
        let host = spec.body().host_config.unwrap();
        assert_eq!((host.memory, host.nano_cpus, host.pids_limit), (None, None, Some(0)));
    }
}
