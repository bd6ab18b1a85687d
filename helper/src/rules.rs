//! The firewall as pure functions from what should hold to one transaction.
//! `docs/security.md` is the specification; the numbers of the steps are those
//! of the section "The gate" in `docs/architecture.md`.
//!
//! No rule ever writes a set: only the helper does.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use nftables::expr::{Expression, MetaKey};
use nftables::schema::{SetFlag, SetType};
use nftables::types::{NfChainPolicy, NfChainType, NfHook};
use rcc_dbus::BlockedReason;
use rcc_policy::{Defaults, Entry, NEVER, PRIVATE, Protocol, Reach, Target};

use crate::elements::Elements;
use crate::layout::{GATE_ADDRESS, HELLO_MARK, RESOLVER_MARK, UNCHECKED};
use crate::nft::{
    Transaction, accept, any_of, at_most, beyond, bits, clamp_segment_size, concat, counter, ct,
    discard, dispatch, fib_destination_type, flows_over, from, goto, has, is, is_not, jump, log,
    masquerade, meta, number, payload, prefix, prohibit, reset, set_mark, set_packet_mark, source,
    text, timed, to, to_chain, untracked,
};

/// NFLOG group in the gate that carries what was refused.
pub const LOG_GROUP: u32 = 7;
/// The word that such a packet carries when it was let through.
pub const REACHED: &str = "reached";
/// Where sandboxes find their gateway and resolver.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The gate's end of the link to the host.
pub const UPLINK: &str = "uplink0";
/// The device in the gate by which packets reach the process that looks at hellos.
pub const HELLO_LINK: &str = "hello0";
/// NFLOG group in the gate that carries to that process what servers acknowledge.
pub const ACKS_GROUP: u32 = 8;
/// The port on which clients say first whom they want: TLS.
pub const TLS: u16 = 443;
/// The host's end.
pub const HOST_LINK: &str = "rcc0";

/// Flows that one sandbox may hold at once, and open in a second (step 0).
const FLOWS_AT_ONCE: u32 = 2_048;
const FLOWS_A_SECOND: u32 = 500;

/// Packets of connections that are looked at, of one sandbox: a hello takes four.
const HELLO_PACKETS_A_SECOND: u32 = 5_000;

/// Packets to the resolver that one sandbox may send in a second: more than that
/// are dropped before they cost the resolver, which all share, anything (N17).
const QUESTIONS_A_SECOND: u32 = 1_000;

/// Before conntrack puts fragments together (`NF_IP_PRI_CONNTRACK_DEFRAG` is −400).
const BEFORE_DEFRAG: i32 = -450;
/// `NF_IP_PRI_MANGLE`: after conntrack, before a route is chosen and a reply gets
/// its true destination.
const BEFORE_ROUTING: i32 = -150;
/// `NF_IP_PRI_RAW`.
const RAW: i32 = -300;
/// `NF_IP_PRI_NAT_SRC`.
const SOURCE_NAT: i32 = 100;

/// The interface in the gate of attachment `id`.
pub fn link_name(id: u32) -> String {
    format!("s{id}")
}

fn chain_name(id: u32) -> String {
    format!("a_{id}")
}

fn reached_chain(id: u32) -> String {
    format!("r_{id}")
}

fn hellos_chain(id: u32) -> String {
    format!("h_{id}")
}

fn questions_chain(id: u32) -> String {
    format!("q_{id}")
}

/// The four sets of an attachment: networks by rule and addresses by name, for
/// private reach (step 4) and public reach (step 6).
fn set_name(id: u32, by_name: bool, reach: Reach) -> String {
    let source = if by_name { "name" } else { "net" };
    let reach = match reach {
        Reach::Private => "private",
        Reach::Public => "public",
    };
    format!("{source}_{reach}_{id}")
}

/// Everything in the gate that does not belong to one sandbox. Attachments that
/// stand already are dispatched to and otherwise left as they are.
pub fn gate(host_networks: &[IpNet], attached: &[u32]) -> Transaction {
    let mut t = Transaction::new();
    t.table();
    let address = [SetType::Ipv4Addr];
    t.set("never4", &address, &[SetFlag::Interval]);
    t.set("private4", &address, &[SetFlag::Interval]);
    t.set("host4", &address, &[SetFlag::Interval]);
    t.set("own4", &[SetType::Ifname, SetType::Ipv4Addr], &[]);
    let v4 = |nets: &[IpNet]| -> Vec<Expression<'static>> {
        nets.iter().filter(|net| matches!(net, IpNet::V4(_))).copied().map(prefix).collect()
    };
    t.flush_set("never4");
    t.elements("never4", v4(NEVER));
    t.flush_set("private4");
    t.elements("private4", v4(PRIVATE));
    host(&mut t, host_networks);

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

    arrive(&mut t);
    divert(&mut t);
    to_the_gate_itself(&mut t);
    forward(&mut t);
    t.rule("c_nat", vec![to(UPLINK), masquerade(None)]);
    // The source that the packet leaves the gate with: what is looked at is sent on
    // as it is, and the answers find their flow.
    t.rule("c_nat", vec![to(HELLO_LINK), source(GATE_ADDRESS)]);
    dispatcher(&mut t, attached);
    t
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
        vec![from(UPLINK), reply, established(), unchecked(), acknowledges, log(ACKS_GROUP, "")],
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
    t.rule(
        chain,
        vec![
            from(UPLINK),
            is(ct("direction"), text("reply")),
            has(ct("state"), &["established"]),
            accept(),
        ],
    );
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
    t.rule("c_check", vec![is(meta(MetaKey::L4proto), text("icmp")), beyond(10, 10), discard()]);

    t.rule("c_never", vec![at_most(20, 40), report(BlockedReason::Never)]);
    t.rule("c_never", vec![goto("c_refuse")]);
    t.rule("c_limit", vec![at_most(1, 2), report(BlockedReason::Limit)]);
    t.rule("c_limit", vec![counter(), discard()]);
    t.rule("c_refuse", vec![counter()]);
    t.rule("c_refuse", vec![is(meta(MetaKey::L4proto), text("tcp")), reset()]);
    t.rule("c_refuse", vec![prohibit()]);
}

fn flags(words: &[&str]) -> Expression<'static> {
    let words = words.iter().map(|word| text(*word)).collect();
    Expression::BinaryOperation(Box::new(nftables::expr::BinaryOperation::OR(words)))
}

fn report(reason: BlockedReason) -> nftables::stmt::Statement<'static> {
    log(LOG_GROUP, reason.as_str())
}

/// The chain of attachment `id` that a map leads to.
type ChainOf = fn(u32) -> String;

/// Where packets are sent on to a sandbox's own chains: chain, map, and what the
/// map leads to.
const DISPATCH: [(&str, &str, ChainOf); 3] = [
    ("c_dispatch", "to_rules", chain_name),
    ("c_questions", "to_questions", questions_chain),
    ("c_hellos", "to_hellos", hellos_chain),
];

/// An element in a map, not a rule for each: taking a rule out makes the kernel
/// wait some 15 ms until nobody reads it any more, and an attach would take as long.
fn dispatcher(t: &mut Transaction, attached: &[u32]) {
    for (base, map, chain) in DISPATCH {
        t.verdict_map(map);
        t.flush_map(map);
        t.rule(base, vec![dispatch(map)]);
        for id in attached {
            t.elements(map, vec![to_chain(&link_name(*id), &chain(*id))]);
        }
    }
}

/// What holds for one sandbox.
#[derive(Debug, Clone)]
pub struct AttachmentRules<'a> {
    /// Its number.
    pub id: u32,
    /// Its address.
    pub address: Ipv4Addr,
    /// The administrator's defaults, as they hold for this sandbox.
    pub defaults: Defaults,
    /// The administrator's entries and the user's.
    pub entries: Vec<&'a Entry>,
    /// Addresses that the resolver gave out and that still hold.
    pub answers: Vec<Answered<'a>>,
    /// Mark of flows that were accepted under these rules. Unique over all
    /// attachments and generations, never 0.
    pub generation: u32,
    /// False: nothing passes.
    pub connected: bool,
}

/// An address for an entry, for so many seconds more.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The entry whose ports it opens.
    pub entry: &'a Entry,
    /// The address.
    pub address: Ipv4Addr,
    /// What is left of its life, in seconds, at least 1.
    pub seconds: u32,
    /// It is in the set already, with another life.
    pub renewed: bool,
}

/// Makes chain and sets of an attachment, or replaces all that is in them, in
/// one transaction.
pub fn attachment(rules: &AttachmentRules<'_>) -> Transaction {
    let mut t = Transaction::new();
    let id = rules.id;
    let key = [SetType::Ipv4Addr, SetType::InetProto, SetType::InetService];
    for reach in [Reach::Private, Reach::Public] {
        let (nets, names) = (set_name(id, false, reach), set_name(id, true, reach));
        t.set(&nets, &key, &[SetFlag::Interval]);
        t.set(&names, &key, &[SetFlag::Timeout]);
        t.flush_set(&nets);
        t.flush_set(&names);
        t.elements(&nets, networks(&rules.entries, reach));
    }
    // Two entries can open the same: the longer life is the one that counts.
    let mut answers = rules.answers.clone();
    answers.sort_by_key(|answer| answer.seconds);
    let mut seen = std::collections::HashSet::new();
    for answer in answers.iter().rev() {
        let entry = answer.entry;
        let key = |port| (answer.address, entry.protocol(), port, entry.reach());
        let ports: Vec<u16> =
            entry.ports().iter().copied().filter(|port| seen.insert(key(*port))).collect();
        open_ports(&mut t, id, answer, &ports);
    }
    t.elements("own4", vec![own(id, rules.address)]);
    fill_chain(&mut t, rules);
    for (_, map, chain) in DISPATCH {
        t.elements(map, vec![to_chain(&link_name(id), &chain(id))]);
    }
    t
}

fn own(id: u32, address: Ipv4Addr) -> Expression<'static> {
    concat(vec![text(link_name(id)), text(address.to_string())])
}

fn fill_chain(t: &mut Transaction, rules: &AttachmentRules<'_>) {
    let id = rules.id;
    let questions = questions_chain(id);
    t.chain(&questions);
    t.rule(&questions, vec![at_most(QUESTIONS_A_SECOND, QUESTIONS_A_SECOND), accept()]);
    t.rule(&questions, vec![counter(), discard()]);
    hellos_of(t, rules);
    let reached = reached_chain(id);
    t.chain(&reached);
    t.rule(&reached, vec![at_most(20, 100), log(LOG_GROUP, REACHED)]);
    t.rule(&reached, vec![accept()]);
    let chain = chain_name(id);
    t.chain(&chain);
    if !rules.connected {
        t.rule(&chain, vec![at_most(2, 4), report(BlockedReason::Disconnected)]);
        t.rule(&chain, vec![goto("c_refuse")]);
        return;
    }
    // Step 0.
    let new = || has(ct("state"), &["new"]);
    t.rule(&chain, vec![new(), beyond(FLOWS_A_SECOND, FLOWS_A_SECOND), goto("c_limit")]);
    t.rule(&chain, vec![new(), flows_over(FLOWS_AT_ONCE), goto("c_limit")]);
    t.rule(&chain, vec![jump("c_check")]);
    // A connection that was looked at is not begun anew under the same ports: the
    // server would hear another hello.
    let begins = is(bits(payload("tcp", "flags"), flags(&["syn", "ack"])), text("syn"));
    let passed = || is(ct("mark"), number(rules.generation));
    let established = || has(ct("state"), &["established"]);
    let begins = || vec![tls(), begins.clone(), established()];
    t.rule(&chain, [begins(), vec![passed(), goto("c_refuse")]].concat());
    // Before that: said again, and the server answers again by itself.
    t.rule(&chain, [begins(), vec![counter(), discard()]].concat());
    // Step 3.
    let original = || is(ct("direction"), text("original"));
    t.rule(&chain, vec![original(), established(), passed(), accept()]);
    let unchecked = rules.generation | UNCHECKED;
    let to_be_checked = || is(ct("mark"), number(unchecked));
    let unchecked_packet = || vec![original(), established(), to_be_checked(), to(HELLO_LINK)];
    let too_many = [
        unchecked_packet(),
        vec![beyond(HELLO_PACKETS_A_SECOND, HELLO_PACKETS_A_SECOND), discard()],
    ];
    t.rule(&chain, too_many.concat());
    t.rule(&chain, [unchecked_packet(), vec![accept()]].concat());
    // A packet of a connection that conntrack does not know opens nothing. A
    // program whose connection was cut hears of it at once.
    t.rule(&chain, vec![has(ct("state"), &["invalid"]), goto("c_refuse")]);
    let flow =
        || concat(vec![payload("ip", "daddr"), meta(MetaKey::L4proto), payload("th", "dport")]);
    let mark = || set_mark(rules.generation);
    let allow = |t: &mut Transaction, reach| {
        let set = |by_name| text(format!("@{}", set_name(id, by_name, reach)));
        t.rule(&chain, vec![is(flow(), set(false)), mark(), goto(&reached)]);
        let look = vec![is(flow(), set(true)), to(HELLO_LINK), set_mark(unchecked), goto(&reached)];
        t.rule(&chain, look);
        if !rules.defaults.allow_public {
            // One that was not sent to be looked at: the set was another one a moment ago,
            // or what the flow was passed by is gone. Its next packet is decided anew.
            let mut missed = vec![tls(), is(flow(), set(true))];
            if reach == Reach::Private {
                missed.push(is_not(payload("ip", "daddr"), text("@private4")));
            }
            missed.push(discard());
            t.rule(&chain, missed);
        }
        t.rule(&chain, vec![is(flow(), set(true)), mark(), goto(&reached)]);
    };
    // Steps 4 to 7.
    allow(t, Reach::Private);
    if rules.defaults.block_rfc1918 {
        let private = || is(payload("ip", "daddr"), text("@private4"));
        t.rule(&chain, vec![private(), at_most(20, 40), report(BlockedReason::Private)]);
        t.rule(&chain, vec![private(), goto("c_refuse")]);
    }
    allow(t, Reach::Public);
    if rules.defaults.allow_public {
        let public = is_not(payload("ip", "daddr"), text("@private4"));
        t.rule(&chain, vec![public, mark(), goto(&reached)]);
    }
    t.rule(&chain, vec![at_most(20, 40), report(BlockedReason::NotAllowed)]);
    t.rule(&chain, vec![goto("c_refuse")]);
}

/// Which new connections are looked at: those to which a name alone gives the right.
/// An address that has a rule of its own, and a private one, is not shared with
/// strangers.
fn hellos_of(t: &mut Transaction, rules: &AttachmentRules<'_>) {
    let id = rules.id;
    let chain = hellos_chain(id);
    t.chain(&chain);
    if !rules.connected || rules.defaults.allow_public {
        return;
    }
    let flow =
        || concat(vec![payload("ip", "daddr"), meta(MetaKey::L4proto), payload("th", "dport")]);
    let set = |by_name, reach| is(flow(), text(format!("@{}", set_name(id, by_name, reach))));
    t.rule(&chain, vec![is(payload("ip", "daddr"), text("@private4")), accept()]);
    for reach in [Reach::Private, Reach::Public] {
        t.rule(&chain, vec![set(false, reach), accept()]);
    }
    for reach in [Reach::Private, Reach::Public] {
        t.rule(&chain, vec![set(true, reach), set_packet_mark(HELLO_MARK), accept()]);
    }
}

fn tls() -> nftables::stmt::Statement<'static> {
    is(payload("tcp", "dport"), number(u32::from(TLS)))
}

/// The `ip:` entries of one reach as elements. Overlapping ones are joined, as
/// the kernel refuses them.
fn networks(entries: &[&Entry], reach: Reach) -> Vec<Expression<'static>> {
    use std::collections::BTreeMap;
    let mut by_port: BTreeMap<(Protocol, u16), Vec<ipnet::Ipv4Net>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.reach() == reach) {
        let Target::Net(IpNet::V4(net)) = entry.target() else { continue };
        for port in entry.ports() {
            by_port.entry((entry.protocol(), *port)).or_default().push(*net);
        }
    }
    let mut elements = Vec::new();
    for ((protocol, port), nets) in by_port {
        for net in ipnet::Ipv4Net::aggregate(&nets) {
            elements.push(flow_element(prefix(IpNet::V4(net)), protocol, port));
        }
    }
    elements
}

fn flow_element(
    address: Expression<'static>,
    protocol: Protocol,
    port: u16,
) -> Expression<'static> {
    concat(vec![address, text(protocol.to_string()), number(u32::from(port))])
}

/// Opens an address that the resolver found. One that is there already is written
/// twice with a removal in between, so that it gets the new life; all in one
/// transaction.
pub fn answered(changes: &mut Elements, id: u32, answer: &Answered<'_>) {
    let entry = answer.entry;
    let set = set_name(id, true, entry.reach());
    let key = |port: &u16| (answer.address, entry.protocol(), *port);
    let keys: Vec<_> = entry.ports().iter().map(key).collect();
    changes.add(&set, &keys, answer.seconds);
    if answer.renewed {
        changes.remove(&set, &keys);
        changes.add(&set, &keys, answer.seconds);
    }
}

fn open_ports(t: &mut Transaction, id: u32, answer: &Answered<'_>, ports: &[u16]) {
    let set = set_name(id, true, answer.entry.reach());
    let element = |port: &u16| {
        let address = text(answer.address.to_string());
        timed(flow_element(address, answer.entry.protocol(), *port), answer.seconds)
    };
    t.elements(&set, ports.iter().map(element).collect());
}

/// Removes all that belongs to an attachment.
pub fn detached(id: u32, address: Ipv4Addr) -> Transaction {
    let mut t = Transaction::new();
    // An add before each removal makes the removal safe when it is gone already.
    for (_, map, chain) in DISPATCH {
        let chain = chain(id);
        t.chain(&chain);
        t.elements(map, vec![to_chain(&link_name(id), &chain)]);
        t.remove_elements(map, vec![to_chain(&link_name(id), &chain)]);
        t.remove_chain(&chain);
    }
    t.chain(&reached_chain(id));
    t.remove_chain(&reached_chain(id));
    let key = [SetType::Ipv4Addr, SetType::InetProto, SetType::InetService];
    for reach in [Reach::Private, Reach::Public] {
        for (by_name, flag) in [(false, SetFlag::Interval), (true, SetFlag::Timeout)] {
            let name = set_name(id, by_name, reach);
            t.set(&name, &key, &[flag]);
            t.remove_set(&name);
        }
    }
    t.elements("own4", vec![own(id, address)]);
    t.remove_elements("own4", vec![own(id, address)]);
    t
}

/// The table on the host: what comes from the gate never reaches the host
/// itself, and leaves under the host's address.
pub fn host_table(
    gate: Ipv4Addr,
    only_forwarding_is_ours: bool,
    name_servers: &[IpAddr],
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

    let back = has(ct("state"), &["established", "related"]);
    t.rule("h_forward", vec![to(HOST_LINK), back, accept()]);
    t.rule("h_forward", vec![to(HOST_LINK), counter(), discard()]);
    if only_forwarding_is_ours {
        // Forwarding is on only for the gate: the computer must not become a router (N19).
        let other = is_not(meta(MetaKey::Iifname), text(HOST_LINK));
        t.rule("h_forward", vec![other, counter(), discard()]);
    }

    // Services that trust source ports below 1024 must not trust a sandbox (H9).
    let ours = || is(payload("ip", "saddr"), gate_address());
    let away = || is_not(meta(MetaKey::Oifname), text(HOST_LINK));
    let with_ports = is(meta(MetaKey::L4proto), any_of(&["tcp", "udp"]));
    t.rule("h_nat", vec![ours(), away(), with_ports, masquerade(Some((1024, 65535)))]);
    t.rule("h_nat", vec![ours(), away(), masquerade(None)]);
    t
}

/// True for an entry that allows TLS on its own port.
pub fn allows_tls(entry: &Entry) -> bool {
    entry.protocol() == Protocol::Tcp && entry.ports().contains(&TLS)
}

/// True for an address that an answer may carry: `private` when its entry says so.
pub fn answer_may_open(address: IpAddr, private: bool) -> bool {
    match rcc_policy::classify(address) {
        rcc_policy::Range::Never => false,
        rcc_policy::Range::Private => private,
        rcc_policy::Range::Public => true,
    }
}
