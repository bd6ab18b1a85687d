//! Faults, again and again, under traffic. `RCC_TURNS` says how often; by itself as
//! often as a run of all tests has time for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

fn turns(usual: usize) -> usize {
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

/// Helper and resolver are killed while a sandbox talks: no packet out of policy, no
/// wrong answer, no session lost.
#[test]
fn n11_killed_again_and_again_under_traffic() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    sandbox.reach("allowed.example", 9_999).expect("before");
    let stream = held(&sandbox, world::SERVERS[0], 9_999);
    let (over, escaped, wrong, right) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for (address, port) in [(world::SERVERS[1], 443), (world::SERVERS[0], 80)] {
                    escaped.fetch_add(
                        usize::from(sandbox.tcp(address, port).is_ok()),
                        Ordering::Relaxed,
                    );
                }
            }
        });
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
        for turn in 0..turns(30) {
            let victim = if turn % 3 == 2 { lab.resolver() } else { lab.helper() };
            if let Some(victim) = victim {
                let _ = nix::sys::signal::kill(victim, nix::sys::signal::Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(u64::try_from(turn % 7).unwrap_or(0) * 15));
            wait_for(|| ann.list().is_ok_and(|list| list.len() == 1)).expect("the session is kept");
            assert!(echoes(&stream), "a running connection goes on, turn {turn}");
        }
        wait_for(|| right.load(Ordering::Relaxed) > 0).expect("names come back");
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(escaped.into_inner(), 0, "connections out of policy");
    assert_eq!(wrong.into_inner(), 0, "wrong answers");
}

/// Many sandboxes come and go: nothing of them is left.
#[test]
fn r2_sandboxes_that_come_and_go_leave_nothing() {
    const AT_ONCE: usize = 20;
    let Some((lab, mut ann, _first)) = start(POLICY, &[]) else { return };
    let left = || {
        let gate = lab
            .in_gate("nft list ruleset | grep -c . ; ip -o link | grep -c . ; conntrack -C")
            .expect("look");
        gate.lines().map(|line| line.trim().parse().expect("a number")).collect::<Vec<usize>>()
    };
    let round = |ann: &mut Actor| {
        let sandboxes: Vec<Sandbox> =
            (0..AT_ONCE).map(|_| lab.sandbox(ann, &[]).expect("a sandbox")).collect();
        for one in &sandboxes {
            one.reach("allowed.example", 9_999).expect("it works");
        }
        for (number, one) in sandboxes.iter().enumerate() {
            // Half of them are detached, the others just end.
            if number % 2 == 0 {
                ann.detach(one.id).expect("detach");
            }
            ann.end_namespace(one.pid).expect("end");
        }
        wait_for(|| ann.list().is_ok_and(|list| list.len() == 1)).expect("all are gone");
    };
    // The first round warms up what is kept for good.
    round(&mut ann);
    let helper = lab.helper().expect("a helper");
    let (before, (fds, resident)) = (left(), held_by(helper));
    for _ in 0..turns(3) {
        round(&mut ann);
    }
    let (after, (fds_after, resident_after)) = (left(), held_by(helper));
    assert_eq!(after[..2], before[..2], "rules and links");
    assert!(after[2] <= before[2] + 2, "flows: {before:?} {after:?}");
    assert!(fds_after <= fds + 2, "descriptors: {fds}, then {fds_after}");
    assert!(resident_after < resident + 4_096, "kB: {resident}, then {resident_after}");
    assert_eq!(lab.helper(), Some(helper), "it never had to start anew");
}
