//! The table on the host.

use std::net::{IpAddr, Ipv4Addr};

use nftables::expr::MetaKey;
use nftables::stmt::Statement;
use nftables::types::{NfChainPolicy, NfChainType, NfHook};

use super::{HOST_LINK, SOURCE_NAT, SOURCE_PORTS};
use crate::layout::RESOLVER_MARK;
use crate::nft::{
    Transaction, accept, any_of, counter, ct, discard, fib_destination_type, from, has, is, is_not,
    masquerade, meta, number, payload, text, to,
};
use crate::uplink::Uplink;

/// `NF_IP_PRI_RAW`.
const RAW: i32 = -300;

/// The table on the host: what comes from the gate never reaches the host
/// itself, and leaves under the host's address.
pub fn host_table(
    gate: Ipv4Addr,
    forwarding_is_ours: &[String],
    name_servers: &[IpAddr],
    uplink: &Uplink,
) -> Transaction {
    let mut t = Transaction::new();
    t.table();
    let pass = NfChainPolicy::Accept;
    t.base_chain("h_arrive", NfChainType::Filter, NfHook::Prerouting, RAW, pass);
    t.base_chain("h_forward", NfChainType::Filter, NfHook::Forward, 0, pass);
    t.base_chain("h_nat", NfChainType::NAT, NfHook::Postrouting, SOURCE_NAT, pass);

    t.base_chain("h_leave", NfChainType::Filter, NfHook::Output, 0, pass);
    // A connected socket can send elsewhere all the same: the resolver's cannot.
    let resolver = || is(meta(MetaKey::Mark), number(RESOLVER_MARK));
    // What it asks for sandboxes goes round a VPN as little as what they send.
    match uplink {
        Uplink::Any => {}
        Uplink::Only(interface) => {
            let elsewhere = is_not(meta(MetaKey::Oifname), any_of(&["lo", interface.as_str()]));
            t.rule("h_leave", vec![resolver(), elsewhere, counter(), discard()]);
        }
        Uplink::Nowhere => t.rule("h_leave", vec![resolver(), counter(), discard()]),
    }
    for server in name_servers {
        let family = if server.is_ipv4() { "ip" } else { "ip6" };
        let there = || is(payload(family, "daddr"), text(server.to_string()));
        for protocol in ["udp", "tcp"] {
            let port = is(payload(protocol, "dport"), number(53));
            t.rule("h_leave", vec![resolver(), there(), port, accept()]);
        }
    }
    t.rule("h_leave", vec![resolver(), counter(), discard()]);

    let link = || from(HOST_LINK);
    let gate_address = || text(gate.to_string());
    t.rule(
        "h_arrive",
        vec![link(), is(meta(MetaKey::Nfproto), text("ipv6")), counter(), discard()],
    );
    let not_ours = is_not(payload("ip", "saddr"), gate_address());
    t.rule("h_arrive", vec![link(), not_ours, counter(), discard()]);
    // Asks the routing table, so an address that the host got a packet ago counts (N2).
    let kinds = any_of(&["local", "broadcast", "multicast", "anycast"]);
    t.rule("h_arrive", vec![link(), is(fib_destination_type(), kinds), counter(), discard()]);

    // By name: an interface that is not there is no way out, one that comes back is.
    match uplink {
        Uplink::Any => {}
        Uplink::Only(interface) => {
            let elsewhere = is_not(meta(MetaKey::Oifname), text(interface.as_str()));
            t.rule("h_forward", vec![link(), elsewhere, counter(), discard()]);
        }
        Uplink::Nowhere => t.rule("h_forward", vec![link(), counter(), discard()]),
    }
    let back = has(ct("state"), &["established", "related"]);
    t.rule("h_forward", vec![to(HOST_LINK), back, accept()]);
    t.rule("h_forward", vec![to(HOST_LINK), counter(), discard()]);
    if !forwarding_is_ours.is_empty() {
        // Forwarding is on there only for the gate: the computer must not become a router
        // (N19). Docker or libvirt may turn it on for all links a moment later: answers to
        // their guests pass, and what they send on to them (published ports).
        let links: Vec<&str> = forwarding_is_ours.iter().map(String::as_str).collect();
        // rcc turns on that of IPv4 alone.
        let there = |rest: Vec<Statement<'static>>| {
            let v4 = is(meta(MetaKey::Nfproto), text("ipv4"));
            [vec![v4, is(meta(MetaKey::Iifname), any_of(&links))], rest].concat()
        };
        let answers = has(ct("state"), &["established", "related"]);
        t.rule("h_forward", there(vec![answers, accept()]));
        t.rule("h_forward", there(vec![has(ct("status"), &["dnat"]), accept()]));
        t.rule("h_forward", there(vec![counter(), discard()]));
    }

    let ours = || is(payload("ip", "saddr"), gate_address());
    let away = || is_not(meta(MetaKey::Oifname), text(HOST_LINK));
    let with_ports = is(meta(MetaKey::L4proto), any_of(&["tcp", "udp"]));
    t.rule("h_nat", vec![ours(), away(), with_ports, masquerade(Some(SOURCE_PORTS))]);
    t.rule("h_nat", vec![ours(), away(), masquerade(None)]);
    t
}
