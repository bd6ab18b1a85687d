//! What `rcc verify` has tried from inside a sandbox, and what was seen: one JSON document each way.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::text::clean;

/// Longest document of either direction, in bytes.
pub const MAX_DOCUMENT: usize = 256 << 10;
/// Longest description of what was seen, in characters.
pub const MAX_SEEN: usize = 200;

/// One thing to try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "try", rename_all = "snake_case")]
pub enum Probe {
    /// Which network links there are. Succeeds when there is another than `lo` and `eth0`.
    OtherLink,
    /// An address of IPv6 other than that of `lo` and of links themselves. Succeeds when there is one.
    AddressOfSix,
    /// A connection over TCP.
    Connect {
        /// Where to.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// The same, where the firewall has to refuse it one hop away. Rejected only by who is there: first it is tried
    /// with packets that go no further.
    ConnectPastGate {
        /// Where to.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// A connection over TCP, a TLS hello for a name, and any answer to it.
    Hello {
        /// Where to.
        address: IpAddr,
        /// The port.
        port: u16,
        /// The server's name in the hello.
        name: String,
    },
    /// A question to a name server, over UDP, answered with at least one record. Refused only by one that says so
    /// (RFC 8914, 15): "no such name" is what any name server says.
    Ask {
        /// The name server.
        server: IpAddr,
        /// The name.
        name: String,
        /// The number of the type: 1 for A, 16 for TXT.
        kind: u16,
    },
    /// A socket that sends packets of any form.
    RawSocket,
    /// A change of the firewall's rules from within.
    ChangeRules,
    /// A user and a network namespace of its own, and in it an address that others would see.
    OwnNetwork {
        /// Where to connect from there.
        address: IpAddr,
        /// The port.
        port: u16,
    },
    /// System calls that rcc's filter refuses, whatever other filter may be there.
    Calls {
        /// Programs here may make namespaces of their own.
        namespaces: bool,
    },
    /// A mount of anything over a folder.
    Mount,
    /// Taking the view of the files apart, and unmounting what covers the host's.
    Unmount,
    /// Reading a file of the host's that begins with a known word: directly, by a link, and by other ways to it.
    ReadHost {
        /// Its path on the host.
        path: String,
        /// What stands in it.
        word: String,
    },
    /// Writing a file.
    Write {
        /// Where.
        path: String,
    },
    /// A path that is there.
    Exists {
        /// The path.
        path: String,
    },
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It was possible.
    Possible,
    /// Something said no: the kernel, a router, or who was asked.
    Refused,
    /// A packet came back that says no: a reset, or "port unreachable".
    Rejected,
    /// Nobody said anything.
    Silent,
    /// It was not tried, or what happened says nothing about a wall.
    Untried,
    /// There was no time for it.
    Unfinished,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// In a few words, for a person.
    pub seen: String,
}

impl Outcome {
    /// Of one that was not done in time.
    pub fn unfinished() -> Self {
        Self { end: End::Unfinished, seen: "the computer was busy".into() }
    }
}

/// Reads the answer to a document with so many probes. What comes out of a sandbox is hostile: bounded and cleaned.
///
/// # Errors
/// A sentence.
pub fn read_outcomes(bytes: &[u8], count: usize) -> Result<Vec<Outcome>, String> {
    if bytes.len() > MAX_DOCUMENT {
        return Err("the sandbox said too much".to_owned());
    }
    let outcomes: Vec<Outcome> =
        serde_json::from_slice(bytes).map_err(|error| format!("the sandbox's answer: {error}"))?;
    if outcomes.len() != count {
        return Err("the sandbox answered another number of questions".to_owned());
    }
    let cleaned = |one: Outcome| Outcome { seen: clean(&one.seen, MAX_SEEN), ..one };
    Ok(outcomes.into_iter().map(cleaned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_are_counted_and_cleaned() {
        let outcome = Outcome { end: End::Possible, seen: "a\u{1b}[31m\nb".into() };
        let bytes = serde_json::to_vec(&[&outcome]).unwrap();
        let read = read_outcomes(&bytes, 1).unwrap();
        assert!(read[0].end == End::Possible && !read[0].seen.contains('\u{1b}'));
        assert!(read_outcomes(&bytes, 2).is_err());
        assert!(read_outcomes(&vec![b' '; MAX_DOCUMENT + 1], 0).is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read_outcomes(&bytes, 3).is_err());
        }
    }
}
