//! Attacks by packets: the host, neighbours, other protocols, forged sources.

use rcc_policy::Protocol;

use super::decisions::{left, listen, listen_at, packets};
use super::faults::GATE;
use super::*;

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

/// Hears datagrams on the computer, whichever of its addresses they are for.
fn datagrams() -> UdpSocket {
    let socket = UdpSocket::bind(("0.0.0.0", DATAGRAMS)).expect("bind");
    socket.set_read_timeout(Some(Duration::from_millis(400))).expect("timeout");
    socket
}

const DATAGRAMS: u16 = 9_998;

/// Whether a datagram of the sandbox's arrives there. An answer would say less: it could
/// come from another address.
fn arrives(heard: &UdpSocket, sandbox: &Sandbox, address: Ipv4Addr) -> bool {
    let socket = sandbox.run(|| UdpSocket::bind(("0.0.0.0", 0))).expect("a socket");
    // Refused at once does not arrive either.
    let _ = socket.send_to(&address.octets(), (address, DATAGRAMS));
    let mut said = [0; 64];
    heard.recv(&mut said).is_ok_and(|length| said[..length] == address.octets())
}

#[test]
fn n2_the_host_is_out_of_reach() {
    let open = "version: 1\ndefaults:\n  allow_public: true\n  block_rfc1918: false\nwhitelist:\n  - ip: 192.168.77.0/24\n    ports: [80]\n";
    let Some((lab, _ann, sandbox)) = start(open, &[]) else { return };
    assert!(sandbox.tcp(world::SERVERS[1], 443).is_ok(), "the public internet is open here");
    let server = in_namespace(Path::new("/run/netns/internet"), datagrams).expect("a server");
    assert!(arrives(&server, &sandbox, world::SERVERS[1]), "by datagrams, too");
    assert!(sandbox.tcp(world::NEIGHBOUR, 80).is_ok(), "and a neighbour that is listed");
    let own = [
        world::HOST,
        world::HOST_ON_LAN,
        Ipv4Addr::new(198, 18, 0, 1),
        Ipv4Addr::new(198, 18, 0, 2),
    ];
    let gateways = [Ipv4Addr::new(169, 254, 1, 1), Ipv4Addr::new(169, 254, 1, 2)];
    let heard = datagrams();
    for address in own.into_iter().chain(gateways) {
        for port in [22, 80, 443, 9_999] {
            assert!(sandbox.tcp(address, port).is_err(), "{address}:{port}");
        }
        assert!(!arrives(&heard, &sandbox, address), "a datagram to {address}");
    }
    // An address that the host got a moment ago, while the helper is dead.
    kill_helper(&lab);
    let fresh = Ipv4Addr::new(203, 0, 113, 77);
    lab.on_host(&format!("ip addr add {fresh}/32 dev lo")).expect("address");
    assert!(sandbox.tcp(fresh, 80).is_err(), "a fresh address of the host");
    assert!(!arrives(&heard, &sandbox, fresh), "a datagram to a fresh address");
    // And with every rule of the host gone.
    lab.on_host("nft flush ruleset").expect("flush");
    for address in [world::HOST, world::HOST_ON_LAN, fresh] {
        assert!(sandbox.tcp(address, 80).is_err(), "{address} after a flush");
        assert!(!arrives(&heard, &sandbox, address), "a datagram to {address} after a flush");
    }
}

#[test]
fn n2_each_of_the_three_layers_holds_alone() {
    let open = "version: 1\ndefaults:\n  allow_public: true\n  block_rfc1918: false\n";
    let Some((lab, _ann, sandbox)) = start(open, &[]) else { return };
    let fresh = Ipv4Addr::new(203, 0, 113, 77);
    let heard = datagrams();
    // A connection, and a datagram.
    let open = |address| (sandbox.tcp(address, 80).is_ok(), arrives(&heard, &sandbox, address));
    kill_helper(&lab);
    // The gate alone: the host's own two are gone.
    lab.on_host(
        "ip rule add pref 0 lookup local; ip rule del pref 0 not iif rcc0; nft flush ruleset",
    )
    .expect("take away");
    assert_eq!(open(world::HOST), (false, false), "the gate knows the host's addresses");
    // The host's table alone: an address that the gate does not know.
    lab.on_host(&format!("ip addr add {fresh}/32 dev lo")).expect("address");
    assert_eq!(open(fresh), (true, true), "without both of the host's it is open");
    lab.apply().expect("put up again");
    lab.on_host("ip rule add pref 0 lookup local; ip rule del pref 0 not iif rcc0")
        .expect("take away");
    assert_eq!(open(fresh), (false, false), "the host's table");
    // The routing rule alone.
    lab.apply().expect("put up again");
    lab.on_host("nft flush ruleset").expect("flush");
    assert_eq!(open(fresh), (false, false), "the routing rule");
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
    let connect = || {
        for address in ["2600::9", "fe80::1", "2600::1"] {
            let to: SocketAddr = format!("[{address}]:443").parse().expect("address");
            let soon = Duration::from_millis(300);
            assert!(sandbox.run(|| TcpStream::connect_timeout(&to, soon)).is_err(), "{address}");
        }
    };
    // The first wall: the gate's kernel knows no IPv6.
    let none = lab.in_gate("ip -6 addr show | grep -c inet6 || true").expect("ip");
    assert_eq!(none.trim(), "0", "the gate has no IPv6 at all");
    let heard = listen();
    connect();
    // The second alone, for a gate whose kernel would carry it on.
    lab.in_gate(&format!(
        "for link in all {link} uplink0; do sysctl -qw net.ipv6.conf.$link.disable_ipv6=0; done
         sysctl -qw net.ipv6.conf.all.forwarding=1
         ip -6 addr add fe80::1/64 dev {link} nodad
         ip -6 route add default dev uplink0; ip -6 route add 2600::2/128 dev {link}",
        link = format_args!("s{}", sandbox.id),
    ))
    .expect("IPv6 in the gate");
    let gate = "mac=$(ip neigh show 169.254.1.1 dev eth0 | cut -d' ' -f3)
                ip -6 neigh add fe80::1 lladdr $mac dev eth0 nud permanent";
    sandbox.shell(gate).expect("its hardware address");
    let dropped = || counted(&lab, "c_arrive", "meta nfproto ipv6 counter");
    let before = dropped();
    connect();
    assert!(dropped() > before, "the rule is what drops it");
    let own: [u8; 16] = "2600::2".parse::<std::net::Ipv6Addr>().expect("an address").octets();
    let left = packets(&heard);
    let of_it = left.iter().filter(|packet| packet[0] >> 4 == 6 && packet[8..24] == own).count();
    assert_eq!(of_it, 0, "left the gate");
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

/// A raw socket says what it likes, and needs no address to be there.
#[test]
fn n8_what_a_raw_socket_says_of_its_source_is_held_against_the_link() {
    use super::decisions::{left, segment, send_raw};
    const SYN: u8 = 2;
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    let other = lab.sandbox(&mut ann, &[]).expect("another");
    sandbox.resolve("allowed.example").expect("open");
    // Reverse path filtering would drop them too: without it, the rule alone.
    lab.in_gate("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.s1.rp_filter=0")
        .expect("sysctl");
    let heard = listen();
    let dropped = || counted(&lab, "c_arrive", "iifname \"s*\" iifname . ip saddr");
    // Open to both of them, so that only the source speaks against it.
    let server = world::SERVERS[3];
    let send = |source| {
        sandbox.run(|| send_raw(&segment((source, 40_000), (server, 443), SYN, (1, 0), b"")));
    };
    for forged in [
        other.address,
        Ipv4Addr::new(198, 18, 9, 9),
        world::SERVERS[1],
        world::HOST,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(169, 254, 1, 1),
    ] {
        let before = dropped();
        send(forged);
        wait_for(|| dropped() > before).unwrap_or_else(|_| panic!("{forged}: dropped, counted"));
        let flows = lab.in_gate("cat /proc/net/nf_conntrack").expect("conntrack");
        assert!(!flows.contains(&format!("src={forged} dst={server} ")), "{forged}: {flows}");
        assert!(left(&heard).is_empty(), "{forged}");
    }
    send(sandbox.address);
    wait_for(|| left(&heard).contains(&(server, Protocol::Tcp, 443))).expect("its own leaves");
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
fn n12_a_gate_that_was_removed_is_made_anew() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    sandbox.reach("allowed.example", 9_999).expect("before");
    lab.on_host("ip link del rcc0").expect("remove");
    assert!(sandbox.tcp(world::SERVERS[0], 9_999).is_err(), "cut, not open");
    wait_for(|| ann.list().is_ok_and(|list| list.is_empty())).expect("it is told");
    let second = lab.sandbox(&mut ann, &[]).expect("the new gate");
    assert!(second.reach("allowed.example", 9_999).is_ok());
    assert!(second.tcp(world::HOST, 22).is_err());
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

/// Sends datagrams to `ADDRESS:PORT`s as they are, to the hardware address of the gateway,
/// whatever the sandbox's own kernel thinks of them.
const SEND: &str = r#"
import socket, struct, sys
mac, own, *targets = sys.argv[1:]
link = ('eth0', 0x800, 0, 0, bytes.fromhex(mac.replace(':', '')))
raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
for target in targets:
    address, port = target.split(':')
    ends = socket.inet_aton(own) + socket.inet_aton(address)
    head = lambda sum: struct.pack('!BBHHHBBH', 69, 0, 32, 0, 0x4000, 64, 17, sum) + ends
    total = sum(struct.unpack('!10H', head(0)))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    raw.sendto(head(total ^ 0xffff) + struct.pack('!HHHH', 40000, int(port), 12, 0) + b'test', link)
"#;

#[test]
fn r1_one_that_floods_with_echoes_leaves_others_theirs() {
    let open = "version: 1\ndefaults:\n  allow_public: true\n";
    let Some((lab, mut ann, noisy)) = start(open, &[]) else { return };
    let quiet = lab.sandbox(&mut ann, &[]).expect("another");
    let server = world::SERVERS[0];
    std::thread::scope(|scope| {
        let flood = format!("timeout 4 ping -q -i 0.002 {server}");
        scope.spawn(move || noisy.shell(&format!("{flood} || true")));
        std::thread::sleep(Duration::from_millis(500));
        let said = quiet.shell(&format!("ping -q -c8 -i0.3 -W1 {server} || true")).expect("ping");
        assert!(said.contains(" 8 received"), "{said}");
    });
}

#[test]
fn n14_broadcast_and_multicast_go_nowhere() {
    // The neighbours' network is allowed, and with it the address of all of them.
    let open = "version: 1\ndefaults:\n  allow_public: true\nwhitelist:\n  - ip: 192.168.77.0/24\n    ports: [9999]\n    protocol: udp\n";
    let Some((lab, _ann, sandbox)) = start(open, &[]) else { return };
    let script = lab.folder().join("send.py");
    std::fs::write(&script, SEND).expect("write");
    let send = |targets: &str| {
        let mac = "$(ip neigh show 169.254.1.1 dev eth0 | cut -d' ' -f3)";
        let script = script.display();
        sandbox
            .shell(&format!("python3 {script} {mac} {} {targets}", sandbox.address))
            .expect("python3");
        std::thread::sleep(Duration::from_millis(300));
    };
    let uplink = listen();
    let lan = listen_at(Path::new("/run/netns/lan"), "eth0");
    let all_neighbours = (Ipv4Addr::new(192, 168, 77, 255), Protocol::Udp, 9_999);
    let server = (world::SERVERS[0], Protocol::Udp, 9_999);
    // Everybody, mDNS, SSDP, everybody in the pool, everybody on the gate's link.
    send(
        "255.255.255.255:9999 224.0.0.251:5353 239.255.255.250:1900 198.18.15.255:9999 \
         198.18.0.3:9999 203.0.113.9:9999",
    );
    let mut seen = left(&uplink);
    // The server's answer comes in there.
    seen.retain(|(to, ..)| *to != GATE);
    assert_eq!(seen, [server].into(), "what is sent so leaves when it may, and nothing else");
    // What the gate cannot know is dropped by the host, for itself and for its network.
    send("192.168.77.255:9999");
    assert!(left(&uplink).contains(&all_neighbours), "it came as far as the host");
    assert!(!left(&lan).contains(&all_neighbours), "the neighbours hear it");
    kill_helper(&lab);
    lab.on_host("nft flush ruleset").expect("flush");
    send("192.168.77.255:9999");
    assert!(left(&lan).contains(&all_neighbours), "without the host's table they would");
}

/// A server behind a link that carries less than everybody thinks, as behind a tunnel: it
/// asks for segments that fit an Ethernet.
fn behind_a_hop(lab: &Lab) -> Ipv4Addr {
    let server = Ipv4Addr::new(203, 0, 113, 50);
    lab.on_host(&format!(
        "set -e
         ip netns add far
         ip -n internet link add hop0 type veth peer name eth0 netns far
         ip -n internet addr add 10.99.0.1/30 dev hop0; ip -n internet link set hop0 up
         ip -n far link set lo up; ip -n far addr add {server}/32 dev lo
         ip -n far addr add 10.99.0.2/30 dev eth0; ip -n far link set eth0 up
         ip -n far route add default via 10.99.0.1 advmss 1460
         ip -n internet route add {server}/32 via 10.99.0.2
         ip netns exec internet sysctl -qw net.ipv4.ip_forward=1"
    ))
    .expect("a hop");
    rcc_tests::Echo::start_in(Path::new("/run/netns/far")).expect("a server");
    server
}

/// Sends a megabyte and hears it back.
fn uploads(sandbox: &Sandbox, server: Ipv4Addr) -> bool {
    const MEGABYTE: usize = 1 << 20;
    let stream = held(sandbox, server, 9_999);
    let long = Some(Duration::from_secs(5));
    stream.set_read_timeout(long).and_then(|()| stream.set_write_timeout(long)).expect("timeouts");
    let mut writer = stream.try_clone().expect("clone");
    let sending = std::thread::spawn(move || writer.write_all(&vec![7; MEGABYTE]));
    let back = (&stream).read_exact(&mut vec![0; MEGABYTE]);
    // Else the writer waits for as long again.
    let _ = stream.shutdown(std::net::Shutdown::Both);
    sending.join().expect("no panic").is_ok() && back.is_ok()
}

/// Only what a router far away says of a packet that is too large for it helps here: the
/// gate's own links carry everything, and so does what the server asks for.
#[test]
fn n14_what_a_far_hop_says_of_its_size_is_heard() {
    let Some((lab, _ann, sandbox)) = start("version: 1\ndefaults:\n  allow_public: true\n", &[])
    else {
        return;
    };
    let server = behind_a_hop(&lab);
    assert!(uploads(&sandbox, server), "with nothing in the way");
    for size in [1_420, 1_280] {
        let smaller =
            format!("ip -n internet link set hop0 mtu {size}; ip -n far link set eth0 mtu {size}");
        lab.on_host(&smaller).expect("a smaller hop");
        assert!(uploads(&sandbox, server), "{size}");
        let known = sandbox.shell(&format!("ip route get {server}")).expect("ip");
        assert!(known.contains(&format!("mtu {size}")), "it was told: {known}");
    }
}

/// Only the segment size that the gate writes into handshakes helps here: its own way out
/// is the narrow one, and the sandbox hears nothing of packets that are too large for it.
#[test]
fn n14_handshakes_say_what_the_gates_own_links_carry() {
    let Some((lab, _ann, sandbox)) = start("version: 1\ndefaults:\n  allow_public: true\n", &[])
    else {
        return;
    };
    let deaf = "nft 'add table ip deaf; add chain ip deaf in { type filter hook input priority 0; }; add rule ip deaf in icmp type destination-unreachable counter drop'";
    sandbox.shell(deaf).expect("nft");
    for size in [1_420, 1_280] {
        lab.in_gate(&format!("ip link set uplink0 mtu {size}")).expect("a smaller link");
        assert!(uploads(&sandbox, world::SERVERS[0]), "{size}");
    }
    let told = sandbox.shell("nft list chain ip deaf in").expect("nft");
    assert!(told.contains("packets 0 "), "no packet was too large: {told}");
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

/// Where another table translates first, it keeps the port that the gate chose.
#[test]
fn h9_source_ports_are_never_privileged_whoever_translates_first() {
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    lab.on_host(
        "nft 'table ip other { chain out { type nat hook postrouting priority 90; \
         ip saddr 198.18.0.2 masquerade; }; }'",
    )
    .expect("another's table");
    sandbox.resolve("allowed.example").expect("open");
    // One that is looked at, and one that is not.
    for (own, server) in [(700, world::SERVERS[0]), (701, world::SERVERS[3])] {
        let greeting = sandbox
            .shell(&format!("nc -p {own} -w 2 {server} 443 </dev/null | head -1"))
            .expect("nc");
        let port = greeting.split([' ', ':']).nth(2).and_then(|port| port.parse::<u16>().ok());
        assert!(port.is_some_and(|port| port >= 1_024), "{greeting:?} {}", lab.log());
    }
}

/// What a server sends for a connection that is over does not reach the next one that
/// has its ports: before it has agreed, it says that it agrees or not, and nothing else.
#[test]
fn n9_nothing_is_heard_of_a_connection_before_the_server_agreed() {
    use super::decisions::{segment, send_raw};
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, recv, socket};
    use std::os::fd::AsRawFd;
    // Flags of TCP.
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const PUSH: u8 = 8;
    const ACK: u8 = 16;
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    let server = world::SERVERS[3];
    // A server that is slow to answer.
    let quiet = "ip netns exec internet nft 'add table ip quiet; add chain ip quiet in { type filter hook input priority 0; }; add rule ip quiet in tcp dport 443 drop'";
    lab.on_host(quiet).expect("nft");
    let heard = sandbox.run(|| {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll)
    });
    let heard = heard.expect("a socket");
    // Its kernel knows nothing of what is sent here by hand.
    sandbox
        .shell("nft 'add table ip quiet; add chain ip quiet out { type filter hook output priority 0; }; add rule ip quiet out tcp flags rst drop'")
        .expect("nft");
    let own = (sandbox.address, 41_000);
    sandbox.run(|| send_raw(&segment(own, (server, 443), SYN, (7_000, 0), b"")));
    // The port behind the host's address.
    let flow = "conntrack -L -p tcp --orig-port-dst 443 -o extended 2>/dev/null";
    let mut port = None;
    wait_for(|| {
        let text = lab.on_host(flow).unwrap_or_default();
        port = text
            .rsplit("dport=")
            .next()
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u16>().ok());
        port.is_some()
    })
    .expect("the flow");
    let client = (world::HOST, port.expect("a port"));
    let from_server = |flags, numbers, payload: &'static [u8]| {
        let packet = segment((server, 443), client, flags, numbers, payload);
        in_namespace(Path::new("/run/netns/internet"), || send_raw(&packet)).expect("enter");
    };
    let arrived = |what: &[u8]| {
        let mut packet = [0; 2_048];
        let mut found = false;
        while let Ok(length) =
            recv(heard.as_raw_fd(), &mut packet, nix::sys::socket::MsgFlags::empty())
        {
            found |= packet[..length].windows(what.len()).any(|window| window == what);
        }
        found
    };
    from_server(PUSH | ACK, (9_000, 7_001), b"of the one before");
    std::thread::sleep(Duration::from_millis(200));
    assert!(!arrived(b"of the one before"));
    // That it agrees is heard, and after the client has answered all else is.
    from_server(SYN | ACK, (10_000, 7_001), b"");
    wait_for(|| arrived(&10_000_u32.to_be_bytes())).expect("the server's answer");
    sandbox.run(|| send_raw(&segment(own, (server, 443), ACK, (7_001, 10_001), b"")));
    std::thread::sleep(Duration::from_millis(100));
    from_server(PUSH | ACK, (10_001, 7_001), b"of this one");
    wait_for(|| arrived(b"of this one")).expect("what the server says");
    from_server(RST | ACK, (10_012, 7_001), b"");
}
