//! `rcc verify`, which tries ways out for a person.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcc_tests::{Workshop, in_namespace, played_api, wait_for, world, zone};
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

/// The tries end within five seconds; a busy computer takes its time to begin and to end.
const IN_TIME: Duration = Duration::from_secs(9);

#[test]
fn verify_tries_the_walls_and_sees_a_hole() {
    let Some((workshop, project)) = start("verify") else { return };
    // Something that this computer would execute.
    fs::create_dir_all(project.join(".git/hooks")).expect("mkdir");
    fs::write(project.join(".git/config"), "[core]\n").expect("write");
    good(&workshop, &inside(&workshop, &project, "true"));
    // Another sandbox, and servers that everybody reaches: 853 is served on all addresses.
    let other = workshop.project("other").expect("a project");
    good(&workshop, &inside(&workshop, &other, "true"));
    for address in ["198.41.0.4", "193.0.14.129", "9.9.9.9"] {
        let add = format!("ip -n internet addr add {address}/32 dev lo");
        workshop.lab.on_host(&add).expect("ip");
    }
    let roots = ["198.41.0.4:53", "193.0.14.129:53"].map(|root| {
        let listen = || TcpListener::bind(root).expect("listen");
        in_namespace(Path::new("/run/netns/internet"), listen).expect("the internet")
    });
    let verify = || verify(&workshop, &project);
    let (code, verdict, took) = verify();
    for id in [
        "works",
        "F1",
        "F1-write",
        "F1-mount",
        "F2",
        "namespaces",
        "host-network",
        "privileged",
        "net-admin",
        "seccomp",
        "calls",
        "H8",
        "hosts",
        "N1",
        "N2",
        "N3",
        "N4",
        "N6",
        "N8",
        "N13",
        "N16",
        "N18",
        "N20",
        "firewall",
        "list",
    ] {
        let (word, row) = verdict(id);
        assert_eq!(word, "holds", "{row:#}");
    }
    for id in ["N15", "N21", "C2", "kernel"] {
        assert_eq!(verdict(id).0, "not tried");
    }
    assert_eq!(code, 0);
    assert!(took < IN_TIME, "{took:?}");
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
    workshop.lab.dns.set(zone().name(played_api::NAME, &[played_api::ADDRESS]));
    // Another resolver in the place of the firewall's: it says "no such name" to the same
    // names, which proves nothing.
    let bypass = "nft insert rule inet rcc c_arrive udp dport 53 accept; \
                  nft insert rule inet rcc c_forward udp dport 53 accept; \
                  nft add table ip other; \
                  nft add chain ip other way '{ type nat hook prerouting priority dstnat; }'; \
                  nft add rule ip other way iifname 's*' udp dport 53 dnat to 192.0.2.1";
    workshop.lab.in_gate(bypass).expect("nft");
    let (_, verdict, _) = verify();
    let (word, row) = verdict("N16");
    assert_eq!(word, "not tried", "{row:#}");
    assert!(row["seen"].as_str().is_some_and(|why| why.contains("no such name")), "{row:#}");
    // It also answers what the firewall's never does: TXT.
    let (word, row) = verdict("N4");
    assert_eq!(word, "OPEN", "{row:#}");
    // A hole in the gate is seen, by all that it lets through.
    let hole =
        "nft insert rule inet rcc c_divert accept; nft insert rule inet rcc c_forward accept";
    workshop.lab.in_gate(hole).expect("nft");
    let (code, verdict, _) = verify();
    for id in ["hosts", "N4", "N13", "N20"] {
        let (word, row) = verdict(id);
        assert_eq!((word.as_str(), code), ("OPEN", 1), "{row:#}");
    }
    // Nobody is there in the lab: what is not reached for that reason is behind no wall.
    let (word, row) = verdict("N6");
    assert_eq!(word, "not tried", "{row:#}");
    // Nor is what says no itself, far away.
    drop(roots);
    let (_, verdict, _) = verify();
    let (word, row) = verdict("hosts");
    assert_eq!(word, "not tried", "{row:#}");
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
        (1, ["namespaces", "privileged"], &["N1", "F1", "N20", "works"][..]),
        (2, ["N1", "F1"], &["N20", "works"]),
    ] {
        let (code, verdict, took) = while_tries_hang(round, || verify(&workshop, &project));
        assert!(took < IN_TIME, "{took:?}");
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

#[test]
fn verify_of_a_sandbox_that_is_disconnected_or_has_no_link_shows_no_hole() {
    let Some((workshop, project)) = start("apart") else { return };
    good(&workshop, &inside(&workshop, &project, "true"));
    good(&workshop, &workshop.rcc(&project, &["net", "off"]).expect("rcc net off"));
    let offline = workshop.project("offline").expect("a project");
    let arguments = ["run", "--yes", "--image", "small", "--offline", "--", "true"];
    good(&workshop, &workshop.rcc(&offline, &arguments).expect("rcc run"));
    for project in [&project, &offline] {
        let (code, verdict, _) = verify(&workshop, project);
        for id in ["F1", "hosts", "N1", "N2", "N3", "N4", "N6"] {
            let (word, row) = verdict(id);
            assert_eq!(word, "holds", "{}: {row:#}", project.display());
        }
        assert_eq!(code, 0);
    }
}

/// What a person allowed, for a while or for good, is no hole.
#[test]
fn verify_of_what_is_allowed_or_open_shows_no_hole() {
    let Some((workshop, project)) = start("allowed") else { return };
    good(&workshop, &inside(&workshop, &project, "true"));
    let names = zone().name(played_api::NAME, &[played_api::ADDRESS]);
    workshop.lab.dns.set(names.name("example.org", &world::SERVERS[2..3]));
    let rcc = |arguments: &[&str]| {
        good(&workshop, &workshop.rcc(&project, arguments).expect("rcc"));
    };
    rcc(&["allow", "example.org", "--for", "10m"]);
    let (code, verdict, _) = verify(&workshop, &project);
    let (word, row) = verdict("N4");
    assert_eq!((word.as_str(), code), ("holds", 0), "{row:#}");
    rcc(&["allow", &played_api::ADDRESS.to_string()]);
    let (code, verdict, _) = verify(&workshop, &project);
    let (word, row) = verdict("N20");
    assert_eq!((word.as_str(), code), ("not tried", 0), "{row:#}");
    assert_eq!(verdict("works").0, "holds");
    rcc(&["deny", &played_api::ADDRESS.to_string()]);
    // The whole internet, by the computer's list.
    let open = format!(
        "version: 1\ndefaults:\n  allow_public: true\nwhitelist:\n  - host: {}\n    ports: [443]\n",
        played_api::NAME
    );
    fs::write("/etc/rcc/network-whitelist.yaml", open).expect("write");
    wait_for(|| verify(&workshop, &project).1("hosts").0 == "not tried").expect("in force");
    let (code, verdict, _) = verify(&workshop, &project);
    for id in ["hosts", "N4", "N16", "N20"] {
        let (word, row) = verdict(id);
        assert_eq!((word.as_str(), code), ("not tried", 0), "{row:#}");
    }
    assert_eq!(verdict("works").0, "holds");
}
