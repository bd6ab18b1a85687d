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

/// Key exchanges by their number: a client offers both, and a key for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// X25519.
    X25519 = 0x001d,
    /// secp384r1.
    P384 = 0x0018,
}

/// A point on secp384r1: the one that everybody begins with (SEC 2, 2.5.1).
const POINT: [u8; 97] = [
    0x04, 0xaa, 0x87, 0xca, 0x22, 0xbe, 0x8b, 0x05, 0x37, 0x8e, 0xb1, 0xc7, 0x1e, 0xf3, 0x20, 0xad,
    0x74, 0x6e, 0x1d, 0x3b, 0x62, 0x8b, 0xa7, 0x9b, 0x98, 0x59, 0xf7, 0x41, 0xe0, 0x82, 0x54, 0x2a,
    0x38, 0x55, 0x02, 0xf2, 0x5d, 0xbf, 0x55, 0x29, 0x6c, 0x3a, 0x54, 0x5e, 0x38, 0x72, 0x76, 0x0a,
    0xb7, 0x36, 0x17, 0xde, 0x4a, 0x96, 0x26, 0x2c, 0x6f, 0x5d, 0x9e, 0x98, 0xbf, 0x92, 0x92, 0xdc,
    0x29, 0xf8, 0xf4, 0x1d, 0xbd, 0x28, 0x9a, 0x14, 0x7c, 0xe9, 0xda, 0x31, 0x13, 0xb5, 0xf0, 0xb8,
    0xc0, 0x0a, 0x60, 0xb1, 0xce, 0x1d, 0x7e, 0x81, 0x9d, 0x7a, 0x43, 0x1d, 0x7c, 0x90, 0xea, 0x0e,
    0x5f,
];

/// A hello of TLS 1.3 with all that a server needs, and a key of this group.
pub fn with_key(name: &str, group: Group) -> Vec<u8> {
    let key = match group {
        Group::X25519 => vec![7; 32],
        Group::P384 => POINT.to_vec(),
    };
    let number = (group as u16).to_be_bytes();
    let extensions = [
        named(name),
        // supported_versions, supported_groups, signature_algorithms, key_share.
        extension(43, &[2, 3, 4]),
        extension(10, &long(&[0x00, 0x1d, 0x00, 0x18])),
        extension(13, &long(&[0x05, 0x03])),
        extension(51, &long(&[&number[..], &long(&key)].concat())),
    ];
    hello(&extensions, 1 << 14)
}
