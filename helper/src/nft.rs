//! Writing to nf_tables: typed statements of the `nftables` crate, one atomic
//! transaction at a time. Nothing here reads rules back: what stands in the
//! kernel is replaced whole, never matched and patched.
//!
//! The program `nft` writes them; those of a single sandbox go to the kernel
//! directly, which is the same (a test holds both against each other) and quicker.

mod expressions;
mod messages;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Write;
use std::process::{Command as Program, Stdio};

use nftables::expr::{
    BinaryOperation, CT, Elem, Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression,
    Payload, PayloadField, Prefix, RT, RTKey, Range, SetItem, TcpOption, Verdict,
};
use nftables::schema::{
    Chain, Element, FlushObject, NfCmd, NfListObject, Rule, Set, SetFlag, SetType, SetTypeValue,
    Table,
};
use nftables::stmt::{
    CTCount, Counter, JumpTarget, Limit, Log, Mangle, Match, NAT, Operator, Reject, RejectType,
    Statement, VerdictMap,
};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook, RejectCode};
use serde_json::{Value, json};
use thiserror::Error;
use tracing::warn;

/// Everything of ours, in the gate and on the host, is in `table inet rcc`.
pub const TABLE: &str = "rcc";

/// The program, with its full path: a root service asks no `PATH`.
const NFT: &str = "/usr/sbin/nft";

/// A transaction that the kernel or the program refused; nothing of it holds.
#[derive(Debug, Error)]
pub enum NftError {
    /// The program could not be run.
    #[error("cannot run {NFT}: {0}")]
    Run(#[from] std::io::Error),
    /// The transaction could not be written as JSON.
    #[error("cannot write the nftables transaction: {0}")]
    Encode(#[from] serde_json::Error),
    /// The program said no.
    #[error("nftables refused the transaction: {0}")]
    Refused(String),
}

/// One atomic transaction.
#[derive(Default)]
pub struct Transaction {
    commands: Vec<Command>,
    /// What the keys of sets are that stand already.
    standing: Vec<(String, Vec<SetType>)>,
}

enum Command {
    Typed(Box<NfCmd<'static>>),
    /// What the crate's schema has no type for.
    Json(Value),
}

impl Transaction {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    fn push(&mut self, command: NfCmd<'static>) {
        self.commands.push(Command::Typed(Box::new(command)));
    }

    fn add(&mut self, object: NfListObject<'static>) {
        self.push(NfCmd::Add(object));
    }

    fn delete(&mut self, object: NfListObject<'static>) {
        self.push(NfCmd::Delete(object));
    }

    /// Makes the table when it is not there.
    pub fn table(&mut self) {
        self.add(NfListObject::Table(table()));
    }

    /// Removes the table with all that is in it; it may be missing.
    pub fn remove_table(&mut self) {
        self.table();
        self.delete(NfListObject::Table(table()));
    }

    /// Makes an empty regular chain, or empties the one that is there.
    pub fn chain(&mut self, name: &str) {
        self.add(NfListObject::Chain(chain(name)));
        self.flush_chain(name);
    }

    /// Makes an empty base chain, or empties the one that is there.
    pub fn base_chain(
        &mut self,
        name: &str,
        kind: NfChainType,
        hook: NfHook,
        priority: i32,
        policy: NfChainPolicy,
    ) {
        self.add(NfListObject::Chain(Chain {
            _type: Some(kind),
            hook: Some(hook),
            prio: Some(priority),
            policy: Some(policy),
            ..chain(name)
        }));
        self.flush_chain(name);
    }

    fn flush_chain(&mut self, name: &str) {
        self.push(NfCmd::Flush(FlushObject::Chain(chain(name))));
    }

    /// Removes a chain that nothing jumps to any more.
    pub fn remove_chain(&mut self, name: &str) {
        self.delete(NfListObject::Chain(chain(name)));
    }

    /// Appends a rule.
    pub fn rule(&mut self, chain: &str, statements: Vec<Statement<'static>>) {
        self.add(NfListObject::Rule(rule(chain, statements)));
    }

    /// Makes a set when it is not there.
    pub fn set(&mut self, name: &str, types: &[SetType], flags: &[SetFlag]) {
        let set_type = match types {
            [one] => SetTypeValue::Single(*one),
            many => SetTypeValue::Concatenated(Cow::Owned(many.to_vec())),
        };
        self.add(NfListObject::Set(Box::new(Set {
            set_type,
            flags: (!flags.is_empty()).then(|| flags.iter().cloned().collect()),
            ..set(name)
        })));
    }

    /// Makes a map from interface names to verdicts when it is not there. The
    /// crate's schema has no type for its values.
    pub fn verdict_map(&mut self, name: &str) {
        self.commands.push(Command::Json(json!({ "add": { "map": {
            "family": NfFamily::INet, "table": TABLE, "name": name,
            "type": SetType::Ifname, "map": "verdict",
        } } })));
    }

    /// Takes all elements out of a map.
    pub fn flush_map(&mut self, name: &str) {
        self.commands.push(Command::Json(json!({ "flush": { "map": {
            "family": NfFamily::INet, "table": TABLE, "name": name,
        } } })));
    }

    /// Takes all elements out of a set.
    pub fn flush_set(&mut self, name: &str) {
        self.push(NfCmd::Flush(FlushObject::Set(Box::new(set(name)))));
    }

    /// Removes a set that no rule names any more.
    pub fn remove_set(&mut self, name: &str) {
        self.delete(NfListObject::Set(Box::new(set(name))));
    }

    /// Says what the keys of a set are that stands already.
    pub fn stands(&mut self, name: &str, types: &[SetType]) {
        self.standing.push((name.to_owned(), types.to_vec()));
    }

    /// Puts elements into a set. An empty list is nothing to do.
    pub fn elements(&mut self, set: &str, elements: Vec<Expression<'static>>) {
        if !elements.is_empty() {
            self.add(NfListObject::Element(element(set, elements)));
        }
    }

    /// Takes elements out; each must be there.
    pub fn remove_elements(&mut self, set: &str, elements: Vec<Expression<'static>>) {
        if !elements.is_empty() {
            self.delete(NfListObject::Element(element(set, elements)));
        }
    }

    /// Hands the transaction to the kernel, in the network namespace of the
    /// calling thread. Either all of it holds afterwards or nothing.
    pub fn commit(self) -> Result<(), NftError> {
        if self.is_empty() {
            return Ok(());
        }
        if let Some(batch) = messages::batch(&self) {
            match batch.commit() {
                Ok(()) => return Ok(()),
                // Nothing of it holds. The program tries the same, and has words for it.
                Err(error) => warn!(%error, "the kernel refused a transaction; nft tries it"),
            }
        }
        self.commit_by_program()
    }

    fn commit_by_program(self) -> Result<(), NftError> {
        let commands = self.commands.into_iter().map(Command::into_json);
        let commands = commands.collect::<Result<Vec<Value>, _>>()?;
        let json = serde_json::to_vec(&json!({ "nftables": commands }))?;
        let mut nft = Program::new(NFT);
        nft.args(["-j", "-f", "-"]).env_clear().current_dir("/");
        nft.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = nft.spawn()?;
        // nft reads all of its input before it writes a word, so this cannot deadlock.
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(&json));
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(NftError::Refused(text.lines().take(6).collect::<Vec<_>>().join(" ")));
        }
        Ok(written?)
    }
}

impl Command {
    fn into_json(self) -> serde_json::Result<Value> {
        match self {
            Self::Json(command) => Ok(command),
            Self::Typed(command) => {
                let mut command = serde_json::to_value(command)?;
                write_bare_words_as_objects(&mut command);
                Ok(command)
            }
        }
    }
}

/// The crate writes a statement without arguments (`notrack`) as a bare word,
/// and nft takes only objects in the list of a rule's statements.
fn write_bare_words_as_objects(command: &mut Value) {
    let statements = command.pointer_mut("/add/rule/expr").and_then(Value::as_array_mut);
    for statement in statements.into_iter().flatten() {
        if let Some(word) = statement.as_str() {
            *statement = json!({ word: null });
        }
    }
}

fn table() -> Table<'static> {
    Table { family: NfFamily::INet, name: TABLE.into(), handle: None }
}

fn chain(name: &str) -> Chain<'static> {
    Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.to_owned().into(),
        ..Chain::default()
    }
}

fn rule(chain: &str, statements: Vec<Statement<'static>>) -> Rule<'static> {
    Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.to_owned().into(),
        expr: statements.into(),
        ..Rule::default()
    }
}

fn set(name: &str) -> Set<'static> {
    Set {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.to_owned().into(),
        ..Set::default()
    }
}

fn element(set: &str, elements: Vec<Expression<'static>>) -> Element<'static> {
    Element {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: set.to_owned().into(),
        elem: elements.into(),
    }
}

// Expressions.

/// A word, an address, an interface name, or `@set`.
pub fn text(text: impl Into<String>) -> Expression<'static> {
    Expression::String(Cow::Owned(text.into()))
}

/// A number.
pub fn number(number: u32) -> Expression<'static> {
    Expression::Number(number)
}

fn named(expression: NamedExpression<'static>) -> Expression<'static> {
    Expression::Named(expression)
}

/// A header field.
pub fn payload(protocol: &'static str, field: &'static str) -> Expression<'static> {
    named(NamedExpression::Payload(Payload::PayloadField(PayloadField {
        protocol: protocol.into(),
        field: field.into(),
    })))
}

/// Meta data of the packet.
pub fn meta(key: MetaKey) -> Expression<'static> {
    named(NamedExpression::Meta(Meta { key }))
}

/// Conntrack data of the packet.
pub fn ct(key: &'static str) -> Expression<'static> {
    named(NamedExpression::CT(CT { key: key.into(), family: None, dir: None }))
}

/// Several keys as one.
pub fn concat(parts: Vec<Expression<'static>>) -> Expression<'static> {
    named(NamedExpression::Concat(parts))
}

/// An anonymous set of words.
pub fn any_of(items: &[&str]) -> Expression<'static> {
    named(NamedExpression::Set(items.iter().map(|item| SetItem::Element(text(*item))).collect()))
}

/// `address/length`.
pub fn prefix(net: ipnet::IpNet) -> Expression<'static> {
    if net.prefix_len() == net.max_prefix_len() {
        return text(net.addr().to_string());
    }
    named(NamedExpression::Prefix(Prefix {
        addr: Box::new(text(net.network().to_string())),
        len: u32::from(net.prefix_len()),
    }))
}

/// A set element that the kernel takes out after so many seconds.
pub fn timed(value: Expression<'static>, seconds: u32) -> Expression<'static> {
    named(NamedExpression::Elem(Elem {
        val: Box::new(value),
        timeout: Some(seconds),
        ..Elem::default()
    }))
}

/// Where the routing table of this namespace would send the destination.
pub fn fib_destination_type() -> Expression<'static> {
    named(NamedExpression::Fib(Fib {
        result: FibResult::Type,
        flags: HashSet::from([FibFlag::Daddr]),
    }))
}

/// `left & right`.
pub fn bits(left: Expression<'static>, right: Expression<'static>) -> Expression<'static> {
    Expression::BinaryOperation(Box::new(BinaryOperation::AND(left, right)))
}

// Statements.

fn compare(
    op: Operator,
    left: Expression<'static>,
    right: Expression<'static>,
) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

/// `left == right`, or membership when `right` is a set.
pub fn is(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    compare(Operator::EQ, left, right)
}

/// `left != right`.
pub fn is_not(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    compare(Operator::NEQ, left, right)
}

/// `left in right`, for flags.
pub fn has(left: Expression<'static>, right: &[&str]) -> Statement<'static> {
    let right = match right {
        [one] => text(*one),
        many => Expression::List(many.iter().map(|word| text(*word)).collect()),
    };
    compare(Operator::IN, left, right)
}

/// Arrived by this interface; `s*` means any of ours.
pub fn from(interface: &'static str) -> Statement<'static> {
    is(meta(MetaKey::Iifname), text(interface))
}

/// Leaves by this interface.
pub fn to(interface: &'static str) -> Statement<'static> {
    is(meta(MetaKey::Oifname), text(interface))
}

/// Verdict.
pub fn accept() -> Statement<'static> {
    Statement::Accept(None)
}

/// Verdict.
pub fn discard() -> Statement<'static> {
    Statement::Drop(None)
}

/// Counts packets.
pub fn counter() -> Statement<'static> {
    Statement::Counter(Counter::Anonymous(None))
}

/// Calls a chain.
pub fn jump(chain: &str) -> Statement<'static> {
    Statement::Jump(JumpTarget { target: chain.to_owned().into() })
}

/// Hands over to a chain.
pub fn goto(chain: &str) -> Statement<'static> {
    Statement::Goto(JumpTarget { target: chain.to_owned().into() })
}

/// At most so many a second, more for a moment; beyond it the rule does not match.
pub fn at_most(per_second: u32, burst: u32) -> Statement<'static> {
    Statement::Limit(limit(per_second, burst, None))
}

/// The rule matches only beyond so many a second.
pub fn beyond(per_second: u32, burst: u32) -> Statement<'static> {
    Statement::Limit(limit(per_second, burst, Some(true)))
}

fn limit(rate: u32, burst: u32, inv: Option<bool>) -> Limit<'static> {
    Limit {
        rate,
        rate_unit: None,
        per: Some("second".into()),
        burst: Some(burst),
        burst_unit: None,
        inv,
    }
}

/// Matches while more than so many flows that passed this rule are alive.
pub fn flows_over(count: u32) -> Statement<'static> {
    Statement::CTCount(CTCount { val: number(count), inv: Some(true) })
}

/// Sends the first bytes of the packet, so many, to listeners of the NFLOG group, with a
/// word unless it is empty.
pub fn log(group: u32, prefix: &str, bytes: u32) -> Statement<'static> {
    Statement::Log(Some(Log {
        prefix: (!prefix.is_empty()).then(|| prefix.to_owned().into()),
        group: Some(group),
        snaplen: Some(bytes),
        queue_threshold: None,
        level: None,
        flags: None,
    }))
}

/// Writes the mark of the flow.
pub fn set_mark(mark: u32) -> Statement<'static> {
    Statement::Mangle(Mangle { key: ct("mark"), value: number(mark) })
}

/// Writes the mark of the packet.
pub fn set_packet_mark(mark: u32) -> Statement<'static> {
    Statement::Mangle(Mangle { key: meta(MetaKey::Mark), value: number(mark) })
}

/// Writes the number by which IP tells packets apart; the sums are the kernel's.
pub fn set_packet_id(id: u16) -> Statement<'static> {
    Statement::Mangle(Mangle { key: payload("ip", "id"), value: number(u32::from(id)) })
}

/// Lowers the segment size of a handshake to what the route carries.
pub fn clamp_segment_size() -> Statement<'static> {
    Statement::Mangle(Mangle {
        key: named(NamedExpression::TcpOption(TcpOption {
            name: "maxseg".into(),
            field: Some("size".into()),
        })),
        value: named(NamedExpression::RT(RT { key: RTKey::MTU, family: None })),
    })
}

/// Ends a TCP connection attempt at once.
pub fn reset() -> Statement<'static> {
    Statement::Reject(Some(Reject::new(Some(RejectType::TCPReset), None)))
}

/// Answers "administratively prohibited".
pub fn prohibit() -> Statement<'static> {
    Statement::Reject(Some(Reject::new(Some(RejectType::ICMPX), Some(RejectCode::AdminProhibited))))
}

/// Leaves the packet out of conntrack.
pub fn untracked() -> Statement<'static> {
    Statement::Notrack
}

fn range((low, high): (u32, u32)) -> Expression<'static> {
    Expression::Range(Box::new(Range { range: [number(low), number(high)] }))
}

/// Hides the source behind the outgoing interface; `ports` for TCP and UDP.
pub fn masquerade(ports: Option<(u32, u32)>) -> Statement<'static> {
    let port = ports.map(range);
    Statement::Masquerade(port.is_some().then_some(NAT {
        addr: None,
        family: None,
        port,
        flags: None,
    }))
}

/// Gives the packet another source address, and a port out of these.
pub fn source(address: std::net::Ipv4Addr, ports: (u32, u32)) -> Statement<'static> {
    Statement::SNAT(Some(NAT {
        addr: Some(text(address.to_string())),
        family: Some(nftables::stmt::NATFamily::IP),
        port: Some(range(ports)),
        flags: None,
    }))
}

/// Goes on where the map says for the interface that the packet came from.
pub fn dispatch(map: &str) -> Statement<'static> {
    Statement::VerdictMap(VerdictMap { key: meta(MetaKey::Iifname), data: text(format!("@{map}")) })
}

/// An element of such a map.
pub fn to_chain(interface: &str, chain: &str) -> Expression<'static> {
    let goto = Verdict::Goto(JumpTarget { target: chain.to_owned().into() });
    Expression::List(vec![text(interface), Expression::Verdict(goto)])
}
