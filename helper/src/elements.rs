//! Elements of the sets of names, written to the kernel directly: the way of
//! every answer of the resolver, where a process for each would cost more than
//! the answer. Layout: linux/netfilter/nf_tables.h, nfnetlink.h.

use std::io;
use std::net::Ipv4Addr;

use nix::libc;
use rcc_policy::Protocol;

use crate::batch::{Batch, CREATE};
use crate::nfnetlink::{attribute, nested};
use crate::nft::TABLE;

// enum nf_tables_msg_types
const NEW_ELEMENTS: u16 = 12;
const REMOVE_ELEMENTS: u16 = 14;
// enum nft_set_elem_list_attributes, nft_list_attributes, nft_set_elem_attributes,
// nft_data_attributes
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const ELEMENT: u16 = 1;
const KEY: u16 = 1;
const TIMEOUT: u16 = 4;
const VALUE: u16 = 1;
/// Elements of one message: an attribute has 64 KB at most, an element 40 bytes.
const MOST_AT_ONCE: usize = 500;

/// An element: address, protocol, port.
pub type Key = (Ipv4Addr, Protocol, u16);

/// Changes that hold all together or not at all.
#[derive(Default)]
pub struct Elements(Batch);

impl Elements {
    /// Puts keys into a set for so many seconds; one that is there keeps its life.
    pub fn add(&mut self, set: &str, keys: &[Key], seconds: u32) {
        let timeout = (u64::from(seconds) * 1_000).to_be_bytes();
        self.change(NEW_ELEMENTS, set, keys, Some(timeout));
    }

    /// Takes keys out; each must be there.
    pub fn remove(&mut self, set: &str, keys: &[Key]) {
        self.change(REMOVE_ELEMENTS, set, keys, None);
    }

    fn change(&mut self, kind: u16, set: &str, keys: &[Key], timeout: Option<[u8; 8]>) {
        for keys in keys.chunks(MOST_AT_ONCE) {
            let mut elements = Vec::new();
            for key in keys {
                let mut value = Vec::new();
                attribute(&mut value, VALUE, &bytes(key));
                let mut element = Vec::new();
                attribute(&mut element, nested(KEY), &value);
                if let Some(timeout) = timeout {
                    attribute(&mut element, TIMEOUT, &timeout);
                }
                attribute(&mut elements, nested(ELEMENT), &element);
            }
            let mut body = Vec::new();
            attribute(&mut body, LIST_TABLE, format!("{TABLE}\0").as_bytes());
            attribute(&mut body, LIST_SET, format!("{set}\0").as_bytes());
            attribute(&mut body, nested(LIST_ELEMENTS), &elements);
            let flags = if timeout.is_some() { CREATE } else { 0 };
            self.0.push(kind, flags, &body);
        }
    }

    /// Hands the changes to the kernel, in the network namespace of the calling
    /// thread.
    pub fn commit(self) -> io::Result<()> {
        self.0.commit()
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes so far; the kernel takes some 200 KB at once.
    pub fn size(&self) -> usize {
        self.0.size()
    }
}

/// A key of several fields: each begins at a multiple of four bytes.
fn bytes((address, protocol, port): &Key) -> [u8; 12] {
    let protocol = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
    };
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&address.octets());
    bytes[4] = protocol.to_ne_bytes()[if cfg!(target_endian = "big") { 3 } else { 0 }];
    bytes[8..10].copy_from_slice(&port.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_laid_out_as_the_kernel_reads_it() {
        let key = (Ipv4Addr::new(203, 0, 113, 9), Protocol::Udp, 443);
        assert_eq!(bytes(&key), [203, 0, 113, 9, 17, 0, 0, 0, 1, 187, 0, 0]);
    }

    #[test]
    fn many_elements_are_several_messages() {
        let mut changes = Elements::default();
        let keys: Vec<Key> = (0..1_001).map(|n| (Ipv4Addr::from(n), Protocol::Tcp, 443)).collect();
        changes.add("name_public_1", &keys, 60);
        changes.remove("name_public_1", &keys[..1]);
        assert_eq!(changes.0.kinds(), [NEW_ELEMENTS, NEW_ELEMENTS, NEW_ELEMENTS, REMOVE_ELEMENTS]);
    }
}
