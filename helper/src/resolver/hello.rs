//! The server's name in the first bytes of a TLS connection (RFC 8446, RFC 6066).
//! Pure: bytes in, a name out. Nothing is decrypted; the name stands there in
//! the clear.

use rcc_policy::Name;

/// Longest handshake message that is read. Hellos with keys for the time after
/// quantum computers have 1.5 to 3 KB; servers take 16 KB at most.
pub const MAX_HELLO: usize = 16 * 1024;
/// The same with the headers of its records, if each carries little: more bytes
/// than that are no hello.
pub const MAX_BYTES: usize = MAX_HELLO + MAX_HELLO / 8;

// Numbers of TLS: record and handshake types, extensions.
const HANDSHAKE: u8 = 22;
/// Change cipher spec, alert, application data.
const PASSED_OVER: [u8; 3] = [20, 21, 23];
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// RFC 9849: the true name is encrypted, the one in the clear is a stand-in.
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// Longest record: 2^14 bytes of content.
const MAX_RECORD: usize = 1 << 14;

/// What the bytes so far say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// The hello is not whole yet.
    Unfinished,
    /// It names this server, and ends before this byte.
    Names(Name, usize),
    /// It names none that can be seen, or is no hello.
    Hides(Why),
}

/// Why no name can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Not TLS, or not as its standard says.
    NotTls,
    /// No name, two names, or something else than a host name.
    NoName,
    /// The true name is encrypted.
    Encrypted,
}

/// Reads the bytes that a client sent first.
pub fn read(bytes: &[u8]) -> Hello {
    match handshake(bytes) {
        Ok(None) => Hello::Unfinished,
        Ok(Some((message, end))) => match server_name(&message) {
            Ok(name) => Hello::Names(name, end),
            Err(why) => Hello::Hides(why),
        },
        Err(why) => Hello::Hides(why),
    }
}

/// Reads the bytes that a client sent after a server wanted another hello of it. What it
/// said meanwhile, of early data for one, stands before that one, and a server passes it
/// over (RFC 8446 4.2.10, 5).
pub fn read_again(bytes: &[u8]) -> Hello {
    let mut rest = Reader(bytes);
    while let [kind, ..] = rest.0
        && PASSED_OVER.contains(kind)
    {
        match rest.0 {
            [_, major, ..] if *major != 3 => return Hello::Hides(Why::NotTls),
            [_, _, _, _, _, ..] => {}
            _ => return Hello::Unfinished,
        }
        rest.take(3);
        if rest.long().is_none() {
            return Hello::Unfinished;
        }
    }
    match read(rest.0) {
        Hello::Names(name, end) => Hello::Names(name, bytes.len() - rest.0.len() + end),
        other => other,
    }
}

/// The body of the first handshake message, put together from its records, and where
/// they end. `None` while it is not whole.
fn handshake(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Why> {
    let mut rest = Reader(bytes);
    let mut message = Vec::new();
    // Of the record that is under way, what has not come.
    let mut missing = 0;
    loop {
        if let Some(length) = message_length(&message)?
            && message.len() >= 4 + length
        {
            // More in its last record could be another hello, which the server reads
            // as soon as it wants one.
            if message.len() > 4 + length || missing > 0 {
                return Err(Why::NotTls);
            }
            message.drain(..4);
            return Ok(Some((message, bytes.len() - rest.0.len())));
        }
        // Wrong from the first byte is wrong, also when the header is not whole.
        match rest.0 {
            [kind, ..] if *kind != HANDSHAKE => return Err(Why::NotTls),
            [_, major, ..] if *major != 3 => return Err(Why::NotTls),
            _ => {}
        }
        let Some([_, _, _, high, low]) = rest.take(5) else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > MAX_RECORD {
            return Err(Why::NotTls);
        }
        // Of a record that is under way what has come is read.
        let content = rest.take(length.min(rest.0.len())).unwrap_or_default();
        missing = length - content.len();
        message.extend(content);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(Why::NotTls);
        }
    }
}

fn message_length(message: &[u8]) -> Result<Option<usize>, Why> {
    let [_, a, b, c, ..] = message else { return Ok(None) };
    let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
    if length > MAX_HELLO { Err(Why::NotTls) } else { Ok(Some(length)) }
}

fn server_name(message: &[u8]) -> Result<Name, Why> {
    let mut hello = Reader(message);
    // Version and random.
    hello.take(2 + 32).ok_or(Why::NotTls)?;
    hello.short().ok_or(Why::NotTls)?; // session
    hello.long().ok_or(Why::NotTls)?; // cipher suites
    hello.short().ok_or(Why::NotTls)?; // compression
    let Some(extensions) = hello.long() else { return Err(Why::NoName) };
    if !hello.0.is_empty() {
        return Err(Why::NotTls);
    }
    let mut extensions = Reader(extensions);
    let mut name = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number().ok_or(Why::NotTls)?;
        let content = extensions.long().ok_or(Why::NotTls)?;
        match kind {
            ENCRYPTED_CLIENT_HELLO => return Err(Why::Encrypted),
            // Servers differ in which of two they take.
            SERVER_NAME if name.is_some() => return Err(Why::NoName),
            SERVER_NAME => name = Some(host_name(content).ok_or(Why::NoName)?),
            _ => {}
        }
    }
    name.ok_or(Why::NoName)
}

/// The one host name in the list of the extension.
fn host_name(content: &[u8]) -> Option<Name> {
    let mut outer = Reader(content);
    let mut list = Reader(outer.long()?);
    let [kind] = list.take(1)? else { return None };
    let name = list.long()?;
    if *kind != HOST_NAME || !list.0.is_empty() || !outer.0.is_empty() {
        return None;
    }
    let text = std::str::from_utf8(name).ok()?;
    // A dot at the end is not allowed in here, and servers differ about it; nor is anything
    // but ASCII (RFC 6066), which is not to be taken for a name that it may mean.
    if text.ends_with('.') || !text.is_ascii() { None } else { text.parse().ok() }
}

/// Takes pieces from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (piece, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(piece)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// A piece with one byte of length before it.
    fn short(&mut self) -> Option<&'a [u8]> {
        let [length] = self.take(1)? else { return None };
        self.take(usize::from(*length))
    }

    /// A piece with two bytes of length before it.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::from(length))
    }
}

/// Hellos for tests.
#[cfg(any(test, feature = "fuzz"))]
pub mod samples {
    fn long(content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).expect("short");
        [&length.to_be_bytes(), content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &long(content)].concat()
    }

    /// The extension with a server's name.
    pub fn named(name: &[u8]) -> Vec<u8> {
        extension(0, &long(&[&[0u8][..], &long(name)].concat()))
    }

    /// An extension that encrypts the hello.
    #[cfg(test)]
    pub fn encrypted() -> Vec<u8> {
        extension(0xfe0d, &[0; 40])
    }

    /// A large key, as for the time after quantum computers.
    #[cfg(test)]
    pub fn large_key() -> Vec<u8> {
        extension(51, &[7; 1_250])
    }

    /// The handshake message with these extensions.
    pub fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([9; 32]);
        body.extend([0]);
        body.extend(long(&[0x13, 0x01]));
        body.extend([1, 0]);
        body.extend(long(&extensions.concat()));
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        [&[1, length[1], length[2], length[3]], &body[..]].concat()
    }

    /// The message in records of at most so many bytes.
    pub fn records(message: &[u8], size: usize) -> Vec<u8> {
        message.chunks(size).flat_map(|piece| [&[22, 3, 1][..], &long(piece)].concat()).collect()
    }

    /// A hello for one name, in one record.
    pub fn hello(name: &str) -> Vec<u8> {
        records(&message(&[named(name.as_bytes())]), 1 << 14)
    }
}

#[cfg(test)]
mod tests {
    use super::samples::*;
    use super::*;
    use proptest::prelude::*;

    fn names(name: &str, end: usize) -> Hello {
        Hello::Names(name.parse().unwrap(), end)
    }

    #[test]
    fn n20_the_name_is_read_however_the_hello_is_cut() {
        let message = message(&[large_key(), named(b"API.Example.com")]);
        for size in [1, 7, 100, 1 << 14] {
            let bytes = records(&message, size);
            let expected = names("api.example.com", bytes.len());
            assert_eq!(read(&bytes), expected);
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), Hello::Unfinished, "{size} {end}");
            }
            // What follows the hello is not looked at.
            assert_eq!(read(&[&bytes[..], b"more"].concat()), expected);
        }
    }

    #[test]
    fn n20_nothing_else_stands_in_the_records_of_a_hello() {
        let (good, evil) = (message(&[named(b"a.example")]), message(&[named(b"b.example")]));
        let both = records(&[good, evil].concat(), 1 << 14);
        for end in 0..=both.len() {
            let said = read(&both[..end]);
            assert!(
                matches!(said, Hello::Unfinished | Hello::Hides(Why::NotTls)),
                "{end}: {said:?}"
            );
        }
        assert_eq!(read(&both), Hello::Hides(Why::NotTls));
    }

    #[test]
    fn n20_a_second_hello_is_read_behind_what_a_server_passes_over() {
        let hello = hello("a.example");
        let between =
            [&[20, 3, 3, 0, 1, 1][..], &[23, 3, 3, 0, 3, 22, 3, 1], &[21, 3, 3, 0, 2, 1, 0]];
        let bytes = [&between.concat()[..], &hello].concat();
        for end in 0..bytes.len() {
            assert_eq!(read_again(&bytes[..end]), Hello::Unfinished, "{end}");
        }
        assert_eq!(read_again(&bytes), names("a.example", bytes.len()));
        assert_eq!(read_again(&[&bytes[..], b"more"].concat()), names("a.example", bytes.len()));
        for strange in [&[23, 2][..], b"G", &[24, 3, 3, 0, 1, 1]] {
            assert_eq!(read_again(strange), Hello::Hides(Why::NotTls), "{strange:?}");
        }
        // Before a first one nothing is passed over.
        assert_eq!(read(&bytes), Hello::Hides(Why::NotTls));
    }

    #[test]
    fn n20_a_hidden_name_is_none() {
        let hidden = |extensions: &[Vec<u8>]| read(&records(&message(extensions), 1 << 14));
        let no_name = Hello::Hides(Why::NoName);
        assert_eq!(hidden(&[]), no_name);
        assert_eq!(hidden(&[large_key()]), no_name);
        assert_eq!(hidden(&[named(b"a.example"), named(b"b.example")]), no_name);
        let wide = "\u{ff41}.example";
        for bad in [&b"a.example\0.b.example"[..], b"a.example.", b"203.0.113.9", b"", b"a b.c"]
            .into_iter()
            .chain([wide.as_bytes()])
        {
            assert_eq!(hidden(&[named(bad)]), no_name, "{bad:?}");
        }
        for extensions in [[named(b"a.example"), encrypted()], [encrypted(), named(b"a.example")]] {
            assert_eq!(hidden(&extensions), Hello::Hides(Why::Encrypted));
        }
    }

    #[test]
    fn n20_what_is_not_tls_is_seen_at_once() {
        let not_tls = Hello::Hides(Why::NotTls);
        assert_eq!(read(b"G"), not_tls);
        assert_eq!(read(b"SSH-2.0-OpenSSH_9.2\r\n"), not_tls);
        assert_eq!(read(&[22, 2]), not_tls);
        assert_eq!(read(&[22, 3, 1, 0, 0]), not_tls);
        assert_eq!(read(&[22, 3, 1, 0x40, 1]), not_tls);
        // A server's hello, and one that is too long.
        assert_eq!(read(&[22, 3, 3, 0, 4, 2, 0, 0, 0]), not_tls);
        assert_eq!(read(&[22, 3, 3, 0, 4, 1, 0, 0x41, 0]), not_tls);
        assert_eq!(read(b""), Hello::Unfinished);
    }

    proptest! {
        #[test]
        fn garbage_never_names_anything(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(!matches!(read(&bytes), Hello::Names(..)));
        }

        #[test]
        fn a_byte_changed_gives_no_other_allowed_name(at in any::<usize>(), byte in any::<u8>()) {
            let mut bytes = hello("a.example");
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Hello::Names(name, _) = read(&bytes) {
                prop_assert_eq!(name.as_str().len(), "a.example".len());
            }
        }
    }
}
