//! What a running sandbox uses, from its control group (cgroups(7)): read as the
//! kernel says it, without a question to the engine or to anything inside.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Session;
use crate::engine::{ContainerState, Engine};
use crate::error::Result;
use crate::project::Project;

/// Where the unified hierarchy is mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// Terminals hear of a sandbox's end before the engine does, at most so long.
const END_IS_HEARD: Duration = Duration::from_secs(3);

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
        Ok(look(&own_groups(&groups, &self.found.id)))
    }
}

/// Whether programs of the project's sandbox were ended because its memory was
/// full: in one that runs, or in one that ended and was not put away yet.
///
/// # Errors
/// `Code::Engine`.
pub async fn ran_out_of_memory(engine: &Engine, project: &Project) -> Result<bool> {
    for found in engine.find(Some(project.id())).await? {
        let state = settled(engine, &found.id).await?;
        let full = if state.running {
            let usage = Session::of(engine, found).usage().await?;
            usage.killed_for_memory.is_some_and(|killed| killed > 0)
        } else {
            state.out_of_memory
        };
        if full {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The engine's view of a container, once it has heard that the first process ended: its
/// monitor takes that in before it says so, and then there is no group to read any more.
async fn settled(engine: &Engine, container: &str) -> Result<ContainerState> {
    let patience = Instant::now() + END_IS_HEARD;
    loop {
        let state = engine.state(container).await?;
        // Empty as soon as a process has given its memory back, before anybody waited for it.
        let ends =
            || fs::read(format!("/proc/{}/cmdline", state.pid)).map_or(true, |of| of.is_empty());
        if !state.running || !ends() || Instant::now() > patience {
            return Ok(state);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The folders of the sandbox's own groups, the outermost first: the engine's scope, and
/// what the runtime made in it. A process that shares a group with others tells nothing
/// about the sandbox.
fn own_groups(groups: &str, container: &str) -> Vec<PathBuf> {
    let Some(path) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Vec::new();
    };
    let own = |path: &&Path| path.to_string_lossy().contains(container);
    let mut all: Vec<_> = Path::new(path)
        .ancestors()
        .take_while(|path| !container.is_empty() && own(path))
        .map(|path| Path::new(ROOT).join(path))
        .collect();
    all.reverse();
    all
}

/// What is used is counted in the outermost group. A limit may stand in any: crun sets
/// its limits in the group inside the scope.
fn look(groups: &[PathBuf]) -> Usage {
    let Some(whole) = groups.first() else { return Usage::default() };
    let text = |group: &Path, name: &str| fs::read_to_string(group.join(name)).ok();
    let number = |group: &Path, name: &str| text(group, name)?.trim().parse::<u64>().ok();
    let least = |name: &str| groups.iter().filter_map(|group| number(group, name)).min();
    let count = |number: Option<u64>| number.and_then(|count| u32::try_from(count).ok());
    let said = |name: &str, field: &str| {
        let text = text(whole, name)?;
        text.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok())
    };
    Usage {
        memory: number(whole, "memory.current"),
        memory_limit: least("memory.max"),
        cpu_us: said("cpu.stat", "usage_usec "),
        cores: groups
            .iter()
            .filter_map(|group| cores(&text(group, "cpu.max")?))
            .min_by(f64::total_cmp),
        processes: count(number(whole, "pids.current")),
        process_limit: count(least("pids.max")),
        killed_for_memory: said("memory.events", "oom_kill "),
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
    fn the_groups_are_the_sandboxs_own_or_none() {
        let scope = "/sys/fs/cgroup/user.slice/user-1000.slice/libpod-abc.scope";
        let inner = format!("{scope}/container");
        let of = |line: &str| own_groups(line, "abc");
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let line = "0::/user.slice/user-1000.slice/libpod-abc.scope";
        assert_eq!(of(&format!("{line}\n")), paths(&[scope]));
        let own = format!("{line}/container\n");
        assert_eq!(of(&own), paths(&[scope, &inner]));
        for shared in ["0::/user.slice\n", "0::/\n", "1:memory:/libpod-abc\n", ""] {
            assert_eq!(of(shared), paths(&[]), "{shared}");
        }
        assert_eq!(own_groups(&own, ""), paths(&[]));
        assert_eq!(look(&[]), Usage::default());
    }

    #[test]
    fn groups_are_read_and_what_they_do_not_say_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("container");
        fs::create_dir(&inner).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("memory.current", "1048576\n");
        write("memory.max", "max\n");
        write("cpu.stat", "usage_usec 2500\nuser_usec 1\n");
        write("cpu.max", "150000 100000\n");
        write("pids.current", "7\n");
        write("pids.max", "1148\n");
        write("memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n");
        let groups = [dir.path().to_path_buf(), inner.clone()];
        let usage = look(&groups);
        assert_eq!((usage.memory, usage.memory_limit), (Some(1 << 20), None));
        assert_eq!((usage.cpu_us, usage.cores), (Some(2500), Some(1.5)));
        assert_eq!((usage.processes, usage.process_limit), (Some(7), Some(1_148)));
        assert_eq!(usage.killed_for_memory, Some(2));
        assert_eq!(cores("max 100000"), None);
        // As crun leaves it with systemd's user manager.
        for (name, text) in
            [("memory.max", "536870912\n"), ("cpu.max", "100000 100000\n"), ("pids.max", "512\n")]
        {
            fs::write(inner.join(name), text).unwrap();
        }
        let usage = look(&groups);
        assert_eq!((usage.memory, usage.memory_limit), (Some(1 << 20), Some(1 << 29)));
        assert_eq!((usage.cores, usage.process_limit), (Some(1.0), Some(512)));
    }
}
