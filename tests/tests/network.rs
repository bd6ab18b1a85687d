//! Attacks on the network wall, in the lab: real packets, a real bus, real
//! polkit, the real helper. Named after the rows of docs/threat-model.md.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rcc_dbus::Rule;
use rcc_tests::{
    ANN, Actor, BOB, Lab, Options, Sandbox, Watched, Zone, in_namespace, skip, wait_for, world,
};

const POLICY: &str = "version: 1
whitelist:
  - host: allowed.example
    ports: [443, 9999]
  - ip: 198.51.100.0/24
    ports: [443]
";

const PRIVATE: &str = "version: 1
defaults:
  users_may_add: private
whitelist: []
";

/// A lab with one sandbox of Ann's; `None` when this machine cannot have one.
fn start(policy: &str, rules: &[Rule]) -> Option<(Lab, Actor, Sandbox)> {
    let lab = start_with(Options { policy: Some(policy.to_owned()), ..Options::default() })?;
    let mut ann = lab.person(ANN).expect("a person");
    let sandbox = lab.sandbox(&mut ann, rules).unwrap_or_else(|e| panic!("{e:#}\n{}", lab.log()));
    Some((lab, ann, sandbox))
}

fn start_with(options: Options) -> Option<Lab> {
    match Lab::start(options).expect("a lab") {
        Ok(lab) => Some(lab),
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

fn private(target: &str, port: u16) -> Rule {
    Rule { private: true, ..Rule::tcp(target, &[port]) }
}

/// Kills the helper as `kill -9` does and waits until the bus knows.
fn kill_helper(lab: &Lab) {
    let helper = lab.helper().expect("a helper");
    let resolver = lab.resolver();
    nix::sys::signal::kill(helper, nix::sys::signal::Signal::SIGKILL).expect("kill");
    wait_for(|| lab.helper() != Some(helper) && lab.resolver() != resolver).expect("it ends");
    std::thread::sleep(Duration::from_millis(50));
}

/// A connection that can be told from a dead one.
fn held(sandbox: &Sandbox, address: Ipv4Addr, port: u16) -> TcpStream {
    let stream = sandbox.run(|| TcpStream::connect((address, port))).expect("connect");
    stream.set_read_timeout(Some(Duration::from_millis(700))).expect("timeout");
    let mut greeting = [0; 128];
    let length = (&stream).read(&mut greeting).expect("greeting");
    assert!(length > 0);
    stream
}

fn echoes(mut stream: &TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"ping").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && &answer == b"ping"
}

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
fn n1_without_a_helper_there_is_only_lo() {
    let Some(lab) = start_with(Options::default()) else { return };
    let mut ann = lab.person(ANN).expect("a person");
    let bare = lab.bare_sandbox(&mut ann).expect("a namespace");
    assert_eq!(
        bare.shell("ls /sys/class/net || true; ip -o link | wc -l").expect("ip").lines().last(),
        Some("1")
    );
    let sandbox = lab.sandbox(&mut ann, &[]).expect("a sandbox");
    let links = sandbox.shell("ip -o link | cut -d: -f2 | cut -d@ -f1").expect("ip");
    assert_eq!(links.split_whitespace().collect::<Vec<_>>(), ["lo", "eth0"]);
}

#[test]
fn n2_the_host_is_out_of_reach() {
    let open = "version: 1\ndefaults:\n  allow_public: true\n  block_rfc1918: false\nwhitelist:\n  - ip: 192.168.77.0/24\n    ports: [80]\n";
    let Some((lab, _ann, sandbox)) = start(open, &[]) else { return };
    assert!(sandbox.tcp(world::SERVERS[1], 443).is_ok(), "the public internet is open here");
    assert!(sandbox.tcp(world::NEIGHBOUR, 80).is_ok(), "and a neighbour that is listed");
    let own = [
        world::HOST,
        world::HOST_ON_LAN,
        Ipv4Addr::new(198, 18, 0, 1),
        Ipv4Addr::new(198, 18, 0, 2),
    ];
    let gateways = [Ipv4Addr::new(169, 254, 1, 1), Ipv4Addr::new(169, 254, 1, 2)];
    for address in own.into_iter().chain(gateways) {
        for port in [22, 80, 443, 9_999] {
            assert!(sandbox.tcp(address, port).is_err(), "{address}:{port}");
        }
    }
    // An address that the host got a moment ago, while the helper is dead.
    kill_helper(&lab);
    lab.on_host("ip addr add 203.0.113.77/32 dev lo").expect("address");
    assert!(
        sandbox.tcp(Ipv4Addr::new(203, 0, 113, 77), 80).is_err(),
        "a fresh address of the host"
    );
    // And with every rule of the host gone.
    lab.on_host("nft flush ruleset").expect("flush");
    for address in [world::HOST, world::HOST_ON_LAN, Ipv4Addr::new(203, 0, 113, 77)] {
        assert!(sandbox.tcp(address, 80).is_err(), "{address} after a flush");
    }
}

#[test]
fn n2_each_of_the_three_layers_holds_alone() {
    let open = "version: 1\ndefaults:\n  allow_public: true\n  block_rfc1918: false\n";
    let Some((lab, _ann, sandbox)) = start(open, &[]) else { return };
    let fresh = Ipv4Addr::new(203, 0, 113, 77);
    kill_helper(&lab);
    // The gate alone: the host's own two are gone.
    lab.on_host("ip rule add pref 0 lookup local; ip rule del pref 0 iif rcc0; nft flush ruleset")
        .expect("take away");
    assert!(sandbox.tcp(world::HOST, 80).is_err(), "the gate knows the host's addresses");
    // The host's table alone: an address that the gate does not know.
    lab.on_host(&format!("ip addr add {fresh}/32 dev lo")).expect("address");
    assert!(sandbox.tcp(fresh, 80).is_ok(), "without both of the host's it is open");
    lab.apply().expect("put up again");
    lab.on_host("ip rule add pref 0 lookup local; ip rule del pref 0 iif rcc0").expect("take away");
    assert!(sandbox.tcp(fresh, 80).is_err(), "the host's table");
    // The routing rule alone.
    lab.apply().expect("put up again");
    lab.on_host("nft flush ruleset").expect("flush");
    assert!(sandbox.tcp(fresh, 80).is_err(), "the routing rule");
}

#[test]
fn n3_ipv6_is_never_a_hole() {
    let Some((lab, _ann, sandbox)) = start("version: 1\ndefaults:\n  allow_public: true\n", &[])
    else {
        return;
    };
    lab.dns.set(rcc_tests::zone().v6("allowed.example", "2600::9"));
    assert_eq!(sandbox.ask("allowed.example", "AAAA"), Ok(vec![]));
    // The sandbox gives itself everything that IPv6 needs; nothing arrives anywhere.
    sandbox
        .shell("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0 net.ipv6.conf.eth0.accept_dad=0; \
                ip -6 addr add 2600::2/64 dev eth0 nodad; ip -6 route add default via fe80::1 dev eth0; true")
        .expect("ip");
    let before = lab.in_gate("nft list chain inet rcc c_arrive | grep ipv6").expect("nft");
    for address in ["2600::9", "fe80::1", "2600::1"] {
        let to: SocketAddr = format!("[{address}]:443").parse().expect("address");
        assert!(
            sandbox.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(300))).is_err()
        );
    }
    let none = lab.in_gate("ip -6 addr show | grep -c inet6 || true").expect("ip");
    assert_eq!(none.trim(), "0", "the gate has no IPv6 at all ({before})");
}

#[test]
fn n4_dns_is_not_a_channel() {
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    assert!(sandbox.resolve("AlLoWeD.eXaMpLe").is_ok());
    for (name, kind) in [
        ("allowed.example", "TXT"),
        ("allowed.example", "NULL"),
        ("allowed.example", "ANY"),
        ("allowed.example", "MX"),
        ("allowed.example", "SRV"),
        ("allowed.example", "HTTPS"),
    ] {
        assert!(matches!(sandbox.ask(name, kind), Ok(found) if found.is_empty()), "{kind}");
    }
    let secret = "c2VjcmV0.data.other.example";
    for name in [
        secret,
        "c2VjcmV0.allowed.example",
        "allowed.example.other.example",
        "use-application-dns.net",
    ] {
        assert_eq!(sandbox.resolve(name), Err("NXDomain".into()), "{name}");
    }
    // Other resolvers, over all that a resolver speaks.
    for server in [world::ROUTER, world::SERVERS[0]] {
        let to = SocketAddr::from((server, 53));
        for tcp in [false, true] {
            let asked = sandbox.run(|| rcc_tests::ask(to, "allowed.example", "A", tcp));
            assert!(asked.is_err(), "{server} tcp={tcp}");
        }
        assert!(sandbox.tcp(server, 853).is_err());
    }
    let asked = lab.dns.asked_names();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|name| name == "allowed.example."), "{asked:?}");
    // Over TCP the gate answers the same.
    let gate = SocketAddr::from(([169, 254, 1, 1], 53));
    assert!(sandbox.run(|| rcc_tests::ask(gate, "allowed.example", "A", true)).is_ok());
}

#[test]
fn n6_rebinding_opens_nothing() {
    let policy = "version: 1\nwhitelist:\n  - host: allowed.example\n    ports: [80, 443]\n  - host: inside.example\n    ports: [80]\n    private: true\n";
    let Some((lab, _ann, sandbox)) = start(policy, &[]) else { return };
    let bad = [
        Ipv4Addr::new(127, 0, 0, 1),
        Ipv4Addr::new(169, 254, 169, 254),
        Ipv4Addr::new(10, 0, 0, 1),
        world::NEIGHBOUR,
        world::HOST,
        world::HOST_ON_LAN,
        Ipv4Addr::new(168, 63, 129, 16),
        Ipv4Addr::new(198, 18, 0, 1),
        Ipv4Addr::new(100, 64, 0, 1),
    ];
    for address in bad {
        lab.dns.set(Zone::default().name("allowed.example", &[address]));
        assert_eq!(sandbox.resolve("allowed.example"), Ok(vec![]), "{address}");
        assert!(sandbox.tcp(address, 80).is_err(), "{address}");
    }
    // Among good ones only the good one is left.
    lab.dns.set(
        Zone::default()
            .name("allowed.example", &[bad[2], world::SERVERS[0]])
            .name("inside.example", &[world::NEIGHBOUR, bad[0], world::HOST_ON_LAN]),
    );
    assert_eq!(sandbox.resolve("allowed.example"), Ok(vec![world::SERVERS[0].into()]));
    // An entry that says `private` opens a neighbour, and neither loopback nor the host.
    assert_eq!(sandbox.resolve("inside.example"), Ok(vec![world::NEIGHBOUR.into()]));
    assert!(sandbox.tcp(world::NEIGHBOUR, 80).is_ok());
    assert!(sandbox.tcp(world::NEIGHBOUR, 443).is_err());
}

#[test]
fn n7_names_that_rotate_work_on_the_first_try() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    let [a, b, c, _] = world::SERVERS;
    lab.dns.set(Zone::default().rotating("allowed.example", &[&[a], &[b], &[c], &[a, b]]));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for turn in 0..100 {
                    sandbox
                        .reach("allowed.example", 443)
                        .unwrap_or_else(|e| panic!("turn {turn}: {e}"));
                }
            });
        }
    });
    // A refusal is forgotten the moment the name is allowed.
    assert!(sandbox.resolve("other.example").is_err());
    lab.dns.set(rcc_tests::zone());
    for turn in 0..20 {
        ann.set_rules(sandbox.id, &[], 0).expect("deny");
        assert!(sandbox.resolve("other.example").is_err(), "turn {turn}");
        ann.set_rules(sandbox.id, &[Rule::tcp("other.example", &[443])], 0).expect("allow");
        sandbox.reach("other.example", 443).unwrap_or_else(|e| panic!("turn {turn}: {e}"));
    }
}

#[test]
fn n8_forged_source_addresses_are_dropped() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    let other = lab.sandbox(&mut ann, &[]).expect("another");
    sandbox.resolve("allowed.example").expect("open");
    // Reverse path filtering would drop them too: without it, the rule alone.
    lab.in_gate("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.s1.rp_filter=0")
        .expect("sysctl");
    for forged in [other.address, Ipv4Addr::new(198, 18, 9, 9), world::SERVERS[1], world::HOST] {
        sandbox.shell(&format!("ip addr add {forged}/32 dev eth0")).expect("second address");
        let connect = sandbox.run(|| {
            use nix::sys::socket::{
                AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket,
                sockopt,
            };
            use std::os::fd::AsRawFd;
            let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None)?;
            let limit = nix::sys::time::TimeVal::new(0, 500_000);
            setsockopt(&fd, sockopt::SendTimeout, &limit)?;
            bind(fd.as_raw_fd(), &SockaddrIn::from(std::net::SocketAddrV4::new(forged, 0)))?;
            connect(
                fd.as_raw_fd(),
                &SockaddrIn::from(std::net::SocketAddrV4::new(world::SERVERS[0], 443)),
            )
        });
        assert!(connect.is_err(), "{forged}");
        // An answer would not come back anyway: no packet may have got as far as conntrack.
        let flows = lab.in_gate("cat /proc/net/nf_conntrack").expect("conntrack");
        assert!(!flows.contains(&format!("src={forged} dst=203.0.113.9 ")), "{forged}: {flows}");
        sandbox.shell(&format!("ip addr del {forged}/32 dev eth0")).expect("remove");
    }
    let counted = lab.in_gate("nft list chain inet rcc c_arrive | grep own4").expect("nft");
    assert!(!counted.contains("packets 0 "), "{counted}");
    assert!(sandbox.tcp(world::SERVERS[0], 443).is_ok(), "its own address still works");
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
        ann.end_namespace(bare.pid).expect("end");
        wait_for(|| ann.list().is_ok()).expect("a new helper");
    }
    let sandbox = lab.sandbox(&mut ann, &[]).expect("and it works afterwards");
    assert!(sandbox.reach("allowed.example", 443).is_ok());
    let links = lab.in_gate("ip -o link | grep -c ' s[0-9]' || true").expect("ip");
    assert_eq!(links.trim(), "2", "no half link is left");
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
        assert!(echoes(&stream), "a running connection goes on, turn {turn}");
        assert!(sandbox.tcp(world::SERVERS[0], 443).is_ok(), "what was open is open");
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
fn n12_a_flush_of_the_hosts_rules_is_undone() {
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    sandbox.reach("allowed.example", 443).expect("before");
    lab.on_host("nft flush ruleset").expect("flush");
    assert!(sandbox.tcp(world::HOST, 80).is_err());
    wait_for(|| lab.on_host("nft list table inet rcc").is_ok()).expect("back");
    wait_for(|| sandbox.tcp(world::SERVERS[0], 443).is_ok()).expect("works again");
    assert!(sandbox.tcp(world::SERVERS[1], 443).is_err());
}

#[test]
fn n13_sandboxes_do_not_reach_each_other() {
    let Some((lab, mut ann, one)) = start("version: 1\ndefaults:\n  allow_public: true\n", &[])
    else {
        return;
    };
    let mut bob = lab.person(BOB).expect("another person");
    let same = lab.sandbox(&mut ann, &[]).expect("same user");
    let other = lab.sandbox(&mut bob, &[]).expect("other user");
    // The listener says nothing, so a connection alone counts.
    let connect = |from: &Sandbox, to: Ipv4Addr| {
        let to = SocketAddr::from((to, 80));
        from.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(400)))
    };
    for (turn, target) in [&same, &other, &same].into_iter().enumerate() {
        if turn == 2 {
            // The pool is among the ranges that nothing opens: without those too.
            lab.in_gate("nft flush set inet rcc never4").expect("flush");
            one.shell(&format!("ip route del {} dev eth0", target.address)).expect("route");
        }
        let listener = target.run(|| TcpListener::bind(("0.0.0.0", 80))).expect("listen");
        assert!(connect(&one, target.address).is_err(), "by the gate");
        // With a route of its own making.
        let _ = one.shell(&format!("ip route replace {} dev eth0", target.address));
        assert!(connect(&one, target.address).is_err(), "directly");
        drop(listener);
    }
}

#[test]
fn n14_only_tcp_and_udp_pass() {
    let Some((lab, _ann, sandbox)) = start("version: 1\ndefaults:\n  allow_public: true\n", &[])
    else {
        return;
    };
    let server = world::SERVERS[0];
    assert!(
        sandbox.shell(&format!("ping -c1 -W1 {server}")).is_ok(),
        "an echo where everything is open"
    );
    // Fragments, options, other protocols: sent, and counted as dropped in the gate.
    let drops = |chain: &str| {
        let listing = lab.in_gate(&format!("nft list chain inet rcc {chain}")).expect("nft");
        listing
            .split("packets ")
            .skip(1)
            .filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok())
            .sum::<u64>()
    };
    let before = drops("c_arrive");
    assert!(sandbox.shell(&format!("ping -c1 -W1 -s 4000 {server}")).is_err(), "fragments");
    assert!(sandbox.shell(&format!("ping -c1 -W1 -R {server}")).is_err(), "options");
    assert!(drops("c_arrive") > before);
    // GRE, SCTP and a made-up number, as raw IP.
    let before = drops("c_refuse");
    for protocol in [47, 132, 200] {
        let script = format!(
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, {protocol}); \
             s.sendto(b'payload!payload!', ('{server}', 0))"
        );
        sandbox.shell(&format!("python3 -c \"{script}\"")).expect("python3");
    }
    wait_for(|| drops("c_refuse") >= before + 3).expect("refused and counted");
    // Broadcast and multicast.
    for target in ["255.255.255.255", "224.0.0.251"] {
        let to: Ipv4Addr = target.parse().expect("address");
        assert!(sandbox.udp(to, 9_999).is_err(), "{target}");
    }
}

#[test]
fn n15_taking_an_entry_away_cuts_running_connections() {
    let both = [Rule::tcp("allowed.example", &[9_999]), Rule::tcp("other.example", &[9_999])];
    let Some((lab, mut ann, sandbox)) = start("version: 1\nwhitelist: []\n", &both) else { return };
    for turn in 0..25 {
        ann.set_rules(sandbox.id, &both, 0).expect("allow both");
        sandbox.reach("allowed.example", 9_999).unwrap_or_else(|e| panic!("{turn}: {e}"));
        sandbox.reach("other.example", 9_999).unwrap_or_else(|e| panic!("{turn}: {e}"));
        let stays = held(&sandbox, world::SERVERS[0], 9_999);
        let goes = held(&sandbox, world::SERVERS[1], 9_999);
        assert!(echoes(&stays) && echoes(&goes));
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
        assert!(echoes(&stays), "the other goes on, turn {turn}\n{}", lab.log());
        assert!(sandbox.tcp(world::SERVERS[1], 9_999).is_err());
        // It goes on by its new mark, also when its address is open no more.
        lab.in_gate(&format!("nft flush set inet rcc name_public_{}", sandbox.id)).expect("flush");
        assert!(echoes(&stays), "by its mark, turn {turn}");
        assert!(sandbox.tcp(world::SERVERS[0], 9_999).is_err(), "for new ones it is shut");
    }
    // Inbound: nothing outside can open a connection in.
    let listener = sandbox.run(|| TcpListener::bind(("0.0.0.0", 8_080))).expect("listen");
    lab.on_host(&format!("ip route add {}/32 dev rcc0 2>/dev/null; true", sandbox.address))
        .expect("route");
    let to = SocketAddr::from((sandbox.address, 8_080));
    assert!(TcpStream::connect_timeout(&to, Duration::from_millis(400)).is_err());
    let inward = in_namespace(Path::new("/run/netns/lan"), || {
        TcpStream::connect_timeout(&to, Duration::from_millis(400))
    });
    assert!(inward.expect("lan").is_err());
    drop(listener);
}

/// Like [`echoes`], for a stream that still has bytes of a flood to read.
fn echoes_fresh(mut stream: &TcpStream) -> bool {
    let mut bytes = [0; 65_536];
    let quiet = loop {
        match stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let waiting =
        matches!(quiet.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
    waiting && echoes(stream)
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
    ann.set_rules(sandbox.id, &[Rule::tcp("allowed.example", &[9_999])], 2).expect("two seconds");
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
}

#[test]
fn n19_the_computer_does_not_become_a_router() {
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    sandbox.reach("allowed.example", 443).expect("forwarding is on for the gate");
    let out = SocketAddr::from((world::SERVERS[0], 443));
    // The world knows the way back, so that only the host stands in between.
    lab.on_host("ip -n internet route add 192.168.77.0/24 via 192.0.2.2").expect("route");
    let lan = Path::new("/run/netns/lan");
    let through =
        in_namespace(lan, || TcpStream::connect_timeout(&out, Duration::from_millis(500)));
    assert!(through.expect("lan").is_err(), "a neighbour gets no way through");
    let forwarding = |link: &str| {
        let path = format!("cat /proc/sys/net/ipv4/conf/{link}/forwarding");
        lab.on_host(&path).expect("read").trim().to_owned()
    };
    assert_eq!((forwarding("eth0"), forwarding("lo")), ("1".into(), "0".into()));
    lab.on_host(&format!("{} remove", Lab::program("rcc-helper").display())).expect("remove");
    assert_eq!((forwarding("eth0"), forwarding("lan0")), ("0".into(), "0".into()));
    let left = lab.on_host("nft list ruleset; ip rule; ip -o link; ls /run/netns").expect("look");
    assert!(!left.contains("rcc"), "{left}");
    assert!(left.contains("0:\tfrom all lookup local"), "{left}");
}

#[test]
fn the_resolvers_sockets_reach_name_servers_alone() {
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    sandbox.resolve("allowed.example").expect("the name server itself");
    // What a taken-over resolver could do with the sockets it is handed: send to
    // another address. The mark is the socket's, and it cannot change it.
    let send = |address: Ipv4Addr, port: u16| {
        let script = format!(
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
             s.setsockopt(socket.SOL_SOCKET, 36, 0x72636372); s.settimeout(1); \
             s.connect(('{}', 53)); s.sendto(b'x', ('{address}', {port}))",
            world::ROUTER
        );
        lab.on_host(&format!("python3 -c \"{script}\""))
    };
    for (address, port) in [(world::ROUTER, 9_999), (world::SERVERS[0], 53), (world::NEIGHBOUR, 53)]
    {
        assert!(send(address, port).is_err(), "{address}:{port}");
    }
    assert!(send(world::ROUTER, 53).is_ok());
    // Another name server from now on.
    let other = world::SERVERS[1];
    std::fs::write(
        "/etc/resolv.conf",
        format!("nameserver {other}\nnameserver {}\n", world::ROUTER),
    )
    .expect("write");
    wait_for(|| sandbox.resolve("allowed.example").is_ok()).expect("names go on");
    assert!(send(other, 53).is_ok() && send(world::SERVERS[0], 53).is_err());
}

#[test]
fn a_resolver_that_hangs_is_replaced() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    sandbox.resolve("allowed.example").expect("before");
    let resolver = lab.resolver().expect("a resolver");
    nix::sys::signal::kill(resolver, nix::sys::signal::Signal::SIGSTOP).expect("stop");
    // It reads nothing any more; whoever changes rules is not held up.
    let start = Instant::now();
    for turn in 0..400_u16 {
        let rules: Vec<_> =
            (1..40).map(|n| Rule::tcp(format!("h{n}.t{turn}.example"), &[443])).collect();
        ann.set_rules(sandbox.id, &rules, 0).expect("set");
        if lab.resolver() != Some(resolver) {
            break;
        }
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    wait_for(|| sandbox.resolve("allowed.example").is_ok()).expect("a new one answers");
    assert_ne!(lab.resolver(), Some(resolver));
}

#[test]
fn an_upstream_on_loopback_works() {
    let options =
        Options { policy: Some(POLICY.into()), upstream_on_loopback: true, ..Options::default() };
    let Some(lab) = start_with(options) else { return };
    let mut ann = lab.person(ANN).expect("a person");
    let sandbox = lab.sandbox(&mut ann, &[]).expect("a sandbox");
    assert!(sandbox.reach("allowed.example", 443).is_ok());
}

#[test]
fn aliases_are_flattened() {
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    lab.dns.set(
        rcc_tests::zone()
            .alias("allowed.example", "cdn.other.example")
            .name("cdn.other.example", &[world::SERVERS[2]]),
    );
    assert_eq!(sandbox.resolve("allowed.example"), Ok(vec![IpAddr::from(world::SERVERS[2])]));
    assert!(sandbox.tcp(world::SERVERS[2], 443).is_ok());
    // The alias' own name stays refused.
    assert!(sandbox.resolve("cdn.other.example").is_err());
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
fn h9_source_ports_are_never_privileged() {
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    sandbox.resolve("allowed.example").expect("open");
    let greeting = sandbox
        .shell(&format!("nc -p 700 -w 2 {} 443 </dev/null | head -1", world::SERVERS[0]))
        .expect("nc");
    let port: u16 = greeting
        .split([' ', ':'])
        .nth(2)
        .and_then(|port| port.parse().ok())
        .unwrap_or_else(|| panic!("{greeting:?} {}", lab.log()));
    assert!(port >= 1_024, "{greeting}");
}
