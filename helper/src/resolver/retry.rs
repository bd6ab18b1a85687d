//! What a server says first (RFC 8446): whether it has taken the client's hello, or
//! wants another one (HelloRetryRequest). Pure: bytes in, an answer out.

// Numbers of TLS: record and handshake types, levels of alerts.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// The other records: change cipher spec, application data, heartbeat.
const RECORDS: std::ops::RangeInclusive<u8> = 20..=24;
const SERVER_HELLO: u8 = 2;
const WARNING: u8 = 1;
/// The random of a hello that wants another one (RFC 8446 4.1.3): SHA-256 of
/// "HelloRetryRequest".
pub const AGAIN: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];
/// Bytes that are looked at. A hello is known by 43; a warning before it has 7.
pub const LOOKED_AT: usize = 128;

/// What the bytes so far say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Not enough.
    Unfinished,
    /// The server wants another hello.
    Again,
    /// It wants no other one: it goes on with this one, gives up, or does not speak TLS.
    Taken,
    /// It begins as TLS does, and as no server does.
    Strange,
}

/// A server's first bytes, in whatever order and pieces they come: a client with little
/// room gets them one by one.
pub struct FirstWords {
    bytes: [u8; LOOKED_AT],
    /// One bit for each byte that has come.
    come: u128,
    /// Two packets said different things in one place.
    contradict: bool,
}

impl Default for FirstWords {
    fn default() -> Self {
        Self { bytes: [0; LOOKED_AT], come: 0, contradict: false }
    }
}

impl FirstWords {
    /// Takes over what stands behind so many bytes.
    pub fn note(&mut self, offset: usize, said: &[u8]) {
        for (at, byte) in (offset..LOOKED_AT).zip(said) {
            let bit = 1_u128 << at;
            self.contradict |= self.come & bit != 0 && self.bytes[at] != *byte;
            self.bytes[at] = *byte;
            self.come |= bit;
        }
    }

    /// So many bytes have come without a gap.
    pub fn heard(&self) -> usize {
        self.come.trailing_ones() as usize
    }

    /// What they say.
    pub fn read(&self) -> Answer {
        match read(&self.bytes[..self.heard()]) {
            _ if self.contradict => Answer::Strange,
            Answer::Unfinished if self.heard() == LOOKED_AT => Answer::Strange,
            answer => answer,
        }
    }
}

fn read(mut rest: &[u8]) -> Answer {
    // The first byte tells TLS from everything else.
    if rest.first().is_some_and(|kind| !RECORDS.contains(kind)) {
        return Answer::Taken;
    }
    let mut message = Vec::new();
    loop {
        match rest {
            [] | [HANDSHAKE | ALERT] => return Answer::Unfinished,
            [HANDSHAKE | ALERT, 3, ..] => {}
            _ => return Answer::Strange,
        }
        let [kind, _, _, high, low, after @ ..] = rest else { return Answer::Unfinished };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (content, whole) = match after.split_at_checked(length) {
            Some((content, more)) => {
                rest = more;
                (content, true)
            }
            None => (after, false),
        };
        if *kind == ALERT {
            match content {
                // Servers that do not know the name may say so, and go on (RFC 6066 3).
                [WARNING, _] if whole => continue,
                [WARNING, ..] | [] if !whole => return Answer::Unfinished,
                [level, ..] if *level != WARNING && length == 2 => return Answer::Taken,
                _ => return Answer::Strange,
            }
        }
        message.extend(content);
        match message.as_slice() {
            [kind, ..] if *kind != SERVER_HELLO => return Answer::Strange,
            // Kind, length, version.
            [_, _, _, _, _, _, random @ ..] if random.len() >= AGAIN.len() => {
                let again = random.starts_with(&AGAIN);
                return if again { Answer::Again } else { Answer::Taken };
            }
            _ if !whole => return Answer::Unfinished,
            _ => {}
        }
    }
}

/// Answers for tests.
#[cfg(any(test, feature = "fuzz"))]
pub mod samples {
    /// A server's hello with this random, in records of at most so many bytes.
    pub fn server_hello(random: [u8; 32], record: usize) -> Vec<u8> {
        let body = [&[3, 3][..], &random, &[0, 0x13, 0x01, 0, 0, 0]].concat();
        let length = u8::try_from(body.len()).expect("short");
        let message = [&[2, 0, 0, length][..], &body].concat();
        let records = message.chunks(record).map(|piece| {
            let length = u8::try_from(piece.len()).expect("short");
            [&[22, 3, 3, 0, length][..], piece].concat()
        });
        records.collect::<Vec<_>>().concat()
    }

    /// A server that wants another hello.
    pub fn again() -> Vec<u8> {
        server_hello(super::AGAIN, 99)
    }

    /// A server that goes on.
    pub fn taken() -> Vec<u8> {
        server_hello([7; 32], 99)
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{again, server_hello, taken};
    use super::*;
    use proptest::prelude::*;

    /// Up to this byte nothing is known.
    const KNOWN: usize = 43;

    #[test]
    fn n20_a_server_that_wants_another_hello_is_known_however_its_answer_is_cut() {
        let warned = |bytes: &[u8]| [&[ALERT, 3, 3, 0, 2, WARNING, 112], bytes].concat();
        for (bytes, known, answer) in [
            (again(), KNOWN, Answer::Again),
            (taken(), KNOWN, Answer::Taken),
            (warned(&again()), 7 + KNOWN, Answer::Again),
            (warned(&warned(&taken())), 14 + KNOWN, Answer::Taken),
            (server_hello(AGAIN, 20), 5 + KNOWN, Answer::Again),
        ] {
            for end in 0..bytes.len() {
                let expected = if end < known { Answer::Unfinished } else { answer };
                assert_eq!(read(&bytes[..end]), expected, "{end} of {bytes:?}");
            }
        }
        // All but the last byte of that random.
        let mut almost = AGAIN;
        almost[31] ^= 1;
        assert_eq!(read(&server_hello(almost, 99)), Answer::Taken);
    }

    #[test]
    fn n20_what_is_no_tls_or_an_end_takes_no_other_hello() {
        for bytes in
            [&b"from 198.18.0.2\n"[..], b"HTTP/1.1 400", b"\0", &[ALERT, 3, 3, 0, 2, 2, 40]]
        {
            assert_eq!(read(bytes), Answer::Taken, "{bytes:?}");
        }
    }

    #[test]
    fn n20_what_no_server_says_first_is_never_taken() {
        // Another version, a hello of a client's, other records, an alert of another length,
        // another record in the middle of a hello.
        let mixed = [&[22, 3, 3, 0, 1, 2][..], &[23, 3, 3, 0, 1, 0]].concat();
        for bytes in [
            &[22, 2, 0][..],
            &[22, 3, 3, 0, 9, 1],
            &[20, 3],
            &[23, 3],
            &[24, 3],
            &[ALERT, 3, 3, 0, 3, 2, 40, 0],
            &mixed,
        ] {
            assert_eq!(read(bytes), Answer::Strange, "{bytes:?}");
        }
        // Warnings that do not end.
        let mut words = FirstWords::default();
        words.note(0, &[ALERT, 3, 3, 0, 2, WARNING, 112].repeat(20));
        assert_eq!(words.read(), Answer::Strange);
    }

    #[test]
    fn n20_bytes_that_come_twice_say_the_same_or_nothing_counts() {
        let mut words = FirstWords::default();
        words.note(3, &taken()[3..]);
        assert_eq!((words.read(), words.heard()), (Answer::Unfinished, 0));
        words.note(0, &taken()[..9]);
        assert_eq!((words.read(), words.heard()), (Answer::Taken, taken().len()));
        words.note(40, &[8]);
        assert_eq!(words.read(), Answer::Strange);
    }

    proptest! {
        #[test]
        fn what_was_known_is_not_taken_back(
            random in any::<bool>(),
            bytes in proptest::collection::vec(prop_oneof![20u8..25, 0u8..4, any::<u8>()], 0..100),
            pieces in proptest::collection::vec((0usize..140, 0usize..140), 0..20),
        ) {
            let bytes = if random { bytes } else { [again(), bytes].concat() };
            let mut words = FirstWords::default();
            for (at, length) in pieces {
                let before = words.read();
                let at = at.min(bytes.len());
                words.note(at, &bytes[at..bytes.len().min(at + length)]);
                prop_assert!(before == Answer::Unfinished || before == words.read());
            }
            if !random {
                prop_assert!(matches!(words.read(), Answer::Unfinished | Answer::Again));
            }
        }
    }
}
