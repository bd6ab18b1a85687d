//! Transactions for the kernel without the program: what an attach, a detach and a
//! change of rules are made of. The program reads the names of all chains and sets
//! first, which grow with the sandboxes; to say what shall stand none is needed.
//! Layout: linux/netfilter/nf_tables.h.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use nftables::expr::{Elem, Expression, NamedExpression, Prefix, Verdict};
use nftables::schema::{
    Chain, Element, FlushObject, NfCmd, NfListObject, Rule, Set, SetFlag, SetType, SetTypeValue,
};

use super::expressions::{self, goto, interface, text, value};
use super::{Command, TABLE, Transaction};
use crate::batch::{APPEND, Batch, CREATE};
use crate::nfnetlink::{attribute, nested};

// enum nf_tables_msg_types
const NEW_CHAIN: u16 = 3;
const REMOVE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const REMOVE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const REMOVE_SET: u16 = 11;
const NEW_ELEMENTS: u16 = 12;
const REMOVE_ELEMENTS: u16 = 14;
/// `NFTA_*_TABLE`: the first attribute of each message.
const OF_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
// enum nft_rule_attributes
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
// enum nft_set_attributes, nft_set_desc_attributes, nft_set_field_attributes
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_DESCRIPTION: u16 = 9;
const SET_NUMBER: u16 = 10;
const FIELDS: u16 = 2;
const FIELD_LENGTH: u16 = 1;
// enum nft_set_flags
const INTERVAL: u32 = 4;
const TIMEOUT: u32 = 0x10;
const CONCATENATION: u32 = 0x80;
// enum nft_set_elem_list_attributes, nft_list_attributes, nft_set_elem_attributes
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const ONE: u16 = 1;
const KEY: u16 = 1;
const DATA: u16 = 2;
const LIFE: u16 = 4;
const KEY_END: u16 = 10;
/// Elements of one message: an attribute has 64 KB at most, an element 60 bytes.
const MOST_ELEMENTS: usize = 500;
/// Bytes of one transaction: the kernel takes some 200 KB at once.
const MOST: usize = 180 << 10;

/// The transaction; `None` when it has something that is not written here, or too much.
pub fn batch(transaction: &Transaction) -> Option<Batch> {
    let sets = transaction
        .standing
        .iter()
        .map(|(name, types)| (name.clone(), Kind { types: types.clone(), interval: false }));
    let mut writer = Writer { batch: Batch::default(), sets: sets.collect(), number: 0 };
    for command in &transaction.commands {
        let Command::Typed(command) = command else { return None };
        writer.command(command)?;
        if writer.batch.size() > MOST {
            return None;
        }
    }
    Some(writer.batch)
}

/// What the keys of a set are.
struct Kind {
    types: Vec<SetType>,
    interval: bool,
}

struct Writer {
    batch: Batch,
    /// Sets of which the transaction says what they are.
    sets: HashMap<String, Kind>,
    /// Of the last set that was made.
    number: u32,
}

impl Writer {
    fn command(&mut self, command: &NfCmd<'static>) -> Option<()> {
        match command {
            NfCmd::Add(NfListObject::Chain(chain)) => {
                self.push(NEW_CHAIN, CREATE, &[(CHAIN_NAME, &text(bare_chain(chain)?))]);
            }
            NfCmd::Flush(FlushObject::Chain(chain)) => {
                self.push(REMOVE_RULE, 0, &[(RULE_CHAIN, &text(bare_chain(chain)?))]);
            }
            NfCmd::Delete(NfListObject::Chain(chain)) => {
                self.push(REMOVE_CHAIN, 0, &[(CHAIN_NAME, &text(bare_chain(chain)?))]);
            }
            NfCmd::Add(NfListObject::Rule(rule)) => self.rule(rule)?,
            NfCmd::Add(NfListObject::Set(set)) => self.set(set)?,
            NfCmd::Flush(FlushObject::Set(set)) => {
                self.push(REMOVE_ELEMENTS, 0, &[(ELEMENTS_SET, &text(bare_set(set)?))]);
            }
            NfCmd::Delete(NfListObject::Set(set)) => {
                self.push(REMOVE_SET, 0, &[(SET_NAME, &text(bare_set(set)?))]);
            }
            NfCmd::Add(NfListObject::Element(elements)) => self.elements(elements, true)?,
            NfCmd::Delete(NfListObject::Element(elements)) => self.elements(elements, false)?,
            _ => return None,
        }
        Some(())
    }

    fn push(&mut self, kind: u16, flags: u16, attributes: &[(u16, &[u8])]) {
        let mut body = Vec::new();
        attribute(&mut body, OF_TABLE, &text(TABLE));
        for (kind, value) in attributes {
            attribute(&mut body, *kind, value);
        }
        self.batch.push(kind, flags, &body);
    }

    fn rule(&mut self, rule: &Rule<'static>) -> Option<()> {
        let own = super::rule(&rule.chain, rule.expr.to_vec());
        let body = expressions::of_rule(&own.expr)?;
        if own != *rule || u16::try_from(body.len()).is_err() {
            return None;
        }
        let parts: [(u16, &[u8]); 2] =
            [(RULE_CHAIN, &text(&rule.chain)), (nested(RULE_EXPRESSIONS), &body)];
        self.push(NEW_RULE, CREATE | APPEND, &parts);
        Some(())
    }

    fn set(&mut self, set: &Set<'static>) -> Option<()> {
        let (set_type, flags) = (set.set_type.clone(), set.flags.clone());
        if *set != (Set { set_type, flags, ..super::set(&set.name) }) {
            return None;
        }
        // A set of single values with intervals is written in another way.
        let SetTypeValue::Concatenated(types) = &set.set_type else { return None };
        let mut flags = 0;
        for flag in set.flags.iter().flatten() {
            flags |= match flag {
                SetFlag::Interval => INTERVAL | CONCATENATION,
                SetFlag::Timeout => TIMEOUT,
                _ => return None,
            };
        }
        let (mut fields, mut kind, mut length) = (Vec::new(), 0, 0);
        for one in types.iter() {
            let (number, bytes) = datatype(*one)?;
            let mut field = Vec::new();
            attribute(&mut field, FIELD_LENGTH, &bytes.to_be_bytes());
            attribute(&mut fields, nested(ONE), &field);
            // TYPE_BITS of nft: for who lists the set.
            kind = kind << 6 | number;
            length += bytes.next_multiple_of(4);
        }
        let mut description = Vec::new();
        attribute(&mut description, nested(FIELDS), &fields);
        self.number += 1;
        let numbers = [flags, kind, length, self.number].map(u32::to_be_bytes);
        let name = text(&set.name);
        let mut parts: Vec<(u16, &[u8])> = vec![
            (SET_NAME, &name),
            (SET_FLAGS, &numbers[0]),
            (SET_KEY_TYPE, &numbers[1]),
            (SET_KEY_LENGTH, &numbers[2]),
            (SET_NUMBER, &numbers[3]),
        ];
        let interval = flags & INTERVAL != 0;
        if interval {
            parts.push((nested(SET_DESCRIPTION), &description));
        }
        self.push(NEW_SET, CREATE, &parts);
        let kind = Kind { types: types.to_vec(), interval };
        self.sets.insert(set.name.to_string(), kind);
        Some(())
    }

    fn elements(&mut self, elements: &Element<'static>, add: bool) -> Option<()> {
        let name = elements.name.as_ref();
        if *elements != super::element(name, elements.elem.to_vec()) {
            return None;
        }
        for elements in elements.elem.chunks(MOST_ELEMENTS) {
            let mut list = Vec::new();
            for element in elements {
                attribute(&mut list, nested(ONE), &self.element(name, element, add)?);
            }
            let (kind, flags) = if add { (NEW_ELEMENTS, CREATE) } else { (REMOVE_ELEMENTS, 0) };
            self.push(kind, flags, &[(ELEMENTS_SET, &text(name)), (nested(ELEMENTS), &list)]);
            if self.batch.size() > MOST {
                return None;
            }
        }
        Some(())
    }

    fn element(&self, set: &str, element: &Expression<'_>, add: bool) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        // What leads to a chain is in a map from interface names, see `verdict_map`.
        if let Expression::List(pair) = element {
            let [Expression::String(name), Expression::Verdict(Verdict::Goto(to))] = &pair[..]
            else {
                return None;
            };
            attribute(&mut out, nested(KEY), &value(&interface(name)?));
            if add {
                attribute(&mut out, nested(DATA), &goto(&to.target));
            }
            return Some(out);
        }
        let kind = self.sets.get(set)?;
        let (element, life) = match element {
            Expression::Named(NamedExpression::Elem(elem)) => {
                let Elem { val, timeout: Some(life), expires: None, comment: None, counter: None } =
                    elem
                else {
                    return None;
                };
                (&**val, Some(*life))
            }
            other => (other, None),
        };
        let Expression::Named(NamedExpression::Concat(parts)) = element else { return None };
        if parts.len() != kind.types.len() {
            return None;
        }
        let (mut low, mut high) = (Vec::new(), Vec::new());
        for (part, kind) in parts.iter().zip(&kind.types) {
            let (first, last) = bounds(*kind, part)?;
            for (key, bytes) in [(&mut low, first), (&mut high, last)] {
                key.extend(bytes);
                key.resize(key.len().next_multiple_of(4), 0);
            }
        }
        if low != high && !kind.interval {
            return None;
        }
        attribute(&mut out, nested(KEY), &value(&low));
        if kind.interval {
            attribute(&mut out, nested(KEY_END), &value(&high));
        }
        if let Some(seconds) = life {
            attribute(&mut out, LIFE, &(u64::from(seconds) * 1_000).to_be_bytes());
        }
        Some(out)
    }
}

/// Its name, when it is nothing but that.
fn bare_chain<'a>(chain: &'a Chain<'static>) -> Option<&'a str> {
    (*chain == super::chain(&chain.name)).then_some(chain.name.as_ref())
}

fn bare_set<'a>(set: &'a Set<'static>) -> Option<&'a str> {
    (*set == super::set(&set.name)).then_some(set.name.as_ref())
}

/// Number of a type (enum datatypes of nft, which the kernel hands on), and its length
/// in bytes.
fn datatype(of: SetType) -> Option<(u32, u32)> {
    match of {
        SetType::Ipv4Addr => Some((7, 4)),
        SetType::InetProto => Some((12, 1)),
        SetType::InetService => Some((13, 2)),
        _ => None,
    }
}

/// The first and the last key that a part of an element means.
fn bounds(kind: SetType, part: &Expression<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let one = match (kind, part) {
        (SetType::Ipv4Addr, Expression::Named(NamedExpression::Prefix(Prefix { addr, len }))) => {
            let Expression::String(address) = &**addr else { return None };
            let length = u8::try_from(*len).ok()?;
            let net = ipnet::Ipv4Net::new(address.parse().ok()?, length).ok()?;
            let bytes = |address: Ipv4Addr| address.octets().to_vec();
            return Some((bytes(net.network()), bytes(net.broadcast())));
        }
        (SetType::Ipv4Addr, Expression::String(address)) => {
            address.parse::<Ipv4Addr>().ok()?.octets().to_vec()
        }
        (SetType::InetProto, Expression::String(word)) => match word.as_ref() {
            "tcp" => vec![6],
            "udp" => vec![17],
            _ => return None,
        },
        (SetType::InetService, Expression::Number(port)) => {
            u16::try_from(*port).ok()?.to_be_bytes().to_vec()
        }
        (SetType::Ifname, Expression::String(name)) => interface(name)?.to_vec(),
        _ => return None,
    };
    Some((one.clone(), one))
}
