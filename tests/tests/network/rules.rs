//! Attacks on rules in time: what is allowed, taken away, timed, told, and kept
//! over a restart.

use super::faults::{GATE, turns};
use super::*;

#[test]
fn allowed_hosts_are_reached_and_others_are_not() {
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    let greeting =
        sandbox.reach("allowed.example", 443).unwrap_or_else(|e| panic!("{e}\n{}", lab.log()));
    // The host's address is all that the server sees.
    assert!(greeting.starts_with("from 192.0.2.2:"), "{greeting}");
    assert!(sandbox.tcp(world::SERVERS[3], 443).is_ok(), "an ip entry");
    assert!(sandbox.tcp(world::SERVERS[3], 80).is_err(), "another port");
    assert!(sandbox.udp(world::SERVERS[0], 9_999).is_err(), "another protocol");
    assert!(sandbox.tcp(world::SERVERS[0], 80).is_err(), "another port of an allowed name");
    assert!(sandbox.tcp(world::SERVERS[1], 443).is_err(), "another address");
    assert_eq!(sandbox.resolve("other.example"), Err("NXDomain".into()));
}

#[test]
fn n9_a_new_sandbox_inherits_nothing() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[Rule::tcp("other.example", &[443])]) else {
        return;
    };
    sandbox.reach("other.example", 443).expect("its own rule");
    // Its socket would keep the namespace alive; the flow stays in conntrack.
    drop(held(&sandbox, world::SERVERS[1], 443));
    ann.call::<()>(&rcc_tests::protocol::Call::Watch).expect("watch");
    ann.end_namespace(sandbox.pid).expect("end");
    ann.event(|event| matches!(event, Watched::Detached { id, .. } if *id == sandbox.id))
        .expect("told");
    let left = lab.in_gate("nft list ruleset; ip link").expect("nft");
    for trace in
        [&format!("_{} ", sandbox.id), &format!("s{}@", sandbox.id), &sandbox.address.to_string()]
    {
        assert!(!left.contains(trace.as_str()), "{trace} in {left}");
    }
    let second = lab.sandbox(&mut ann, &[]).expect("another");
    assert_ne!(second.address, sandbox.address);
    assert!(second.tcp(world::SERVERS[1], 443).is_err());
    // All of that went to the kernel without the program, and nothing was refused.
    assert!(!lab.log().contains("nft tries it"), "{}", lab.log());
}

#[test]
fn n10_no_packet_before_the_rules_stand() {
    let Some((lab, mut ann, _)) = start("version: 1\ndefaults:\n  allow_public: true\n", &[])
    else {
        return;
    };
    // The helper dies in the middle of attaching, a few hundred microseconds later
    // each time; whatever is left lets nothing out that no rule allows.
    for delay in (0..40).map(|step| Duration::from_micros(step * 400)) {
        let bare = lab.bare_sandbox(&mut ann).expect("a namespace");
        let helper = lab.helper();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(delay);
            helper.map(|pid| nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL))
        });
        let attached = ann.attach(bare.pid, &[]);
        let _ = killer.join();
        if attached.is_err() && bare.shell("ip link show eth0").is_ok() {
            let _ = bare.shell(
                "ip addr add 198.18.0.99/32 dev eth0; ip link set lo up; ip link set eth0 up; \
                 ip route add 169.254.1.1 dev eth0; ip route add default via 169.254.1.1",
            );
            assert!(bare.tcp(world::SERVERS[0], 443).is_err(), "after {delay:?}");
        }
        // A link without a record is taken away, though its namespace is still there. The
        // kernel takes those of the namespaces that have ended in its own time.
        let links = || lab.in_gate("ip -o link | grep ' s[0-9]' || true").expect("ip");
        wait_for(|| ann.list().is_ok_and(|list| list.len() == links().lines().count()))
            .unwrap_or_else(|_| panic!("a half link is left after {delay:?}:\n{}", links()));
        ann.end_namespace(bare.pid).expect("end");
    }
    let sandbox = lab.sandbox(&mut ann, &[]).expect("and it works afterwards");
    assert!(sandbox.reach("allowed.example", 443).is_ok());
}

#[test]
fn n10_a_link_whose_record_is_lost_is_taken_away() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    sandbox.reach("allowed.example", 9_999).expect("before");
    kill_helper(&lab);
    lab.on_host("rm /run/rcc/sandboxes/*.json").expect("the record");
    assert_eq!(ann.list().expect("a new helper").len(), 0);
    // Nobody could tell what it may reach, or take it away later.
    assert!(sandbox.shell("ip link show eth0").is_err(), "its link is gone");
    assert!(sandbox.tcp(world::SERVERS[0], 9_999).is_err());
    let again = lab.sandbox(&mut ann, &[]).expect("another");
    assert!(again.reach("allowed.example", 9_999).is_ok());
}

#[test]
fn n11_walls_hold_while_the_helper_is_dead_and_names_come_back() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[Rule::tcp("other.example", &[443])]) else {
        return;
    };
    sandbox.reach("allowed.example", 9_999).expect("before");
    let stream = held(&sandbox, world::SERVERS[0], 9_999);
    for turn in 0..5 {
        kill_helper(&lab);
        assert!(goes_on(&stream), "a running connection goes on, turn {turn}");
        assert!(sandbox.tcp(world::SERVERS[0], 9_999).is_ok(), "what was open is open");
        // Nobody is there to look at a hello (N20).
        assert!(sandbox.tcp(world::SERVERS[0], 443).is_err(), "what needs a look is not");
        if turn == 0 {
            let silence = sandbox.resolve("allowed.example").expect_err("nobody listens");
            assert!(!silence.contains("refused"), "a client would give up: {silence}");
        }
        assert!(sandbox.tcp(world::SERVERS[1], 80).is_err(), "what was closed is closed");
        // Any call starts a new helper.
        let list = ann.list().expect("list");
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].rules.len(), 1);
        wait_for(|| sandbox.resolve("other.example").is_ok()).expect("names come back");
        assert!(sandbox.reach("other.example", 443).is_ok());
    }
    // The resolver alone: a question that waits is answered by the next one.
    let resolver = lab.resolver().expect("a resolver");
    nix::sys::signal::kill(resolver, nix::sys::signal::Signal::SIGKILL).expect("kill");
    assert!(sandbox.resolve("allowed.example").is_ok(), "{}", lab.log());
}

#[test]
fn n15_taking_an_entry_away_cuts_running_connections() {
    let both = [Rule::tcp("allowed.example", &[9_999]), Rule::tcp("other.example", &[9_999])];
    let Some((lab, mut ann, sandbox)) = start("version: 1\nwhitelist: []\n", &both) else { return };
    for turn in 0..turns(25) {
        ann.set_rules(sandbox.id, &both, 0).expect("allow both");
        sandbox.reach("allowed.example", 9_999).unwrap_or_else(|e| panic!("{turn}: {e}"));
        sandbox.reach("other.example", 9_999).unwrap_or_else(|e| panic!("{turn}: {e}"));
        let stays = held(&sandbox, world::SERVERS[0], 9_999);
        let goes = held(&sandbox, world::SERVERS[1], 9_999);
        assert!(goes_on(&stays) && goes_on(&goes));
        // At full rate while the entry goes, and every other time idle.
        let flood = goes.try_clone().expect("clone");
        flood.set_write_timeout(Some(Duration::from_millis(200))).expect("timeout");
        let flooding = std::thread::spawn(move || {
            let data = [0; 16_384];
            let end = Instant::now() + Duration::from_millis(if turn % 2 == 0 { 40 } else { 0 });
            while Instant::now() < end && (&flood).write(&data).is_ok() {}
        });
        ann.set_rules(sandbox.id, &both[..1], 0).expect("take one away");
        let _ = flooding.join();
        assert!(!echoes_fresh(&goes), "cut, turn {turn}");
        assert!(goes_on(&stays), "the other goes on, turn {turn}\n{}", lab.log());
        assert!(sandbox.tcp(world::SERVERS[1], 9_999).is_err());
        // It goes on by its new mark, also when its address is open no more.
        lab.in_gate(&format!("nft flush set inet rcc name_public_{}", sandbox.id)).expect("flush");
        assert!(goes_on(&stays), "by its mark, turn {turn}");
        assert!(sandbox.tcp(world::SERVERS[0], 9_999).is_err(), "for new ones it is shut");
    }
}

/// Neither this computer nor the internet reaches a port that listens in a sandbox.
#[test]
fn n15_nothing_comes_in_from_outside() {
    use super::decisions::{left, listen_at};
    const REFUSED: &str = "iifname \"uplink0\" counter";
    let open = "version: 1\ndefaults:\n  allow_public: true\n";
    let Some((lab, _ann, sandbox)) = start(open, &[]) else { return };
    let _listener = sandbox.run(|| TcpListener::bind(("0.0.0.0", 8_080))).expect("listen");
    let heard = listen_at(Path::new(&format!("/proc/{}/ns/net", sandbox.pid)), "eth0");
    let came_in = |port: Option<u16>| {
        let to_it = left(&heard).into_iter().filter(|(to, ..)| *to == sandbox.address);
        to_it.filter(|(.., to)| port.is_none_or(|port| port == *to)).count()
    };
    sandbox.tcp(world::SERVERS[0], 443).expect("out");
    assert!(came_in(None) > 0, "answers are heard");

    // Nobody answers who asks for the sandbox's hardware address: the way is by the gate's.
    let address = sandbox.address;
    lab.on_host(&format!("ip route add {address}/32 via {GATE} dev rcc0 onlink")).expect("route");
    lab.on_host(&format!("ip -n internet route add {address}/32 via {}", world::HOST))
        .expect("route");
    let to = SocketAddr::from((address, 8_080));
    let tried = || {
        let udp = std::net::UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
        udp.send_to(b"hello", to).expect("sent");
        TcpStream::connect_timeout(&to, Duration::from_millis(400)).is_err()
    };
    let from_the_internet = || in_namespace(Path::new("/run/netns/internet"), tried);
    let before = counted(&lab, "c_forward", REFUSED);
    assert!(tried(), "from this computer");
    let after = counted(&lab, "c_forward", REFUSED);
    assert!(after >= before + 2, "both came as far as the gate: {before}, then {after}");
    assert!(from_the_internet().expect("enter"), "from the internet");
    assert_eq!(counted(&lab, "c_forward", REFUSED), after, "that ended on the host");
    // The gate alone: nobody puts the host's table back.
    kill_helper(&lab);
    lab.on_host("nft flush ruleset").expect("flush");
    assert!(from_the_internet().expect("enter"), "from the internet, without the host's table");
    let last = counted(&lab, "c_forward", REFUSED);
    assert!(last >= after + 2, "both came as far as the gate: {after}, then {last}");
    assert_eq!(came_in(Some(8_080)), 0, "the sandbox heard of it");
}

#[test]
fn disconnecting_cuts_everything_and_connecting_brings_it_back() {
    let Some((_lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    sandbox.reach("allowed.example", 9_999).expect("before");
    let stream = held(&sandbox, world::SERVERS[0], 9_999);
    ann.set_connected(sandbox.id, false).expect("off");
    assert!(!echoes(&stream));
    assert!(sandbox.tcp(world::SERVERS[0], 443).is_err());
    assert!(sandbox.resolve("allowed.example").is_err());
    ann.set_connected(sandbox.id, true).expect("on");
    sandbox.reach("allowed.example", 443).expect("after");
}

#[test]
fn timed_rules_end_in_the_helper() {
    let Some((lab, mut ann, sandbox)) = start("version: 1\nwhitelist: []\n", &[]) else { return };
    ann.set_rules(sandbox.id, &[Rule::tcp("allowed.example", &[9_999])], 8).expect("eight seconds");
    sandbox.reach("allowed.example", 9_999).expect("while it lasts");
    let stream = held(&sandbox, world::SERVERS[0], 9_999);
    kill_helper(&lab);
    assert_eq!(ann.list().expect("list")[0].rules.len(), 1, "a restart does not forget it");
    wait_for(|| ann.list().is_ok_and(|list| list[0].rules.is_empty())).expect("it ends");
    assert!(!echoes(&stream), "and what it opened is cut");
    assert!(sandbox.tcp(world::SERVERS[0], 9_999).is_err());
}

#[test]
fn what_is_blocked_is_told_with_its_reason() {
    let Some((_lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    ann.call::<()>(&rcc_tests::protocol::Call::Watch).expect("watch");
    let _ = sandbox.resolve("other.example");
    ann.event(|event| {
        matches!(event, Watched::Blocked { host, reason, port: 0, .. }
        if host == "other.example" && reason == "not-allowed")
    })
    .expect("a name");
    let _ = sandbox.tcp(world::SERVERS[1], 80);
    ann.event(|event| {
        matches!(event, Watched::Blocked { address, reason, port: 80, protocol, .. }
        if address == "203.0.113.10" && reason == "not-allowed" && protocol == "tcp")
    })
    .expect("an address");
    let _ = sandbox.tcp(world::NEIGHBOUR, 80);
    ann.event(|event| {
        matches!(event, Watched::Blocked { address, reason, .. }
        if address == "192.168.77.10" && reason == "private")
    })
    .expect("a private address");
    let _ = sandbox.tcp(world::HOST, 80);
    ann.event(|event| {
        matches!(event, Watched::Blocked { address, reason, .. }
        if address == "192.0.2.2" && reason == "never")
    })
    .expect("the host");
}

#[test]
fn what_was_blocked_while_nobody_watched_is_told_to_the_next_who_does() {
    let Some((_lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    let _ = sandbox.resolve("other.example");
    std::thread::sleep(Duration::from_millis(500));
    ann.call::<()>(&rcc_tests::protocol::Call::Watch).expect("watch");
    ann.event(|event| matches!(event, Watched::Blocked { host, .. } if host == "other.example"))
        .expect("told late");

    // Not gathered yet when it is asked to end: it is told all the same, and before
    // the answer.
    let _ = sandbox.resolve("second.example");
    ann.call::<()>(&rcc_tests::protocol::Call::Unwatch).expect("unwatch");
    ann.event(|event| matches!(event, Watched::Blocked { host, .. } if host == "second.example"))
        .expect("told at the end");
    let third =
        |event: &Watched| matches!(event, Watched::Blocked { host, .. } if host == "third.example");
    let _ = sandbox.resolve("third.example");
    assert!(ann.silent(third), "nothing is told to one who does not watch");
    ann.call::<()>(&rcc_tests::protocol::Call::Watch).expect("watch");
    ann.event(third).expect("and nothing was lost");
}

#[test]
fn users_stay_within_the_administrators_bounds() {
    let rules = [
        private("inside.example", 80),
        Rule::tcp("192.168.77.0/24", &[80]),
        Rule::tcp("other.example", &[443]),
    ];
    let Some((lab, mut ann, sandbox)) = start("version: 1\nwhitelist: []\n", &rules) else {
        return;
    };
    lab.dns.set(rcc_tests::zone().name("inside.example", &[world::NEIGHBOUR]));
    assert!(sandbox.resolve("inside.example").is_err());
    assert!(sandbox.tcp(world::NEIGHBOUR, 80).is_err());
    assert!(sandbox.reach("other.example", 443).is_ok());
    let dropped = ann.set_rules(sandbox.id, &rules, 0).expect("set");
    assert_eq!(dropped.iter().map(|one| one.index).collect::<Vec<_>>(), [0, 1]);
    drop((lab, ann));
    let Some((_lab, _ann, sandbox)) = start(PRIVATE, &rules[1..2]) else { return };
    assert!(sandbox.tcp(world::NEIGHBOUR, 80).is_ok());
}

#[test]
fn the_internet_is_open_for_a_time_that_the_helper_keeps() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    sandbox.reach("allowed.example", 9_999).expect("an entry");
    let stays = held(&sandbox, world::SERVERS[0], 9_999);
    let long = ann.open_internet(sandbox.id, rcc_dbus::MAX_OPEN + 1);
    assert!(long.is_err_and(|error| error.to_string().starts_with("InvalidArgument")));
    ann.open_internet(sandbox.id, 10).expect("open");
    let open_for = ann.list().expect("list")[0].open_for;
    assert!((1..=10).contains(&open_for), "{open_for}");
    sandbox.reach("other.example", 9_999).expect("any public name");
    let goes = held(&sandbox, world::SERVERS[1], 9_999);
    for address in [world::NEIGHBOUR, world::HOST] {
        assert!(sandbox.tcp(address, 80).is_err(), "{address} is not public");
    }
    kill_helper(&lab);
    assert!(ann.list().expect("list")[0].open_for > 0, "a restart does not forget it");
    wait_for(|| ann.list().is_ok_and(|list| list[0].open_for == 0)).expect("it ends");
    assert!(!echoes(&goes), "what only that opened is cut");
    assert!(goes_on(&stays), "what an entry opens goes on");
    assert!(sandbox.tcp(world::SERVERS[1], 9_999).is_err());
    assert_eq!(sandbox.resolve("other.example"), Err("NXDomain".into()));

    ann.open_internet(sandbox.id, 600).expect("open");
    let goes = held(&sandbox, world::SERVERS[1], 9_999);
    ann.open_internet(sandbox.id, 0).expect("close");
    assert!(!echoes(&goes) && sandbox.tcp(world::SERVERS[1], 9_999).is_err());
}

#[test]
fn who_may_add_nothing_opens_nothing() {
    let bounded = format!("{POLICY}defaults:\n  users_may_add: none\n");
    let Some((lab, mut ann, sandbox)) = start(&bounded, &[]) else { return };
    let refused = ann.open_internet(sandbox.id, 60);
    assert!(refused.is_err_and(|error| error.to_string().starts_with("NotAuthorized")));
    assert!(sandbox.tcp(world::SERVERS[1], 443).is_err());

    // The administrator says so while it is open.
    std::fs::write("/etc/rcc/network-whitelist.yaml", POLICY).expect("write");
    ann.call::<()>(&rcc_tests::protocol::Call::Refresh).expect("refresh");
    ann.open_internet(sandbox.id, 600).expect("open");
    let goes = held(&sandbox, world::SERVERS[1], 9_999);
    std::fs::write("/etc/rcc/network-whitelist.yaml", bounded).expect("write");
    let mut bob = lab.person(BOB).expect("a person");
    bob.call::<()>(&rcc_tests::protocol::Call::Refresh).expect("refresh");
    assert!(!echoes(&goes), "cut");
    assert_eq!(ann.list().expect("list")[0].open_for, 0);
}

#[test]
fn an_edit_of_the_computers_list_by_hand_holds_within_a_second() {
    let Some((_lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    let list = std::path::Path::new("/etc/rcc/network-whitelist.yaml");
    let wider = format!("{POLICY}  - host: other.example\n    ports: [443, 9999]\n");
    let within_a_second = |what: &str, mut holds: Box<dyn FnMut() -> bool>| {
        let begun = Instant::now();
        wait_for(&mut holds).expect(what);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(3), "{what} after {took:?}");
    };
    assert!(sandbox.resolve("other.example").is_err());

    // As an editor does it: the old one aside, a new one, the old one away.
    std::fs::rename(list, list.with_extension("yaml~")).expect("rename");
    std::fs::write(list, &wider).expect("write");
    std::fs::remove_file(list.with_extension("yaml~")).expect("remove");
    within_a_second("a host is added", Box::new(|| sandbox.resolve("other.example").is_ok()));
    sandbox.reach("other.example", 443).expect("allowed by hand");
    sandbox.reach("allowed.example", 443).expect("as before");
    let goes = held(&sandbox, world::SERVERS[1], 9_999);
    let other = held(&sandbox, world::SERVERS[0], 9_999);

    // A mistake changes nothing, and is told to who asks.
    std::fs::write(list, format!("{POLICY}nonsense: 1\n")).expect("write");
    let told = |ann: &mut Actor| {
        let checks = ann.diagnose().expect("checks");
        checks.into_iter().find(|check| check.name == "policy").expect("a check")
    };
    let check = told(&mut ann);
    assert!(check.state == "bad" && check.text.contains("line "), "{check:?}");
    std::thread::sleep(Duration::from_millis(700));
    assert!(goes_on(&goes) && goes_on(&other), "the list before stays");

    std::fs::write(list, POLICY).expect("write");
    within_a_second("a host is taken away", Box::new(|| !echoes(&goes)));
    assert!(sandbox.tcp(world::SERVERS[1], 443).is_err());
    assert!(goes_on(&other), "what the list still has goes on");
    assert_ne!(told(&mut ann).state, "bad");

    // None at all allows nothing.
    std::fs::remove_file(list).expect("remove");
    within_a_second("without a list", Box::new(|| !echoes(&other)));
}

#[test]
fn where_a_sandbox_went_is_known_to_its_user_alone() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    assert_eq!(ann.reached(sandbox.id).expect("reached"), []);
    for _ in 0..3 {
        sandbox.reach("allowed.example", 443).expect("a name");
    }
    sandbox.tcp(world::SERVERS[3], 443).expect("an address");
    let _ = sandbox.tcp(world::SERVERS[1], 443);
    let seen = || ann.reached(sandbox.id).expect("reached");
    let mut seen = seen;
    wait_for(|| seen().len() == 2).unwrap_or_else(|_| panic!("{:?}", seen()));
    let lines = seen();
    let by_name = lines.iter().find(|line| line.host == "allowed.example").expect("the name");
    assert_eq!((by_name.port, by_name.count, by_name.protocol.as_str()), (443, 3, "tcp"));
    assert!(lines.iter().any(|line| line.host.is_empty() && line.address == "198.51.100.7"));
    // H1.
    let mut bob = lab.person(BOB).expect("a person");
    let refused = bob.reached(sandbox.id);
    assert!(refused.is_err_and(|error| error.to_string().starts_with("NoSuchAttachment")));
    let opened = bob.open_internet(sandbox.id, 60);
    assert!(opened.is_err_and(|error| error.to_string().starts_with("NoSuchAttachment")));
}
