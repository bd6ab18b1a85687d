//! A server may want a second hello (HelloRetryRequest): it has the name of the first one,
//! or does not reach the server. OpenSSL's takes the name of the second one.

use super::*;
use crate::resolver::retry::LOOKED_AT;
use crate::resolver::retry::samples::{again, server_hello};

/// A client whose first hello is allowed, sent on and not answered, and that hello.
fn sent() -> (Client, Vec<u8>) {
    let mut client = Client::connected();
    let first = hello("a.example");
    let serial = client.hello(&data(0, &first));
    assert_eq!(client.decided(serial, true), [Deed::Send(vec![data(0, &first)])]);
    (client, first)
}

/// The same, of which the server wants another hello.
fn asked_again() -> (Client, Vec<u8>) {
    let (mut client, first) = sent();
    assert_eq!(client.hear(&says(first.len(), 0, &again())), []);
    (client, first)
}

/// The server has so many bytes, and says this behind so many of its own.
fn says(has: usize, at: usize, words: &[u8]) -> Vec<u8> {
    let ack = START.wrapping_add(has as u32);
    build(SERVER, GATE, (SERVER_ISN + 1).wrapping_add(at as u32), Some(ack), 0, words)
}

fn passed() -> Deed {
    Deed::Passed(FLOW, KNOWN, name("a.example"))
}

fn is_refused(deeds: &[Deed]) -> bool {
    matches!(deeds, [end, Deed::Hidden(FLOW, _)] if is_end(end))
}

const CHANGE_CIPHER_SPEC: &[u8] = &[20, 3, 3, 0, 1, 1];

/// Early data, as it looks to everybody but the server.
fn early(length: u8) -> Vec<u8> {
    [&[23, 3, 3, 0, length][..], &vec![22; usize::from(length)]].concat()
}

#[test]
fn n20_a_second_hello_with_another_name_reaches_nobody() {
    for second in [
        hello("b.example"),
        [CHANGE_CIPHER_SPEC, &hello("b.example")].concat(),
        records(&message(&[named(b"b.example")]), 9),
        records(&message(&[]), 99),
        records(&message(&[named(b"a.example"), encrypted()]), 1 << 14),
        b"GET / HTTP/1.1\r\n".to_vec(),
    ] {
        let (mut client, first) = asked_again();
        let deeds = client.send(&data(first.len(), &second));
        assert!(is_refused(&deeds), "{deeds:?}");
        // The server hears of it at the number that it expects.
        let Deed::Send(ends) = &deeds[0] else { panic!("{deeds:?}") };
        let next = START.wrapping_add(first.len() as u32);
        assert_eq!(Tcp::read(&ends[0]).unwrap().sequence, next);
        assert_eq!((client.hellos.flows.len(), client.hellos.held), (0, 0));
    }
}

#[test]
fn n20_a_second_hello_with_the_same_name_passes() {
    let (mut client, first) = asked_again();
    let second = [CHANGE_CIPHER_SPEC, &hello("a.example"), b"more"].concat();
    let (early, late) = second.split_at(30);
    let packets = [data(first.len() + 30, late), data(first.len(), early)];
    assert_eq!(client.send(&packets[0]), []);
    // The server has acknowledged the first one alone.
    assert_eq!(client.hear(&says(first.len(), again().len(), b"")), []);
    assert_eq!(client.send(&packets[1]), [Deed::Send(packets.to_vec())]);
    let end = first.len() + second.len() - b"more".len();
    assert_eq!(client.hear(&says(end - 1, again().len(), b"")), []);
    // Nothing else comes in its place, also by way of a packet that repeats the first one.
    let evil = [&first[..], CHANGE_CIPHER_SPEC, &hello("b.example")].concat();
    assert_eq!(client.send(&data(0, &evil)), []);
    assert_eq!(client.hear(&says(end, again().len(), b"")), [passed()]);
}

#[test]
fn n20_what_stands_behind_the_hello_waits_for_the_answer() {
    // In the packet of the hello, and in one of its own.
    for together in [true, false] {
        for evil in [true, false] {
            let mut client = Client::connected();
            let first = hello("a.example");
            let behind = hello("b.example");
            let serial = if together {
                client.hello(&data(0, &[&first[..], &behind].concat()))
            } else {
                let serial = client.hello(&data(0, &first));
                assert_eq!(client.send(&data(first.len(), &behind)), []);
                serial
            };
            let Deed::Send(packets) = &client.decided(serial, true)[0] else { panic!() };
            let sent: Vec<_> = packets.iter().map(|packet| Tcp::read(packet).unwrap()).collect();
            assert_eq!(sent.len(), 1);
            assert_eq!((sent[0].sequence, sent[0].payload), (START, &first[..]));
            // Sent once more, it goes no further.
            let whole = [&first[..], &behind].concat();
            let repeated = client.send(&data(0, &whole));
            assert_eq!(repeated, [Deed::Send(vec![data(0, &first)])]);
            assert_eq!(client.send(&data(first.len(), &behind)), []);
            // Acknowledged, and no word yet.
            assert_eq!(client.hear(&says(first.len(), 0, b"")), []);
            let answer = if evil { again() } else { taken() };
            let deeds = client.hear(&says(first.len(), 0, &answer));
            if evil {
                assert!(is_refused(&deeds), "{deeds:?}");
            } else {
                assert_eq!(deeds[0], passed());
                assert!(matches!(&deeds[1], Deed::Send(packets) if packets.len() == 3));
            }
            let weight: usize = client.hellos.flows.values().map(State::weight).sum();
            assert_eq!(client.hellos.held, weight);
        }
    }
}

#[test]
fn n20_early_data_waits_for_the_answer_and_is_passed_over_before_a_second_hello() {
    let behind = [CHANGE_CIPHER_SPEC, &early(200), &early(90)].concat();
    let (mut client, first) = sent();
    let packet = data(first.len(), &behind);
    assert_eq!(client.send(&packet), []);
    let deeds = client.hear(&says(first.len(), 0, &taken()));
    assert_eq!(deeds, [passed(), Deed::Send(vec![packet.clone()])]);
    for allowed in [true, false] {
        let (mut client, first) = sent();
        assert_eq!(client.send(&packet), []);
        assert_eq!(client.hear(&says(first.len(), 0, &again())), []);
        let second = data(
            first.len() + behind.len(),
            &hello(if allowed { "a.example" } else { "b.example" }),
        );
        let deeds = client.send(&second);
        if allowed {
            assert_eq!(deeds, [Deed::Send(vec![packet.clone(), second])]);
        } else {
            assert!(is_refused(&deeds), "{deeds:?}");
        }
    }
}

/// A client that has next to no room gets the answer byte by byte.
#[test]
fn n20_an_answer_in_tiny_pieces_and_any_order_is_read() {
    for backwards in [true, false] {
        for (words, wants_more) in
            [(again(), true), (taken(), false), (server_hello([7; 32], 3), false)]
        {
            let (mut client, first) = sent();
            let mut order: Vec<_> = (0..words.len()).collect();
            if backwards {
                order.reverse();
            }
            let mut deeds = Vec::new();
            for at in order {
                assert_eq!(deeds, [], "before byte {at}, {backwards}");
                let piece = says(first.len(), at, &words[at..=at]);
                deeds.extend(client.hear(&piece));
                // Not again.
                assert_eq!(client.hear(&piece), []);
                if deeds == [passed()] {
                    break;
                }
            }
            assert_eq!(deeds == [passed()], !wants_more);
            let evil = client.send(&data(first.len(), &hello("b.example")));
            assert_eq!(is_refused(&evil), wants_more, "{evil:?}");
        }
    }
}

#[test]
fn n20_a_server_that_speaks_first_gives_up_or_speaks_otherwise_is_passed() {
    let (mut client, first) = sent();
    let fatal = [21, 3, 3, 0, 2, 2, 40];
    assert_eq!(client.hear(&says(first.len(), 0, &fatal)), [passed()]);
    // A greeting, before anything was said to it.
    let mut client = Client::connected();
    assert_eq!(client.hear(&says(0, 0, b"from 198.18.0.2\n")), []);
    let serial = client.hello(&data(0, &first));
    client.decided(serial, true);
    assert_eq!(client.hear(&says(first.len(), 16, b"")), [passed()]);
}

#[test]
fn n20_an_answer_that_is_none_passes_nothing() {
    for words in [hello("a.example"), vec![24, 3, 3], [21, 3, 3, 0, 2, 1, 112].repeat(20)] {
        let (mut client, first) = sent();
        assert_eq!(client.hear(&says(first.len(), 0, &words)), []);
        assert_eq!(client.hear(&says(first.len(), LOOKED_AT, &taken())), []);
        let deeds = client.send(&data(first.len(), b"x"));
        assert!(is_refused(&deeds), "{deeds:?}");
    }
    // Neither what ends the connection, nor what is of another one.
    let (mut client, first) = sent();
    let ack = Some(START.wrapping_add(first.len() as u32));
    let mut reset = reset(SERVER, GATE, SERVER_ISN + 1, ack);
    reset.extend(taken());
    reset[2..4].copy_from_slice(&(40 + taken().len() as u16).to_be_bytes());
    assert_eq!(Tcp::read(&reset).unwrap().payload, taken());
    assert_eq!(client.hear(&reset), []);
    assert_eq!(client.hear(&says(first.len() + 9, 0, &taken())), []);
    assert_eq!(client.hear(&says(first.len(), 0, b"")), []);
}

/// The copies of a flood of answers may be lost on their way here.
#[test]
fn n20_an_answer_that_only_the_client_heard_ends_the_connection_when_it_speaks_twice() {
    let (mut client, first) = sent();
    assert_eq!(client.hear(&says(first.len(), 0, &again()[..20])), []);
    let speaks = |heard: usize| {
        let ack = SERVER_ISN + 1 + heard as u32;
        let number = START.wrapping_add(first.len() as u32);
        build(GATE, SERVER, number, Some(ack), 0, &hello("b.example"))
    };
    // It has no more than was heard here.
    assert_eq!(client.send(&speaks(20)), []);
    assert_eq!(client.send(&speaks(20)), []);
    let deeds = client.send(&speaks(60));
    assert!(matches!(deeds.as_slice(), [end] if is_end(end)), "{deeds:?}");
    // The first time it may be on its way.
    let (mut client, _) = sent();
    assert_eq!(client.send(&speaks(60)), []);
    assert!(is_refused(&client.hear(&says(first.len(), 0, &again()))));
}

/// Words of a connection that the server has forgotten, and begins anew.
#[test]
fn n20_a_connection_that_is_begun_again_waits_for_words_of_its_own() {
    let mut client = Client::connected();
    assert_eq!(client.hear(&says(0, 0, &taken())), []);
    client.connect(ISN);
    let first = hello("a.example");
    let serial = client.hello(&data(0, &first));
    client.decided(serial, true);
    assert_eq!(client.hear(&says(first.len(), 0, b"")), []);
    assert_eq!(client.hear(&says(first.len(), 0, &again())), []);
    assert!(is_refused(&client.send(&data(first.len(), &hello("b.example")))));
}

proptest! {
    /// However a client and its server's answer are cut, repeated and shuffled: of what
    /// stands behind the first hello the server gets a second one of the same name, or
    /// nothing.
    #[test]
    fn n20_whatever_is_sent_in_the_place_of_a_second_hello_was_approved(
        pieces in proptest::collection::vec((0usize..180, 1usize..120, 0u8..4), 1..60)
    ) {
        let (first, evil) = (hello("a.example"), hello("b.example"));
        let honest = [&first[..], &first].concat();
        let evil = [&first[..], &evil].concat();
        let words = again();
        let mut client = Client::connected();
        for (at, length, who) in pieces {
            let from = match who { 0 | 1 => &honest, 2 => &evil, _ => &words };
            let at = at.min(from.len() - 1);
            let piece = &from[at..from.len().min(at + length)];
            let mut deeds = if who == 3 {
                client.hear(&says(first.len(), at, piece))
            } else {
                client.send(&data(at, piece))
            };
            if let Some(Deed::Ask(flow, serial, asked)) = deeds.first() {
                let (flow, serial, asked) = (*flow, *serial, asked.clone());
                let allowed = (asked == name("a.example")).then_some(KNOWN);
                deeds = client.hellos.decided(flow, serial, asked, allowed).unwrap();
            }
            prop_assert!(!deeds.contains(&passed()));
            for packet in deeds.iter().flat_map(|deed| match deed {
                Deed::Send(packets) => packets.as_slice(),
                _ => &[],
            }) {
                let tcp = Tcp::read(packet).unwrap();
                let offset = tcp.sequence.wrapping_sub(START) as usize;
                for (at, byte) in tcp.payload.iter().enumerate() {
                    prop_assert_eq!(*byte, honest[offset + at]);
                }
            }
        }
    }
}
