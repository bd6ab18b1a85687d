//! The rules of a sandbox in the kernel's own form, as nft would write them: what is
//! looked at is put into registers, and then compared or looked up.
//! Layout: linux/netfilter/nf_tables.h.
//!
//! Only what those rules are made of. Of anything else nothing is written, and nft
//! writes the rule.

use std::net::Ipv4Addr;

use nftables::expr::{
    BinaryOperation, CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField,
};
use nftables::stmt::{CTCount, Counter, Limit, Log, Mangle, Match, Operator, Statement};

use crate::nfnetlink::{attribute, nested};

// enum nft_list_attributes, nft_expr_attributes, nft_data_attributes, nft_verdict_attributes
const ELEMENT: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
const VALUE: u16 = 1;
const VERDICT: u16 = 2;
const CODE: u16 = 1;
const CHAIN: u16 = 2;
// NF_DROP, NF_ACCEPT; enum nft_verdicts
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
/// `NFT_REG32_00`, the first of the registers of four bytes.
const REGISTER: u32 = 8;
/// `NFT_REG_VERDICT`.
const REGISTER_VERDICT: u32 = 0;
// enum nft_payload_bases
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
// enum nft_meta_keys
const META_MARK: u32 = 3;
const META_OUT_NAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
// enum nft_ct_keys
const CT_STATE: u32 = 0;
const CT_DIRECTION: u32 = 1;
const CT_MARK: u32 = 3;
// enum nft_cmp_ops
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// `IFNAMSIZ`.
const INTERFACE_LENGTH: usize = 16;

/// The expressions of a rule; `None` when it has something that is not written here.
pub fn of_rule(statements: &[Statement<'_>]) -> Option<Vec<u8>> {
    let mut rule = Rule::default();
    for statement in statements {
        rule.statement(statement)?;
    }
    Some(rule.out)
}

/// Data of an expression or an element that sends a packet on to a chain.
pub fn goto(chain: &str) -> Vec<u8> {
    verdict(GOTO, Some(chain))
}

/// Data of an expression or an element.
pub fn value(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    attribute(&mut out, VALUE, bytes);
    out
}

/// A text as the kernel reads it.
pub fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// The name of an interface, all of it, as registers and keys hold it.
pub fn interface(name: &str) -> Option<[u8; INTERFACE_LENGTH]> {
    // With a star at its end it would be the beginning of a name.
    if name.is_empty() || name.len() >= INTERFACE_LENGTH || name.contains('*') {
        return None;
    }
    let mut bytes = [0; INTERFACE_LENGTH];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Some(bytes)
}

fn verdict(code: i32, chain: Option<&str>) -> Vec<u8> {
    let mut verdict = Vec::new();
    attribute(&mut verdict, CODE, &code.to_be_bytes());
    if let Some(chain) = chain {
        attribute(&mut verdict, CHAIN, &text(chain));
    }
    let mut out = Vec::new();
    attribute(&mut out, nested(VERDICT), &verdict);
    out
}

#[derive(Default)]
struct Rule {
    out: Vec<u8>,
    /// What the rule has asked already: whether the packet is one of IPv4, one of TCP.
    is_ipv4: bool,
    is_tcp: bool,
}

impl Rule {
    fn statement(&mut self, statement: &Statement<'_>) -> Option<()> {
        match statement {
            Statement::Accept(None) => self.verdict(ACCEPT, None),
            Statement::Drop(None) => self.verdict(DROP, None),
            Statement::Jump(to) => self.verdict(JUMP, Some(&to.target)),
            Statement::Goto(to) => self.verdict(GOTO, Some(&to.target)),
            Statement::Counter(Counter::Anonymous(None)) => self.push("counter", &[]),
            Statement::Limit(limit) => self.limit(limit)?,
            Statement::CTCount(CTCount { val: Expression::Number(count), inv: Some(true) }) => {
                // NFTA_CONNLIMIT_COUNT, NFTA_CONNLIMIT_FLAGS; NFT_CONNLIMIT_F_INV
                self.push("connlimit", &[(1, &be(*count)), (2, &be(1))]);
            }
            Statement::Log(Some(log)) => self.log(log)?,
            Statement::Mangle(mangle) => self.mangle(mangle)?,
            Statement::Match(one) => self.compare(one)?,
            _ => return None,
        }
        Some(())
    }

    fn push(&mut self, name: &str, attributes: &[(u16, &[u8])]) {
        let mut data = Vec::new();
        for (kind, value) in attributes {
            attribute(&mut data, *kind, value);
        }
        let mut expression = Vec::new();
        attribute(&mut expression, NAME, &text(name));
        attribute(&mut expression, nested(DATA), &data);
        attribute(&mut self.out, nested(ELEMENT), &expression);
    }

    /// NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA.
    fn immediate(&mut self, register: u32, data: &[u8]) {
        self.push("immediate", &[(1, &be(register)), (nested(2), data)]);
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        self.immediate(REGISTER_VERDICT, &verdict(code, chain));
    }

    fn limit(&mut self, limit: &Limit<'_>) -> Option<()> {
        let Limit { rate, rate_unit: None, per: Some(per), burst, burst_unit: None, inv } = limit
        else {
            return None;
        };
        if per != "second" {
            return None;
        }
        let (rate, seconds) = (u64::from(*rate).to_be_bytes(), 1u64.to_be_bytes());
        // NFTA_LIMIT_RATE, _UNIT, _BURST, _TYPE, _FLAGS; NFT_LIMIT_PKTS, NFT_LIMIT_F_INV
        let (burst, packets, beyond) = (be((*burst)?), be(0), be(u32::from(*inv == Some(true))));
        let parts: [(u16, &[u8]); 5] =
            [(1, &rate), (2, &seconds), (3, &burst), (4, &packets), (5, &beyond)];
        self.push("limit", &parts);
        Some(())
    }

    fn log(&mut self, log: &Log<'_>) -> Option<()> {
        let Log {
            prefix: Some(prefix),
            group: Some(group),
            snaplen: Some(length),
            queue_threshold: None,
            level: None,
            flags: None,
        } = log
        else {
            return None;
        };
        let group = u16::try_from(*group).ok()?.to_be_bytes();
        // NFTA_LOG_GROUP, _PREFIX, _SNAPLEN
        self.push("log", &[(1, &group), (2, &text(prefix)), (3, &be(*length))]);
        Some(())
    }

    fn mangle(&mut self, mangle: &Mangle<'_>) -> Option<()> {
        let field = Field::of(&mangle.key)?;
        let data = value(&field.value(&mangle.value)?);
        if field.is_ipv4() {
            self.ask_ipv4();
        }
        self.immediate(REGISTER, &data);
        let register = be(REGISTER);
        match (field, field.source()) {
            // NFTA_CT_KEY, NFTA_CT_SREG
            (Field::FlowMark, Source::Ct(key)) => {
                self.push("ct", &[(2, &be(key)), (4, &register)]);
            }
            // NFTA_META_KEY, NFTA_META_SREG
            (Field::PacketMark, Source::Meta(key)) => {
                self.push("meta", &[(2, &be(key)), (3, &register)]);
            }
            // NFTA_PAYLOAD_SREG, _BASE, _OFFSET, _LEN, _CSUM_TYPE, _CSUM_OFFSET;
            // NFT_PAYLOAD_CSUM_INET, and where IPv4 has its sum
            (Field::PacketId, Source::Payload(base, offset)) => {
                let (base, offset, length) = (be(base), be(offset), be(field.length()));
                let parts: [(u16, &[u8]); 6] = [
                    (5, &register),
                    (2, &base),
                    (3, &offset),
                    (4, &length),
                    (6, &be(1)),
                    (7, &be(10)),
                ];
                self.push("payload", &parts);
            }
            _ => return None,
        }
        Some(())
    }

    fn compare(&mut self, one: &Match<'_>) -> Option<()> {
        if let Expression::String(name) = &one.right
            && let Some(set) = name.strip_prefix('@')
        {
            return self.look_up(&one.left, set, &one.op);
        }
        if let Expression::BinaryOperation(operation) = &one.left {
            let BinaryOperation::AND(left, mask) = &**operation else { return None };
            let field = Field::of(left)?;
            let (mask, wanted) = (field.value(mask)?, field.value(&one.right)?);
            self.load(field, REGISTER);
            self.mask(&mask);
            return self.is(&one.op, &wanted);
        }
        let field = Field::of(&one.left)?;
        let wanted = field.value(&one.right)?;
        self.load(field, REGISTER);
        if one.op == Operator::IN {
            self.mask(&wanted);
            return self.is(&Operator::NEQ, &vec![0; wanted.len()]);
        }
        self.is(&one.op, &wanted)
    }

    /// NFTA_LOOKUP_SET, NFTA_LOOKUP_SREG, NFTA_LOOKUP_FLAGS; NFT_LOOKUP_F_INV.
    fn look_up(&mut self, key: &Expression<'_>, set: &str, op: &Operator) -> Option<()> {
        let fields = match key {
            Expression::Named(NamedExpression::Concat(parts)) => {
                parts.iter().map(Field::of).collect::<Option<Vec<_>>>()?
            }
            one => vec![Field::of(one)?],
        };
        let mut register = REGISTER;
        for field in fields {
            self.load(field, register);
            register += field.length().div_ceil(4);
        }
        let (set, register, inverted) = (text(set), be(REGISTER), be(1));
        match op {
            Operator::EQ => self.push("lookup", &[(1, &set), (2, &register)]),
            Operator::NEQ => self.push("lookup", &[(1, &set), (2, &register), (5, &inverted)]),
            _ => return None,
        }
        Some(())
    }

    /// NFTA_CMP_SREG, NFTA_CMP_OP, NFTA_CMP_DATA.
    fn is(&mut self, op: &Operator, wanted: &[u8]) -> Option<()> {
        let op = match op {
            Operator::EQ => EQUAL,
            Operator::NEQ => NOT_EQUAL,
            _ => return None,
        };
        self.push("cmp", &[(1, &be(REGISTER)), (2, &be(op)), (nested(3), &value(wanted))]);
        Some(())
    }

    /// NFTA_BITWISE_SREG, _DREG, _LEN, _MASK, _XOR.
    fn mask(&mut self, mask: &[u8]) {
        let (register, length) = (be(REGISTER), be(u32::try_from(mask.len()).unwrap_or(0)));
        let (mask, nothing) = (value(mask), value(&vec![0; mask.len()]));
        let parts: [(u16, &[u8]); 5] = [
            (1, &register),
            (2, &register),
            (3, &length),
            (nested(4), &mask),
            (nested(5), &nothing),
        ];
        self.push("bitwise", &parts);
    }

    /// Puts a field into a register, after the question whether the packet has one.
    fn load(&mut self, field: Field, register: u32) {
        if field.is_ipv4() {
            self.ask_ipv4();
        }
        if field.is_tcp() && !self.is_tcp {
            self.is_tcp = true;
            self.ask(META_L4PROTO, nix::libc::IPPROTO_TCP);
        }
        let register = be(register);
        match field.source() {
            // NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN
            Source::Payload(base, offset) => {
                let (base, offset, length) = (be(base), be(offset), be(field.length()));
                self.push("payload", &[(1, &register), (2, &base), (3, &offset), (4, &length)]);
            }
            // NFTA_META_DREG, NFTA_META_KEY
            Source::Meta(key) => self.push("meta", &[(1, &register), (2, &be(key))]),
            // NFTA_CT_DREG, NFTA_CT_KEY
            Source::Ct(key) => self.push("ct", &[(1, &register), (2, &be(key))]),
        }
    }

    fn ask_ipv4(&mut self) {
        if !self.is_ipv4 {
            self.is_ipv4 = true;
            self.ask(META_NFPROTO, nix::libc::NFPROTO_IPV4);
        }
    }

    fn ask(&mut self, key: u32, number: i32) {
        self.push("meta", &[(1, &be(REGISTER)), (2, &be(key))]);
        let number = value(&[number.to_le_bytes()[0]]);
        self.push("cmp", &[(1, &be(REGISTER)), (2, &be(EQUAL)), (nested(3), &number)]);
    }
}

/// Where a field is found.
enum Source {
    /// From that base, so many bytes on.
    Payload(u32, u32),
    Meta(u32),
    Ct(u32),
}

/// What the rules of a sandbox look at and write.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Field {
    Destination,
    PacketId,
    TcpPort,
    TcpFlags,
    Port,
    Protocol,
    OutInterface,
    PacketMark,
    State,
    Direction,
    FlowMark,
}

impl Field {
    fn of(expression: &Expression<'_>) -> Option<Self> {
        let Expression::Named(named) = expression else { return None };
        Some(match named {
            NamedExpression::Payload(Payload::PayloadField(PayloadField { protocol, field })) => {
                match (protocol.as_ref(), field.as_ref()) {
                    ("ip", "daddr") => Self::Destination,
                    ("ip", "id") => Self::PacketId,
                    ("tcp", "dport") => Self::TcpPort,
                    ("tcp", "flags") => Self::TcpFlags,
                    ("th", "dport") => Self::Port,
                    _ => return None,
                }
            }
            NamedExpression::Meta(Meta { key }) => match key {
                MetaKey::L4proto => Self::Protocol,
                MetaKey::Oifname => Self::OutInterface,
                MetaKey::Mark => Self::PacketMark,
                _ => return None,
            },
            NamedExpression::CT(CT { key, family: None, dir: None }) => match key.as_ref() {
                "state" => Self::State,
                "direction" => Self::Direction,
                "mark" => Self::FlowMark,
                _ => return None,
            },
            _ => return None,
        })
    }

    fn is_ipv4(self) -> bool {
        matches!(self, Self::Destination | Self::PacketId)
    }

    fn is_tcp(self) -> bool {
        matches!(self, Self::TcpPort | Self::TcpFlags)
    }

    fn source(self) -> Source {
        match self {
            Self::Destination => Source::Payload(NETWORK, 16),
            Self::PacketId => Source::Payload(NETWORK, 4),
            Self::TcpPort | Self::Port => Source::Payload(TRANSPORT, 2),
            Self::TcpFlags => Source::Payload(TRANSPORT, 13),
            Self::Protocol => Source::Meta(META_L4PROTO),
            Self::OutInterface => Source::Meta(META_OUT_NAME),
            Self::PacketMark => Source::Meta(META_MARK),
            Self::State => Source::Ct(CT_STATE),
            Self::Direction => Source::Ct(CT_DIRECTION),
            Self::FlowMark => Source::Ct(CT_MARK),
        }
    }

    /// In bytes.
    fn length(self) -> u32 {
        match self {
            Self::TcpFlags | Self::Protocol | Self::Direction => 1,
            Self::PacketId | Self::TcpPort | Self::Port => 2,
            Self::Destination | Self::PacketMark | Self::State | Self::FlowMark => 4,
            Self::OutInterface => 16,
        }
    }

    /// A number or a word, or several words at once, as this field has it.
    fn value(self, expression: &Expression<'_>) -> Option<Vec<u8>> {
        match expression {
            Expression::Number(number) => self.number(*number),
            Expression::String(word) => self.word(word),
            Expression::List(words) => self.flags(words),
            Expression::BinaryOperation(operation) => match &**operation {
                BinaryOperation::OR(words) => self.flags(words),
                _ => None,
            },
            _ => None,
        }
    }

    fn number(self, number: u32) -> Option<Vec<u8>> {
        match self {
            Self::PacketId | Self::TcpPort | Self::Port => {
                Some(u16::try_from(number).ok()?.to_be_bytes().to_vec())
            }
            // As this processor has it.
            Self::PacketMark | Self::FlowMark => Some(number.to_ne_bytes().to_vec()),
            _ => None,
        }
    }

    fn word(self, word: &str) -> Option<Vec<u8>> {
        Some(match (self, word) {
            (Self::Destination, _) => word.parse::<Ipv4Addr>().ok()?.octets().to_vec(),
            (Self::OutInterface, _) => interface(word)?.to_vec(),
            (Self::State, "invalid") => 1u32.to_ne_bytes().to_vec(),
            (Self::State, "established") => 2u32.to_ne_bytes().to_vec(),
            (Self::State, "related") => 4u32.to_ne_bytes().to_vec(),
            (Self::State, "new") => 8u32.to_ne_bytes().to_vec(),
            (Self::Protocol, "icmp") => vec![1],
            (Self::Direction, "original") => vec![0],
            (Self::Direction, "reply") => vec![1],
            (Self::TcpFlags, "syn") => vec![2],
            (Self::TcpFlags, "rst") => vec![4],
            (Self::TcpFlags, "ack") => vec![16],
            _ => return None,
        })
    }

    fn flags(self, words: &[Expression<'_>]) -> Option<Vec<u8>> {
        if !matches!(self, Self::State | Self::TcpFlags) {
            return None;
        }
        let mut all = vec![0; self.length() as usize];
        for word in words {
            let Expression::String(word) = word else { return None };
            for (all, one) in all.iter_mut().zip(self.word(word)?) {
                *all |= one;
            }
        }
        Some(all)
    }
}

fn be(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}
