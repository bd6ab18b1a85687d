//! Attacks on the helper over the bus, in the lab: a real bus, real polkit, other
//! users, hostile descriptors and arguments.

mod diagnose;
mod waiting;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use rcc_dbus::Rule;
use rcc_tests::protocol::Call;
use rcc_tests::{ANN, Actor, BOB, Lab, Options, Sandbox, Watched, skip, wait_for, world};

const POLICY: &str = "version: 1
whitelist:
  - host: allowed.example
    ports: [443, 9999]
";

fn start() -> Option<(Lab, Actor, Sandbox)> {
    let options = Options { policy: Some(POLICY.to_owned()), ..Options::default() };
    match Lab::start(options).expect("a lab") {
        Ok(lab) => {
            let mut ann = lab.person(ANN).expect("a person");
            let sandbox = lab.sandbox(&mut ann, &[]).expect("a sandbox");
            Some((lab, ann, sandbox))
        }
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

/// The call is refused with this code.
fn refused(result: anyhow::Result<serde_json::Value>, code: &str) {
    let error = result.expect_err("refused").to_string();
    assert!(error.starts_with(&format!("{code}:")), "{error}");
}

/// The text of a refusal without numbers, to see whether two are alike.
fn told(result: anyhow::Result<serde_json::Value>) -> String {
    result.expect_err("refused").to_string().replace(|c: char| c.is_ascii_digit(), "#")
}

#[test]
fn h1_another_users_sandbox_is_out_of_reach() {
    let Some((lab, mut ann, sandbox)) = start() else { return };
    let mut bob = lab.person(BOB).expect("another");
    let (own, none) = (sandbox.id, 4_000_000);
    let calls: [fn(u32) -> Call; 4] = [
        |id| Call::SetRules(id, vec![Rule::tcp("evil.example", &[443])], 0),
        |id| Call::SetConnected(id, false),
        |id| Call::SetConnected(id, true),
        Call::Detach,
    ];
    for call in calls {
        // Refused, and in the same words as for a number that nobody has.
        let theirs = told(bob.call(&call(own)));
        assert_eq!(theirs, told(bob.call(&call(none))));
        assert!(theirs.starts_with("NoSuchAttachment"), "{theirs}");
    }
    assert_eq!(bob.list().expect("list").len(), 0);
    refused(bob.call(&Call::List(true)), "NotAuthorized");
    refused(bob.call(&Call::AttachFile(format!("/proc/{}/ns/net", sandbox.pid))), "none");
    // Signals go to their owner alone.
    bob.call::<()>(&Call::Watch).expect("watch");
    ann.call::<()>(&Call::Watch).expect("watch");
    let _ = sandbox.resolve("secret-project.example");
    ann.event(|event| matches!(event, Watched::Blocked { .. })).expect("told");
    assert!(bob.silent(|_| true), "the other one hears nothing");
    assert!(sandbox.reach("allowed.example", 443).is_ok(), "and nothing changed");
}

#[test]
fn h2_hostile_descriptors_are_refused_by_name() {
    let Some((lab, mut ann, sandbox)) = start() else { return };
    let mut bob = lab.person(BOB).expect("another");
    let theirs = lab.bare_sandbox(&mut bob).expect("bob's namespace");
    let cases = [
        ("/etc/passwd".to_owned(), "not a namespace"),
        ("/dev/null".to_owned(), "not a namespace"),
        ("/".to_owned(), "not a namespace"),
        ("/proc/self/ns/mnt".to_owned(), "not one of networking"),
        ("/proc/self/ns/user".to_owned(), "not one of networking"),
        ("/proc/self/ns/pid".to_owned(), "not one of networking"),
        ("/proc/self/ns/net".to_owned(), "own network namespace"),
        ("/run/netns/rcc".to_owned(), "firewall's own"),
        ("/run/netns/internet".to_owned(), "another user"),
    ];
    for (path, why) in cases {
        let error =
            ann.call::<serde_json::Value>(&Call::AttachFile(path.clone())).expect_err("refused");
        let error = error.to_string();
        assert!(error.starts_with("BadDescriptor:") && error.contains(why), "{path}: {error}");
    }
    // Twice the same.
    refused(ann.call(&Call::Attach(sandbox.pid, vec![])), "BadDescriptor");
    // Another user's: this one can not even open it, root's descriptor is refused.
    let path = format!("/proc/{}/ns/net", theirs.pid);
    assert!(ann.call::<serde_json::Value>(&Call::AttachFile(path)).is_err());
    // One with a link in it already, and one with very many.
    let crowded = lab.bare_sandbox(&mut ann).expect("namespace");
    crowded.shell("ip link add dummy0 type veth peer name dummy1").expect("links");
    refused(ann.call(&Call::Attach(crowded.pid, vec![])), "BadDescriptor");
    let links = lab.in_gate("ip -o link | grep -c ' s[0-9]'").expect("ip");
    assert_eq!(links.trim(), "1", "nothing was made on the way");
}

/// A dead one: nobody is in it, and only the caller's descriptor keeps it. Nothing tells the
/// helper so, as it may look into no process of a person's. It sends nothing as nobody is
/// there, counts as one of its owner's, and goes with the descriptor: the helper keeps none.
#[test]
fn h2_a_dead_namespace_goes_with_its_last_descriptor() {
    let Some((lab, mut ann, first)) = start() else { return };
    let left = || {
        lab.in_gate("nft list ruleset; ip -o link; ip route; conntrack -L 2>/dev/null")
            .expect("nft")
    };
    let dead = lab.bare_sandbox(&mut ann).expect("namespace");
    ann.call::<()>(&Call::Hold(dead.pid)).expect("a descriptor");
    ann.end_namespace(dead.pid).expect("end");
    let offer: rcc_dbus::Attachment = ann.call(&Call::AttachHeld(dead.pid)).expect("taken");
    assert_eq!(ann.list().expect("list").len(), 2, "it counts");
    assert!(left().contains(&offer.address4));
    refused(ann.call(&Call::AttachHeld(dead.pid)), "BadDescriptor");
    ann.call::<()>(&Call::Watch).expect("watch");
    ann.call::<()>(&Call::LetGo(dead.pid)).expect("close");
    // At once; what clears up now and then would find it later.
    ann.event(|event| matches!(event, Watched::Detached { id, .. } if *id == offer.id))
        .expect("it is cleared");
    assert_eq!(ann.list().expect("list").len(), 1);
    let left = left();
    for trace in
        [format!("_{} ", offer.id), format!("s{}@", offer.id), format!("{} ", offer.address4)]
    {
        assert!(!left.contains(&trace), "{trace} in {left}");
    }
    assert!(first.reach("allowed.example", 443).is_ok(), "the living one goes on");
}

#[test]
fn h3_hostile_arguments_are_refused_and_cost_little() {
    let Some((lab, mut ann, sandbox)) = start() else { return };
    let before = resident(&lab);
    let many = vec![Rule::tcp("a.example", &[443]); 10_000];
    refused(ann.call(&Call::SetRules(sandbox.id, many, 0)), "LimitReached");
    refused(ann.call(&Call::SetRules(sandbox.id, vec![], u32::MAX)), "InvalidArgument");
    let long = vec![Rule::tcp("x".repeat(1 << 20), &[443])];
    refused(ann.call(&Call::SetRules(sandbox.id, long, 0)), "LimitReached");
    let ports: Vec<u16> = (1..=64).collect();
    let many_ports = (1..=65).map(|n| Rule::tcp(format!("{n}.a.example"), &ports)).collect();
    refused(ann.call(&Call::SetRules(sandbox.id, many_ports, 0)), "LimitReached");
    let bad = [
        Rule::tcp("x".repeat(1 << 16), &[443]),
        Rule::tcp("a\u{1b}[31m.example", &[443]),
        Rule::tcp("*", &[443]),
        Rule::tcp("", &[443]),
        Rule::tcp("*.com", &[443]),
        Rule::tcp("127.0.0.1", &[443]),
        Rule::tcp("0.0.0.0/0; accept", &[443]),
        Rule::tcp("a.example", &[]),
        Rule::tcp("a.example", &[0]),
        Rule::tcp("a.example", &[1; 65]),
        Rule { protocol: "sctp".into(), ..Rule::tcp("a.example", &[443]) },
        Rule { private: true, ..Rule::tcp("10.0.0.1", &[443]) },
    ];
    let dropped = ann.set_rules(sandbox.id, &bad, 0).expect("set");
    assert_eq!(dropped.len(), bad.len(), "{dropped:?}");
    assert!(dropped.iter().all(|one| one.reason.len() < 400));
    assert_eq!(ann.list().expect("list")[0].rules, []);
    assert!(resident(&lab) < before + 20_000, "kB: {before} before");
    assert!(sandbox.reach("allowed.example", 443).is_ok());
}

#[test]
fn h3_a_call_of_another_shape_is_refused_and_changes_nothing() {
    let Some((lab, mut ann, sandbox)) = start() else { return };
    let rules = [Rule::tcp("own.example", &[443])];
    ann.set_rules(sandbox.id, &rules, 0).expect("set");
    let (helper, id) = (lab.helper().expect("a helper"), sandbox.id);
    let send = |method: &str, arguments: &str| {
        lab.on_host(&format!(
            "setpriv --reuid 4001 --regid 4001 --clear-groups dbus-send --system --print-reply \
             --dest=dev.rcc.Helper1 /dev/rcc/Helper1 dev.rcc.Helper1.{method} {arguments}"
        ))
    };
    assert!(send("List", "boolean:false").is_ok(), "as it should be");
    let (own, none) = (format!("uint32:{id}"), format!("uint32:{id} array:string: uint32:0"));
    for (method, arguments) in [
        ("SetRules", ""),
        ("SetRules", "string:x"),
        ("SetRules", &*own),
        ("SetRules", &*none),
        ("SetRules", "int32:-1 array:int32:-1 int32:-1"),
        ("SetRules", "variant:int32:-1 variant:string:x variant:boolean:true"),
        ("SetRules", "dict:string:string:a,b"),
        ("SetConnected", "int32:-1 boolean:false"),
        ("SetConnected", &*format!("{own} int32:0")),
        ("SetConnected", &*format!("variant:{own} variant:boolean:false")),
        ("OpenInternet", &*format!("{own} int64:-1")),
        ("OpenInternet", &*format!("double:{id} double:1e300")),
        ("Detach", &*format!("int32:{id}")),
        ("Detach", &*format!("{own} {own}")),
        ("Detach", &*format!("variant:{own}")),
        ("Attach", "uint32:0 array:string:"),
        ("ReplacePolicy", "array:byte:1,2,3 string:"),
        ("Setup", "string:remove"),
    ] {
        let said = send(method, arguments).expect_err("refused").to_string();
        // Before any of the helper's own code sees it, and not for coming too fast.
        assert!(said.contains("Signature mismatch"), "{method} {arguments}: {said}");
    }
    assert_eq!(lab.helper(), Some(helper), "it lives");
    let list = ann.list().expect("list");
    assert_eq!((list.len(), &list[0].rules[0].rule), (1, &rules[0]), "{list:?}");
    assert!(list[0].connected, "{list:?}");
    assert!(sandbox.reach("allowed.example", 443).is_ok());
}

/// Resident memory of the helper in kB.
fn resident(lab: &Lab) -> u64 {
    let pid = lab.helper().expect("a helper");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

fn send_signal(pid: nix::unistd::Pid, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(pid, signal).expect("a signal");
}

#[test]
fn h5_the_policy_is_the_administrators() {
    let Some((lab, mut ann, sandbox)) = start() else { return };
    let (document, version): (String, String) = ann.call(&Call::GetPolicy).expect("read");
    assert_eq!(document, POLICY);
    let wider = "version: 1\ndefaults:\n  allow_public: true\n".to_owned();
    refused(ann.call(&Call::ReplacePolicy(wider, version.clone())), "NotAuthorized");
    refused(ann.call(&Call::ReplacePolicy("version: 1\n".into(), version)), "NotAuthorized");
    refused(ann.call(&Call::ReplacePolicy("nonsense".into(), "x".into())), "InvalidPolicy");
    assert_eq!(lab.on_host("cat /etc/rcc/network-whitelist.yaml").expect("file"), POLICY);
    assert!(sandbox.tcp(world::SERVERS[1], 443).is_err());
}

#[test]
fn an_administrator_edits_the_policy_and_it_holds_at_once() {
    let Some((lab, _ann, sandbox)) = start() else { return };
    let mut root = lab.person((0, "root")).expect("root");
    let (_, version): (String, String) = root.call(&Call::GetPolicy).expect("read");
    sandbox.reach("allowed.example", 443).expect("before");
    assert!(sandbox.resolve("other.example").is_err());
    let mut running = sandbox
        .run(|| std::net::TcpStream::connect((world::SERVERS[0], 443)))
        .expect("a connection");
    running.set_read_timeout(Some(Duration::from_millis(500))).expect("timeout");
    let other = POLICY.replace("allowed", "other");
    let fresh: String =
        root.call(&Call::ReplacePolicy(other.clone(), version.clone())).expect("replace");
    assert!(sandbox.reach("other.example", 443).is_ok());
    assert!(sandbox.tcp(world::SERVERS[0], 443).is_err(), "what the old one opened is shut");
    let mut said = [0; 256];
    let _ = running.read(&mut said);
    let _ = running.write_all(b"still there?");
    assert!(!matches!(running.read(&mut said), Ok(1..)), "and what ran over it is cut");
    assert_eq!(lab.on_host("cat /etc/rcc/network-whitelist.yaml").expect("file"), other);
    // H6: who read before loses, and is told.
    refused(root.call(&Call::ReplacePolicy(POLICY.into(), version)), "VersionConflict");
    let bad = "version: 1\nwhitelist:\n  - host: a.example\n    ports: [0]\n";
    let error = root.call::<String>(&Call::ReplacePolicy(bad.into(), fresh)).expect_err("refused");
    assert!(error.to_string().contains("line 4"), "{error}");
    assert!(sandbox.reach("other.example", 443).is_ok(), "the policy in force stays");
}

#[test]
fn an_administrators_disconnect_is_not_undone_by_the_user() {
    let Some((lab, mut ann, sandbox)) = start() else { return };
    let mut root = lab.person((0, "root")).expect("root");
    root.set_connected(sandbox.id, false).expect("off");
    refused(ann.call(&Call::SetConnected(sandbox.id, true)), "NotAuthorized");
    assert!(ann.list().expect("list")[0].locked);
    assert!(sandbox.reach("allowed.example", 443).is_err());
    root.set_connected(sandbox.id, true).expect("on");
    assert!(sandbox.reach("allowed.example", 443).is_ok());

    // Nor by another link in the place of the one that is off, whoever takes that away.
    root.set_connected(sandbox.id, false).expect("off");
    ann.detach(sandbox.id).expect("her own");
    refused(ann.call(&Call::Attach(sandbox.pid, vec![])), "NotAuthorized");
    let second = lab.sandbox(&mut ann, &[]).expect("another one is another one");
    root.set_connected(second.id, false).expect("off");
    second.shell("ip link del eth0").expect("her own end");
    wait_for(|| ann.list().is_ok_and(|list| list.is_empty())).expect("it is gone");
    refused(ann.call(&Call::Attach(second.pid, vec![])), "NotAuthorized");
    send_signal(lab.helper().expect("a helper"), nix::sys::signal::Signal::SIGKILL);
    wait_for(|| lab.helper().is_none()).expect("it ends");
    for pid in [sandbox.pid, second.pid] {
        wait_for(|| ann.list().is_ok()).expect("the next helper");
        refused(ann.call(&Call::Attach(pid, vec![])), "NotAuthorized");
    }
    // One that took nothing away plugs in again.
    let third = lab.sandbox(&mut ann, &[]).expect("one more");
    ann.detach(third.id).expect("her own");
    ann.attach(third.pid, &[]).expect("again");
}

#[test]
fn h7_nobody_else_is_the_helper() {
    let Some((lab, mut ann, _)) = start() else { return };
    let own = ann.call::<serde_json::Value>(&Call::Own("dev.rcc.Helper1".into()));
    assert!(own.expect_err("refused").to_string().contains("not allowed to own"));
    // Properties of the helper's connection are none of anybody's business.
    let send = |interface: &str, member: &str, rest: &str| {
        lab.on_host(&format!(
            "setpriv --reuid 4001 --regid 4001 --clear-groups dbus-send --system --print-reply \
             --dest=dev.rcc.Helper1 /dev/rcc/Helper1 {interface}.{member} {rest}"
        ))
    };
    assert!(send("dev.rcc.Helper1", "Version", "").is_ok());
    assert!(send("org.freedesktop.DBus.Introspectable", "Introspect", "").is_ok());
    assert!(send("org.freedesktop.DBus.Properties", "GetAll", "string:dev.rcc.Helper1").is_err());
    assert!(send("org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "").is_err());
}

#[test]
fn h9_only_people_in_the_hosts_network_attach() {
    let Some((lab, mut ann, _)) = start() else { return };
    // A daemon's account.
    let mut daemon = lab.person((33, "www-data")).expect("a daemon");
    let bare = lab.bare_sandbox(&mut daemon).expect("namespace");
    refused(daemon.call(&Call::Attach(bare.pid, vec![])), "CallerRefused");
    // A person's process that was put into a network of its own.
    let mut hidden = lab.person_in(ANN, "lan").expect("a person");
    let bare = lab.bare_sandbox(&mut hidden).expect("namespace");
    refused(hidden.call(&Call::Attach(bare.pid, vec![])), "CallerRefused");
    // A namespace with very many links costs the helper nothing.
    let crowded = lab.bare_sandbox(&mut ann).expect("namespace");
    crowded
        .shell("for n in $(seq 1 300); do echo link add v$n type veth peer name w$n; done | ip -batch -")
        .expect("links");
    let start = Instant::now();
    refused(ann.call(&Call::Attach(crowded.pid, vec![])), "BadDescriptor");
    assert!(start.elapsed() < Duration::from_secs(5));
    // As many as one user may have, and not one more.
    let mut refusal = None;
    for _ in 0..130 {
        let bare = lab.bare_sandbox(&mut ann).expect("namespace");
        if let Err(error) = ann.attach(bare.pid, &[]) {
            refusal = Some(error.to_string());
            break;
        }
    }
    assert!(refusal.expect("a limit").starts_with("LimitReached"));
    drop(ann);
    let mut bob = lab.person(BOB).expect("another");
    wait_for(|| lab.in_gate("ip -o link | grep -c ' s[0-9]'; true").is_ok_and(|n| n.trim() == "0"))
        .expect("everything is cleared when it ends");
    lab.sandbox(&mut bob, &[]).expect("and another user gets one");
}

#[test]
fn the_contract_is_what_the_helper_answers() {
    let Some((lab, mut ann, _)) = start() else { return };
    let (protocol, _): (u32, String) = ann.call(&Call::Version).expect("version");
    assert_eq!(protocol, rcc_dbus::PROTOCOL);
    let answer = lab
        .on_host(
            "dbus-send --system --print-reply=literal --dest=dev.rcc.Helper1 /dev/rcc/Helper1 \
             org.freedesktop.DBus.Introspectable.Introspect",
        )
        .expect("introspect");
    let own = |xml: &str| -> Vec<String> {
        let from = xml.find("<interface name=\"dev.rcc.Helper1\">").expect("the interface");
        let part = &xml[from..];
        let part = &part[..part.find("</interface>").expect("its end")];
        part.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    };
    let written = include_str!("../../../dbus/dev.rcc.Helper1.xml");
    let answered = own(&answer);
    if answered != own(written) {
        panic!(
            "dbus/dev.rcc.Helper1.xml differs from what the helper answers:\n{}",
            answered.join("\n")
        );
    }
}
#[test]
fn a_policy_that_changed_while_the_helper_was_away_holds_for_what_runs() {
    let Some((lab, mut ann, sandbox)) = start() else { return };
    sandbox.reach("allowed.example", 443).expect("before");
    let mut running = sandbox
        .run(|| std::net::TcpStream::connect((world::SERVERS[0], 9_999)))
        .expect("a connection");
    running.set_read_timeout(Some(Duration::from_millis(500))).expect("timeout");
    let mut said = [0; 256];
    assert!(running.read(&mut said).is_ok_and(|length| length > 0), "it runs");
    let helper = lab.helper().expect("a helper");
    nix::sys::signal::kill(helper, nix::sys::signal::Signal::SIGKILL).expect("kill");
    wait_for(|| lab.helper() != Some(helper)).expect("it ends");
    std::fs::write("/etc/rcc/network-whitelist.yaml", "version: 1\n").expect("write");
    wait_for(|| ann.list().is_ok()).expect("a new helper");
    let _ = running.write_all(b"still there?");
    assert!(!matches!(running.read(&mut said), Ok(1..)), "cut");
    assert!(sandbox.tcp(world::SERVERS[0], 9_999).is_err());
    assert!(sandbox.resolve("allowed.example").is_err());
}

#[test]
fn n17_a_flood_of_questions_leaves_the_others_their_answers() {
    let Some((lab, mut ann, noisy)) = start() else { return };
    let quiet = lab.sandbox(&mut ann, &[]).expect("another");
    quiet.resolve("allowed.example").expect("before");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            noisy.run(|| {
                let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).expect("socket");
                let end = Instant::now() + Duration::from_secs(10);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) && Instant::now() < end {
                    let _ = socket.send_to(&[0x55; 60], ("169.254.1.1", 53));
                }
            });
        });
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        for turn in 0..20 {
            quiet.resolve("allowed.example").unwrap_or_else(|error| panic!("turn {turn}: {error}"));
        }
        let taken = start.elapsed();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(taken < Duration::from_secs(4), "{taken:?}");
    });
    let dropped = lab.in_gate(&format!("nft list chain inet rcc q_{}", noisy.id)).expect("nft");
    assert!(!dropped.contains("packets 0 bytes 0 drop"), "{dropped}");
}
