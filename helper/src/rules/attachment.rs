//! What holds for one sandbox: its chains, its sets, and what is in them.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use nftables::expr::{Expression, MetaKey};
use nftables::schema::{SetFlag, SetType};
use rcc_dbus::BlockedReason;
use rcc_policy::{Defaults, Entry, Protocol, Reach, Target};

use super::{
    DISPATCH, HELLO_LINK, LOG_BYTES, LOG_GROUP, OWN, REACHED, chain_name, flags, hellos_chain,
    link_name, own, questions_chain, reached_chain, report, tls,
};
use crate::attachments::Opening;
use crate::elements::Elements;
use crate::layout::{HELLO_MARK, UNCHECKED};
use crate::nft::{
    Transaction, accept, at_most, beyond, bits, concat, counter, ct, discard, flows_over, goto,
    has, is, is_not, jump, log, meta, number, payload, prefix, set_mark, set_packet_id,
    set_packet_mark, text, timed, to, to_chain,
};

/// Flows that one sandbox may hold at once, and open in a second (step 0).
const FLOWS_AT_ONCE: u32 = 2_048;
const FLOWS_A_SECOND: u32 = 500;

/// ICMP packets that one sandbox may send in a second.
const ECHOES_A_SECOND: u32 = 10;

/// Packets of connections that are looked at, of one sandbox: a hello takes four.
const HELLO_PACKETS_A_SECOND: u32 = 5_000;

/// Packets to the resolver that one sandbox may send in a second: more than that
/// are dropped before they cost the resolver, which all share, anything (N17).
const QUESTIONS_A_SECOND: u32 = 1_000;

/// A set that may hold more networks than this is made anew, else it is emptied. The
/// kernel takes 100,000 out of a set in 46 s, by the square of their number, and the
/// set with them in 30 ms; but after that the next transaction waits some 10 ms.
const MANY_NETWORKS: usize = 1_000;

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
    /// Networks that the sets may hold before.
    pub networks_before: usize,
}

impl AttachmentRules<'_> {
    /// Networks that the sets hold then, at most.
    pub fn networks(&self) -> usize {
        let nets = self.entries.iter().filter(|entry| matches!(entry.target(), Target::Net(_)));
        nets.map(|entry| entry.ports().len()).sum()
    }
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
}

/// Makes chain and sets of an attachment, or replaces all that is in them, in
/// one transaction.
pub fn attachment(rules: &AttachmentRules<'_>) -> Transaction {
    let mut t = Transaction::new();
    let id = rules.id;
    let key = [SetType::Ipv4Addr, SetType::InetProto, SetType::InetService];
    // The rules that name the sets: a set can go when no rule names it.
    t.chain(&hellos_chain(id));
    t.chain(&chain_name(id));
    for reach in [Reach::Private, Reach::Public] {
        let (nets, names) = (set_name(id, false, reach), set_name(id, true, reach));
        t.set(&names, &key, &[SetFlag::Timeout]);
        t.flush_set(&names);
        t.set(&nets, &key, &[SetFlag::Interval]);
        if rules.networks_before > MANY_NETWORKS {
            t.remove_set(&nets);
            t.set(&nets, &key, &[SetFlag::Interval]);
        } else {
            t.flush_set(&nets);
        }
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
    t.stands(OWN.0, &OWN.1);
    t.elements(OWN.0, vec![own(id, rules.address)]);
    fill_chain(&mut t, rules);
    for (_, map, chain) in DISPATCH {
        t.elements(map, vec![to_chain(&link_name(id), &chain(id))]);
    }
    t
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
    // Only what has none: the mark of a connection that runs is changed by the cut alone,
    // which must find it as it saw it.
    let unmarked = is(ct("mark"), number(0));
    t.rule(&reached, vec![unmarked, set_mark(rules.generation)]);
    t.rule(&reached, vec![at_most(20, 100), log(LOG_GROUP, REACHED, LOG_BYTES)]);
    t.rule(&reached, vec![accept()]);
    let chain = chain_name(id);
    if !rules.connected {
        t.rule(&chain, vec![at_most(2, 4), report(BlockedReason::Disconnected)]);
        t.rule(&chain, vec![goto("c_refuse")]);
        return;
    }
    // Step 0.
    let new = || has(ct("state"), &["new"]);
    t.rule(&chain, vec![new(), beyond(FLOWS_A_SECOND, FLOWS_A_SECOND), goto("c_limit")]);
    t.rule(&chain, vec![new(), flows_over(FLOWS_AT_ONCE), goto("c_limit")]);
    // Each sandbox has its own: none takes the echoes of another.
    let icmp = is(meta(MetaKey::L4proto), text("icmp"));
    t.rule(&chain, vec![icmp, beyond(ECHOES_A_SECOND, ECHOES_A_SECOND), discard()]);
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
    let allow = |t: &mut Transaction, reach| {
        let set = |by_name| text(format!("@{}", set_name(id, by_name, reach)));
        t.rule(&chain, vec![is(flow(), set(false)), goto(&reached)]);
        // Only what begins: a packet that is on its way here while its connection is passed,
        // or while the rules change, must not have it looked at anew. Whoever looks has
        // decided already, and nobody would cut it any more.
        let look =
            vec![new(), is(flow(), set(true)), to(HELLO_LINK), set_mark(unchecked), goto(&reached)];
        t.rule(&chain, look);
        if !rules.defaults.allow_public {
            // One that was not sent to be looked at: the set was another one a moment ago,
            // or what the flow was passed by is gone; or one of a connection that is passed
            // just now. Its next packet is decided anew.
            let mut missed = vec![tls(), is(flow(), set(true))];
            if reach == Reach::Private {
                missed.push(is_not(payload("ip", "daddr"), text("@private4")));
            }
            missed.push(discard());
            t.rule(&chain, missed);
        }
        t.rule(&chain, vec![is(flow(), set(true)), goto(&reached)]);
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
        t.rule(&chain, vec![public, goto(&reached)]);
    }
    // One that was passed by its name, under the rules of before: its address may have left
    // the set, and the cut, which comes behind the new rules, lets it go on.
    let marked = is_not(ct("mark"), number(0));
    t.rule(&chain, vec![tls(), original(), established(), marked, discard()]);
    t.rule(&chain, vec![at_most(20, 40), report(BlockedReason::NotAllowed)]);
    t.rule(&chain, vec![goto("c_refuse")]);
}

/// Fills the chain that says which new connections are looked at: those to which a name alone gives the right.
/// An address that has a rule of its own, and a private one, is not shared with
/// strangers.
fn hellos_of(t: &mut Transaction, rules: &AttachmentRules<'_>) {
    let id = rules.id;
    let chain = hellos_chain(id);
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
    // Whose it is, for who must wait when there is too much.
    let whose = || set_packet_id(u16::try_from(id & 0xffff).unwrap_or_default());
    for reach in [Reach::Private, Reach::Public] {
        t.rule(&chain, vec![set(true, reach), set_packet_mark(HELLO_MARK), whose(), accept()]);
    }
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
pub fn answered(
    changes: &mut Elements,
    id: u32,
    entry: &Entry,
    address: Ipv4Addr,
    opening: &Opening,
) {
    let set = set_name(id, true, entry.reach());
    let key = |port: &u16| (address, entry.protocol(), *port);
    let keys: Vec<_> = opening.ports.iter().map(key).collect();
    changes.add(&set, &keys, opening.seconds);
    if opening.renewed {
        changes.remove(&set, &keys);
        changes.add(&set, &keys, opening.seconds);
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
    t.stands(OWN.0, &OWN.1);
    t.elements(OWN.0, vec![own(id, address)]);
    t.remove_elements(OWN.0, vec![own(id, address)]);
    t
}
