//! Faults, again and again, under traffic. `RCC_TURNS` says how often; by itself as
//! often as a run of all tests has time for.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::decisions::{left, listen};
use super::*;

/// The gate's address on its link to the host.
pub(super) const GATE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

pub(super) fn turns(usual: usize) -> usize {
    std::env::var("RCC_TURNS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Open descriptors and resident kilobytes of a process.
fn held_by(pid: nix::unistd::Pid) -> (usize, usize) {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    (fds, resident.unwrap_or(0))
}

/// Does `fault` so often while a sandbox talks: no packet out of policy, no wrong answer,
/// no session lost.
pub(super) fn under_traffic(
    lab: &Lab,
    ann: &mut Actor,
    sandbox: &Sandbox,
    turns: usize,
    mut fault: impl FnMut(usize),
) {
    sandbox.reach("allowed.example", 9_999).expect("before");
    let stream = held(sandbox, world::SERVERS[0], 9_999);
    let allowed = (world::SERVERS[0], rcc_policy::Protocol::Tcp, 9_999);
    let (heard, mut seen) = (listen(), HashSet::new());
    let (over, tried, escaped, wrong, right) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for (address, port) in [(world::SERVERS[1], 443), (world::SERVERS[0], 80)] {
                    escaped.fetch_add(
                        usize::from(sandbox.tcp(address, port).is_ok()),
                        Ordering::Relaxed,
                    );
                    tried.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        // Most of their questions are lost with who would have answered.
        for _ in 0..8 {
            scope.spawn(|| {
                let expected: Vec<IpAddr> = vec![world::SERVERS[0].into()];
                while !over.load(Ordering::Relaxed) {
                    match sandbox.resolve("allowed.example") {
                        Ok(found) if found == expected => right.fetch_add(1, Ordering::Relaxed),
                        Ok(_) => wrong.fetch_add(1, Ordering::Relaxed),
                        // Silence makes a client ask again; a "no" would be believed.
                        Err(error) if error == "NXDomain" => wrong.fetch_add(1, Ordering::Relaxed),
                        Err(_) => 0,
                    };
                }
            });
        }
        for turn in 0..turns {
            fault(turn);
            std::thread::sleep(Duration::from_millis(u64::try_from(turn % 7).unwrap_or(0) * 15));
            wait_for(|| ann.list().is_ok_and(|list| list.len() == 1))
                .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", ann.list(), lab.log()));
            assert!(goes_on(&stream), "a running connection goes on, turn {turn}");
            // Every packet counts, not only those that somebody answers.
            seen.extend(left(&heard));
        }
        wait_for(|| right.load(Ordering::Relaxed) > 0).expect("names come back");
        over.store(true, Ordering::Relaxed);
    });
    assert!(sandbox.reach("allowed.example", 9_999).is_ok(), "{}", lab.log());
    seen.extend(left(&heard));
    // Answers come in there, too.
    seen.retain(|(to, ..)| *to != GATE);
    assert!(seen.remove(&allowed), "what is allowed was seen: {seen:?}");
    assert!(seen.is_empty(), "packets out of policy: {seen:?}");
    let (tried, right) = (tried.into_inner(), right.into_inner());
    eprintln!("{tried} connections that are not allowed were tried, {right} answers were right");
    assert_eq!(escaped.into_inner(), 0, "connections out of policy");
    assert_eq!(wrong.into_inner(), 0, "wrong answers");
}

/// Helper and resolver are killed while a sandbox talks.
#[test]
fn n11_killed_again_and_again_under_traffic() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    under_traffic(&lab, &mut ann, &sandbox, turns(30), |turn| {
        let victim = if turn % 3 == 2 { lab.resolver() } else { lab.helper() };
        if let Some(victim) = victim {
            let _ = nix::sys::signal::kill(victim, nix::sys::signal::Signal::SIGKILL);
        }
    });
}

/// Many sandboxes come and go: nothing of them is left. Each round is another person's: the
/// helper takes so many of one person in a row and no more.
#[test]
fn r2_sandboxes_that_come_and_go_leave_nothing() {
    const AT_ONCE: usize = 50;
    /// An address is another sandbox's after ten minutes, and there are 4,079.
    const REST: Duration = Duration::from_secs(605);
    const ROUNDS_OF_ADDRESSES: usize = 4_079 / AT_ONCE - 1;
    let ended = std::cell::RefCell::new(Vec::<Instant>::new());
    let Some((lab, mut ann, _first)) = start(POLICY, &[]) else { return };
    let left = || {
        let gate = lab
            .in_gate("nft list ruleset | grep -c . ; ip -o link | grep -c . ; conntrack -C")
            .expect("look");
        gate.lines().map(|line| line.trim().parse().expect("a number")).collect::<Vec<usize>>()
    };
    let round = |number: usize| {
        if let Some(before) = number.checked_sub(ROUNDS_OF_ADDRESSES) {
            std::thread::sleep(REST.saturating_sub(ended.borrow()[before].elapsed()));
        }
        let uid = 5_000 + u32::try_from(number).expect("a number");
        // The bus wants to know everybody.
        lab.on_host(&format!("echo 'p{uid}:x:{uid}:{uid}::/:/bin/sh' >> /etc/passwd"))
            .expect("a user of the lab's");
        let mut person = lab.person((uid, "somebody")).expect("a person");
        let sandboxes: Vec<Sandbox> = (0..AT_ONCE)
            .map(|_| lab.sandbox(&mut person, &[]))
            .collect::<anyhow::Result<_>>()
            .unwrap_or_else(|error| panic!("round {number}: {error:#}\n{}", lab.log()));
        for one in &sandboxes {
            // Its link is used a moment late on a busy computer, and the question is lost.
            let works = (0..3).any(|_| one.reach("allowed.example", 9_999).is_ok());
            assert!(works, "{}", lab.log());
        }
        for (number, one) in sandboxes.iter().enumerate() {
            // Half of them are detached, the others just end.
            if number % 2 == 0 {
                person.detach(one.id).expect("detach");
            }
            person.end_namespace(one.pid).expect("end");
        }
        wait_for(|| person.list().is_ok_and(|list| list.is_empty())).expect("all are gone");
        ended.borrow_mut().push(Instant::now());
    };
    // The first rounds warm up what is kept for good.
    (0..2).for_each(round);
    let helper = lab.helper().expect("a helper");
    let (before, (fds, resident)) = (left(), held_by(helper));
    (2..2 + turns(2).min(100)).for_each(round);
    let (after, (fds_after, resident_after)) = (left(), held_by(helper));
    eprintln!(
        "rules, links, flows: {before:?}, then {after:?}; descriptors: {fds}, then {fds_after}; kB: {resident}, then {resident_after}"
    );
    assert_eq!(after[..2], before[..2], "rules and links");
    assert!(after[2] <= before[2] + 2, "flows: {before:?} {after:?}");
    assert!(fds_after <= fds + 2, "descriptors: {fds}, then {fds_after}");
    assert!(resident_after < resident + 4_096, "kB: {resident}, then {resident_after}");
    assert_eq!(lab.helper(), Some(helper), "it never had to start anew");
    assert_eq!(ann.list().expect("list").len(), 1, "and the first one stands");
}

/// Puts a small memory file system over a folder of the lab, with what is in it.
fn small(lab: &Lab, folder: &str, kilobytes: usize) {
    let script = format!(
        "mkdir -p {folder} /run/kept && cp -a {folder}/. /run/kept/ && \
         mount -t tmpfs -o size={kilobytes}k,mode=0755 small {folder} && \
         cp -a /run/kept/. {folder}/ && rm -r /run/kept"
    );
    lab.on_host(&script).expect("a small file system");
}

fn fill(lab: &Lab, folder: &str) {
    let filled = lab.on_host(&format!("head -c 1G /dev/zero > {folder}/filler"));
    assert!(filled.is_err(), "it is full");
}

/// No room for the state: what stands goes on, what cannot be written down is refused
/// in words, and the record is the old one (H6).
#[test]
fn h6_without_room_for_the_state_nothing_changes() {
    const FOLDER: &str = "/run/rcc";
    let options = Options { policy: Some(POLICY.into()), ..Options::default() };
    let Some(lab) = start_with(options) else { return };
    small(&lab, FOLDER, 256);
    let mut ann = lab.person(ANN).expect("a person");
    let sandbox = lab.sandbox(&mut ann, &[]).expect("a sandbox");
    let links = || lab.in_gate("ip -o link | grep -c ' s[0-9]'").expect("look");
    // What is known of the sandbox; counters may go on.
    let record = || lab.on_host("cat /run/rcc/sandboxes/*.json").expect("the record");
    let more = [Rule::tcp("other.example", &[9_999])];
    for (close, open, why) in [
        ("true", "rm /run/rcc/filler", "No space left"),
        ("mount -o remount,ro /run/rcc", "mount -o remount,rw /run/rcc", "Read-only"),
    ] {
        if why.starts_with("No space") {
            fill(&lab, FOLDER);
        }
        lab.on_host(close).expect("close");
        let before = (links(), record());
        let refused = ann.set_rules(sandbox.id, &more, 0).expect_err("it cannot be written down");
        assert!(refused.to_string().contains(why), "{refused}");
        let bare = lab.bare_sandbox(&mut ann).expect("a namespace");
        let refused = ann.attach(bare.pid, &[]).expect_err("it cannot be written down");
        assert!(refused.to_string().contains(why), "{refused}");
        ann.end_namespace(bare.pid).expect("end");
        assert_eq!((links(), record()), before);
        assert!(sandbox.resolve("other.example").is_err());
        assert!(sandbox.reach("allowed.example", 9_999).is_ok(), "what was allowed goes on");
        kill_helper(&lab);
        assert_eq!(ann.list().expect("a new helper").len(), 1);
        wait_for(|| sandbox.reach("allowed.example", 9_999).is_ok()).expect("it goes on");
        lab.on_host(open).expect("open");
        ann.set_rules(sandbox.id, &more, 0).expect("there is room");
        assert!(sandbox.reach("other.example", 9_999).is_ok());
        ann.set_rules(sandbox.id, &[], 0).expect("narrower");
        wait_for(|| lab.on_host("ls -A /run/rcc").is_ok_and(|all| !all.contains(".new")))
            .expect("nothing half is left");
    }
}

/// No room for the administrator's list: it is the old one, in the file and in force.
#[test]
fn h6_without_room_for_the_list_the_old_one_holds() {
    use rcc_tests::protocol::Call;
    const FOLDER: &str = "/etc/rcc";
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    small(&lab, FOLDER, 64);
    let mut root = lab.person((0, "root")).expect("root");
    let (_, version): (String, String) = root.call(&Call::GetPolicy).expect("read");
    fill(&lab, FOLDER);
    let other = POLICY.replace("allowed", "other");
    let replace = |root: &mut Actor| {
        root.call::<String>(&Call::ReplacePolicy(other.clone(), version.clone()))
    };
    let refused = replace(&mut root).expect_err("it cannot be written");
    assert!(refused.to_string().contains("No space left"), "{refused}");
    assert_eq!(std::fs::read_to_string("/etc/rcc/network-whitelist.yaml").expect("read"), POLICY);
    let (_, still): (String, String) = root.call(&Call::GetPolicy).expect("read");
    assert_eq!(still, version);
    assert!(sandbox.reach("allowed.example", 9_999).is_ok());
    assert!(sandbox.resolve("other.example").is_err());
    let left = lab.on_host("ls -A /etc/rcc").expect("look");
    assert!(!left.contains(".new"), "{left}");
    lab.on_host("rm /etc/rcc/filler").expect("room");
    replace(&mut root).expect("there is room");
    assert!(sandbox.reach("other.example", 9_999).is_ok());
}

/// System calls of the helper that fail with EIO on one file, as on a disk that breaks.
pub(super) struct Failing(std::process::Child);

impl Failing {
    /// Calls on this path.
    fn start(lab: &Lab, call: &str, path: &str) -> Self {
        Self::with(lab, call, "error=EIO", &["-P", path])
    }

    /// Calls that go wrong as strace's option says.
    pub(super) fn with(lab: &Lab, call: &str, how: &str, more: &[&str]) -> Self {
        let helper = lab.helper().expect("a helper");
        let log = lab.folder().join("strace");
        let child = std::process::Command::new("strace")
            .args(["-f", "-qq", "-p", &helper.to_string(), "-o"])
            .arg(&log)
            .args(more)
            .args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{how}")])
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("strace");
        let traced = || {
            let threads = std::fs::read_dir(format!("/proc/{helper}/task"));
            threads.is_ok_and(|threads| {
                threads.flatten().all(|thread| {
                    std::fs::read_to_string(thread.path().join("status"))
                        .is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
                })
            })
        };
        wait_for(traced).expect("it holds every thread");
        Self(child)
    }

    /// Lets go; answers how many calls failed.
    pub(super) fn end(mut self, lab: &Lab) -> usize {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("end it");
        self.0.wait().expect("its end");
        let log = std::fs::read_to_string(lab.folder().join("strace")).unwrap_or_default();
        log.lines().filter(|line| line.contains("(INJECTED)")).count()
    }
}

/// Whether this machine can play a disk that fails.
pub(super) fn can_fail() -> bool {
    let can = std::process::Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !can {
        skip(&rcc_tests::Skip("strace is not installed, or may not trace here".into()));
    }
    can
}

/// The steps of a write that may fail, and on what.
fn steps(folder: &str, name: &str) -> [(&'static str, String); 4] {
    let fresh = format!("{folder}/.{name}.new");
    [
        ("write", fresh.clone()),
        ("fsync", fresh.clone()),
        ("renameat2", fresh),
        ("fsync", folder.into()),
    ]
}

/// A disk that fails at any step of writing the state: refused in words, and the record
/// is the old one, also for the next helper (H6).
#[test]
fn h6_a_disk_that_fails_leaves_the_old_state() {
    const FOLDER: &str = "/run/rcc/sandboxes";
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    if !can_fail() {
        return;
    }
    sandbox.reach("allowed.example", 9_999).expect("before");
    let record = || lab.on_host(&format!("cat {FOLDER}/*.json")).expect("the record");
    let links = || lab.in_gate("ip -o link | grep -c ' s[0-9]'").expect("look");
    let more = [Rule::tcp("other.example", &[9_999])];
    for (call, on) in steps(FOLDER, &format!("{}.json", sandbox.id)) {
        let before = (links(), record());
        let failing = Failing::start(&lab, call, &on);
        let refused = ann.set_rules(sandbox.id, &more, 0).expect_err("it cannot be written down");
        assert!(refused.to_string().contains("Input/output error"), "{call} on {on}: {refused}");
        assert!(failing.end(&lab) > 0, "{call} on {on}");
        assert_eq!((links(), record()), before, "{call} on {on}");
        assert!(sandbox.resolve("other.example").is_err());
        assert!(sandbox.reach("allowed.example", 9_999).is_ok(), "what was allowed goes on");
        let left = lab.on_host(&format!("ls -A {FOLDER}")).expect("look");
        assert!(!left.contains(".new"), "nothing half is left: {left}");
        kill_helper(&lab);
        assert!(ann.list().expect("a new helper")[0].rules.is_empty(), "{call} on {on}");
        assert!(sandbox.resolve("other.example").is_err());
        ann.set_rules(sandbox.id, &more, 0).expect("the disk is well again");
        assert!(sandbox.reach("other.example", 9_999).is_ok());
        ann.set_rules(sandbox.id, &[], 0).expect("narrower");
    }
    // What all share comes first: without it nobody is plugged in.
    let failing = Failing::start(&lab, "fsync", "/run/rcc/.attachments.json.new");
    let before = links();
    let bare = lab.bare_sandbox(&mut ann).expect("a namespace");
    let refused = ann.attach(bare.pid, &[]).expect_err("it cannot be written down");
    assert!(refused.to_string().contains("Input/output error"), "{refused}");
    assert!(failing.end(&lab) > 0);
    assert_eq!(links(), before);
}

/// The same for the administrator's list: what is refused is not in force (H6).
#[test]
fn h6_a_disk_that_fails_leaves_the_old_list() {
    use rcc_tests::protocol::Call;
    const FOLDER: &str = "/etc/rcc";
    const NAME: &str = "network-whitelist.yaml";
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    if !can_fail() {
        return;
    }
    let mut root = lab.person((0, "root")).expect("root");
    let (_, version): (String, String) = root.call(&Call::GetPolicy).expect("read");
    let other = POLICY.replace("allowed", "other");
    let replace = |root: &mut Actor| {
        root.call::<String>(&Call::ReplacePolicy(other.clone(), version.clone()))
    };
    for (call, on) in steps(FOLDER, NAME) {
        let failing = Failing::start(&lab, call, &on);
        let refused = replace(&mut root).expect_err("it cannot be written");
        assert!(refused.to_string().contains("Input/output error"), "{call} on {on}: {refused}");
        assert!(failing.end(&lab) > 0, "{call} on {on}");
        let kept = std::fs::read_to_string(format!("{FOLDER}/{NAME}")).expect("read");
        assert_eq!(kept, POLICY, "{call} on {on}");
        // The helper hears of what happens in the folder, and reads.
        std::thread::sleep(Duration::from_millis(700));
        let (_, still): (String, String) = root.call(&Call::GetPolicy).expect("read");
        assert_eq!(still, version, "{call} on {on}");
        assert!(sandbox.reach("allowed.example", 9_999).is_ok());
        assert!(sandbox.resolve("other.example").is_err(), "{call} on {on}");
        let left = lab.on_host(&format!("ls -A {FOLDER}")).expect("look");
        assert_eq!(left.trim(), NAME, "nothing half is left");
    }
    replace(&mut root).expect("the disk is well again");
    assert!(sandbox.reach("other.example", 9_999).is_ok());
}

/// A rule for a time ends by a clock that goes on while the computer sleeps, and that
/// nobody sets: here an hour passes between two helpers.
#[test]
fn timed_rules_end_while_the_computer_sleeps() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    ann.set_rules(sandbox.id, &[Rule::tcp("other.example", &[9_999])], 1_800).expect("allow");
    sandbox.reach("other.example", 9_999).expect("allowed for half an hour");
    let stream = held(&sandbox, world::SERVERS[1], 9_999);
    let service = "/run/rcc-lab/services/dev.rcc.Helper1.service";
    let text = std::fs::read_to_string(service).expect("the activation file");
    let later = text.replace("Exec=", "Exec=/usr/bin/unshare --time --boottime 3600 --fork ");
    std::fs::write(service, later).expect("write");
    lab.on_host("dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ReloadConfig")
        .expect("the bus reads it");
    kill_helper(&lab);
    let list = ann.list().expect("a new helper");
    wait_for(|| ann.list().is_ok_and(|list| list[0].rules.is_empty()))
        .unwrap_or_else(|error| panic!("{error}: {list:?}\n{}", lab.log()));
    assert!(!echoes(&stream), "what only that allowed is cut");
    assert!(sandbox.resolve("other.example").is_err());
    assert!(sandbox.tcp(world::SERVERS[1], 9_999).is_err());
}

/// One sandbox begins flows as fast as it can: its sibling and the computer itself
/// connect as before, and conntrack's tables stay small.
#[test]
fn r1_a_flood_of_flows_hurts_its_own_sandbox_alone() {
    use super::decisions::{Flooder, connecting, paced};
    // Below what a sandbox may begin in a second.
    const AT_ONCE: u32 = 100;
    const A_SECOND: u32 = 300;
    const INTERNET: u32 = 198 << 24 | 51 << 16 | 100 << 8;
    let Some((lab, mut ann, flooding)) = start(POLICY, &[]) else { return };
    let sibling = lab.sandbox(&mut ann, &[]).expect("a sibling");
    let server = SocketAddr::from((world::SERVERS[3], 443));
    let times = || {
        let sibling = sibling.run(|| connecting(AT_ONCE, server));
        (sibling, connecting(AT_ONCE, server))
    };
    let own = format!("conntrack -L -s {} 2>/dev/null | wc -l", flooding.address);
    let count = |text: anyhow::Result<String>| -> usize {
        text.expect("conntrack").trim().parse().expect("a number")
    };
    // Behind the gate they have its address.
    let unanswered = "conntrack -L -p tcp --state SYN_SENT 2>/dev/null | wc -l";
    let flows = || (count(lab.in_gate(&own)), count(lab.on_host(unanswered)));
    // What a flood costs the others, and not what any busy program on two processors
    // does: in turn the same program floods its own loopback, and the gate. The middle
    // of all connections is judged, whatever else runs on this computer.
    let under = |network: u32| {
        let flooder = Flooder::start(&flooding, network, 443);
        std::thread::sleep(Duration::from_millis(300));
        (times(), flooder.end())
    };
    let mut all: [Vec<Duration>; 4] = Default::default();
    let mut sent = 0;
    for _ in 0..10 {
        let quiet = under(127 << 24).0;
        let (flooded, more) = under(INTERNET);
        for (all, more) in all.iter_mut().zip([quiet.0, flooded.0, quiet.1, flooded.1]) {
            all.extend(more);
        }
        sent += more;
    }
    let rates = all.map(|mut all| {
        all.sort_unstable();
        all[all.len() / 2].as_secs_f64().recip()
    });
    // Long enough for many more than it may hold, at those that it may begin in a second.
    // Meanwhile the others begin as many as a busy program does: on an idle computer, and now.
    let busy = || {
        let time = Duration::from_secs(2);
        let sibling = sibling.run(|| paced(A_SECOND, time, server));
        [sibling, paced(A_SECOND, time, server)].map(f64::from)
    };
    let mut held = Vec::new();
    // A computer that stood still for a moment in one of two times is asked again.
    let keep_up = (0..3).any(|_| {
        let idle = busy();
        let flooder = Flooder::start(&flooding, INTERNET, 443);
        std::thread::sleep(Duration::from_secs(1));
        let beside = busy();
        held.push(flows());
        sent += flooder.end();
        eprintln!("of {A_SECOND} a second in two: idle {idle:?}, beside the flood {beside:?}");
        beside.iter().zip(idle).all(|(now, before)| *now >= before * 0.9)
    });
    let flows = held[0];
    eprintln!(
        "{sent} first packets; connections a second: sibling {:.0} of {:.0}, computer {:.0} of \
         {:.0}; flows {flows:?}",
        rates[1], rates[0], rates[3], rates[2]
    );
    assert!(sent > 1_000, "{sent} are no flood");
    // The kernel counts a few that end beside.
    assert!((1_024..2_112).contains(&flows.0) && (1_024..2_112).contains(&flows.1), "{flows:?}");
    assert!(keep_up, "what is wanted");
    // 0.94 and more were measured (docs/figures.md); another processor has another share.
    assert!(rates[1] >= rates[0] * 0.8, "the sibling");
    assert!(rates[3] >= rates[2] * 0.8, "the computer");
}
