//! Routes that change while a sandbox runs: from Wi-Fi to a cable, VPNs that come and go,
//! IPv6. No systemd runs in a lab, so what the service has it do is done by hand: see
//! `machine::a_link_that_comes_later_…` for the rest.

use rcc_tests::Echo;
use rcc_tests::hello::{hello, large_key, named};

use super::hellos::said;
use super::*;

const LIST: &str = "version: 1
whitelist:
  - host: allowed.example
    ports: [443, 9999]
  - ip: 198.51.100.0/24
    ports: [443, 9999]
";
const SERVER: Ipv4Addr = world::SERVERS[3];
/// No name is looked for there.
const PLAIN: u16 = 9_999;

/// Another link to the same internet, with the host's address there.
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 130);
const PLUG_IN: &str = "ip link add wifi0 type veth peer name wifi0 netns internet && \
    ip addr add 192.0.2.130/30 dev wifi0 && ip link set wifi0 up && \
    ip -n internet addr add 192.0.2.129/30 dev wifi0 && ip -n internet link set wifi0 up";

/// A VPN with an address of its own. Its way is narrow, and the server does not know: it says
/// that it takes packets of full size.
const VPN: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 2);
const TUNNEL: &str = "ip link add wg0 type veth peer name wg0 netns internet && \
    ip addr add 10.66.0.2/32 dev wg0 && ip link set wg0 mtu 1280 up && \
    ip -n internet link set wg0 up && \
    ip -n internet route add 10.66.0.2/32 dev wg0 mtu 1280 advmss 1460";
/// What `wg-quick up` does then (wireguard-tools 1.0.20210914), word by word.
const WG_QUICK_UP: &str = "ip -4 route add 0.0.0.0/0 dev wg0 table 51820 && \
    ip -4 rule add not fwmark 51820 table 51820 && \
    ip -4 rule add table main suppress_prefixlength 0 && \
    sysctl -q net.ipv4.conf.all.src_valid_mark=1 && \
    nft 'table ip wg-quick-wg0 { \
      chain preraw { type filter hook prerouting priority -300; \
        iifname != \"wg0\" ip daddr 10.66.0.2 fib saddr type != local drop; }; \
      chain premangle { type filter hook prerouting priority -150; meta l4proto udp meta mark set ct mark; }; \
      chain postmangle { type filter hook postrouting priority -150; \
        meta l4proto udp meta mark 51820 ct mark set meta mark; }; }'";
const WG_QUICK_DOWN: &str = "ip -4 rule delete table 51820 && \
    ip -4 rule delete table main suppress_prefixlength 0 && ip link delete dev wg0 && \
    nft delete table ip wg-quick-wg0";

/// Counts, at the other end of each link, what comes with the address of another one. But
/// for what the computer itself may send: resets, of what a server still sends to an address
/// that it had, and a question for a name in the moment of the change.
const COUNT: &str = "ip netns exec internet nft 'table ip seen { chain in { \
    type filter hook prerouting priority -300; tcp flags & rst == rst accept; udp dport 53 accept; \
    ip saddr { 198.18.0.0/15 } counter; \
    iifname \"eth0\" ip saddr { 192.0.2.130, 10.66.0.2 } counter; \
    iifname \"wifi0\" ip saddr { 192.0.2.2, 10.66.0.2 } counter; \
    iifname \"wg0\" ip saddr { 192.0.2.2, 192.0.2.130 } counter; }; }'";

fn counted(lab: &Lab) -> u64 {
    let listing =
        lab.on_host("ip netns exec internet nft list table ip seen").expect("the counters");
    let counts = listing.split("packets ").skip(1).filter_map(|rest| rest.split(' ').next());
    let count = counts.map(|count| count.parse::<u64>().expect("a number")).sum();
    if count > 0 {
        eprintln!("with another link's address: {listing}");
    }
    count
}

/// The address that a server sees.
fn seen_as(sandbox: &Sandbox) -> Option<Ipv4Addr> {
    let said = sandbox.tcp(SERVER, PLAIN).ok()?;
    said.split([' ', ':']).nth(1)?.parse().ok()
}

/// New connections leave with this address, and names are answered, within two seconds.
fn moves_to(lab: &Lab, sandbox: &Sandbox, address: Ipv4Addr, why: &str) {
    let start = Instant::now();
    wait_for(|| seen_as(sandbox) == Some(address))
        .unwrap_or_else(|_| panic!("{why}: {:?} {}", seen_as(sandbox), lab.log()));
    wait_for(|| sandbox.reach("allowed.example", 443).is_ok())
        .unwrap_or_else(|_| panic!("{why}, by name: {}", lab.log()));
    // What was sent before that and lost takes a second and a half.
    assert!(start.elapsed() < Duration::from_secs(8), "{why}: {:?}", start.elapsed());
    for address in [world::SERVERS[1], world::HOST, world::HOST_ON_LAN, world::NEIGHBOUR] {
        assert!(sandbox.tcp(address, 443).is_err(), "{why}: {address} is out of reach");
    }
    assert_eq!(counted(lab), 0, "{why}: packets with another link's address");
}

fn forwarding(lab: &Lab, link: &str) -> bool {
    let path = format!("cat /proc/sys/net/ipv4/conf/{link}/forwarding");
    lab.on_host(&path).expect("read").trim() == "1"
}

fn change(lab: &Lab, command: &str) {
    lab.on_host(command).unwrap_or_else(|error| panic!("{command}: {error}"));
    lab.apply().expect("the regular check");
}

#[test]
fn n19_the_way_out_moves_from_wifi_to_cable_and_back() {
    let options = Options { policy: Some(LIST.into()), ..Options::default() };
    let Some(lab) = start_with(options) else { return };
    lab.on_host(COUNT).expect("counters");
    let mut ann = lab.person(ANN).expect("ann");
    let sandbox = lab.sandbox(&mut ann, &[]).expect("a sandbox");
    moves_to(&lab, &sandbox, world::HOST, "as it was");
    let stream = held(&sandbox, SERVER, PLAIN);
    assert!(goes_on(&stream));

    // A better way is there beside the old one, as NetworkManager does it: by metric.
    lab.on_host(
        "ip route replace default via 192.0.2.1 metric 600 && ip route del default metric 0",
    )
    .expect("a metric");
    assert!(goes_on(&stream), "the way is the same");
    change(&lab, &format!("{PLUG_IN} && ip route add default via 192.0.2.129 metric 100"));
    moves_to(&lab, &sandbox, SECOND, "a better way");
    assert!(forwarding(&lab, "wifi0") && forwarding(&lab, "eth0"), "answers come by both");
    // What was open went by the old way, with the address there: it ends, and does not go on
    // by the new one with the wrong address.
    assert!(!echoes(&stream), "a connection by the old way");
    assert_eq!(counted(&lab), 0, "of a connection by the old way");

    // The old one is unplugged: nothing of ours is left on it.
    let stream = held(&sandbox, SERVER, PLAIN);
    change(&lab, "ip link set eth0 down");
    assert!(goes_on(&stream), "what goes by the new way goes on");
    moves_to(&lab, &sandbox, SECOND, "without the old way");
    assert!(forwarding(&lab, "wifi0") && !forwarding(&lab, "eth0"));
    // The chain that keeps others out knows the links of now.
    let chain = lab.on_host("nft list chain inet rcc h_forward").expect("the chain");
    assert!(chain.contains("wifi0") && !chain.contains("eth0"), "{chain}");

    // And back: the card of the other one is pulled out.
    change(&lab, "ip link set eth0 up && ip route add default via 192.0.2.1");
    moves_to(&lab, &sandbox, world::HOST, "the old way again");
    change(&lab, "ip link del wifi0");
    moves_to(&lab, &sandbox, world::HOST, "without the other one");
    assert!(!echoes(&stream), "a connection by the other one");
    assert!(forwarding(&lab, "eth0"));

    // No way at all, and one again.
    lab.on_host("ip route del default").expect("no way");
    assert!(sandbox.tcp(SERVER, PLAIN).is_err());
    change(&lab, "ip route add default via 192.0.2.1");
    moves_to(&lab, &sandbox, world::HOST, "after none");

    // Somebody wants forwarding on all links since: it is theirs now.
    lab.on_host("sysctl -qw net.ipv4.ip_forward=1").expect("as Docker does");
    change(&lab, &format!("{PLUG_IN} && ip link set lan0 down"));
    assert!(forwarding(&lab, "lan0"), "not taken back");
    lab.on_host(&format!("{} remove", Lab::program("rcc-helper").display())).expect("remove");
    assert!(forwarding(&lab, "eth0") && forwarding(&lab, "wifi0"), "nor by removal");
}

/// What the computer itself must reach whatever VPN is up.
fn computer_works(why: &str) {
    for address in [Ipv4Addr::LOCALHOST, world::HOST, world::NEIGHBOUR, world::SERVERS[1]] {
        let to = SocketAddr::from((address, 443));
        let stream = TcpStream::connect_timeout(&to, Duration::from_millis(1_500));
        let said = stream.and_then(|stream| Echo::greeting(&stream));
        assert!(said.is_ok(), "{why}: the computer itself reaches {address}: {said:?}");
    }
}

#[test]
fn a_vpn_as_wg_quick_makes_it_takes_sandboxes_along() {
    let options = Options { policy: Some(LIST.into()), ..Options::default() };
    let Some(lab) = start_with(options) else { return };
    lab.on_host(COUNT).expect("counters");
    let mut ann = lab.person(ANN).expect("ann");
    let sandbox = lab.sandbox(&mut ann, &[]).expect("a sandbox");
    moves_to(&lab, &sandbox, world::HOST, "without a VPN");
    computer_works("without a VPN");
    let stream = held(&sandbox, SERVER, PLAIN);

    change(&lab, &format!("{TUNNEL} && {WG_QUICK_UP}"));
    // Rules without a priority stand behind the one for the computer's own addresses, the
    // later one first.
    let rules = lab.on_host("ip -4 rule").expect("rules");
    let tables: Vec<_> =
        rules.lines().filter_map(|line| line.split("lookup ").nth(1)).map(str::trim).collect();
    assert_eq!(
        tables,
        ["local", "main suppress_prefixlength 0", "51820", "main", "default"],
        "{rules}"
    );
    computer_works("with the VPN");
    moves_to(&lab, &sandbox, VPN, "with the VPN");
    assert!(!echoes(&stream), "a connection beside it");
    assert_eq!(counted(&lab), 0, "of a connection beside it");
    narrow(&lab, &sandbox);
    let stream = held(&sandbox, SERVER, PLAIN);
    // Flushed and checked, killed: the same.
    lab.on_host("nft delete table inet rcc").expect("as a flush");
    wait_for(|| lab.on_host("nft list table inet rcc").is_ok()).expect("back");
    assert!(goes_on(&stream));
    kill_helper(&lab);
    lab.apply().expect("the regular check");
    assert!(goes_on(&stream));
    ann.list().expect("the next helper");
    moves_to(&lab, &sandbox, VPN, "with the next helper");

    change(&lab, WG_QUICK_DOWN);
    assert!(!echoes(&stream), "a connection by the VPN");
    moves_to(&lab, &sandbox, world::HOST, "after the VPN");
    assert_eq!(counted(&lab), 0, "of a connection by the VPN");
    computer_works("after the VPN");

    // Two halves of everything, as OpenVPN has it.
    let halves = "ip route add 0.0.0.0/1 dev wg0 && ip route add 128.0.0.0/1 dev wg0";
    change(&lab, &format!("{TUNNEL} && {halves}"));
    moves_to(&lab, &sandbox, VPN, "two halves");
    change(&lab, "ip link del wg0");
    moves_to(&lab, &sandbox, world::HOST, "after two halves");

    // A table that is asked before the main one, for everything (Tailscale's exit nodes): what
    // comes back for sandboxes does not go into the VPN once more.
    let all = "ip route add default dev wg0 table 52 && ip rule add pref 5270 lookup 52 && \
        ip route add 192.0.2.0/24 dev eth0 table 52";
    change(&lab, &format!("{TUNNEL} && {all}"));
    moves_to(&lab, &sandbox, VPN, "a table for everything");
    change(&lab, "ip rule del pref 5270 && ip link del wg0");
    moves_to(&lab, &sandbox, world::HOST, "after a table for everything");

    // A load shared by two ways, of which one is named nowhere else.
    let shared = "ip route replace default nexthop via 192.0.2.1 dev eth0 nexthop dev wg0";
    change(&lab, &format!("{TUNNEL} && {shared}"));
    assert!(forwarding(&lab, "wg0"), "answers come by both");
}

/// Packets of full size do not fit; the sandbox is told, and sends smaller ones. By a plain
/// connection, and by one whose hello is looked at.
fn narrow(lab: &Lab, sandbox: &Sandbox) {
    let size = |address: Ipv4Addr| {
        let route = sandbox.shell(&format!("ip route get {address}")).expect("a route");
        route
            .split("mtu ")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u32>().ok())
    };
    let stream = held(sandbox, SERVER, PLAIN);
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    assert_eq!(size(SERVER), None, "not told yet");
    assert!(said(&stream, &[7; 60_000]), "a large upload: {}", lab.log());
    assert_eq!(size(SERVER), Some(1_280), "and told");

    let looked_at = world::SERVERS[0];
    let stream = held(sandbox, looked_at, 443);
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    let large = hello(&[large_key(), named("allowed.example")], 1 << 14);
    assert!(said(&stream, &large), "a large hello: {}", lab.log());
    assert_eq!(size(looked_at), Some(1_280));
    assert!(said(&stream, &[7; 60_000]), "and what follows");
}

#[test]
fn n22_the_uplink_binds_while_the_way_out_moves() {
    let list = LIST.replace("whitelist:", "defaults:\n  uplink: eth0\nwhitelist:");
    let options = Options { policy: Some(list), ..Options::default() };
    let Some(lab) = start_with(options) else { return };
    // Whatever it is, on the other link.
    lab.on_host(&COUNT.replace("wifi0\" ip saddr { 192.0.2.2, 10.66.0.2 }", "wifi0\""))
        .expect("counters");
    let mut ann = lab.person(ANN).expect("ann");
    let sandbox = lab.sandbox(&mut ann, &[]).expect("a sandbox");
    moves_to(&lab, &sandbox, world::HOST, "as it was");
    let stream = held(&sandbox, SERVER, PLAIN);
    change(&lab, &format!("{PLUG_IN} && ip route replace default via 192.0.2.129"));
    // The way to the name server is still there.
    for _ in 0..2 {
        assert!(sandbox.tcp(SERVER, PLAIN).is_err() && !echoes(&stream), "nothing goes by another");
        assert_eq!(counted(&lab), 0, "by another link");
    }
    change(&lab, "ip link set eth0 down");
    assert!(sandbox.tcp(SERVER, PLAIN).is_err() && sandbox.resolve("allowed.example").is_err());
    assert_eq!(counted(&lab), 0, "by another link");
    change(&lab, "ip link set eth0 up && ip route replace default via 192.0.2.1");
    moves_to(&lab, &sandbox, world::HOST, "the way is the right one again");
}

#[test]
fn questions_for_names_leave_with_the_address_of_the_way_they_go() {
    let Some((lab, _ann, sandbox)) = start(LIST, &[]) else { return };
    let ask = |why: &str| {
        let start = Instant::now();
        sandbox.resolve("allowed.example").unwrap_or_else(|error| panic!("{why}: {error}"));
        start.elapsed()
    };
    change(&lab, &format!("{PLUG_IN} && ip route add default via 192.0.2.129 metric 100"));
    // Within a burst of questions the next socket is made ahead: by the link that goes now.
    ask("one");
    ask("another one");
    change(&lab, "ip -n internet link set eth0 down && ip link set eth0 down");
    std::thread::sleep(Duration::from_millis(500));
    let took = ask("by the other link");
    assert!(took < Duration::from_secs(1), "nothing was lost: {took:?}");
}

#[test]
fn n3_ipv6_that_comes_and_goes_is_not_noticed_in_sandboxes() {
    let Some((lab, mut ann, sandbox)) = start(LIST, &[]) else { return };
    let helper = lab.helper().expect("a helper");
    let stream = held(&sandbox, SERVER, PLAIN);
    let settings =
        || lab.on_host("sysctl -a 2>/dev/null | grep 'ipv6.*[.]forwarding'").expect("v6");
    let before = settings();
    let come = "ip -6 addr add 2001:db8::2/64 dev eth0 nodad && \
        ip -n internet -6 addr add 2001:db8::1/64 dev eth0 nodad && \
        ip -6 route add default via 2001:db8::1";
    let go = "ip -6 route del default && ip -6 addr del 2001:db8::2/64 dev eth0 && \
        ip -n internet -6 addr del 2001:db8::1/64 dev eth0";
    for round in 0..3 {
        lab.on_host(come).expect("IPv6");
        lab.on_host("ping -6 -c1 -W2 2001:db8::1").expect("the computer has it");
        assert!(goes_on(&stream), "round {round}");
        sandbox.reach("allowed.example", 443).expect("names as before");
        let own =
            sandbox.shell("ip -6 addr show scope global; ip -6 route show default").expect("look");
        assert_eq!(own, "", "a sandbox has none");
        assert!(sandbox.tcp("2001:db8::1".parse::<IpAddr>().expect("v6"), 443).is_err());
        assert_eq!(settings(), before, "the computer routes no IPv6");
        change(&lab, go);
        assert!(goes_on(&stream), "round {round}, without");
    }
    assert_eq!(lab.helper(), Some(helper), "the service goes on");
    assert_eq!(ann.list().expect("list").len(), 1);
}
