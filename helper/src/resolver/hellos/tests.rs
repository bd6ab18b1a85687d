//! Whatever a client does: the server gets the hello that was approved, or nothing.

use super::*;
use crate::resolver::hello::samples::{encrypted, hello, large_key, message, named, records};
use crate::resolver::packet::{SYN, URG, build};
use crate::resolver::retry::samples::taken;
use proptest::prelude::*;

mod again;

const GATE: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 18, 0, 2), 40_000);
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 9), 443);
const FLOW: Flow = Flow { port: GATE.1, server: SERVER.0 };
/// Near the end, so that sequence numbers wrap within a hello.
const ISN: u32 = u32::MAX - 100;
const START: u32 = ISN.wrapping_add(1);

fn data(offset: usize, payload: &[u8]) -> Vec<u8> {
    build(GATE, SERVER, START.wrapping_add(offset as u32), Some(1), 0, payload)
}

const SERVER_ISN: u32 = 4_000_000_000;

struct Client {
    hellos: Hellos,
    now: Instant,
}

fn answer(sequence: u32, ack: u32, flags: u8) -> Vec<u8> {
    build(SERVER, GATE, sequence, Some(ack), flags, b"")
}

/// The server goes on with a hello of so many bytes.
fn goes_on(offset: usize) -> Vec<u8> {
    let ack = START.wrapping_add(offset as u32);
    build(SERVER, GATE, SERVER_ISN + 1, Some(ack), 0, &taken())
}

impl Client {
    fn connected() -> Self {
        let mut client = Self { hellos: Hellos::default(), now: Instant::now() };
        client.connect(ISN);
        client
    }

    fn connect(&mut self, isn: u32) {
        let syn = build(GATE, SERVER, isn, None, SYN, b"");
        assert_eq!(self.send(&syn), [Deed::Send(vec![syn.clone()])]);
        let start = isn.wrapping_add(1);
        assert_eq!(self.hear(&answer(SERVER_ISN, start, SYN)), []);
        let ack = build(GATE, SERVER, start, Some(SERVER_ISN + 1), 0, b"");
        assert_eq!(self.send(&ack), [Deed::Send(vec![ack.clone()])]);
    }

    fn send(&mut self, packet: &[u8]) -> Vec<Deed> {
        self.hellos.packet(packet, self.now)
    }

    fn hear(&mut self, packet: &[u8]) -> Vec<Deed> {
        self.hellos.answered(&Tcp::read(packet).unwrap(), self.now)
    }

    /// Sends a hello and answers the serial of the question.
    fn hello(&mut self, packet: &[u8]) -> Serial {
        match self.send(packet).as_slice() {
            [Deed::Ask(FLOW, serial, _)] => *serial,
            other => panic!("{other:?}"),
        }
    }

    fn decided(&mut self, serial: Serial, allowed: bool) -> Vec<Deed> {
        let allowed = allowed.then_some(KNOWN);
        self.hellos.decided(FLOW, serial, name("a.example"), allowed).unwrap()
    }

    fn acknowledged(&mut self, offset: usize) -> Vec<Deed> {
        self.hear(&goes_on(offset))
    }
}

const KNOWN: Known = 7;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Nothing but two resets.
fn is_end(deed: &Deed) -> bool {
    let reset =
        |packet: &Vec<u8>| Tcp::read(packet).is_some_and(|tcp| tcp.reset && tcp.payload.is_empty());
    matches!(deed, Deed::Send(packets) if packets.len() == 2 && packets.iter().all(reset))
}

#[test]
fn n20_a_hello_is_held_until_its_name_is_allowed_and_watched_until_it_has_arrived() {
    let mut client = Client::connected();
    let bytes = records(&message(&[large_key(), named(b"a.example")]), 1 << 14);
    let (first, second) = bytes.split_at(1_200);
    // The other way round, and one of them twice.
    assert_eq!(client.send(&data(1_200, second)), []);
    assert_eq!(client.send(&data(1_200, second)), []);
    let serial = client.hello(&data(0, first));
    // The server cannot have what nobody sent.
    assert_eq!(client.acknowledged(bytes.len()), []);
    let sent = client.decided(serial, true);
    let packets = vec![data(1_200, second), data(1_200, second), data(0, first)];
    assert_eq!(sent, [Deed::Send(packets)]);
    assert_eq!(client.acknowledged(bytes.len() - 1), []);
    let passed = Deed::Passed(FLOW, KNOWN, name("a.example"));
    assert_eq!(client.acknowledged(bytes.len()), [passed]);
    assert_eq!(client.acknowledged(bytes.len()), []);
    assert_eq!(client.hellos.held, bytes.len());
}

#[test]
fn n20_another_hello_in_the_place_of_the_approved_one_is_not_sent() {
    let mut client = Client::connected();
    let good = hello("a.example");
    let evil = hello("b.example");
    let serial = client.hello(&data(0, &good));
    // While somebody thinks, and afterwards.
    assert_eq!(client.send(&data(0, &evil)), []);
    let sent = client.decided(serial, true);
    assert_eq!(sent, [Deed::Send(vec![data(0, &good)])]);
    assert_eq!(client.send(&data(0, &evil)), []);
    assert_eq!(client.send(&data(10, &evil[10..])), []);
    let again = data(5, &good[5..]);
    assert_eq!(client.send(&again), [Deed::Send(vec![again.clone()])]);
    // Behind its end, too, after the kernel was told.
    assert!(!client.acknowledged(good.len()).is_empty());
    let more = data(good.len(), b"more");
    assert_eq!(client.send(&more), [Deed::Send(vec![more.clone()])]);
    assert_eq!(client.send(&data(0, &evil)), []);
    // Before the first byte.
    assert_eq!(client.send(&data(usize::MAX, &evil)), []);
}

#[test]
fn n20_pieces_that_contradict_each_other_end_the_connection() {
    let mut client = Client::connected();
    let (good, evil) = (hello("a.example"), hello("b.example"));
    assert_eq!(client.send(&data(4, &good[4..])), []);
    let deeds = client.send(&data(0, &evil[..evil.len() - 1]));
    assert!(is_end(&deeds[0]), "{deeds:?}");
    assert_eq!(deeds[1], Deed::Hidden(FLOW, Why::NotTls));
}

#[test]
fn n20_what_is_refused_is_ended_on_both_sides() {
    let mut client = Client::connected();
    let serial = client.hello(&data(0, &hello("b.example")));
    let deeds = client.decided(serial, false);
    assert!(is_end(&deeds[0]), "{deeds:?}");
    let encrypted = records(&message(&[named(b"a.example"), encrypted()]), 1 << 14);
    for (bytes, why) in [
        (&b"GET / HTTP/1.1\r\n"[..], Why::NotTls),
        (&records(&message(&[]), 99), Why::NoName),
        (&encrypted, Why::Encrypted),
    ] {
        let mut client = Client::connected();
        let deeds = client.send(&data(0, bytes));
        assert!(is_end(&deeds[0]), "{deeds:?}");
        assert_eq!(deeds[1], Deed::Hidden(FLOW, why));
    }
}

#[test]
fn n20_no_byte_goes_round_the_check() {
    let syn = build(GATE, SERVER, ISN, None, SYN, b"data");
    assert_eq!(Hellos::default().packet(&syn, Instant::now()), []);
    // Nobody knows this connection.
    let deeds = Hellos::default().packet(&data(0, b"x"), Instant::now());
    assert!(is_end(&deeds[0]));
    // Two packets that routers may cut can be put together to a third one.
    let mut cut = data(0, &hello("a.example"));
    cut[6] = 0;
    let deeds = Client::connected().send(&cut);
    assert_eq!(deeds[1], Deed::Hidden(FLOW, Why::NotTls));
    let urgent = build(GATE, SERVER, START, Some(1), URG, b"");
    let deeds = Client::connected().send(&urgent);
    assert_eq!(deeds[1], Deed::Hidden(FLOW, Why::NotTls));
    // A new connection from the same port begins from nothing.
    let mut client = Client::connected();
    let good = hello("a.example");
    let serial = client.hello(&data(0, &good));
    client.decided(serial, true);
    client.acknowledged(good.len());
    // Not while the kernel is being told of the one before (found in a review).
    assert_eq!(client.send(&build(GATE, SERVER, 77, None, SYN, b"")), []);
    client.hellos.noted(FLOW);
    client.connect(77);
    assert_eq!(client.send(&build(GATE, SERVER, 78, Some(1), 0, &good[..9])), []);
}

/// Found in a review: the answer to a question about one connection was taken for
/// the next one on the same ports.
#[test]
fn n20_an_approval_is_of_one_connection() {
    let mut client = Client::connected();
    let first = client.hello(&data(0, &hello("a.example")));
    client.send(&reset(GATE, SERVER, START, Some(1)));
    client.connect(77);
    let evil = build(GATE, SERVER, 78, Some(SERVER_ISN + 1), 0, &hello("b.example"));
    let second = client.hello(&evil);
    let known = Some(KNOWN);
    assert_eq!(client.hellos.decided(FLOW, first, name("a.example"), known), None);
    let deeds = client.hellos.decided(FLOW, second, name("b.example"), None).unwrap();
    assert!(is_end(&deeds[0]));
}

/// Found in a review: a second first packet moved the place where the bytes were
/// counted from away from the server's.
#[test]
fn n20_bytes_are_counted_from_where_the_server_counts() {
    let mut client = Client::connected();
    let good = hello("a.example");
    let before = START.wrapping_sub(100_000);
    client.send(&build(GATE, SERVER, before.wrapping_sub(1), None, SYN, b""));
    // The server has not agreed to that number, so nothing passes.
    let forged = build(GATE, SERVER, before, Some(SERVER_ISN + 1), 0, &good);
    assert_eq!(client.send(&forged), []);
    assert_eq!(client.hear(&answer(SERVER_ISN + 1, START, 0)), []);
    assert_eq!(client.hear(&answer(SERVER_ISN, START, SYN)), []);
    assert_eq!(client.send(&forged), []);
    assert_eq!(client.send(&data(0, &hello("b.example"))), []);
}

/// Found in a review: a connection begun with the same number inherited what the
/// one before was allowed.
#[test]
fn n20_a_new_connection_inherits_no_approval() {
    let mut client = Client::connected();
    let good = hello("a.example");
    let serial = client.hello(&data(0, &good));
    client.decided(serial, true);
    assert!(!client.acknowledged(good.len()).is_empty());
    client.hellos.noted(FLOW);
    client.connect(ISN);
    let again = client.hello(&data(0, &good));
    assert_ne!(again, serial);
}

#[test]
fn n20_only_the_servers_own_word_counts() {
    let mut client = Client::connected();
    let good = hello("a.example");
    let serial = client.hello(&data(0, &good));
    client.decided(serial, true);
    let end = START.wrapping_add(good.len() as u32);
    // More than was sent, a first packet, a packet of another connection.
    assert_eq!(client.hear(&answer(SERVER_ISN + 1, end.wrapping_add(9), 0)), []);
    assert_eq!(client.hear(&answer(SERVER_ISN, end, SYN)), []);
    assert_eq!(client.hear(&answer(SERVER_ISN.wrapping_sub(9), end, 0)), []);
    let far = SERVER_SAYS;
    assert_eq!(client.hear(&build(SERVER, GATE, SERVER_ISN + 1 + far, Some(end), 0, &taken())), []);
    assert!(!client.hear(&goes_on(good.len())).is_empty());
}

#[test]
fn n20_memory_is_bounded_and_the_oldest_goes_first() {
    let mut hellos = Hellos::default();
    let now = Instant::now();
    let part = vec![22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0];
    let part = [part, vec![0; 1_400]].concat();
    for number in 0..20_000u32 {
        let from = (GATE.0, u16::try_from(number % 60_000).unwrap());
        let to = (Ipv4Addr::from(0xcb00_7100 + number), 443);
        hellos.packet(&build(from, to, 0, None, SYN, b""), now);
        let heard = build(to, from, 9, Some(1), SYN, b"");
        hellos.answered(&Tcp::read(&heard).unwrap(), now);
        for piece in 0..4 {
            let number = 1 + piece * u32::try_from(part.len()).unwrap();
            hellos.packet(&build(from, to, number, Some(1), 0, &part), now);
        }
    }
    assert!(hellos.held <= MOST_HELD + 2 * MAX_BYTES, "{}", hellos.held);
    assert!(hellos.flows.len() <= MOST_FLOWS);
    let weight: usize = hellos.flows.values().map(State::weight).sum();
    assert_eq!(weight, hellos.held);
}

/// One connection of a sandbox, as far as a whole hello.
fn begin(hellos: &mut Hellos, owner: Owner, number: u32, hello: &[u8]) -> Vec<Deed> {
    let from = (GATE.0, u16::try_from(1_024 + number % 60_000).unwrap());
    let to = (Ipv4Addr::from(0x0b00_0000 + u32::from(owner) * 65_536 + number / 60_000), 443);
    let now = Instant::now();
    let mut syn = build(from, to, 0, None, SYN, b"");
    syn[4..6].copy_from_slice(&owner.to_be_bytes());
    hellos.packet(&syn, now);
    hellos.answered(&Tcp::read(&build(to, from, 9, Some(1), SYN, b"")).unwrap(), now);
    hellos.packet(&build(from, to, 1, Some(10), 0, hello), now)
}

#[test]
fn r1_a_sandbox_that_floods_makes_no_other_one_wait() {
    let (whole, part) = (hello("a.example"), &hello("a.example")[..20]);
    let mut hellos = Hellos::default();
    // Of a quiet sandbox.
    let quiet = || {
        (0..10).map(|number| Flow {
            port: u16::try_from(1_024 + number).unwrap(),
            server: Ipv4Addr::from(0x0b00_0000 + 2 * 65_536),
        })
    };
    for number in 0..10 {
        begin(&mut hellos, 2, number, part);
    }
    // Others begin as many as they may and end nothing.
    let large = [&[22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0][..], &[0; 1_300]].concat();
    for owner in [1, 3, 4] {
        for number in 0..20_000 {
            begin(&mut hellos, owner, number, &large);
        }
    }
    assert!(hellos.flows.len() <= MOST_FLOWS && hellos.held <= MOST_HELD + MAX_BYTES);
    assert!(quiet().all(|flow| hellos.flows.contains_key(&flow)), "its own are kept");
    let order: usize = hellos.shares.values().map(|share| share.order.len()).sum();
    assert!(order <= 3 * MOST_FLOWS, "{order}");
    // They ask for more names than are thought about at once.
    let mut hellos = Hellos::default();
    let mut asked = |owner, number| {
        let deeds = begin(&mut hellos, owner, number, &whole);
        matches!(deeds.as_slice(), [Deed::Ask(..)])
    };
    let many: usize = (0..3_000).map(|number| usize::from(asked(1, number))).sum();
    assert_eq!(many, MOST_ASKED);
    assert!((0..LEAST_ASKED as u32).all(|number| asked(2, number)), "a quiet one is heard");
}

#[test]
fn what_is_over_is_forgotten() {
    let mut hellos = Hellos::default();
    for number in 0..50_000 {
        begin(&mut hellos, 1, number % 100, &hello("a.example")[..20]);
        let from = (GATE.0, u16::try_from(1_024 + number % 100).unwrap());
        let to = (Ipv4Addr::from(0x0b00_0000 + 65_536), 443);
        // All but one.
        if number % 100 != 0 {
            hellos.packet(&reset(from, to, 1, None), Instant::now());
        }
    }
    assert_eq!((hellos.flows.len(), hellos.shares.len()), (1, 1));
    assert!(hellos.shares[&1].order.len() < 200, "{}", hellos.shares[&1].order.len());
}

/// Found in an hour of churn: those of sandboxes that are gone were kept until there were
/// too many of all.
#[test]
fn r2_what_is_over_is_forgotten_of_sandboxes_that_begin_nothing_more() {
    let mut hellos = Hellos::default();
    for owner in 1..=100 {
        begin(&mut hellos, owner, 0, &hello("a.example")[..20]);
    }
    assert_eq!((hellos.flows.len(), hellos.shares.len()), (100, 100));
    let later = Instant::now() + IDLE + Duration::from_secs(1);
    hellos.packet(&build(GATE, SERVER, 0, None, SYN, b""), later);
    assert_eq!((hellos.flows.len(), hellos.shares.len(), hellos.held), (1, 1, 0));
}

proptest! {
    /// However a client cuts, repeats and shuffles, the server gets the hello
    /// that was approved, or nothing of it.
    #[test]
    fn n20_whatever_is_sent_in_the_place_of_a_hello_was_approved(
        pieces in proptest::collection::vec((0usize..90, 1usize..90, any::<bool>()), 1..40)
    ) {
        let (good, evil) = (hello("a.example"), hello("b.example"));
        let mut client = Client::connected();
        let mut got: HashMap<usize, u8> = HashMap::new();
        let mut deeds = Vec::new();
        for (at, length, honest) in pieces {
            let from = if honest { &good } else { &evil };
            let at = at.min(from.len() - 1);
            let piece = &from[at..from.len().min(at + length)];
            deeds.extend(client.send(&data(at, piece)));
            for deed in std::mem::take(&mut deeds) {
                let sent = match deed {
                    Deed::Ask(flow, serial, asked) => {
                        let allowed = (asked == name("a.example")).then_some(KNOWN);
                        client.hellos.decided(flow, serial, asked, allowed).unwrap()
                    }
                    other => vec![other],
                };
                for packet in sent.into_iter().flat_map(|deed| match deed {
                    Deed::Send(packets) => packets,
                    _ => Vec::new(),
                }) {
                    let tcp = Tcp::read(&packet).unwrap();
                    let offset = tcp.sequence.wrapping_sub(START) as usize;
                    for (at, byte) in tcp.payload.iter().enumerate() {
                        let before = got.insert(offset + at, *byte);
                        prop_assert!(before.is_none_or(|before| before == *byte));
                        prop_assert_eq!(*byte, good[offset + at]);
                    }
                }
            }
        }
    }
}
