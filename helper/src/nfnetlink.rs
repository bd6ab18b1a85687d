//! The few netfilter messages the helper needs: flows of conntrack, and packets
//! that rules sent to NFLOG. Layout: linux/netfilter/nfnetlink*.h.

use std::io;
use std::net::Ipv4Addr;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use rcc_policy::Protocol;

use crate::layout::{GATE_ADDRESS, UNCHECKED};

// enum nfnl_subsystem
const CTNETLINK: u16 = 1;
/// `NFNL_SUBSYS_NFTABLES`.
pub const NFTABLES: u16 = 10;
const ULOG: u16 = 4;
// enum cntl_msg_types
const CT_NEW: u16 = CTNETLINK << 8;
const CT_GET: u16 = (CTNETLINK << 8) | 1;
const CT_DELETE: u16 = (CTNETLINK << 8) | 2;
// enum ctattr_type, ctattr_tuple, ctattr_ip, ctattr_l4proto
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TIMESTAMP: u16 = 20;
// enum ctattr_tstamp
const CTA_TIMESTAMP_START: u16 = 1;
const CTA_MARK: u16 = 8;
const CTA_MARK_MASK: u16 = 21;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// `IPPROTO_TCP`, `IPPROTO_UDP`.
const TCP: u8 = 6;
const UDP: u8 = 17;
// enum nfulnl_msg_types, nfulnl_attr_type, nfulnl_attr_config
const ULOG_PACKET: u16 = ULOG << 8;
const ULOG_CONFIG: u16 = (ULOG << 8) | 1;
const NFULA_IFINDEX_INDEV: u16 = 4;
const NFULA_PAYLOAD: u16 = 9;
const NFULA_PREFIX: u16 = 10;
const NFULA_CFG_CMD: u16 = 1;
const NFULA_CFG_MODE: u16 = 2;
const NFULA_CFG_QTHRESH: u16 = 5;
// enum nf_tables_msg_types; nft_table_attributes
const NFT_DELTABLE: u16 = (NFTABLES << 8) | 2;
const NFTA_TABLE_NAME: u16 = 1;
/// `NFNLGRP_NFTABLES`.
const GROUP_NFTABLES: u32 = 7;

const NLM_F_REQUEST: u16 = 1;
/// Asks for an answer also when all went well.
pub const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
/// An answer: a negative error number, or 0.
pub const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_F_NESTED: u16 = 1 << 15;
const AF_INET: u8 = 2;
/// `struct nlmsghdr`, and that with `struct nfgenmsg` behind it.
const HEADER: usize = 16;
const BODY: usize = HEADER + 4;

/// Appends an attribute.
pub fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // Callers keep values below 64 KB.
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// A kind of attribute that holds attributes.
pub const fn nested(kind: u16) -> u16 {
    kind | NLA_F_NESTED
}

/// A message of netfilter; `resource` is a group or a subsystem.
pub fn message(
    kind: u16,
    flags: u16,
    family: u8,
    resource: u16,
    sequence: u32,
    body: &[u8],
) -> Vec<u8> {
    let length = u32::try_from(BODY + body.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(BODY + body.len());
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend(0u32.to_ne_bytes());
    out.extend([family, 0]);
    out.extend(resource.to_be_bytes());
    out.extend(body);
    out
}

/// Attributes of a message or of a nested attribute. Stops at the first that is
/// cut off.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & !NLA_F_NESTED;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(own, _)| *own == kind).map(|(_, value)| value)
}

/// Messages of one datagram: kind, sequence number, and what stands behind the header.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, sequence, body))
    })
}

/// A socket in the namespace of the thread that makes it.
pub fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    Ok(socket)
}

/// A flow that a rule let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// The original tuple as the kernel wrote it, to name the flow again.
    tuple: Vec<u8>,
    /// Where it comes from.
    pub source: Ipv4Addr,
    /// Where it goes.
    pub destination: Ipv4Addr,
    /// Its mark.
    pub mark: u32,
    /// When it began, in nanoseconds: tells it from another one with the same ports.
    pub began: u64,
    /// The port that its answers come to: its source port behind the gate.
    pub gate_port: u16,
    /// TCP or UDP; `None` for ICMP.
    pub protocol: Option<Protocol>,
    /// Destination port; 0 without ports.
    pub port: u16,
}

/// Conntrack of the namespace of the thread that made it.
pub struct Conntrack {
    socket: Socket,
    sequence: u32,
}

impl Conntrack {
    /// Opens it.
    pub fn new() -> io::Result<Self> {
        Ok(Self { socket: open()?, sequence: 0 })
    }

    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let packet = message(kind, flags | NLM_F_ACK, AF_INET, 0, self.sequence, body);
        self.socket.send_to(&packet, &SocketAddr::new(0, 0), 0)?;
        let mut found = Vec::new();
        loop {
            let (data, _) = self.socket.recv_from_full()?;
            for (kind, sequence, body) in messages(&data) {
                if sequence != self.sequence {
                    continue;
                }
                match kind {
                    NLMSG_DONE => return Ok(found),
                    NLMSG_ERROR => {
                        let code = body.get(0..4).and_then(|code| code.try_into().ok());
                        return match code.map(i32::from_ne_bytes) {
                            Some(0) => Ok(found),
                            Some(code) => Err(io::Error::from_raw_os_error(-code)),
                            None => Err(io::ErrorKind::InvalidData.into()),
                        };
                    }
                    _ => found.push(body.to_vec()),
                }
            }
        }
    }

    /// The TCP flow whose answers come from `from` and go to `to`; `None` when there
    /// is none.
    pub fn answered_by(
        &mut self,
        from: (Ipv4Addr, u16),
        to: (Ipv4Addr, u16),
    ) -> io::Result<Option<Flow>> {
        let tuple = tuple(TCP, from, to);
        let mut body = Vec::new();
        attribute(&mut body, nested(CTA_TUPLE_REPLY), &tuple);
        match self.ask(CT_GET, 0, &body) {
            Ok(found) => Ok(found.iter().find_map(|body| flow(body.get(4..)?))),
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All flows of this generation.
    pub fn marked(&mut self, mark: u32) -> io::Result<Vec<Flow>> {
        self.flows(&by_mark(mark))
    }

    /// All flows that have a mark.
    pub fn all_marked(&mut self) -> io::Result<Vec<Flow>> {
        let mut flows = self.flows(&[])?;
        flows.retain(|flow| flow.mark != 0);
        Ok(flows)
    }

    fn flows(&mut self, which: &[u8]) -> io::Result<Vec<Flow>> {
        let found = self.ask(CT_GET, NLM_F_DUMP, which)?;
        Ok(found.iter().filter_map(|body| flow(body.get(4..)?)).collect())
    }

    /// Gives a flow another mark, if it has the one that it was found with: the kernel
    /// is told the difference, so that another flow with the same ports, which has
    /// another mark, ends with one that means nothing. One that is gone already is no
    /// error.
    pub fn remark(&mut self, flow: &Flow, mark: u32) -> io::Result<()> {
        let mut body = Vec::new();
        attribute(&mut body, nested(CTA_TUPLE_ORIG), &flow.tuple);
        attribute(&mut body, CTA_MARK, &(flow.mark ^ mark).to_be_bytes());
        attribute(&mut body, CTA_MARK_MASK, &0u32.to_be_bytes());
        gone_is_fine(self.ask(CT_NEW, 0, &body))
    }

    /// Forgets a flow: without its entry no packet of it passes, either way.
    pub fn forget(&mut self, flow: &Flow) -> io::Result<()> {
        let mut body = Vec::new();
        attribute(&mut body, nested(CTA_TUPLE_ORIG), &flow.tuple);
        gone_is_fine(self.ask(CT_DELETE, 0, &body))
    }

    /// Forgets what the host knows of a flow of the gate's, for one that was forgotten
    /// there. Nobody says goodbye in a connection that was cut: the host would remember it
    /// for days (`nf_conntrack_tcp_timeout_established`).
    pub fn forget_behind_gate(&mut self, flow: &Flow) -> io::Result<()> {
        let number = match flow.protocol {
            Some(Protocol::Tcp) => TCP,
            Some(Protocol::Udp) => UDP,
            // An echo is remembered for half a minute.
            None => return Ok(()),
        };
        let tuple = tuple(number, (GATE_ADDRESS, flow.gate_port), (flow.destination, flow.port));
        let mut body = Vec::new();
        attribute(&mut body, nested(CTA_TUPLE_ORIG), &tuple);
        gone_is_fine(self.ask(CT_DELETE, 0, &body))
    }

    /// Forgets all flows with this mark, which is never 0.
    pub fn forget_marked(&mut self, mark: u32) -> io::Result<()> {
        if mark == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        gone_is_fine(self.ask(CT_DELETE, 0, &by_mark(mark)))
    }
}

fn gone_is_fine(result: io::Result<Vec<Vec<u8>>>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() != Some(nix::libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

fn by_mark(mark: u32) -> Vec<u8> {
    let mut body = Vec::new();
    attribute(&mut body, CTA_MARK, &mark.to_be_bytes());
    attribute(&mut body, CTA_MARK_MASK, &(!UNCHECKED).to_be_bytes());
    body
}

fn tuple(protocol: u8, from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Vec<u8> {
    let mut addresses = Vec::new();
    attribute(&mut addresses, CTA_IP_V4_SRC, &from.0.octets());
    attribute(&mut addresses, CTA_IP_V4_DST, &to.0.octets());
    let mut ports = Vec::new();
    attribute(&mut ports, CTA_PROTO_NUM, &[protocol]);
    attribute(&mut ports, CTA_PROTO_SRC_PORT, &from.1.to_be_bytes());
    attribute(&mut ports, CTA_PROTO_DST_PORT, &to.1.to_be_bytes());
    let mut tuple = Vec::new();
    attribute(&mut tuple, nested(CTA_TUPLE_IP), &addresses);
    attribute(&mut tuple, nested(CTA_TUPLE_PROTO), &ports);
    tuple
}

fn flow(body: &[u8]) -> Option<Flow> {
    let tuple = find(body, CTA_TUPLE_ORIG)?;
    let address: [u8; 4] = find(find(tuple, CTA_TUPLE_IP)?, CTA_IP_V4_DST)?.try_into().ok()?;
    let source: [u8; 4] = find(find(tuple, CTA_TUPLE_IP)?, CTA_IP_V4_SRC)?.try_into().ok()?;
    let mark = find(body, CTA_MARK).and_then(|mark| mark.try_into().ok());
    let began = find(body, CTA_TIMESTAMP)
        .and_then(|stamp| find(stamp, CTA_TIMESTAMP_START))
        .and_then(|start| start.try_into().ok());
    let gate_port = find(body, CTA_TUPLE_REPLY)
        .and_then(|reply| find(find(reply, CTA_TUPLE_PROTO)?, CTA_PROTO_DST_PORT))
        .and_then(|port| port.try_into().ok());
    let protocol = find(tuple, CTA_TUPLE_PROTO)?;
    let port = find(protocol, CTA_PROTO_DST_PORT).and_then(|port| port.try_into().ok());
    Some(Flow {
        tuple: tuple.to_vec(),
        source: source.into(),
        destination: address.into(),
        mark: mark.map_or(0, u32::from_be_bytes),
        began: began.map_or(0, u64::from_be_bytes),
        gate_port: gate_port.map_or(0, u16::from_be_bytes),
        protocol: protocol_of(*find(protocol, CTA_PROTO_NUM)?.first()?),
        port: port.map_or(0, u16::from_be_bytes),
    })
}

fn protocol_of(number: u8) -> Option<Protocol> {
    match number {
        TCP => Some(Protocol::Tcp),
        UDP => Some(Protocol::Udp),
        _ => None,
    }
}

/// A packet that a rule reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Index of the link that it came in on.
    pub link: u32,
    /// The rule's word for why.
    pub reason: String,
    /// Where it wanted to go.
    pub destination: Ipv4Addr,
    /// `tcp`, `udp`, `icmp`, or the number.
    pub protocol: String,
    /// Destination port; 0 without ports.
    pub port: u16,
}

/// A socket that gets what rules of this namespace log to `group`: of each packet as
/// much as its rule says.
pub fn nflog(group: u32) -> io::Result<Socket> {
    let socket = open()?;
    let resource = u16::try_from(group).map_err(io::Error::other)?;
    let send = |kind, value: &[u8]| -> io::Result<()> {
        let mut body = Vec::new();
        attribute(&mut body, kind, value);
        let packet = message(ULOG_CONFIG, NLM_F_ACK, 0, resource, 1, &body);
        socket.send_to(&packet, &SocketAddr::new(0, 0), 0)?;
        let (data, _) = socket.recv_from_full()?;
        let code = messages(&data).find_map(|(_, _, body)| body.get(0..4)?.try_into().ok());
        match code.map(i32::from_ne_bytes) {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(-code)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    };
    const BIND: u8 = 1;
    const COPY_PACKET: u8 = 2;
    send(NFULA_CFG_CMD, &[BIND])?;
    // struct nfulnl_msg_config_mode: range, mode, padding.
    send(NFULA_CFG_MODE, &[0, 0, 255, 255, COPY_PACKET, 0])?;
    // Each packet at once; the default gathers for a second.
    send(NFULA_CFG_QTHRESH, &1u32.to_be_bytes())?;
    // A burst of packets must not be lost.
    let size = 4usize << 20;
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &size)?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// The heads of the packets in one datagram of an [`nflog`] socket, as they are.
pub fn logged_packets(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    messages(datagram)
        .filter(|(kind, _, _)| *kind == ULOG_PACKET)
        .filter_map(|(_, _, body)| find(body.get(4..)?, NFULA_PAYLOAD))
}

/// The packets in one datagram of an [`nflog`] socket. Anything odd is left out.
pub fn logged(datagram: &[u8]) -> Vec<Logged> {
    messages(datagram)
        .filter(|(kind, _, _)| *kind == ULOG_PACKET)
        .filter_map(|(_, _, body)| packet(body.get(4..)?))
        .collect()
}

fn packet(body: &[u8]) -> Option<Logged> {
    let link = u32::from_be_bytes(find(body, NFULA_IFINDEX_INDEV)?.try_into().ok()?);
    let prefix = find(body, NFULA_PREFIX)?;
    let reason = String::from_utf8_lossy(prefix.strip_suffix(&[0]).unwrap_or(prefix)).into_owned();
    let payload = find(body, NFULA_PAYLOAD)?;
    if payload.first()? >> 4 != 4 {
        return None;
    }
    let header = usize::from(payload[0] & 15) * 4;
    let destination: [u8; 4] = payload.get(16..20)?.try_into().ok()?;
    let (protocol, has_ports) = match payload.get(9)? {
        6 => ("tcp".to_owned(), true),
        17 => ("udp".to_owned(), true),
        1 => ("icmp".to_owned(), false),
        other => (other.to_string(), false),
    };
    let port = payload.get(header + 2..header + 4).filter(|_| has_ports);
    Some(Logged {
        link,
        reason,
        destination: destination.into(),
        protocol,
        port: port.and_then(|port| port.try_into().ok()).map_or(0, u16::from_be_bytes),
    })
}

/// A socket that hears of every change of nf_tables in this namespace.
pub fn nftables_events() -> io::Result<Socket> {
    let socket = open()?;
    socket.add_membership(GROUP_NFTABLES)?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// True when the datagram says that the table of this name was removed.
pub fn says_table_removed(datagram: &[u8], name: &str) -> bool {
    messages(datagram).any(|(kind, _, body)| {
        let own = body.get(4..).and_then(|body| find(body, NFTA_TABLE_NAME));
        kind == NFT_DELTABLE
            && own.is_some_and(|own| own.strip_suffix(&[0]) == Some(name.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_logged_packet_is_read() {
        let mut ip = vec![0u8; 24];
        ip[0] = 0x45;
        ip[9] = 6;
        ip[16..20].copy_from_slice(&[203, 0, 113, 9]);
        ip[22..24].copy_from_slice(&443u16.to_be_bytes());
        let mut body = Vec::new();
        attribute(&mut body, NFULA_PREFIX, b"private\0");
        attribute(&mut body, NFULA_IFINDEX_INDEV, &7u32.to_be_bytes());
        attribute(&mut body, NFULA_PAYLOAD, &ip);
        let datagram = message(ULOG_PACKET, 0, AF_INET, 0, 0, &body);
        let expected = Logged {
            link: 7,
            reason: "private".into(),
            destination: [203, 0, 113, 9].into(),
            protocol: "tcp".into(),
            port: 443,
        };
        assert_eq!(logged(&datagram), [expected]);
    }

    proptest! {
        #[test]
        fn garbage_is_left_out(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = logged(&bytes);
            let _ = says_table_removed(&bytes, "rcc");
            let _ = flow(&bytes);
            let datagram = message(ULOG_PACKET, 0, AF_INET, 0, 0, &bytes);
            let _ = logged(&datagram);
        }
    }
}
