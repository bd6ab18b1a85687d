//! A question to a name server, and what its answer says.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use rcc_inside::probes::Outcome;

use super::{PATIENCE, done, held, untried};

/// A question of DNS (RFC 1035), with room for why it was refused (RFC 6891 6.1.2).
pub(super) fn ask(server: IpAddr, name: &str, kind: u16) -> io::Result<Outcome> {
    let mut packet = vec![0x52, 0x43, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).map_err(io::Error::other)?);
        packet.extend(label.bytes());
    }
    packet.push(0);
    packet.extend(kind.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend([0, 0, OPT, 4, 208, 0, 0, 0, 0, 0, 0]);
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(SocketAddr::new(server, 53))?;
    socket.send(&packet)?;
    let mut answer = [0; 1_500];
    let length = socket.recv(&mut answer)?;
    Ok(match answer.get(..length) {
        Some(answer) if length >= 12 && answer[..2] == packet[..2] => answered(answer),
        _ => untried("no answer to this question"),
    })
}

/// What a whole answer says (RFC 1035 4.1.1).
fn answered(answer: &[u8]) -> Outcome {
    let count = u16::from_be_bytes([answer[6], answer[7]]);
    match (answer[3] & 15, count) {
        (0, 0) => held("no records"),
        (0, _) => done(first_address(answer).unwrap_or_else(|| "records".to_owned())),
        (3, _) if is_refused(answer) => held("refused by the firewall's resolver"),
        (3, _) => untried("no such name, as any name server may say"),
        (code, _) => untried(format!("the name server failed with code {code}")),
    }
}

/// The type of the record that carries options (RFC 6891 6.1.2).
const OPT: u8 = 41;

/// The types and contents of the records of an answer to one question, as far as they
/// can be read.
struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    fn of(answer: &'a [u8]) -> Option<Self> {
        let mut records = Self(answer.get(12..)?);
        records.skip_name()?;
        records.0 = records.0.get(4..)?;
        Some(records)
    }

    fn skip_name(&mut self) -> Option<()> {
        loop {
            let length = usize::from(*self.0.first()?);
            // A pointer ends a name (RFC 1035 4.1.4).
            let taken = if length >= 0xc0 { 2 } else { 1 + length };
            self.0 = self.0.get(taken..)?;
            if length == 0 || length >= 0xc0 {
                return Some(());
            }
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_name()?;
        let head = self.0.get(..10)?;
        let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
        let content = self.0.get(10..10 + length)?;
        self.0 = &self.0[10 + length..];
        Some((u16::from_be_bytes([head[0], head[1]]), content))
    }
}

fn first_address(answer: &[u8]) -> Option<String> {
    Records::of(answer)?.find_map(|(kind, content)| match (kind, content) {
        (1, [a, b, c, d]) => Some(format!("{a}.{b}.{c}.{d}")),
        _ => None,
    })
}

/// Whether the answer says that whoever runs the resolver does not allow the name
/// (RFC 8914: option 15, and in it the number 15).
fn is_refused(answer: &[u8]) -> bool {
    let mut options =
        Records::of(answer).into_iter().flatten().filter(|(kind, _)| *kind == u16::from(OPT));
    options.any(|(_, mut rest)| {
        while let [a, b, c, d, after @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*c, *d]));
            let Some(content) = after.get(..length) else { return false };
            if (u16::from_be_bytes([*a, *b]), content.get(..2)) == (15, Some(&[0, 15])) {
                return true;
            }
            rest = &after[length..];
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcc_inside::probes::End;

    use super::*;

    #[test]
    fn a_name_is_refused_only_by_who_says_so() {
        // To a question for `a.`, with so many records of answers; `code` of RFC 1035.
        let answer = |code: u8, records: u8, rest: &[u8]| {
            let head =
                [0x52, 0x43, 0x81, code, 0, 1, 0, records, 0, 0, 0, 1, 1, b'a', 0, 0, 1, 0, 1];
            [&head[..], rest].concat()
        };
        let record = [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4][..], &[203, 0, 113, 9]].concat();
        assert_eq!(answered(&answer(0, 1, &record)), done("203.0.113.9"));
        // An option of another kind first, then why.
        let why = |kind: u8, number: u8| {
            let options = [0, 10, 0, 1, 7, 0, kind, 0, 5, 0, number, b'r', b'c', b'c'];
            let length = options.len() as u8;
            [&[0, 0, OPT, 4, 208, 0, 0, 0, 0, 0, length][..], &options].concat()
        };
        assert_eq!(answered(&answer(3, 0, &why(15, 15))).end, End::Refused);
        for other in [why(15, 3), why(12, 15), Vec::new(), why(15, 15)[..20].to_vec()] {
            assert_eq!(answered(&answer(3, 0, &other)).end, End::Untried, "{other:?}");
        }
        assert_eq!(answered(&answer(2, 0, &why(15, 15))).end, End::Untried);
        assert_eq!(answered(&answer(0, 0, &[])).end, End::Refused);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 12..300)) {
            answered(&bytes);
        }

        #[test]
        fn bent_answers_never_panic(at in 0usize..60, byte: u8, cut in 12usize..60) {
            let mut answer = vec![0x52, 0x43, 0x81, 3, 0, 1, 0, 1, 0, 0, 0, 1, 1, b'a', 0, 0, 1, 0, 1];
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 203, 0, 113, 9]);
            answer.extend([0, 0, OPT, 4, 208, 0, 0, 0, 0, 0, 9, 0, 15, 0, 5, 0, 15, b'r', b'c', b'c']);
            answer[at % 55] = byte;
            answer.truncate(cut);
            answered(&answer);
        }
    }
}
