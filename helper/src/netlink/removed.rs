//! Links that are gone, told from those that came or changed: those are many, and
//! nobody's sandbox ends with them.

use std::collections::HashSet;

use crate::nfnetlink::messages;

/// Which links a burst of the kernel's news says are gone.
#[derive(Debug, Default)]
pub struct Removed {
    links: HashSet<u32>,
    /// Some news were lost.
    lost: bool,
}

impl Removed {
    /// Takes one datagram of news, which is empty when some were lost.
    pub fn hear(&mut self, datagram: &[u8]) {
        // RTM_DELLINK (linux/rtnetlink.h), and where struct ifinfomsg has the number.
        const REMOVED: u16 = 17;
        self.lost |= datagram.is_empty();
        for (_, _, body) in messages(datagram).filter(|(kind, _, _)| *kind == REMOVED) {
            match body.get(4..8).and_then(|bytes| bytes.try_into().ok()) {
                Some(index) => drop(self.links.insert(u32::from_ne_bytes(index))),
                None => self.lost = true,
            }
        }
    }

    /// True for a link that may be gone.
    pub fn may_be(&self, link: u32) -> bool {
        self.lost || self.links.contains(&link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(kind: u16, index: u32) -> Vec<u8> {
        let mut bytes = 32u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([0; 4]);
        bytes.extend(index.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes
    }

    #[test]
    fn links_that_go_are_told_from_those_that_come() {
        let mut removed = Removed::default();
        removed.hear(&[news(16, 7), news(17, 8), news(16, 9)].concat());
        assert_eq!([7, 8, 9].map(|link| removed.may_be(link)), [false, true, false]);
        removed.hear(&[]);
        assert!(removed.may_be(7), "some news were lost");
    }

    #[test]
    fn news_that_are_cut_off_count_as_lost() {
        let mut removed = Removed::default();
        let mut cut = news(17, 8);
        cut.truncate(20);
        cut[0] = 20;
        removed.hear(&cut);
        assert!(removed.may_be(7));
    }
}
