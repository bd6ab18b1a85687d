//! Docker's own nftables mode (29 and later): the tables that its documentation tells of,
//! round a container that the lab plays. The engine itself does not run here; with the
//! rules of iptables it does, in `machine`.

use rcc_tests::Echo;

use super::*;

/// The bridge of Docker's, its first container, and what it is published at.
const BRIDGE: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
const CONTAINER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);
const PUBLISHED: u16 = 8_080;
const OPEN: u16 = 80;
const SHUT: u16 = 9_999;

/// What it would not open if it could be opened by a list.
const LIST: &str = "version: 1
defaults:
  users_may_add: private
whitelist:
  - {host: allowed.example, ports: [443]}
  - {ip: 198.51.100.0/24, ports: [443]}
  - {ip: 172.16.0.0/12, ports: [80, 8080, 9999]}
  - {ip: 192.0.2.2/32, ports: [8080]}
  - {ip: 192.168.77.1/32, ports: [8080]}
";

/// A container behind the bridge, on a computer that forwards, which Docker wants to find.
const CONTAINERS: &str = "sysctl -qw net.ipv4.ip_forward=1 && ip netns add box && \
    ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 && \
    ip link set docker0 up && ip link add vbox type veth peer name eth0 netns box && \
    ip link set vbox master docker0 up && ip -n box link set lo up && \
    ip -n box addr add 172.17.0.2/16 dev eth0 && ip -n box link set eth0 up && \
    ip -n box route add default via 172.17.0.1";

/// Names, hooks, priorities and policies as documented; port 80 of the container is
/// published at 8080, nothing else of it is.
const TABLES: &str = r#"
table ip docker-bridges {
    map filter-forward-in-jumps { type ifname : verdict; elements = { "docker0" : jump filter-forward-in__docker0 }; }
    map filter-forward-out-jumps { type ifname : verdict; elements = { "docker0" : jump filter-forward-out__docker0 }; }
    map nat-postrouting-out-jumps { type ifname : verdict; elements = { "docker0" : jump nat-postrouting-out__docker0 }; }
    chain filter-forward-in__docker0 {
        ct state established,related accept
        iifname "docker0" accept
        ip daddr 172.17.0.2 tcp dport 80 accept
        drop
    }
    chain filter-forward-out__docker0 { ct state established,related accept; accept; }
    chain nat-postrouting-out__docker0 { oifname != "docker0" ip saddr 172.17.0.0/16 masquerade; }
    chain nat-prerouting-and-output { iifname != "docker0" tcp dport 8080 dnat to 172.17.0.2:80; }
    chain filter-FORWARD {
        type filter hook forward priority filter; policy accept;
        oifname vmap @filter-forward-in-jumps
        iifname vmap @filter-forward-out-jumps
    }
    chain nat-OUTPUT {
        type nat hook output priority -100; policy accept;
        ip daddr != 127.0.0.0/8 fib daddr type local jump nat-prerouting-and-output
    }
    chain nat-POSTROUTING { type nat hook postrouting priority srcnat; policy accept; iifname vmap @nat-postrouting-out-jumps; }
    chain nat-PREROUTING {
        type nat hook prerouting priority dstnat; policy accept;
        fib daddr type local jump nat-prerouting-and-output
    }
    chain raw-PREROUTING { type filter hook prerouting priority raw; policy accept; ip daddr 172.17.0.2 iifname != "docker0" drop; }
}
"#;

/// What Docker's rules of iptables leave until the next boot when it changes over.
const LEFT_BEHIND: &str = "table ip filter {
    chain DOCKER-USER { return; }
    chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; }
}";

fn load(lab: &Lab, tables: &str) {
    let file = lab.folder().join("tables.nft");
    std::fs::write(&file, tables).expect("write");
    lab.on_host(&format!("nft -f {}", file.display())).expect("tables");
}

/// What a server says to somebody in another namespace of the lab's.
fn greeting(from: &str, address: Ipv4Addr, port: u16) -> std::io::Result<String> {
    let to = SocketAddr::from((address, port));
    let job = || Echo::greeting(&TcpStream::connect_timeout(&to, Duration::from_millis(1_500))?);
    in_namespace(&Path::new("/run/netns").join(from), job).expect("a namespace")
}

fn line(person: &mut Actor) -> String {
    let checks = person.diagnose().expect("diagnose");
    let line = checks.into_iter().find(|check| check.name == "host-firewall");
    line.map_or_else(String::new, |check| format!("{}: {}", check.state, check.text))
}

#[test]
fn n12_n2_dockers_nftables_mode_holds_nobody_up_and_opens_nothing() {
    let Some((lab, mut ann, sandbox)) = start(LIST, &[]) else { return };
    lab.on_host(CONTAINERS).expect("a container");
    Echo::start_in(Path::new("/run/netns/box")).expect("its servers");
    load(&lab, TABLES);

    // What Docker is there for goes on beside rcc.
    for (from, address) in [("internet", world::HOST), ("lan", world::HOST_ON_LAN)] {
        let said = greeting(from, address, PUBLISHED).expect("the published port");
        assert!(said.ends_with(&format!("to {CONTAINER}:{OPEN}")), "{said}");
    }
    greeting("box", world::SERVERS[0], 443).expect("the container reaches the world");
    assert!(greeting("lan", CONTAINER, OPEN).is_err(), "Docker's own walls stand");

    // Sandboxes are not held up: there is nothing to set up.
    sandbox.reach("allowed.example", 443).expect("a name");
    sandbox.tcp(world::SERVERS[0], 443).expect("an address");
    assert!(line(&mut ann).starts_with("ok: No other firewall"), "{}", line(&mut ann));
    let out_of_reach = || {
        for (address, port) in [
            (world::HOST, PUBLISHED),
            (world::HOST_ON_LAN, PUBLISHED),
            (BRIDGE, PUBLISHED),
            (BRIDGE, OPEN),
            (CONTAINER, OPEN),
            (CONTAINER, SHUT),
        ] {
            assert!(sandbox.tcp(address, port).is_err(), "{address}:{port} is out of reach");
        }
    };
    out_of_reach();
    // The host's table alone, which stands before Docker's translation of addresses.
    lab.in_gate("nft flush set inet rcc host4").expect("flush");
    for address in [world::HOST, world::HOST_ON_LAN, BRIDGE] {
        assert!(sandbox.tcp(address, PUBLISHED).is_err(), "{address} by the host's table");
    }
    lab.apply().expect("the regular check");

    // Docker owns its tables, and makes them anew when it starts.
    lab.on_host("nft delete table ip docker-bridges").expect("as it stops");
    load(&lab, TABLES);
    sandbox.tcp(world::SERVERS[0], 443).expect("as before");
    out_of_reach();

    // Just changed over: the policy of the old mode still drops, and is told with its name.
    load(&lab, LEFT_BEHIND);
    assert!(sandbox.tcp(world::SERVERS[0], 443).is_err(), "the old mode's policy");
    let said = line(&mut ann);
    assert!(said.starts_with("bad: docker ") && said.contains("`rcc setup docker`"), "{said}");
}
