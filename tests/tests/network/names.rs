//! Attacks by names: what is asked, of whom, and what an answer opens.

use super::*;

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
fn n4_a_wildcard_lets_few_names_a_minute_out() {
    let policy = "version: 1\nwhitelist:\n  - host: \"*.zone.example\"\n    ports: [443]\n  - host: exact.zone.example\n    ports: [443]\n";
    let Some((lab, mut ann, sandbox)) = start(policy, &[]) else { return };
    let asked = || lab.dns.asked_names().len();
    for number in 0..200 {
        let _ = sandbox.resolve(&format!("secret-{number}.zone.example"));
    }
    assert_eq!(asked(), 60, "no more are sent upstream");
    // A name that was asked for is no news, nor is one that stands in the list.
    let _ = sandbox.resolve("secret-3.zone.example");
    let _ = sandbox.resolve("exact.zone.example");
    assert_eq!(asked(), 62);
    // Another sandbox has its own.
    let other = lab.sandbox(&mut ann, &[]).expect("another");
    let _ = other.resolve("secret-300.zone.example");
    assert_eq!(asked(), 63);
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
    let mut longest = Duration::ZERO;
    for turn in 0..400_u16 {
        let rules: Vec<_> =
            (1..40).map(|n| Rule::tcp(format!("h{n}.t{turn}.example"), &[443])).collect();
        let start = Instant::now();
        ann.set_rules(sandbox.id, &rules, 0).expect("set");
        longest = longest.max(start.elapsed());
        if lab.resolver() != Some(resolver) {
            break;
        }
    }
    assert!(longest < Duration::from_secs(5), "{longest:?}");
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
