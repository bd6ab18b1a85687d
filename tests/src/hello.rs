//! TLS hellos as clients send them (RFC 8446, RFC 6066), for tests that cut, forge
//! and hide them.

fn long(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a short piece");
    [&length.to_be_bytes(), content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &long(content)].concat()
}

/// The extension that names a server.
pub fn named(name: &str) -> Vec<u8> {
    extension(0, &long(&[&[0u8][..], &long(name.as_bytes())].concat()))
}

/// The extension with an encrypted hello in it (RFC 9849).
pub fn encrypted() -> Vec<u8> {
    extension(0xfe0d, &[0; 150])
}

/// A key share as large as those for the time after quantum computers.
pub fn large_key() -> Vec<u8> {
    extension(51, &[7; 1_250])
}

/// A hello with these extensions, in records of at most `record` bytes.
pub fn hello(extensions: &[Vec<u8>], record: usize) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([9; 32]);
    body.push(0);
    body.extend(long(&[0x13, 0x01]));
    body.extend([1, 0]);
    body.extend(long(&extensions.concat()));
    let length = u32::try_from(body.len()).expect("a short hello").to_be_bytes();
    let message = [&[1, length[1], length[2], length[3]], &body[..]].concat();
    message.chunks(record).flat_map(|piece| [&[22, 3, 1][..], &long(piece)].concat()).collect()
}

/// A hello for one name, in one record.
pub fn hello_for(name: &str) -> Vec<u8> {
    hello(&[named(name)], 1 << 14)
}
