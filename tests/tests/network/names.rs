//! Attacks by names: what is asked, of whom, and what an answer opens.

use super::faults::turns;
use super::*;

#[test]
fn n4_dns_is_not_a_channel() {
    // What tells browsers to leave DNS alone is refused also where it is allowed.
    let canary = [Rule::tcp("use-application-dns.net", &[443])];
    let Some((lab, _ann, sandbox)) = start(POLICY, &canary) else { return };
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
    let kinds = lab.dns.asked_kinds();
    assert!(kinds.iter().all(|kind| kind == "A" || kind == "HTTPS"), "{kinds:?}");
    // Over TCP the gate answers the same.
    let gate = SocketAddr::from(([169, 254, 1, 1], 53));
    assert!(sandbox.run(|| rcc_tests::ask(gate, "allowed.example", "A", true)).is_ok());
}

/// Records that say how to reach a server: nothing in them may lead to a name or an
/// address that is not allowed, or carry what nobody reads.
#[test]
fn n4_n6_records_of_services_carry_what_is_open_and_no_more() {
    use rcc_tests::rr::rdata::svcb::{
        Alpn, EchConfigList, IpHint, SvcParamKey as Key, SvcParamValue as Value, Unknown,
    };
    use rcc_tests::rr::rdata::{A, AAAA, HTTPS, SVCB};
    use rcc_tests::rr::{Name, RData};
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    let [own, hinted, ..] = world::SERVERS;
    let alpn = |names: &[&str]| {
        (Key::Alpn, Value::Alpn(Alpn(names.iter().map(ToString::to_string).collect())))
    };
    let hints = |addresses: &[Ipv4Addr]| {
        (Key::Ipv4Hint, Value::Ipv4Hint(IpHint(addresses.iter().copied().map(A).collect())))
    };
    let name = |text| Name::from_ascii(text).expect("a name");
    let bad = [world::HOST, world::NEIGHBOUR, Ipv4Addr::new(169, 254, 169, 254)];
    let full = vec![
        alpn(&["h3", "h2", "c2VjcmV0"]),
        hints(&[bad[0], hinted, bad[1], bad[2]]),
        (Key::EchConfigList, Value::EchConfigList(EchConfigList(b"secret".to_vec()))),
        (Key::Ipv6Hint, Value::Ipv6Hint(IpHint(vec![AAAA("2001:db8::1".parse().expect("six"))]))),
        (Key::Key(65_333), Value::Unknown(Unknown(b"secret".to_vec()))),
    ];
    let port = |port| vec![(Key::Port, Value::Port(port))];
    lab.dns.set(Zone::default().name("allowed.example", &[own]).services(
        "allowed.example",
        &[
            SVCB::new(1, Name::root(), full),
            SVCB::new(0, name("other.example."), vec![]),
            SVCB::new(2, name("other.example."), vec![alpn(&["h2"])]),
            SVCB::new(3, Name::root(), port(22)),
            SVCB::new(4, name("allowed.example."), port(9_999)),
        ],
    ));
    let gate = SocketAddr::from(([169, 254, 1, 1], 53));
    let told = |name: &str| {
        let records = sandbox.run(|| rcc_tests::records(gate, name, "HTTPS", false))?;
        let service = |data: &RData| match data {
            RData::HTTPS(HTTPS(service)) => service.clone(),
            other => panic!("{other:?}"),
        };
        Ok::<_, String>(records.iter().map(|record| service(&record.data)).collect::<Vec<_>>())
    };
    assert!(sandbox.tcp(hinted, 9_999).is_err(), "nobody asked yet");
    let tcp_alone = [
        SVCB::new(1, Name::root(), vec![alpn(&["h2"]), hints(&[hinted])]),
        SVCB::new(4, Name::root(), port(9_999)),
    ];
    assert_eq!(told("allowed.example"), Ok(tcp_alone.to_vec()));
    // The hint was open before anybody heard of it, and the others are not.
    assert!(sandbox.tcp(hinted, 9_999).is_ok());
    assert!(bad.iter().all(|address| sandbox.tcp(*address, 9_999).is_err()));
    // QUIC is told of where an entry opens it.
    let quic = Rule { protocol: "udp".into(), ..Rule::tcp("allowed.example", &[443]) };
    ann.set_rules(sandbox.id, &[quic], 0).expect("allow");
    let mut both = tcp_alone;
    both[0].svc_params[0] = alpn(&["h2", "h3"]);
    assert_eq!(told("allowed.example"), Ok(both.to_vec()));
    // Refused is refused, and goes nowhere.
    assert_eq!(told("other.example"), Err("NXDomain".into()));
    let asked = lab.dns.asked_names();
    assert!(asked.iter().all(|name| name == "allowed.example."), "{asked:?}");
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
            .name("inside.example", &[world::NEIGHBOUR, bad[0], bad[1], world::HOST_ON_LAN]),
    );
    assert_eq!(sandbox.resolve("allowed.example"), Ok(vec![world::SERVERS[0].into()]));
    // An entry that says `private` opens a neighbour, and neither loopback, metadata nor the host.
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
                for turn in 0..turns(100) {
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
    for turn in 0..turns(20) {
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
    for turn in 0..1_000_u16 {
        let rules: Vec<_> =
            (1..40).map(|n| Rule::tcp(format!("h{n}.t{turn}.example"), &[443])).collect();
        let start = Instant::now();
        if let Err(error) = ann.set_rules(sandbox.id, &rules, 0) {
            // As fast as she may: a computer on which each takes long lets her do fewer.
            assert!(error.to_string().starts_with("LimitReached"), "{error}");
            std::thread::sleep(Duration::from_millis(100));
        }
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

/// A name server that somebody speaks for, that is slow, that dies and comes back.
#[test]
fn n6_name_servers_that_lie_are_slow_or_die() {
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    let right = Ok(vec![IpAddr::from(world::SERVERS[0])]);
    let forged = world::SERVERS[1];
    lab.dns.set(rcc_tests::zone().forged(forged));
    for _ in 0..20 {
        assert_eq!(sandbox.resolve("allowed.example"), right, "the right one counts");
    }
    assert!(sandbox.tcp(forged, 9_999).is_err());
    lab.dns.set(rcc_tests::zone().slow(Duration::from_millis(700)));
    assert_eq!(sandbox.resolve("allowed.example"), right, "a slow one is waited for");
    // Many wait at once, and nobody for another.
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let ask = |_| scope.spawn(|| sandbox.resolve("allowed.example"));
        let all: Vec<_> = (0..20).map(ask).collect();
        assert!(all.into_iter().all(|one| one.join().expect("it ends") == right));
    });
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    lab.dns.set(rcc_tests::zone().silent());
    let begun = Instant::now();
    // "There is no such name" would be believed.
    assert_eq!(sandbox.resolve("allowed.example"), Err("ServFail".into()));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(sandbox.tcp(world::SERVERS[0], 9_999).is_ok(), "what was open stays open");
    lab.dns.set(rcc_tests::zone());
    assert_eq!(sandbox.resolve("allowed.example"), right, "it is back at once");
    // The first of two is dead.
    let servers = format!("nameserver {}\nnameserver {}\n", world::SERVERS[2], world::ROUTER);
    std::fs::write("/etc/resolv.conf", servers).expect("write");
    wait_for(|| sandbox.resolve("allowed.example") == right).expect("the second one answers");
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
fn diagnose_tells_how_name_servers_take_a_question_that_says_nothing() {
    let Some((lab, mut ann, _sandbox)) = start(POLICY, &[]) else { return };
    let mut said = |zone: rcc_tests::Zone| {
        lab.dns.set(zone);
        let begun = Instant::now();
        let checks = ann.diagnose().expect("diagnose");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let check = checks.into_iter().find(|check| check.name == "upstream").expect("a line");
        format!("{}: {}", check.state, check.text)
    };
    let zone = rcc_tests::zone;
    for (zone, begins, words) in [
        (zone(), "ok: ", "answers"),
        (zone().slow(Duration::from_millis(500)), "ok: ", "answers"),
        (zone().silent(), "bad: ", "did not answer within a second"),
        (zone().failing(), "bad: ", "cannot look names up"),
        // Who guesses is not heard.
        (zone().forged(world::SERVERS[1]), "ok: ", "answers"),
        (zone().forged(world::SERVERS[1]).failing(), "bad: ", "cannot look names up"),
    ] {
        let said = said(zone);
        assert!(said.starts_with(begins) && said.contains(words), "{said}");
    }
    let asked = lab.dns.asked_names();
    assert!(asked.len() >= 6 && asked.iter().all(|name| name == "."), "{asked:?}");
    // One of two is enough.
    lab.dns.set(zone());
    let servers = format!("nameserver {}\nnameserver {}\n", world::SERVERS[2], world::ROUTER);
    std::fs::write("/etc/resolv.conf", servers).expect("write");
    let line = |ann: &mut Actor| {
        let checks = ann.diagnose().expect("diagnose");
        checks.into_iter().find(|check| check.name == "upstream").expect("a line")
    };
    let check = line(&mut ann);
    assert!(check.state == "ok" && check.text.contains("203.0.113.11, 192.0.2.1"), "{check:?}");
    std::fs::write("/etc/resolv.conf", "# none\n").expect("write");
    let check = line(&mut ann);
    assert!(check.state == "bad" && check.text.contains("names no name server"), "{check:?}");
}
