//! Links that come after the firewall: the service has systemd see to them. What moves with
//! the routes is tried in the lab (`network::routes`).

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rcc_tests::people::ANN;
use rcc_tests::{Machine, Release, Sandbox, Seat, wait_for, world};

use super::{PLAIN, boot, install, rules, walls_stand};

const VPN: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 2);
/// As wg-quick does it, with an address that no route of the main table leads to.
const UP: &str = "ip link add wg0 type veth peer name wg0 netns internet && \
    ip addr add 10.66.0.2/32 dev wg0 && ip link set wg0 up && \
    ip -n internet link set wg0 up && ip -n internet route add 10.66.0.2/32 dev wg0 && \
    ip -4 route add default dev wg0 table 51820 && ip -4 rule add not fwmark 51820 table 51820 && \
    ip -4 rule add table main suppress_prefixlength 0";
const DOWN: &str = "ip -4 rule del table 51820 && ip -4 rule del table main suppress_prefixlength 0 && \
    ip link del wg0";

fn moves_to(machine: &Machine, sandbox: &Sandbox, address: Ipv4Addr, link: &str, round: u32) {
    let start = Instant::now();
    let flag = format!("cat /proc/sys/net/ipv4/conf/{link}/forwarding");
    wait_for(|| machine.root(&flag).is_ok_and(|said| said.trim() == "1"))
        .unwrap_or_else(|_| panic!("round {round}: {link} has no forwarding"));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "round {round}: {link} after {took:?}");
    let from = format!("from {address}:");
    wait_for(|| sandbox.tcp(world::SERVERS[0], PLAIN).is_ok_and(|said| said.starts_with(&from)))
        .unwrap_or_else(|_| panic!("round {round}: not by {link}"));
}

#[test]
fn a_link_that_comes_later_carries_sandboxes_at_once_however_often_it_comes() {
    a_link_that_comes_later_carries_sandboxes(Release::Own);
}

#[test]
fn on_debian_13_a_link_that_comes_later_carries_sandboxes_at_once_however_often_it_comes() {
    a_link_that_comes_later_carries_sandboxes(Release::Debian13);
}

fn a_link_that_comes_later_carries_sandboxes(release: Release) {
    let Some(machine) = boot(release) else { return };
    install(&machine, "this.deb");
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    let sandbox = machine.sandbox(&mut ann, &rules()).expect("a sandbox");
    sandbox.reach("allowed.example", PLAIN).expect("it works");
    // More often within ten seconds than systemd starts a unit by default.
    for round in 0..8 {
        machine.root(UP).expect("a VPN");
        moves_to(&machine, &sandbox, VPN, "wg0", round);
        machine.root(DOWN).expect("it ends");
        moves_to(&machine, &sandbox, world::HOST, "eth0", round);
    }
    sandbox.reach("allowed.example", PLAIN).expect("and names are answered");
    walls_stand(&sandbox);
    let failed = machine.root("systemctl --failed --no-legend").expect("units");
    assert_eq!(failed, "", "no unit failed");
}
