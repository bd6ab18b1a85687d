//! `rcc verify`, which tries ways out for a person.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcc_tests::{Workshop, played_api, wait_for, world, zone};
use serde_json::Value;

use super::{good, inside, start};

/// Its exit code, what it says of a row, and how long it took.
fn verify(
    workshop: &Workshop,
    project: &Path,
) -> (i32, impl Fn(&str) -> (String, Value) + use<>, Duration) {
    let begun = Instant::now();
    let ended = workshop.rcc(project, &["verify", "--json"]).expect("rcc verify");
    let took = begun.elapsed();
    let rows: Vec<Value> =
        serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let verdict = move |id: &str| {
        let row = rows.iter().find(|row| row["id"] == id);
        let row = row.unwrap_or_else(|| panic!("no row {id} in {rows:#?}"));
        (row["verdict"].as_str().unwrap_or_default().to_owned(), row.clone())
    };
    (ended.code, verdict, took)
}

#[test]
fn verify_tries_the_walls_and_sees_a_hole() {
    let Some((workshop, project)) = start("verify") else { return };
    // Something that this computer would execute.
    fs::create_dir_all(project.join(".git/hooks")).expect("mkdir");
    fs::write(project.join(".git/config"), "[core]\n").expect("write");
    good(&workshop, &inside(&workshop, &project, "true"));
    let verify = || verify(&workshop, &project);
    let (code, verdict, took) = verify();
    for id in [
        "works",
        "F1",
        "F1-write",
        "F1-mount",
        "F2",
        "namespaces",
        "rights",
        "seccomp",
        "calls",
        "H8",
        "N1",
        "N2",
        "N3",
        "N4",
        "N6",
        "N8",
        "N16",
        "N18",
        "N20",
        "firewall",
    ] {
        let (word, row) = verdict(id);
        assert_eq!(word, "holds", "{row:#}");
    }
    for id in ["N15", "N21", "C2", "kernel"] {
        assert_eq!(verdict(id).0, "not tried");
    }
    assert_eq!(code, 0);
    assert!(took < Duration::from_secs(6), "{took:?}");
    let left =
        workshop.lab.on_host("find / -xdev -name 'verify-*' -path '*rcc*' | head").expect("find");
    assert_eq!(left.trim(), "", "nothing is left of it");
    // A name that only looks like an allowed one, and is answered.
    let lookalike = "api.anthropic.com.rcc-verify.invalid";
    workshop.lab.dns.set(
        zone()
            .name(played_api::NAME, &[played_api::ADDRESS])
            .name(lookalike, &world::SERVERS[2..3]),
    );
    good(&workshop, &workshop.rcc(&project, &["allow", lookalike]).expect("rcc allow"));
    let (code, verdict, _) = verify();
    let (word, row) = verdict("N16");
    assert_eq!((word.as_str(), code), ("OPEN", 1), "{row:#}");
    good(&workshop, &workshop.rcc(&project, &["deny", lookalike]).expect("rcc deny"));
    // A hole in the gate is seen.
    let hole =
        "nft insert rule inet rcc c_divert accept; nft insert rule inet rcc c_forward accept";
    workshop.lab.in_gate(hole).expect("nft");
    let (code, verdict, _) = verify();
    let (word, row) = verdict("N20");
    assert_eq!((word.as_str(), code), ("OPEN", 1), "{row:#}");
}

/// The processes that make tries.
fn tries() -> Vec<Pid> {
    let is_one = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"/run/rcc/inside\0probe\0")
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(is_one).map(Pid::from_raw).collect()
}

/// Runs `job` while the tries of one round of it hang as soon as they begin; rounds are
/// counted from 1.
fn while_tries_hang<T>(round: usize, job: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    let until = |there: bool| {
        while tries().is_empty() == there && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    std::thread::scope(|scope| {
        let stopper = scope.spawn(|| {
            for _ in 1..round {
                until(true);
                until(false);
            }
            until(true);
            let stopped = tries();
            for pid in &stopped {
                let _ = kill(*pid, Signal::SIGSTOP);
            }
            stopped
        });
        let done = job();
        over.store(true, Ordering::Relaxed);
        for pid in stopper.join().expect("it looks") {
            let _ = kill(pid, Signal::SIGKILL);
        }
        wait_for(|| tries().is_empty()).expect("they end");
        done
    })
}

#[test]
fn verify_ends_in_time_and_says_what_it_could_not_finish() {
    const NOBODY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 99);
    let Some((workshop, project)) = start("busy") else { return };
    good(&workshop, &inside(&workshop, &project, "true"));
    // Nobody answers there, so that the second round takes a while, too.
    workshop.lab.on_host(&format!("ip -n internet route add blackhole {NOBODY}")).expect("ip");
    workshop.lab.dns.set(zone().name(played_api::NAME, &[NOBODY]));
    for (round, held, late) in [
        // Nothing was tried from inside; what the kernel says was looked at.
        (1, ["namespaces", "rights"], &["N1", "F1", "N20", "works"][..]),
        (2, ["N1", "F1"], &["N20", "works"]),
    ] {
        let (code, verdict, took) = while_tries_hang(round, || verify(&workshop, &project));
        assert!(took < Duration::from_secs(6), "{took:?}");
        for id in held {
            let (word, row) = verdict(id);
            assert_eq!(word, "holds", "round {round}: {row:#}");
        }
        for id in late {
            let (word, row) = verdict(id);
            assert_eq!(word, "not tried", "round {round}: {row:#}");
            assert_eq!(row["seen"], "the computer was busy", "round {round}: {row:#}");
        }
        assert_eq!(code, 3, "it does not pass for good");
    }
}
