//! `rcc verify`, which tries ways out for a person.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcc_tests::{Workshop, played_api, world, zone};
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

/// What hangs while a person waits.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hangs {
    /// The program that makes the tries, as soon as it is there.
    Tries,
    /// The engine, when the first round of tries is over.
    Engine,
}

/// The processes whose words fit.
fn processes(fits: impl Fn(&[&[u8]]) -> bool) -> Vec<Pid> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let fits = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        fits(&line.split(|byte| *byte == 0).collect::<Vec<_>>())
    };
    all.filter(fits).map(Pid::from_raw).collect()
}

fn while_it_hangs<T>(hangs: Hangs, workshop: &Workshop, job: impl FnOnce() -> T) -> T {
    let tries = || processes(|words| words.starts_with(&[b"/run/rcc/inside", b"probe"]));
    let engines = || {
        let ours = workshop.processes();
        let mut all = processes(|words| {
            words[0].ends_with(b"podman") && words.contains(&b"system".as_slice())
        });
        all.retain(|pid| ours.contains(&pid.as_raw()));
        all
    };
    let over = AtomicBool::new(false);
    let until = |condition: &dyn Fn() -> bool| {
        while !condition() && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    std::thread::scope(|scope| {
        let stopper = scope.spawn(|| {
            let engines = engines();
            until(&|| !tries().is_empty());
            let stopped = match hangs {
                Hangs::Tries => tries(),
                Hangs::Engine => {
                    until(&|| tries().is_empty());
                    engines
                }
            };
            for pid in &stopped {
                let _ = kill(*pid, Signal::SIGSTOP);
            }
            stopped
        });
        let done = job();
        over.store(true, Ordering::Relaxed);
        for pid in stopper.join().expect("it looks") {
            let _ = kill(pid, Signal::SIGCONT);
        }
        done
    })
}

#[test]
fn verify_ends_in_time_and_says_what_it_could_not_finish() {
    let Some((workshop, project)) = start("busy") else { return };
    good(&workshop, &inside(&workshop, &project, "true"));
    for (hangs, held, late) in [
        // Nothing was tried from inside; what the kernel says was looked at.
        (Hangs::Tries, ["namespaces", "rights"], &["N1", "F1", "N20", "works"][..]),
        (Hangs::Engine, ["N1", "F1"], &["N20", "works"]),
    ] {
        let (code, verdict, took) =
            while_it_hangs(hangs, &workshop, || verify(&workshop, &project));
        eprintln!("{hangs:?}: {took:?}");
        assert!(took < Duration::from_secs(6), "{took:?}");
        for id in held {
            let (word, row) = verdict(id);
            assert_eq!(word, "holds", "{hangs:?}: {row:#}");
        }
        for id in late {
            let (word, row) = verdict(id);
            assert_eq!(word, "not tried", "{hangs:?}: {row:#}");
            assert_eq!(row["seen"], "the computer was busy", "{hangs:?}: {row:#}");
        }
        assert_eq!(code, 3, "it does not pass for good");
    }
}
