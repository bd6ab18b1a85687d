//! Packets of TCP over IPv4 (RFC 791, RFC 9293), as far as the check of hellos
//! needs them.

use std::net::Ipv4Addr;

const TCP: u8 = 6;
// Flags of TCP.
/// Begins a connection.
pub const SYN: u8 = 0x02;
const FIN: u8 = 0x01;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// Says that a byte is urgent; servers leave such a byte out of what they read.
pub const URG: u8 = 0x20;
const HEADERS: usize = 40;
/// RFC 8684.
const MULTIPATH: u8 = 30;

/// One packet, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp<'a> {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// The number by which IP tells packets apart.
    pub id: u16,
    /// Routers may cut it into pieces.
    pub may_be_cut: bool,
    /// Number of the first byte.
    pub sequence: u32,
    /// What the sender expects next, when it says so.
    pub ack: Option<u32>,
    /// Begins a connection.
    pub syn: bool,
    /// Ends one at once.
    pub reset: bool,
    /// Has an urgent byte somewhere.
    pub urgent: bool,
    /// Speaks Multipath TCP, in which other packets may say what the server reads.
    pub multipath: bool,
    /// The bytes.
    pub payload: &'a [u8],
}

impl<'a> Tcp<'a> {
    /// Reads a packet; `None` for anything else, fragments included.
    pub fn read(packet: &'a [u8]) -> Option<Self> {
        let (ip, tcp, payload_end) = headers(packet)?;
        let offset = usize::from(tcp.get(12)? >> 4) * 4;
        let payload = packet.get(ip + offset..payload_end).filter(|_| offset >= 20)?;
        Some(Self::with_payload(packet, tcp, payload))
    }

    /// Reads a packet that may be cut off behind its headers, with what there is of its
    /// bytes.
    pub fn read_head(packet: &'a [u8]) -> Option<Self> {
        let (ip, tcp, payload_end) = headers(packet)?;
        let offset = usize::from(tcp.get(12)? >> 4) * 4;
        let payload = packet.get(ip + offset..payload_end.min(packet.len()));
        Some(Self::with_payload(packet, tcp, payload.filter(|_| offset >= 20).unwrap_or_default()))
    }

    fn with_payload(packet: &'a [u8], tcp: &'a [u8], payload: &'a [u8]) -> Self {
        let address =
            |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        let short = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        Self {
            source: address(12),
            destination: address(16),
            id: u16::from_be_bytes([packet[4], packet[5]]),
            may_be_cut: packet[6] & 0x40 == 0,
            source_port: short(0),
            destination_port: short(2),
            sequence: long(4),
            ack: (tcp[13] & ACK != 0).then(|| long(8)),
            syn: tcp[13] & SYN != 0,
            reset: tcp[13] & RST != 0,
            urgent: tcp[13] & URG != 0,
            multipath: has_option(tcp, MULTIPATH),
            payload,
        }
    }
}

/// Whether a header of TCP has an option; yes when its options cannot be read.
fn has_option(tcp: &[u8], wanted: u8) -> bool {
    let end = usize::from(tcp[12] >> 4) * 4;
    let Some(mut rest) = tcp.get(20..end) else { return end > 20 };
    loop {
        match rest {
            // RFC 9293 3.1: the end, and padding.
            [] | [0, ..] => return false,
            [1, more @ ..] => rest = more,
            [kind, ..] if *kind == wanted => return true,
            [_, length, ..] if *length >= 2 && usize::from(*length) <= rest.len() => {
                rest = &rest[usize::from(*length)..];
            }
            _ => return true,
        }
    }
}

/// Length of the IP header, the TCP header and what follows (20 bytes at least),
/// and where the packet ends.
fn headers(packet: &[u8]) -> Option<(usize, &[u8], usize)> {
    let first = *packet.first()?;
    let length = usize::from(first & 15) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff;
    if first >> 4 != 4 || length < 20 || fragment != 0 || *packet.get(9)? != TCP {
        return None;
    }
    let tcp = packet.get(length..).filter(|tcp| tcp.len() >= 20)?;
    Some((length, tcp, total))
}

/// The packet with so many of its bytes, and without an end of the connection, which
/// would stand behind them all.
pub fn cut(packet: &[u8], length: usize) -> Option<Vec<u8>> {
    let (ip, tcp, _) = headers(packet)?;
    let offset = usize::from(tcp.get(12)? >> 4) * 4;
    let mut cut = packet.get(..ip + offset + length).filter(|_| offset >= 20)?.to_vec();
    let total = u16::try_from(cut.len()).ok()?;
    cut[2..4].copy_from_slice(&total.to_be_bytes());
    cut[10..12].fill(0);
    let sum = checksum(&[&cut[..ip]]);
    cut[10..12].copy_from_slice(&sum.to_be_bytes());
    cut[ip + 13] &= !FIN;
    cut[ip + 16..ip + 18].fill(0);
    let sum = segment_checksum(&cut, ip);
    cut[ip + 16..ip + 18].copy_from_slice(&sum.to_be_bytes());
    Some(cut)
}

/// The sum over what stands behind so many bytes, and the pseudo header: addresses,
/// protocol, length.
fn segment_checksum(packet: &[u8], ip: usize) -> u16 {
    let length = u16::try_from(packet.len() - ip).unwrap_or(u16::MAX).to_be_bytes();
    checksum(&[&packet[12..20], &[0, TCP], &length, &packet[ip..]])
}

/// A packet that ends a connection.
pub fn reset(
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    sequence: u32,
    ack: Option<u32>,
) -> Vec<u8> {
    build(from, to, sequence, ack, RST, &[])
}

/// A packet of TCP with these flags, ACK as `ack` says.
pub fn build(
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    sequence: u32,
    ack: Option<u32>,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let total = u16::try_from(HEADERS + payload.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, TCP, 0, 0]);
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(from.1.to_be_bytes());
    packet.extend(to.1.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(ack.unwrap_or_default().to_be_bytes());
    packet.extend([5 << 4, flags | if ack.is_some() { ACK } else { 0 }, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(payload);
    let sum = segment_checksum(&packet, 20);
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The sum of RFC 1071 over pieces of even length, the last one aside.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let words = pieces.iter().flat_map(|piece| piece.chunks(2));
    let mut sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLIENT: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 18, 0, 2), 40_000);
    const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(203, 0, 113, 9), 443);

    #[test]
    fn what_is_built_is_read() {
        let packet = build(CLIENT, SERVER, 7, Some(9), 0, b"abc");
        let tcp = Tcp::read(&packet).unwrap();
        assert_eq!((tcp.source, tcp.source_port), CLIENT);
        assert_eq!((tcp.destination, tcp.destination_port), SERVER);
        assert_eq!((tcp.sequence, tcp.ack, tcp.payload), (7, Some(9), &b"abc"[..]));
        assert!(!tcp.syn && !tcp.reset);
        // A sum over everything, the sum itself included, is nothing.
        assert_eq!(checksum(&[&packet[..20]]), 0);
        let head = Tcp::read_head(&packet[..41]).unwrap();
        assert_eq!((head.ack, head.payload), (Some(9), &b"a"[..]));
    }

    #[test]
    fn n20_what_is_cut_off_is_gone_and_the_rest_is_whole() {
        // With an option of 12 bytes, and the end of the connection.
        let mut packet = build(CLIENT, SERVER, 7, Some(9), FIN, &[&[1; 12][..], b"abcde"].concat());
        packet[32] = 8 << 4;
        let cut = cut(&packet, 3).unwrap();
        let tcp = Tcp::read(&cut).unwrap();
        assert_eq!((tcp.sequence, tcp.ack, tcp.payload), (7, Some(9), &b"abc"[..]));
        assert_eq!((&cut[40..52], cut.len()), (&[1; 12][..], 55));
        assert_eq!(cut[33] & FIN, 0);
        // Sums over everything, the sums themselves included, are nothing.
        assert_eq!((checksum(&[&cut[..20]]), segment_checksum(&cut, 20)), (0, 0));
        assert_eq!(super::cut(&packet, 6), None);
    }

    #[test]
    fn fragments_and_short_packets_are_none() {
        let mut packet = build(CLIENT, SERVER, 7, None, SYN, b"");
        packet[6] = 0x20;
        assert_eq!(Tcp::read(&packet), None);
        packet[6] = 0x40;
        assert!(Tcp::read(&packet).unwrap().syn);
        assert_eq!(Tcp::read(&packet[..39]), None);
    }

    #[test]
    fn options_are_found_or_feared() {
        let with = |options: &[u8]| {
            let mut packet = build(CLIENT, SERVER, 7, None, SYN, options);
            packet[32] = u8::try_from(5 + options.len() / 4).unwrap() << 4;
            Tcp::read(&packet).unwrap().multipath
        };
        assert!(!with(&[]));
        assert!(!with(&[2, 4, 5, 0xb4, 1, 1, 4, 2]));
        assert!(with(&[2, 4, 5, 0xb4, 30, 4, 0, 0]));
        assert!(with(&[2, 0, 0, 0]) && with(&[2, 9, 0, 0]));
        assert!(!with(&[0, 30, 4, 0]));
    }

    proptest! {
        #[test]
        fn garbage_is_harmless(mut bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Tcp::read(&bytes);
            if let Some(first) = bytes.first_mut() { *first = 0x45; }
            let _ = Tcp::read(&bytes);
            let _ = Tcp::read_head(&bytes);
            let _ = cut(&bytes, 1);
        }
    }
}
