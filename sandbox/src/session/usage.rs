//! What a running sandbox uses, from its control group (cgroups(7)): read as the
//! kernel says it, without a question to the engine or to anything inside.

use std::fs;
use std::path::{Path, PathBuf};

use super::Session;
use crate::engine::Engine;
use crate::error::Result;
use crate::project::Project;

/// Where the unified hierarchy is mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// One look. `None`: this computer cannot tell, or sets no limit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Bytes, with the files that the kernel keeps for it.
    pub memory: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<u64>,
    /// Time of all its programs since it began, microseconds.
    pub cpu_us: Option<u64>,
    /// Cores that it may use.
    pub cores: Option<f64>,
    /// Processes and threads.
    pub processes: Option<u32>,
    /// See `processes`.
    pub process_limit: Option<u32>,
    /// Programs that the kernel ended since it began because the memory was full.
    pub killed_for_memory: Option<u64>,
}

impl Session {
    /// What it uses now.
    ///
    /// # Errors
    /// `Code::Engine` when the engine does not know it any more.
    pub async fn usage(&self) -> Result<Usage> {
        let pid = self.engine.state(&self.found.id).await?.pid;
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        Ok(group(&groups, &self.found.id).map_or_else(Usage::default, |path| look(&path)))
    }
}

/// Whether programs of the project's sandbox were ended because its memory was
/// full: in one that runs, or in one that ended and was not put away yet.
///
/// # Errors
/// `Code::Engine`.
pub async fn ran_out_of_memory(engine: &Engine, project: &Project) -> Result<bool> {
    for found in engine.find(Some(project.id())).await? {
        let full = if found.running {
            let usage = Session::of(engine, found).usage().await?;
            usage.killed_for_memory.is_some_and(|killed| killed > 0)
        } else {
            engine.state(&found.id).await?.out_of_memory
        };
        if full {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The folder of the sandbox's own group. A process that shares a group with
/// others tells nothing about the sandbox.
fn group(groups: &str, container: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut below = PathBuf::new();
    for part in Path::new(path) {
        below.push(part);
        // The engine's own leaf below it has no limits.
        if !container.is_empty() && part.to_string_lossy().contains(container) {
            return Some(Path::new(ROOT).join(below));
        }
    }
    None
}

fn look(group: &Path) -> Usage {
    let text = |name: &str| fs::read_to_string(group.join(name)).ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let count = |name: &str| number(name).and_then(|count| u32::try_from(count).ok());
    Usage {
        memory: number("memory.current"),
        memory_limit: number("memory.max"),
        cpu_us: text("cpu.stat").and_then(|stat| {
            stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok())
        }),
        cores: text("cpu.max").and_then(|text| cores(&text)),
        processes: count("pids.current"),
        process_limit: count("pids.max"),
        killed_for_memory: text("memory.events").and_then(|events| {
            events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
        }),
    }
}

/// `quota period`, microseconds both; `max` is no limit.
fn cores(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u32, u32) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0).then(|| f64::from(quota) / f64::from(period))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_the_sandboxs_own_or_none() {
        let own = "0::/user.slice/user-1000.slice/libpod-abc.scope/container\n";
        let path = Path::new("/sys/fs/cgroup/user.slice/user-1000.slice/libpod-abc.scope");
        assert_eq!(group(own, "abc").as_deref(), Some(path));
        for shared in ["0::/user.slice\n", "0::/\n", "1:memory:/libpod-abc\n", ""] {
            assert_eq!(group(shared, "abc"), None, "{shared}");
        }
        assert_eq!(group(own, ""), None);
    }

    #[test]
    fn a_group_is_read_and_what_it_does_not_say_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("memory.current", "1048576\n");
        write("memory.max", "max\n");
        write("cpu.stat", "usage_usec 2500\nuser_usec 1\n");
        write("cpu.max", "150000 100000\n");
        write("pids.current", "7\n");
        write("memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n");
        let usage = look(dir.path());
        assert_eq!((usage.memory, usage.memory_limit), (Some(1 << 20), None));
        assert_eq!((usage.cpu_us, usage.cores), (Some(2500), Some(1.5)));
        assert_eq!((usage.processes, usage.process_limit), (Some(7), None));
        assert_eq!(usage.killed_for_memory, Some(2));
        assert_eq!(cores("max 100000"), None);
    }
}
