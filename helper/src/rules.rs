//! The firewall as pure functions from what should hold to one transaction.
//! `docs/security.md` is the specification; the numbers of the steps are those
//! of the section "The gate" in `docs/architecture.md`.
//!
//! No rule ever writes a set: only the helper does.

mod attachment;
mod gate;
mod host;

use std::net::{IpAddr, Ipv4Addr};

use nftables::expr::{BinaryOperation, Expression};
use nftables::schema::SetType;
use nftables::stmt::Statement;
use rcc_dbus::BlockedReason;
use rcc_policy::{Entry, Protocol};

pub use attachment::{Answered, AttachmentRules, answered, attachment, detached};
pub use gate::{gate, gate_anew, host_networks};
pub use host::host_table;

use crate::nft::{concat, is, log, number, payload, text};
use crate::resolver::retry::LOOKED_AT;

/// The set of the sandboxes' own addresses, each with the interface that it comes from.
const OWN: (&str, [SetType; 2]) = ("own4", [SetType::Ifname, SetType::Ipv4Addr]);
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
/// Headers of IPv4 and TCP with the most options, and as many bytes as are looked at.
const ACK_BYTES: u32 = 60 + 60 + LOOKED_AT as u32;
/// Headers of IPv4 and TCP, no data beyond.
const LOG_BYTES: u32 = 80;
/// The port on which clients say first whom they want: TLS.
pub const TLS: u16 = 443;
/// The host's end.
pub const HOST_LINK: &str = "rcc0";

/// Source ports that leave: services that trust those below 1024 must not trust a
/// sandbox (H9).
const SOURCE_PORTS: (u32, u32) = (1024, 65_535);
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

/// The chain of attachment `id` that a map leads to.
type ChainOf = fn(u32) -> String;

/// Where packets are sent on to a sandbox's own chains: chain, map, and what the
/// map leads to.
const DISPATCH: [(&str, &str, ChainOf); 3] = [
    ("c_dispatch", "to_rules", chain_name),
    ("c_questions", "to_questions", questions_chain),
    ("c_hellos", "to_hellos", hellos_chain),
];

/// An element of [`OWN`].
fn own(id: u32, address: Ipv4Addr) -> Expression<'static> {
    concat(vec![text(link_name(id)), text(address.to_string())])
}

fn flags(words: &[&str]) -> Expression<'static> {
    let words = words.iter().map(|word| text(*word)).collect();
    Expression::BinaryOperation(Box::new(BinaryOperation::OR(words)))
}

fn report(reason: BlockedReason) -> Statement<'static> {
    log(LOG_GROUP, reason.as_str(), LOG_BYTES)
}

fn tls() -> Statement<'static> {
    is(payload("tcp", "dport"), number(u32::from(TLS)))
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
