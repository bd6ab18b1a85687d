//! Too little memory, again and again, under traffic: as with `kill -9`, the walls stand and
//! sessions go on.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::Pid;
use rcc_tests::Skip;
use rcc_tests::protocol::Call;

use super::faults::{turns, under_traffic};
use super::*;

/// More than is left to it, and less than the bus carries.
const LARGE: usize = 12 << 20;
/// What one has left; below what any of the attacks here takes.
const LEFT: u32 = 256 << 10;

/// Gives a process no more memory of its own than it has, and [`LEFT`].
fn hold(pid: Pid) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = |name: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse::<u32>().ok()
    };
    // One that has just ended has none.
    let (Some(used), Some(uid)) = (value("VmData:"), value("Uid:")) else { return };
    let limit = format!("--data={}", (used << 10) + LEFT);
    // A user may lower what is their own, and root not everywhere what is another's.
    let mut lower = Command::new("prlimit");
    let _ = lower.args(["--pid", &pid.to_string(), &limit]).uid(uid).gid(uid).status();
}

/// The helper, or its resolver, once there is one.
fn found(find: impl Fn() -> Option<Pid>) -> Pid {
    let mut pid = None;
    wait_for(|| {
        pid = find();
        pid.is_some()
    })
    .expect("it is started");
    pid.expect("found")
}

fn gone(pid: Pid, find: impl Fn() -> Option<Pid>) -> bool {
    wait_for(|| find() != Some(pid)).is_ok()
}

/// A call that is larger than what it has left; nobody answers, or somebody refuses.
fn call_largely(bob: &mut Actor) {
    let target = "a".repeat(LARGE);
    let _ = bob.call::<serde_json::Value>(&Call::SetRules(1, vec![Rule::tcp(&target, &[443])], 0));
}

/// As many questions over TCP as one may have under way, each as long as one can be, and
/// none to its end.
fn ask_largely(sandbox: &Sandbox) -> Vec<TcpStream> {
    let ask = || -> std::io::Result<TcpStream> {
        let gate = SocketAddr::from(([169, 254, 1, 1], 53));
        let mut stream = TcpStream::connect_timeout(&gate, Duration::from_secs(1))?;
        stream.write_all(&[&u16::MAX.to_be_bytes()[..], &[0; 65_000]].concat())?;
        Ok(stream)
    };
    sandbox.run(|| (0..16).map_while(|_| ask().ok()).collect())
}

/// Memory that is refused: the program ends itself.
#[test]
fn n11_refused_memory_again_and_again_under_traffic() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    let mut bob = lab.person(BOB).expect("a person");
    let mut ended = [0, 0];
    under_traffic(&lab, &mut ann, &sandbox, turns(12), |turn| {
        if turn % 2 == 0 {
            let helper = found(|| lab.helper());
            hold(helper);
            call_largely(&mut bob);
            ended[0] += usize::from(gone(helper, || lab.helper()));
        } else {
            let resolver = found(|| lab.resolver());
            hold(resolver);
            let asked = ask_largely(&sandbox);
            ended[1] += usize::from(gone(resolver, || lab.resolver()));
            drop(asked);
        }
    });
    eprintln!("helper and resolver were refused memory, and ended, {ended:?} times");
    // Now and then one gets by with what it has; the walls are looked at all the time.
    assert!(ended.iter().all(|times| *times * 2 >= turns(12) / 2), "{ended:?}");
}

/// A control group of a test's own, with a limit of memory.
struct Group {
    folder: PathBuf,
    limit: &'static str,
}

impl Group {
    /// Below what the computer has mounted already; the reason when it cannot be had.
    fn make(name: &str) -> Result<Self, String> {
        const ROOT: &str = "/sys/fs/cgroup";
        let read = |file: &str| std::fs::read_to_string(Path::new(ROOT).join(file));
        let (parent, limit) = if Path::new(ROOT).join("memory/tasks").exists() {
            ("memory", "memory.limit_in_bytes")
        } else if read("cgroup.subtree_control").is_ok_and(|all| all.contains("memory")) {
            ("", "memory.max")
        } else {
            return Err("this computer's control groups hold no memory for root".into());
        };
        let folder = Path::new(ROOT).join(parent).join(name);
        std::fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { folder, limit })
    }

    /// Takes a process in, that may have so many bytes more.
    fn hold(&self, pid: Pid, more: usize) {
        let write = |file, text: String| std::fs::write(self.folder.join(file), text);
        // Nobody is in it: what was charged goes with who was.
        wait_for(|| write(self.limit, more.to_string()).is_ok()).expect("a limit");
        // One that has just ended cannot be moved.
        let _ = write("cgroup.procs", pid.to_string());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = wait_for(|| std::fs::remove_dir(&self.folder).is_ok());
    }
}

/// Memory that is there until it is used: the kernel kills the program (OOM).
#[test]
fn n11_killed_for_memory_again_and_again_under_traffic() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    let own = std::process::id();
    let groups: Result<Vec<_>, _> = ["helper", "resolver"]
        .map(|of| Group::make(&format!("rcc-lab-{own}-{of}")))
        .into_iter()
        .collect();
    let groups = match groups {
        Ok(groups) => groups,
        Err(reason) => {
            skip(&Skip(reason));
            return;
        }
    };
    let mut bob = lab.person(BOB).expect("a person");
    let mut ended = [0, 0];
    under_traffic(&lab, &mut ann, &sandbox, turns(12), |turn| {
        if turn % 2 == 0 {
            let helper = found(|| lab.helper());
            groups[0].hold(helper, LARGE / 2);
            call_largely(&mut bob);
            ended[0] += usize::from(gone(helper, || lab.helper()));
        } else {
            let resolver = found(|| lab.resolver());
            groups[1].hold(resolver, LEFT as usize);
            let asked = ask_largely(&sandbox);
            ended[1] += usize::from(gone(resolver, || lab.resolver()));
            drop(asked);
        }
    });
    eprintln!("helper and resolver were killed for memory {ended:?} times");
    assert_eq!(ended.iter().sum::<usize>(), turns(12), "each time");
}
