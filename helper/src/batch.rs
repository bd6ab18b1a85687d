//! Changes of nf_tables that hold all together or not at all, as one packet for the
//! kernel. Layout: linux/netfilter/nfnetlink.h.

use std::io;

use netlink_sys::SocketAddr;

use crate::nfnetlink::{NFTABLES, NLM_F_ACK, NLMSG_ERROR, message, messages, open};

/// `NFPROTO_INET`.
const INET: u8 = 1;
// NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// `NLM_F_CREATE`: makes what is not there.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: behind what is there.
pub const APPEND: u16 = 0x800;
/// Where a message has its flags (struct nlmsghdr).
const FLAGS: usize = 6;

/// See the module.
#[derive(Default)]
pub struct Batch {
    packet: Vec<u8>,
    messages: u32,
    /// Where the last message begins.
    last: usize,
}

impl Batch {
    /// Appends a change; `kind` is a number of enum nf_tables_msg_types.
    pub fn push(&mut self, kind: u16, flags: u16, body: &[u8]) {
        self.messages += 1;
        self.last = self.packet.len();
        let kind = (NFTABLES << 8) | kind;
        self.packet.extend(message(kind, flags, INET, 0, self.messages, body));
    }

    /// Hands the changes to the kernel, in the network namespace of the calling
    /// thread.
    pub fn commit(self) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        // Mistakes are told in any case; that all is well, by the last message alone: an
        // answer for each would not fit the socket.
        let mut own = self.packet;
        let flags = self.last + FLAGS;
        let with_ack = u16::from_ne_bytes([own[flags], own[flags + 1]]) | NLM_F_ACK;
        own[flags..flags + 2].copy_from_slice(&with_ack.to_ne_bytes());
        let mut packet = message(BEGIN, 0, 0, NFTABLES, 0, &[]);
        packet.extend(own);
        packet.extend(message(END, 0, 0, NFTABLES, self.messages + 1, &[]));
        let socket = open()?;
        socket.send_to(&packet, &SocketAddr::new(0, 0), 0)?;
        // The kernel has done it, and said so, before the call returns.
        socket.set_non_blocking(true)?;
        let mut acknowledged = false;
        while !acknowledged {
            let (data, _) = socket.recv_from_full()?;
            for (kind, _, body) in messages(&data) {
                if kind != NLMSG_ERROR {
                    continue;
                }
                match body.get(0..4).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes) {
                    Some(0) => acknowledged = true,
                    Some(code) => return Err(io::Error::from_raw_os_error(-code)),
                    None => return Err(io::ErrorKind::InvalidData.into()),
                }
            }
        }
        Ok(())
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Bytes so far; the kernel takes some 200 KB at once.
    pub fn size(&self) -> usize {
        self.packet.len()
    }

    /// The kinds of its messages.
    #[cfg(test)]
    pub fn kinds(&self) -> Vec<u16> {
        messages(&self.packet).map(|(kind, _, _)| kind & 0xff).collect()
    }
}
