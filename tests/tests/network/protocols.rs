//! What is not TCP or UDP, or not as it should be.

use super::decisions::{listen, packets, send_raw};
use super::*;

const OPEN: &str = "version: 1\ndefaults:\n  allow_public: true\n";

/// Protocol of IP, and types of ICMP (RFC 792, RFC 950).
const ICMP: u8 = 1;
const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const REDIRECT: u8 = 5;
const ECHO: u8 = 8;
const TIMESTAMP: u8 = 13;
const ADDRESS_MASK: u8 = 17;

/// A message of ICMP as a program may send it, of the length of a timestamp's.
fn message(from: Ipv4Addr, to: Ipv4Addr, kind: u8) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 7, 7, 0, 1];
    message.resize(20, 0);
    let sum: u32 =
        message.chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]]))).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded");
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let head = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, ICMP, 0, 0];
    [&head[..], &from.octets(), &to.octets(), &message].concat()
}

/// Types of ICMP that have left for `to` since the last time.
fn left(heard: &(std::os::fd::OwnedFd, usize), to: Ipv4Addr) -> Vec<u8> {
    let of_it =
        |packet: &Vec<u8>| packet.len() > 20 && packet[9] == ICMP && packet[16..20] == to.octets();
    packets(heard).into_iter().filter(of_it).map(|packet| packet[20]).collect()
}

#[test]
fn n14_only_tcp_and_udp_pass() {
    let Some((lab, _ann, sandbox)) = start(OPEN, &[]) else { return };
    let server = world::SERVERS[0];
    let ping = |how: &str| sandbox.shell(&format!("ping -c1 -W1 {how} {server}"));
    assert!(ping("").is_ok(), "an echo where everything is open");
    // Each is dropped by the rule that is there for it.
    for (what, how, rule) in [
        ("fragments", "-s 4000", "iifname \"s*\" ip frag-off"),
        ("options", "-R", "iifname \"s*\" ip hdrlength"),
    ] {
        let before = counted(&lab, "c_arrive", rule);
        assert!(ping(how).is_err(), "{what}");
        assert!(counted(&lab, "c_arrive", rule) > before, "{what} are counted");
    }
    // GRE, SCTP and a made-up number, as raw IP.
    let refused = || counted(&lab, "c_refuse", "counter");
    for protocol in [47, 132, 200] {
        let before = refused();
        let script = format!(
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, {protocol}); \
             s.sendto(b'payload!payload!', ('{server}', 0))"
        );
        sandbox.shell(&format!("python3 -c \"{script}\"")).expect("python3");
        wait_for(|| refused() > before).unwrap_or_else(|_| panic!("{protocol} is refused"));
    }
}

#[test]
fn n14_of_icmp_an_echo_alone_leaves() {
    let Some((_lab, _ann, sandbox)) = start(OPEN, &[]) else { return };
    let server = world::SERVERS[0];
    let heard = listen();
    // The echo last: what was sent before it has come by then, if it does.
    for kind in [TIMESTAMP, ADDRESS_MASK, REDIRECT, UNREACHABLE, ECHO_REPLY, ECHO] {
        sandbox.run(|| send_raw(&message(sandbox.address, server, kind)));
    }
    let mut seen = Vec::new();
    wait_for(|| {
        seen.extend(left(&heard, server));
        seen.contains(&ECHO)
    })
    .expect("the echo leaves");
    assert_eq!(seen, [ECHO]);
}

#[test]
fn n14_where_a_list_says_what_is_open_an_echo_is_not() {
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    sandbox.reach("allowed.example", 443).expect("the name is open");
    let heard = listen();
    let refused = || counted(&lab, "c_refuse", "counter");
    // Behind the name that is open, in the network that is, and neither.
    for server in [world::SERVERS[0], world::SERVERS[3], world::SERVERS[1]] {
        let before = refused();
        sandbox.run(|| send_raw(&message(sandbox.address, server, ECHO)));
        wait_for(|| refused() > before)
            .unwrap_or_else(|_| panic!("{server}: refused, and counted"));
        assert_eq!(left(&heard, server), [0; 0], "{server}");
    }
}
