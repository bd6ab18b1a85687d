//! What parses hostile bytes, each as one function that takes any bytes and panics when
//! something does not hold. The targets of `fuzz/`, and in no program.

#![allow(clippy::missing_panics_doc, reason = "that is what they are for")]

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Instant;

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, RecordType};
use rcc_policy::Name;

use crate::nfnetlink::{logged, logged_packets};
use crate::resolver::dns::{
    Found, MAX_ADDRESSES, MAX_UDP, Question, Reply, Unusable, Upstream, question, upstream_answer,
    upstream_query,
};
use crate::resolver::hello::{self, Hello};
use crate::resolver::hellos::{Deed, Flow, Hellos, Serial};
use crate::resolver::packet::{SYN, Tcp, build};
use crate::resolver::retry;
use crate::resolver::wire::{FromResolver, MAX_PACKET, ToResolver};

/// A packet from a sandbox to its name server.
pub fn dns_question(bytes: &[u8]) {
    match question(bytes) {
        Err(Unusable::Silent) => {}
        Err(Unusable::Reply(reply)) => {
            let reply = Message::from_vec(&reply).expect("a reply can be read");
            assert!(reply.answers.is_empty());
        }
        Ok(question) => {
            let query = upstream_query(&question.name, question.kind, 7).expect("a query");
            let query = Message::from_vec(&query).expect("a query can be read");
            let [asked] = query.queries.as_slice() else { panic!("one question") };
            // Only the name in its one form goes out (N4).
            assert_eq!(asked.name.to_ascii(), format!("{}.", question.name));
            let addresses = vec![Ipv4Addr::LOCALHOST; MAX_ADDRESSES];
            for reply in [
                Reply::Addresses(addresses, 1),
                Reply::NoData,
                Reply::NoName,
                Reply::NotAllowed,
                Reply::Failed,
            ] {
                answered(&question, &reply);
            }
        }
    }
}

fn answered(question: &Question, reply: &Reply) -> Message {
    let over_udp = question.answer(reply, true);
    assert!(over_udp.len() <= MAX_UDP, "{} bytes", over_udp.len());
    Message::from_vec(&over_udp).expect("an answer can be read");
    Message::from_vec(&question.answer(reply, false)).expect("an answer can be read")
}

/// What a name server answers to a question for `a.example`: the first byte says of which
/// kind it was, the id is 9.
pub fn dns_answer(bytes: &[u8]) {
    let Some((kind, packet)) = bytes.split_first() else { return };
    let kind = [RecordType::A, RecordType::HTTPS, RecordType::SVCB][usize::from(kind % 3)];
    let name: Name = "a.example".parse().expect("a name");
    let Some(Upstream::Found(found, ttl)) = upstream_answer(packet, &name, kind, 9) else {
        return;
    };
    let query = upstream_query(&name, kind, 1).expect("a query");
    let question = question(&query).expect("a question");
    match found {
        Found::Addresses(addresses) => {
            assert!(kind == RecordType::A && (1..=MAX_ADDRESSES).contains(&addresses.len()));
        }
        Found::Services(services) => {
            assert!(kind != RecordType::A);
            let closed = services.iter().filter_map(|one| one.clone().within(|_, _| false));
            assert_eq!(closed.count(), 0, "nothing is open");
            let open: Vec<_> =
                services.into_iter().filter_map(|one| one.within(|_, _| true)).collect();
            let reply = answered(&question, &Reply::Services(open, ttl));
            for record in reply.answers {
                assert_eq!(record.name.to_ascii(), "a.example.");
                let (RData::HTTPS(hickory_proto::rr::rdata::HTTPS(service)) | RData::SVCB(service)) =
                    record.data
                else {
                    panic!("a record of another kind");
                };
                assert!(service.svc_priority > 0 && service.target_name.is_root());
            }
        }
    }
}

/// What a client of TLS says first.
pub fn client_hello(bytes: &[u8]) {
    let whole = hello::read(bytes);
    // What was once decided is not taken back by what comes later.
    let step = (bytes.len() / 256).max(1);
    for end in (0..bytes.len()).step_by(step) {
        let part = hello::read(&bytes[..end]);
        assert!(part == Hello::Unfinished || part == whole, "{end}: {part:?}, then {whole:?}");
    }
}

/// A client and a server that do anything at all, around the check of hellos: the server
/// gets the hello of an allowed name, or a beginning of it, and nothing else until it has
/// answered; when it wants another one, that has the same name (N20).
pub fn hello_packets(bytes: &[u8]) {
    let mut world = World::default();
    let mut rest = bytes;
    while let Some((deed, more)) = rest.split_first() {
        rest = more;
        let mut number = || {
            let (first, more) = rest.split_first().unwrap_or((&0, &[]));
            rest = more;
            *first
        };
        match deed % 8 {
            0 => world.client(SYN, BEGIN.wrapping_add(u32::from(number() % 4) * 40), &[]),
            1 => {
                let (at, length) = (number(), number());
                let (start, length) = (usize::from(at) * 2, usize::from(length));
                let hello = if deed & 0x80 == 0 { &world.good } else { &world.evil };
                let start = start.min(hello.len());
                let piece = hello[start..hello.len().min(start + length)].to_vec();
                let second = if deed & 0x40 == 0 { 0 } else { world.good.len() };
                world.data((second + start) as u32, &piece);
            }
            2 => {
                let (at, length) = (number(), usize::from(number()));
                let (piece, more) = rest.split_at(length.min(rest.len()));
                rest = more;
                world.data(u32::from(at), piece);
            }
            3 => world.server_accepts(),
            4 if deed & 0x80 != 0 => {
                let (at, length) = (usize::from(number()), usize::from(number()));
                world.server_says(deed & 0x40 == 0, at, length);
            }
            4 => world.server_acknowledges(),
            5 => world.decide(number() & 1 == 0),
            6 => world.noted(),
            _ => {
                let (flags, at) = (number(), number());
                world.client(flags, world.start().wrapping_add(u32::from(at)), &[]);
            }
        }
    }
}

const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 18, 0, 2), 40_000);
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 9), 443);
/// Near the end, so that numbers wrap.
const BEGIN: u32 = u32::MAX - 60;
const SERVER_BEGIN: u32 = 4_000_000_000;
const ALLOWED: &str = "a.example";

struct World {
    hellos: Hellos,
    now: Instant,
    good: Vec<u8>,
    evil: Vec<u8>,
    asked: Vec<(Flow, Serial, Name)>,
    passing: Vec<Flow>,
    /// The number of the first packet that reached the server last.
    begun: Option<u32>,
    /// Of the connection that the server has: the number of its first byte.
    accepted: Option<u32>,
    /// Of bytes that came twice, those that came first and those that came last: servers
    /// differ in which they take.
    got: [HashMap<u32, u8>; 2],
    /// What the server answers to the first hello: that it wants another one, or not.
    wants_more: Option<bool>,
    passed: bool,
}

impl Default for World {
    fn default() -> Self {
        Self {
            hellos: Hellos::default(),
            now: Instant::now(),
            good: hello::samples::hello(ALLOWED),
            evil: hello::samples::hello("b.example"),
            asked: Vec::new(),
            passing: Vec::new(),
            begun: None,
            accepted: None,
            got: Default::default(),
            wants_more: None,
            passed: false,
        }
    }
}

impl World {
    fn start(&self) -> u32 {
        self.accepted.or(self.begun.map(|isn| isn.wrapping_add(1))).unwrap_or(BEGIN)
    }

    fn data(&mut self, offset: u32, payload: &[u8]) {
        let number = self.start().wrapping_add(offset);
        let packet = build(CLIENT, SERVER, number, Some(SERVER_BEGIN + 1), 0, payload);
        self.sent(&packet);
    }

    fn client(&mut self, flags: u8, number: u32, payload: &[u8]) {
        let ack = (flags & SYN == 0).then_some(SERVER_BEGIN + 1);
        let packet = build(CLIENT, SERVER, number, ack, flags, payload);
        self.sent(&packet);
    }

    fn sent(&mut self, packet: &[u8]) {
        let deeds = self.hellos.packet(packet, self.now);
        self.perform(deeds);
    }

    fn perform(&mut self, deeds: Vec<Deed>) {
        for deed in deeds {
            match deed {
                Deed::Send(packets) => packets.iter().for_each(|packet| self.arrives(packet)),
                Deed::Ask(flow, serial, name) => self.asked.push((flow, serial, name)),
                Deed::Passed(flow, _, name) => {
                    assert_eq!(name.as_str(), ALLOWED);
                    assert!(self.read().iter().all(|seen| names(seen, ALLOWED).is_some()));
                    match self.wants_more {
                        None => panic!("passed before the server has answered"),
                        Some(false) => {}
                        Some(true) => {
                            let second = self.read_second();
                            assert!(second.iter().all(|seen| names(seen, ALLOWED).is_some()));
                        }
                    }
                    self.passing.push(flow);
                    self.passed = true;
                }
                Deed::Hidden(..) => {}
            }
        }
    }

    /// A packet on the way out of the gate.
    fn arrives(&mut self, packet: &[u8]) {
        let tcp = Tcp::read(packet).expect("what is sent on can be read");
        if tcp.destination != SERVER.0 || tcp.reset {
            return;
        }
        if tcp.syn {
            assert!(tcp.payload.is_empty(), "data in the first packet");
            self.begun = Some(tcp.sequence);
        }
        let Some(start) = self.accepted else {
            assert!(tcp.payload.is_empty(), "bytes before the server has agreed to a number");
            return;
        };
        if self.passed {
            return;
        }
        let first = tcp.sequence.wrapping_sub(start);
        for (at, byte) in (0u32..).zip(tcp.payload) {
            let at = first.wrapping_add(at);
            self.got[0].entry(at).or_insert(*byte);
            self.got[1].insert(at, *byte);
        }
        let allowed = |seen: &Hello| names(seen, ALLOWED).is_some() || *seen == Hello::Unfinished;
        for (seen, bytes) in self.read().iter().zip(self.got.each_ref()) {
            assert!(allowed(seen), "the server reads {seen:?}");
            let first = names(seen, ALLOWED).unwrap_or(usize::MAX);
            let behind = bytes.keys().any(|at| *at as usize >= first);
            assert!(!behind || self.wants_more.is_some(), "more than a hello before an answer");
        }
        if self.wants_more == Some(true) {
            let second = self.read_second();
            assert!(second.iter().all(allowed), "the server reads {second:?}, a second one");
        }
    }

    /// What the server has without a gap, and what it reads there.
    fn whole(&self) -> [Vec<u8>; 2] {
        self.got.each_ref().map(|got| (0..).map_while(|at| got.get(&at).copied()).collect())
    }

    fn read(&self) -> [Hello; 2] {
        self.whole().map(|bytes| hello::read(&bytes))
    }

    /// What the server reads behind the first hello.
    fn read_second(&self) -> [Hello; 2] {
        self.whole().map(|bytes| match hello::read(&bytes) {
            Hello::Names(_, end) => hello::read_again(&bytes[end..]),
            other => other,
        })
    }

    fn heard(&mut self, number: u32, ack: u32, flags: u8, words: &[u8]) {
        let packet = build(SERVER, CLIENT, number, Some(ack), flags, words);
        let tcp = Tcp::read(&packet).expect("a packet");
        let deeds = self.hellos.answered(&tcp, self.now);
        self.perform(deeds);
    }

    /// The server ends what it has and takes the connection whose first packet it got.
    fn server_accepts(&mut self) {
        let Some(isn) = self.begun.take() else { return };
        self.accepted = Some(isn.wrapping_add(1));
        self.got = Default::default();
        self.wants_more = None;
        self.passed = false;
        self.heard(SERVER_BEGIN, isn.wrapping_add(1), SYN, &[]);
    }

    fn server_acknowledges(&mut self) {
        let Some(start) = self.accepted else { return };
        let length = u32::try_from(self.whole()[0].len()).unwrap_or(u32::MAX);
        self.heard(SERVER_BEGIN + 1, start.wrapping_add(length), 0, &[]);
    }

    /// A piece of its answer, once it has read the first hello.
    fn server_says(&mut self, wants_more: bool, at: usize, length: usize) {
        let Some(start) = self.accepted else { return };
        if names(&self.read()[0], ALLOWED).is_none() {
            return;
        }
        let wants_more = *self.wants_more.get_or_insert(wants_more);
        let words = if wants_more { retry::samples::again() } else { retry::samples::taken() };
        let at = at.min(words.len());
        let piece = &words[at..words.len().min(at + length)];
        let has = u32::try_from(self.whole()[0].len()).unwrap_or(u32::MAX);
        let number = (SERVER_BEGIN + 1).wrapping_add(at as u32);
        self.heard(number, start.wrapping_add(has), 0, piece);
    }

    fn decide(&mut self, oldest: bool) {
        if self.asked.is_empty() {
            return;
        }
        let at = if oldest { 0 } else { self.asked.len() - 1 };
        let (flow, serial, name) = self.asked.remove(at);
        let allowed = (name.as_str() == ALLOWED).then_some(7);
        let deeds = self.hellos.decided(flow, serial, name, allowed);
        self.perform(deeds.unwrap_or_default());
    }

    fn noted(&mut self) {
        if let Some(flow) = self.passing.pop() {
            self.hellos.noted(flow);
        }
    }
}

/// Where a hello ends that names this server.
fn names(seen: &Hello, wanted: &str) -> Option<usize> {
    match seen {
        Hello::Names(name, end) if name.as_str() == wanted => Some(*end),
        _ => None,
    }
}

/// A whole packet, and one that is cut off, as the kernel hands it over.
pub fn packet(bytes: &[u8]) {
    if let Some(tcp) = Tcp::read(bytes) {
        let head = Tcp::read_head(bytes).expect("a whole packet has a head");
        assert_eq!((head.sequence, head.ack, head.syn), (tcp.sequence, tcp.ack, tcp.syn));
        assert!(tcp.payload.len() < bytes.len());
    }
    let now = Instant::now();
    let mut hellos = Hellos::default();
    let deeds = hellos.packet(bytes, now);
    for packet in deeds.iter().flat_map(|deed| match deed {
        Deed::Send(packets) => packets.as_slice(),
        _ => &[],
    }) {
        assert!(Tcp::read(packet).is_some_and(|tcp| tcp.payload.is_empty()));
    }
    for logged in logged(bytes) {
        assert!(logged.reason.len() <= bytes.len() * 3);
    }
    for head in logged_packets(bytes) {
        let _ = Tcp::read_head(head);
    }
}

/// What the process without rights says to the helper, and the other way round.
pub fn resolver_channel(bytes: &[u8]) {
    if bytes.len() > MAX_PACKET {
        return;
    }
    if let Ok(said) = serde_json::from_slice::<FromResolver>(bytes) {
        let again = serde_json::to_vec(&said).expect("JSON");
        assert_eq!(serde_json::from_slice::<FromResolver>(&again).ok(), Some(said));
    }
    if let Ok(said) = serde_json::from_slice::<ToResolver>(bytes) {
        let again = serde_json::to_vec(&said).expect("JSON");
        assert_eq!(serde_json::from_slice::<ToResolver>(&again).ok(), Some(said));
    }
}
