//! Reading questions, asking upstream, checking what comes back, answering.
//! Pure: bytes in, bytes out.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, HTTPS, SOA};
use hickory_proto::rr::{DNSClass, Name as DnsName, RData, Record, RecordType};
use rcc_policy::Name;

use super::services::{MAX_SERVICES, Service};

/// Largest answer over UDP, in bytes (DNS flag day 2020).
pub const MAX_UDP: usize = 1232;
/// Most addresses that one answer carries.
pub const MAX_ADDRESSES: usize = 32;
/// Longest chain of aliases that is followed.
const MAX_CHAIN: usize = 16;
/// For how long a client may remember that there is no such record, in seconds.
const NO_DATA_TTL: u32 = 5;
/// The option that says why (RFC 8914 2).
const EXTENDED_ERROR: u16 = 15;
/// The policy of who runs the resolver (RFC 8914 4.16).
const BLOCKED: u16 = 15;
const NOT_ALLOWED: &str = "not allowed by rcc";

/// A question that can be answered.
#[derive(Debug, Clone)]
pub struct Question {
    /// As it came, to be put above the answer.
    query: Query,
    id: u16,
    recursion_desired: bool,
    /// The client's limit for UDP, when it sent one.
    edns: Option<u16>,
    /// The name in canonical form.
    pub name: Name,
    /// What kind of record.
    pub kind: RecordType,
}

/// Why a packet is not a question that can be answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Unusable {
    /// Nothing is sent back.
    Silent,
    /// These bytes are.
    Reply(Vec<u8>),
}

/// Reads a packet from a sandbox.
pub fn question(packet: &[u8]) -> Result<Question, Unusable> {
    // Longer questions than any client sends are not worth parsing.
    if packet.len() < 12 || packet.len() > 1024 {
        return Err(Unusable::Silent);
    }
    let id = u16::from_be_bytes([packet[0], packet[1]]);
    let failed = |code| {
        let mut reply = Message::error_msg(id, OpCode::Query, code);
        reply.metadata.recursion_available = true;
        Unusable::Reply(reply.to_vec().unwrap_or_default())
    };
    let Ok(message) = Message::from_vec(packet) else { return Err(failed(ResponseCode::FormErr)) };
    if message.metadata.message_type != MessageType::Query {
        return Err(Unusable::Silent);
    }
    if message.metadata.op_code != OpCode::Query {
        return Err(failed(ResponseCode::NotImp));
    }
    let [query] = message.queries.as_slice() else { return Err(failed(ResponseCode::FormErr)) };
    if query.query_class != DNSClass::IN {
        return Err(failed(ResponseCode::Refused));
    }
    let Some(name) = canonical(&query.name) else {
        // Not a host name, so no rule can allow it.
        return Err(failed(ResponseCode::NXDomain));
    };
    Ok(Question {
        id,
        recursion_desired: message.metadata.recursion_desired,
        edns: message.edns.as_ref().map(Edns::max_payload),
        name,
        kind: query.query_type,
        query: query.clone(),
    })
}

/// The policy's form of a name on the wire; `None` for what is not a host name:
/// a dot or NUL inside a label would otherwise read as another name (N16).
fn canonical(name: &DnsName) -> Option<Name> {
    let mut text = String::new();
    for label in name.iter() {
        let label = std::str::from_utf8(label).ok()?;
        if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(label);
    }
    text.parse().ok()
}

/// Kinds of records that are looked up; a TXT record, for one, can carry anything.
pub fn is_looked_up(kind: RecordType) -> bool {
    matches!(kind, RecordType::A | RecordType::HTTPS | RecordType::SVCB)
}

/// What a name server has for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// At least one address, at most [`MAX_ADDRESSES`], in the server's order.
    Addresses(Vec<IpAddr>),
    /// At least one record of HTTPS or SVCB, at most [`MAX_SERVICES`].
    Services(Vec<Service>),
}

/// What a name server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// Records, and the lowest time to live on the way, in seconds.
    Found(Found, u32),
    /// The name exists and has no such record.
    NoData,
    /// The name does not exist.
    NoName,
    /// Too long for UDP; ask again over TCP.
    Truncated,
    /// The server cannot or will not answer; ask another.
    Failed,
}

/// A query for upstream, built anew: nothing of the sandbox's packet is in it
/// but the name in lower case and the kind (N4).
pub fn upstream_query(name: &Name, kind: RecordType, id: u16) -> Option<Vec<u8>> {
    let name = DnsName::from_ascii(format!("{name}.")).ok()?;
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP as u16);
    message.set_edns(edns);
    message.to_vec().ok()
}

/// Reads what a server sent. `None` when it is not the answer to this query; the
/// right one may still come.
pub fn upstream_answer(packet: &[u8], name: &Name, kind: RecordType, id: u16) -> Option<Upstream> {
    let message = Message::from_vec(packet).ok()?;
    let [query] = message.queries.as_slice() else { return None };
    let same = message.metadata.id == id
        && message.metadata.message_type == MessageType::Response
        && message.metadata.op_code == OpCode::Query
        && query.query_type == kind
        && query.query_class == DNSClass::IN
        && canonical(&query.name).as_ref() == Some(name);
    if !same {
        return None;
    }
    if message.metadata.truncation {
        return Some(Upstream::Truncated);
    }
    Some(match message.metadata.response_code {
        ResponseCode::NoError => follow(&message, &query.name, kind),
        ResponseCode::NXDomain => Upstream::NoName,
        _ => Upstream::Failed,
    })
}

/// Follows the aliases from the name that was asked for; records that are not on
/// that way are not looked at.
fn follow(message: &Message, asked: &DnsName, kind: RecordType) -> Upstream {
    let mut chain = vec![asked.clone()];
    let mut ttl = u32::MAX;
    for _ in 0..MAX_CHAIN {
        let Some(owner) = chain.last() else { break };
        let own = || message.answers.iter().filter(|record| record.name == *owner);
        let of_kind = || own().filter(|record| record.data.record_type() == kind);
        if let Some(life) = of_kind().map(|record| record.ttl).min() {
            let ttl = ttl.min(life);
            let records = of_kind().map(|record| &record.data);
            return read(records, &chain, kind)
                .map_or(Upstream::NoData, |found| Upstream::Found(found, ttl));
        }
        let alias = own().find_map(|record| match &record.data {
            RData::CNAME(target) => Some((target.0.clone(), record.ttl)),
            _ => None,
        });
        let Some((target, life)) = alias else { return Upstream::NoData };
        ttl = ttl.min(life);
        chain.push(target);
    }
    Upstream::Failed
}

/// Reads records of one kind, whose owner is the last of `chain`; `None` when nothing of
/// them can be told on.
fn read<'a>(
    records: impl Iterator<Item = &'a RData>,
    chain: &[DnsName],
    kind: RecordType,
) -> Option<Found> {
    if kind == RecordType::A {
        let address = |data: &RData| match data {
            RData::A(A(address)) => Some(IpAddr::V4(*address)),
            _ => None,
        };
        let addresses: Vec<IpAddr> = records.filter_map(address).take(MAX_ADDRESSES).collect();
        return (!addresses.is_empty()).then_some(Found::Addresses(addresses));
    }
    let service = |data| match data {
        &RData::HTTPS(HTTPS(ref record)) | &RData::SVCB(ref record) => Service::read(record, chain),
        _ => None,
    };
    let services: Vec<Service> = records.filter_map(service).take(MAX_SERVICES).collect();
    (!services.is_empty()).then_some(Found::Services(services))
}

/// How a question is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// With addresses, under the name that was asked for.
    Addresses(Vec<Ipv4Addr>, u32),
    /// With records of HTTPS or SVCB.
    Services(Vec<Service>, u32),
    /// The name is fine, but there is no such record.
    NoData,
    /// There is no such name. Nobody remembers it: it may be allowed in a moment (N7).
    NoName,
    /// The same for a name that may not be asked for, which is said beside it (RFC 8914):
    /// a person who looks with `dig` sees why, and `rcc verify` that it was refused here.
    NotAllowed,
    /// Something failed; asking again may help.
    Failed,
}

impl Question {
    /// The bytes of the answer. Over UDP they fit what the client takes, or say
    /// that they did not.
    pub fn answer(&self, reply: &Reply, over_udp: bool) -> Vec<u8> {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.add_query(self.query.clone());
        match reply {
            Reply::Addresses(addresses, ttl) => {
                for address in addresses {
                    let data = RData::A(A(*address));
                    message.add_answer(Record::from_rdata(self.query.name.clone(), *ttl, data));
                }
            }
            Reply::Services(services, ttl) => {
                for data in services.iter().filter_map(|one| one.data(self.kind)) {
                    message.add_answer(Record::from_rdata(self.query.name.clone(), *ttl, data));
                }
            }
            Reply::NoData => {
                message.add_authority(self.start_of_authority(NO_DATA_TTL));
            }
            Reply::NoName | Reply::NotAllowed => {
                message.metadata.response_code = ResponseCode::NXDomain;
                message.add_authority(self.start_of_authority(0));
            }
            Reply::Failed => message.metadata.response_code = ResponseCode::ServFail,
        }
        if self.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP as u16);
            if *reply == Reply::NotAllowed {
                let said = [&BLOCKED.to_be_bytes()[..], NOT_ALLOWED.as_bytes()].concat();
                edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, said));
            }
            message.set_edns(edns);
        }
        let bytes = message.to_vec().unwrap_or_default();
        let most = usize::from(self.edns.unwrap_or(512)).clamp(512, MAX_UDP);
        if over_udp && bytes.len() > most {
            return message.truncate().to_vec().unwrap_or_default();
        }
        bytes
    }

    /// Resolvers remember a negative answer for as long as this record says (RFC 2308).
    fn start_of_authority(&self, ttl: u32) -> Record {
        let name = self.query.name.clone();
        let soa = SOA::new(name.clone(), name.clone(), 1, 60, 60, 60, ttl);
        Record::from_rdata(name, ttl, RData::SOA(soa))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::svcb::{SvcParamKey, SvcParamValue};
    use hickory_proto::rr::rdata::{CNAME, SVCB};
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn dns(text: &str) -> DnsName {
        DnsName::from_ascii(text).unwrap()
    }

    fn asked(text: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(dns(text), kind));
        message.to_vec().unwrap()
    }

    fn response(records: Vec<Record>) -> Vec<u8> {
        let mut message = Message::response(9, OpCode::Query);
        message.add_query(Query::query(dns("a.example."), RecordType::A));
        records.into_iter().for_each(|record| {
            message.add_answer(record);
        });
        message.to_vec().unwrap()
    }

    fn a(owner: &str, ttl: u32, address: [u8; 4]) -> Record {
        Record::from_rdata(dns(owner), ttl, RData::A(A(address.into())))
    }

    fn cname(owner: &str, ttl: u32, target: &str) -> Record {
        Record::from_rdata(dns(owner), ttl, RData::CNAME(CNAME(dns(target))))
    }

    fn read_answer(packet: &[u8]) -> Option<Upstream> {
        upstream_answer(packet, &name("a.example"), RecordType::A, 9)
    }

    #[test]
    fn n4_nothing_of_the_question_goes_upstream_but_the_name() {
        let question = question(&asked("A.ExAmPlE.", RecordType::A)).unwrap();
        let query =
            Message::from_vec(&upstream_query(&question.name, RecordType::A, 3).unwrap()).unwrap();
        assert_eq!(query.queries[0].name.to_ascii(), "a.example.");
        assert_eq!(query.metadata.id, 3);
        assert!(query.additionals.is_empty() && query.edns.unwrap().options().as_ref().is_empty());
    }

    #[test]
    fn n16_a_label_with_a_dot_or_nul_is_no_name() {
        let mut packet = asked("ab.example.", RecordType::A);
        packet[13] = 0;
        assert!(matches!(question(&packet), Err(Unusable::Reply(_))));
        packet[13] = b'.';
        assert!(matches!(question(&packet), Err(Unusable::Reply(_))));
    }

    #[test]
    fn aliases_are_followed_and_the_lowest_life_counts() {
        let packet = response(vec![
            a("evil.example.", 5, [10, 0, 0, 1]),
            cname("a.example.", 300, "b.example."),
            cname("b.example.", 20, "c.example."),
            a("c.example.", 60, [203, 0, 113, 1]),
            a("c.example.", 90, [203, 0, 113, 2]),
        ]);
        let found = Found::Addresses(vec![[203, 0, 113, 1].into(), [203, 0, 113, 2].into()]);
        assert_eq!(read_answer(&packet), Some(Upstream::Found(found, 20)));
    }

    #[test]
    fn answers_to_other_questions_are_not_taken() {
        let packet = response(vec![a("a.example.", 60, [203, 0, 113, 1])]);
        assert_eq!(upstream_answer(&packet, &name("a.example"), RecordType::A, 8), None);
        assert_eq!(upstream_answer(&packet, &name("b.example"), RecordType::A, 9), None);
        assert_eq!(upstream_answer(&packet, &name("a.example"), RecordType::HTTPS, 9), None);
    }

    #[test]
    fn loops_of_aliases_end() {
        let packet = response(vec![
            cname("a.example.", 1, "b.example."),
            cname("b.example.", 1, "a.example."),
        ]);
        assert_eq!(read_answer(&packet), Some(Upstream::Failed));
    }

    #[test]
    fn answers_are_flat_and_fit() {
        let question = question(&asked("A.Example.", RecordType::A)).unwrap();
        let few = Reply::Addresses(vec![[203, 0, 113, 1].into()], 30);
        let reply = Message::from_vec(&question.answer(&few, true)).unwrap();
        assert_eq!(reply.answers[0].name.to_ascii(), "A.Example.");
        assert_eq!(reply.answers[0].ttl, 30);
        let many = Reply::Addresses(vec![[203, 0, 113, 1].into(); 100], 30);
        let reply = question.answer(&many, true);
        assert!(reply.len() <= 512 && Message::from_vec(&reply).unwrap().metadata.truncation);
        assert!(!Message::from_vec(&question.answer(&many, false)).unwrap().metadata.truncation);
    }

    #[test]
    fn records_of_services_follow_the_chain_and_are_flat() {
        let service = |target: &str| {
            RData::HTTPS(HTTPS(SVCB::new(
                1,
                dns(target),
                vec![(SvcParamKey::Port, SvcParamValue::Port(443))],
            )))
        };
        let mut message = Message::response(9, OpCode::Query);
        message.add_query(Query::query(dns("a.example."), RecordType::HTTPS));
        message.add_answer(cname("a.example.", 50, "b.example."));
        for (owner, target) in [
            ("b.example.", "."),
            ("b.example.", "a.example."),
            ("b.example.", "evil.example."),
            ("evil.example.", "."),
        ] {
            message.add_answer(Record::from_rdata(dns(owner), 70, service(target)));
        }
        let packet = message.to_vec().unwrap();
        let answer = upstream_answer(&packet, &name("a.example"), RecordType::HTTPS, 9).unwrap();
        let Upstream::Found(Found::Services(services), 50) = answer else { panic!("{answer:?}") };
        assert_eq!(services.len(), 2);
        let question = question(&asked("a.example.", RecordType::HTTPS)).unwrap();
        let reply = question.answer(&Reply::Services(services, 50), true);
        let reply = Message::from_vec(&reply).unwrap();
        let expected = Record::from_rdata(dns("a.example."), 50, service("."));
        assert_eq!(reply.answers, [expected.clone(), expected]);
    }

    #[test]
    fn n7_a_refusal_is_not_remembered() {
        let question = question(&asked("a.example.", RecordType::A)).unwrap();
        let reply = Message::from_vec(&question.answer(&Reply::NotAllowed, true)).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
        let RData::SOA(soa) = &reply.authorities[0].data else { panic!("no SOA") };
        assert_eq!((reply.authorities[0].ttl, soa.minimum), (0, 0));
    }

    #[test]
    fn a_refusal_says_that_it_is_one_and_other_names_that_are_not_there_do_not() {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(dns("a.example."), RecordType::A));
        message.set_edns(Edns::new());
        let question = question(&message.to_vec().unwrap()).unwrap();
        let answer = |reply| Message::from_vec(&question.answer(&reply, true)).unwrap();
        let why = |message: &Message| {
            let edns = message.edns.clone().expect("as it was asked");
            edns.option(EXTENDED_ERROR.into()).cloned()
        };
        let refused = answer(Reply::NotAllowed);
        assert_eq!(refused.metadata.response_code, ResponseCode::NXDomain);
        let said = b"\x00\x0fnot allowed by rcc".to_vec();
        assert_eq!(why(&refused), Some(EdnsOption::Unknown(15, said)));
        assert_eq!(why(&answer(Reply::NoName)), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = question(&bytes);
            let _ = upstream_answer(&bytes, &name("a.example"), RecordType::A, 1);
        }

        #[test]
        fn bent_packets_never_panic(at in 0usize..60, byte: u8) {
            let mut packet = response(vec![cname("a.example.", 1, "b.example."), a("b.example.", 1, [1, 2, 3, 4])]);
            let at = at % packet.len();
            packet[at] = byte;
            let _ = read_answer(&packet);
            let _ = question(&packet);
        }
    }
}
