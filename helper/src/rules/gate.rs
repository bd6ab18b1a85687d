//! The gate: what holds there for every sandbox.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use nftables::expr::{Expression, MetaKey};
use nftables::schema::{SetFlag, SetType};
use nftables::types::{NfChainPolicy, NfChainType, NfHook};
use rcc_dbus::BlockedReason;
use rcc_policy::{NEVER, PRIVATE};

use super::{
    ACK_BYTES, ACKS_GROUP, DISPATCH, GATEWAY, HELLO_LINK, OWN, SOURCE_NAT, SOURCE_PORTS, UPLINK,
    flags, link_name, own, report, tls,
};
use crate::layout::{GATE_ADDRESS, HELLO_MARK, UNCHECKED};
use crate::nft::{
    Transaction, accept, any_of, at_most, bits, clamp_segment_size, concat, counter, ct, discard,
    dispatch, from, goto, has, is, is_not, jump, log, masquerade, meta, number, payload, prefix,
    prohibit, reset, set_packet_id, set_packet_mark, source, text, to, to_chain, untracked,
};

/// Before conntrack puts fragments together (`NF_IP_PRI_CONNTRACK_DEFRAG` is −400).
const BEFORE_DEFRAG: i32 = -450;
/// `NF_IP_PRI_MANGLE`: after conntrack, before a route is chosen and a reply gets
/// its true destination.
const BEFORE_ROUTING: i32 = -150;

/// `IPS_ASSURED`: both sides of a connection have agreed (linux/netfilter/nf_conntrack_common.h).
const ASSURED: u32 = 4;

/// Everything in the gate that does not belong to one sandbox. Attachments that
/// stand already, each with its address, are dispatched to and otherwise left as they are.
pub fn gate(host_networks: &[IpNet], attached: &[(u32, Ipv4Addr)]) -> Transaction {
    let mut t = Transaction::new();
    fill(&mut t, host_networks, attached);
    t
}

/// The same, and nothing that stood before: when nobody knows what that was.
pub fn gate_anew(host_networks: &[IpNet]) -> Transaction {
    let mut t = Transaction::new();
    t.remove_table();
    fill(&mut t, host_networks, &[]);
    t
}

fn fill(t: &mut Transaction, host_networks: &[IpNet], attached: &[(u32, Ipv4Addr)]) {
    t.table();
    let address = [SetType::Ipv4Addr];
    t.set("never4", &address, &[SetFlag::Interval]);
    t.set("private4", &address, &[SetFlag::Interval]);
    t.set("host4", &address, &[SetFlag::Interval]);
    t.set(OWN.0, &OWN.1, &[]);
    t.flush_set(OWN.0);
    t.elements(OWN.0, attached.iter().map(|(id, address)| own(*id, *address)).collect());
    let v4 = |nets: &[IpNet]| -> Vec<Expression<'static>> {
        nets.iter().filter(|net| matches!(net, IpNet::V4(_))).copied().map(prefix).collect()
    };
    // Never emptied: while a set is filled anew a packet may find nothing in it, and rules
    // ask for what is not in these. What is there already is taken as it is.
    t.elements("never4", v4(NEVER));
    t.elements("private4", v4(PRIVATE));
    host(t, host_networks);

    let drop = NfChainPolicy::Drop;
    let pass = NfChainPolicy::Accept;
    let filter = NfChainType::Filter;
    t.base_chain("c_arrive", filter, NfHook::Prerouting, BEFORE_DEFRAG, pass);
    t.base_chain("c_divert", filter, NfHook::Prerouting, BEFORE_ROUTING, pass);
    t.base_chain("c_leave", filter, NfHook::Output, BEFORE_DEFRAG, pass);
    t.base_chain("c_input", filter, NfHook::Input, 0, drop);
    t.base_chain("c_output", filter, NfHook::Output, 0, drop);
    t.base_chain("c_forward", filter, NfHook::Forward, 0, drop);
    t.base_chain("c_nat", NfChainType::NAT, NfHook::Postrouting, SOURCE_NAT, pass);
    for chain in [
        "c_refuse",
        "c_never",
        "c_limit",
        "c_check",
        "c_dispatch",
        "c_questions",
        "c_hellos",
        "c_looked_at",
    ] {
        t.chain(chain);
    }

    arrive(t);
    divert(t);
    to_the_gate_itself(t);
    forward(t);
    // Here, too: on the host another table may be the first to choose a port.
    let with_ports = is(meta(MetaKey::L4proto), any_of(&["tcp", "udp"]));
    t.rule("c_nat", vec![to(UPLINK), with_ports, masquerade(Some(SOURCE_PORTS))]);
    t.rule("c_nat", vec![to(UPLINK), masquerade(None)]);
    // The source that the packet leaves the gate with: what is looked at is sent on
    // as it is, and the answers find their flow.
    let tcp = is(meta(MetaKey::L4proto), text("tcp"));
    t.rule("c_nat", vec![to(HELLO_LINK), tcp, source(GATE_ADDRESS, SOURCE_PORTS)]);
    dispatcher(t, attached);
}

/// Replaces the host's own addresses and its networks made in software (step 2).
pub fn host_networks(networks: &[IpNet]) -> Transaction {
    let mut t = Transaction::new();
    host(&mut t, networks);
    t
}

fn host(t: &mut Transaction, networks: &[IpNet]) {
    // The kernel refuses overlapping intervals: keep the widest of each.
    let v4: Vec<_> = networks
        .iter()
        .filter_map(|net| match net {
            IpNet::V4(net) => Some(net.trunc()),
            IpNet::V6(_) => None,
        })
        .collect();
    t.flush_set("host4");
    let widest = ipnet::Ipv4Net::aggregate(&v4);
    t.elements("host4", widest.into_iter().map(|net| prefix(IpNet::V4(net))).collect());
}

/// What may not even reach conntrack.
fn arrive(t: &mut Transaction) {
    let chain = "c_arrive";
    t.rule(chain, vec![is(meta(MetaKey::Nfproto), text("ipv6")), counter(), discard()]);
    // More-fragments flag or an offset.
    let fragment = bits(payload("ip", "frag-off"), number(0x3fff));
    t.rule(chain, vec![from("s*"), is_not(fragment, number(0)), counter(), discard()]);
    // Longer than five words: options.
    t.rule(
        chain,
        vec![from("s*"), is_not(payload("ip", "hdrlength"), number(5)), counter(), discard()],
    );
    // Step 1: the sandbox's own source address, and no other (N8).
    let source = concat(vec![meta(MetaKey::Iifname), payload("ip", "saddr")]);
    t.rule(chain, vec![from("s*"), is_not(source, text("@own4")), counter(), discard()]);
    // What was looked at was tracked on its way there. Only the end of a connection
    // goes back, by the flow that it ends.
    let to_gate = is(payload("ip", "daddr"), text(GATE_ADDRESS.to_string()));
    t.rule(chain, vec![from(HELLO_LINK), to_gate, accept()]);
    t.rule(chain, vec![from(HELLO_LINK), untracked()]);
    // Questions are answered by a socket of each sandbox; a flow for each would
    // let a sandbox fill the table.
    for protocol in ["udp", "tcp"] {
        t.rule(
            chain,
            vec![
                from("s*"),
                is(payload("ip", "daddr"), text(GATEWAY.to_string())),
                is(payload(protocol, "dport"), number(53)),
                untracked(),
            ],
        );
        t.rule(
            "c_leave",
            vec![
                to("s*"),
                is(payload("ip", "saddr"), text(GATEWAY.to_string())),
                is(payload(protocol, "sport"), number(53)),
                untracked(),
            ],
        );
    }
}

/// Packets of connections to which only a name gave the right are sent by way of
/// the process that looks at the hello (N20): new ones as the sandbox's chain says,
/// the others by their mark.
fn divert(t: &mut Transaction) {
    let chain = "c_divert";
    let unchecked = || is_not(bits(ct("mark"), number(UNCHECKED)), number(0));
    let established = || has(ct("state"), &["established"]);
    let original = is(ct("direction"), text("original"));
    t.rule(
        chain,
        vec![from("s*"), original, established(), unchecked(), set_packet_mark(HELLO_MARK)],
    );
    t.rule(chain, vec![from("s*"), tls(), has(ct("state"), &["new"]), jump("c_hellos")]);
    let reply = is(ct("direction"), text("reply"));
    let acknowledges = has(payload("tcp", "flags"), &["ack"]);
    t.rule(
        chain,
        vec![
            from(UPLINK),
            reply,
            established(),
            unchecked(),
            acknowledges,
            log(ACKS_GROUP, "", ACK_BYTES),
        ],
    );

    // What that process sends on: to public addresses, and never past step 2; or
    // the end of a connection, back to the client.
    let chain = "c_looked_at";
    let public = |set: &str| is_not(payload("ip", "daddr"), text(set));
    let gate = is(payload("ip", "saddr"), text(GATE_ADDRESS.to_string()));
    t.rule(
        chain,
        vec![
            to(UPLINK),
            gate,
            tls(),
            public("@never4"),
            public("@host4"),
            public("@private4"),
            // Nobody out there is told whose it is.
            set_packet_id(0),
            accept(),
        ],
    );
    let reset = has(payload("tcp", "flags"), &["rst"]);
    let reply = is(ct("direction"), text("reply"));
    t.rule(chain, vec![to("s*"), reply, established(), unchecked(), reset, accept()]);
    t.rule(chain, vec![counter(), discard()]);
}

fn to_the_gate_itself(t: &mut Transaction) {
    let established = || has(ct("state"), &["established", "related"]);
    let gateway = || is(payload("ip", "daddr"), text(GATEWAY.to_string()));
    for protocol in ["udp", "tcp"] {
        let question = is(payload(protocol, "dport"), number(53));
        t.rule("c_input", vec![from("s*"), gateway(), question, goto("c_questions")]);
        let answer = is(payload(protocol, "sport"), number(53));
        t.rule("c_output", vec![to("s*"), answer, accept()]);
    }
    let echo = is(payload("icmp", "type"), text("echo-request"));
    t.rule("c_input", vec![from("s*"), gateway(), echo, at_most(10, 10), accept()]);
    t.rule("c_input", vec![from(UPLINK), established(), accept()]);

    // While the helper restarts nobody listens: silence makes a client ask
    // again, "port unreachable" would make it give up (N11).
    t.rule(
        "c_output",
        vec![
            is(payload("icmp", "type"), text("destination-unreachable")),
            is(payload("icmp", "code"), text("port-unreachable")),
            discard(),
        ],
    );
    t.rule("c_output", vec![established(), accept()]);
    let errors = any_of(&["destination-unreachable", "time-exceeded", "parameter-problem"]);
    t.rule("c_output", vec![is(payload("icmp", "type"), errors), accept()]);
    t.rule("c_output", vec![to("s*"), has(payload("tcp", "flags"), &["rst"]), accept()]);
}

fn forward(t: &mut Transaction) {
    let chain = "c_forward";
    let syn = is(bits(payload("tcp", "flags"), flags(&["syn", "rst"])), text("syn"));
    t.rule(chain, vec![syn, clamp_segment_size()]);
    // Before a connection is agreed to a server says that it agrees, or not, and nothing
    // else: more is of a connection that had the same ports before.
    let not_agreed = is(bits(ct("status"), number(ASSURED)), number(0));
    let no_answer = is(bits(payload("tcp", "flags"), flags(&["syn", "rst"])), number(0));
    let reply = || is(ct("direction"), text("reply"));
    t.rule(chain, vec![from(UPLINK), reply(), not_agreed, no_answer, counter(), discard()]);
    t.rule(chain, vec![from(UPLINK), reply(), has(ct("state"), &["established"]), accept()]);
    t.rule(
        chain,
        vec![
            from(UPLINK),
            is(meta(MetaKey::L4proto), text("icmp")),
            has(ct("state"), &["related"]),
            accept(),
        ],
    );
    t.rule(chain, vec![from(UPLINK), counter(), discard()]);
    t.rule(chain, vec![from(HELLO_LINK), goto("c_looked_at")]);
    // Step 1, second half: out of the uplink, so never to another sandbox (N13).
    let elsewhere = is_not(meta(MetaKey::Oifname), any_of(&[UPLINK, HELLO_LINK]));
    t.rule(chain, vec![elsewhere, counter(), discard()]);
    // To be looked at, and not on the way there: nothing passes.
    let marked = is(meta(MetaKey::Mark), number(HELLO_MARK));
    let past = is_not(meta(MetaKey::Oifname), text(HELLO_LINK));
    t.rule(chain, vec![marked, past, goto("c_refuse")]);
    t.rule(chain, vec![jump("c_dispatch")]);

    // Step 2.
    for set in ["@never4", "@host4"] {
        t.rule("c_check", vec![is(payload("ip", "daddr"), text(set)), goto("c_never")]);
    }
    let protocols = any_of(&["tcp", "udp", "icmp"]);
    t.rule("c_check", vec![is_not(meta(MetaKey::L4proto), protocols), goto("c_never")]);
    t.rule("c_check", vec![is_not(payload("icmp", "type"), text("echo-request")), discard()]);

    t.rule("c_never", vec![at_most(20, 40), report(BlockedReason::Never)]);
    t.rule("c_never", vec![goto("c_refuse")]);
    t.rule("c_limit", vec![at_most(1, 2), report(BlockedReason::Limit)]);
    t.rule("c_limit", vec![counter(), discard()]);
    t.rule("c_refuse", vec![counter()]);
    t.rule("c_refuse", vec![is(meta(MetaKey::L4proto), text("tcp")), reset()]);
    t.rule("c_refuse", vec![prohibit()]);
}

/// An element in a map, not a rule for each: taking a rule out makes the kernel
/// wait some 15 ms until nobody reads it any more, and an attach would take as long.
fn dispatcher(t: &mut Transaction, attached: &[(u32, Ipv4Addr)]) {
    for (base, map, chain) in DISPATCH {
        t.verdict_map(map);
        t.flush_map(map);
        t.rule(base, vec![dispatch(map)]);
        for (id, _) in attached {
            t.elements(map, vec![to_chain(&link_name(*id), &chain(*id))]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They are never emptied, so a release that changes one gives its set another name:
    /// the kernel refuses networks that overlap those that are there.
    #[test]
    fn n2_sets_that_are_never_emptied_keep_their_networks() {
        let v4 = |nets: &[IpNet]| {
            let v4 = nets.iter().filter(|net| matches!(net, IpNet::V4(_)));
            v4.map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let never = "0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 168.63.129.16/32 100.100.100.200/32 192.0.0.0/24 \
                     192.88.99.0/24 198.18.0.0/15 224.0.0.0/4 240.0.0.0/4";
        assert_eq!(v4(NEVER), never, "never4");
        let private = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10";
        assert_eq!(v4(PRIVATE), private, "private4");
    }
}
