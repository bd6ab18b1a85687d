//! The decision, as the specification of what the gate's rules do. The kernel
//! decides for real; tests hold the two against each other.

use std::net::IpAddr;

use crate::document::Defaults;
use crate::entry::{Entry, Protocol, Reach, Target};
use crate::name::Name;
use crate::ranges::{Range, classify};

/// A new flow out of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Where to.
    pub address: IpAddr,
    /// Which protocol.
    pub protocol: Protocol,
    /// Destination port.
    pub port: u16,
}

/// An address that the resolver gave out for an entry and that has not expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The address.
    pub address: IpAddr,
    /// Index of the entry it was given out for.
    pub entry: usize,
}

/// What happens to a flow. The names are the reasons of the `Blocked` signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Let through.
    Allowed,
    /// An address that no entry opens.
    Never,
    /// A private address that no entry names.
    Private,
    /// Nothing allows it.
    NotAllowed,
}

/// Steps 2 and 4 to 7 of the gate for a new flow: `entries` are all that hold
/// for the sandbox, `answers` what the resolver gave out to it.
pub fn decide(defaults: &Defaults, entries: &[Entry], answers: &[Answer], flow: Flow) -> Verdict {
    let range = classify(flow.address);
    if range == Range::Never {
        return Verdict::Never;
    }
    if opened(entries, answers, flow, Reach::Private) {
        return Verdict::Allowed;
    }
    if range == Range::Private && defaults.block_rfc1918 {
        return Verdict::Private;
    }
    if opened(entries, answers, flow, Reach::Public)
        || (defaults.allow_public && range == Range::Public)
    {
        return Verdict::Allowed;
    }
    Verdict::NotAllowed
}

fn opened(entries: &[Entry], answers: &[Answer], flow: Flow, reach: Reach) -> bool {
    let fits = |entry: &Entry| {
        entry.reach() == reach
            && entry.protocol() == flow.protocol
            && entry.ports().contains(&flow.port)
    };
    let by_network = entries.iter().any(|entry| {
        fits(entry) && matches!(entry.target(), Target::Net(net) if net.contains(&flow.address))
    });
    let by_name = answers.iter().any(|answer| {
        answer.address == flow.address && entries.get(answer.entry).is_some_and(fits)
    });
    by_network || by_name
}

/// Indices of the entries that allow asking for `name`; empty when nothing does.
/// One name can have several, for instance one for each protocol.
pub fn match_name<'a>(entries: &'a [Entry], name: &'a Name) -> impl Iterator<Item = usize> + 'a {
    entries.iter().enumerate().filter_map(move |(index, entry)| match entry.target() {
        Target::Host(pattern) if pattern.matches(name) => Some(index),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(address: &str, port: u16) -> Flow {
        Flow { address: address.parse().unwrap(), protocol: Protocol::Tcp, port }
    }

    fn entry(target: &str, private: bool) -> Entry {
        Entry::new(target, &[443], Protocol::Tcp, private).unwrap()
    }

    #[test]
    fn empty_means_nothing() {
        let defaults = Defaults::default();
        assert_eq!(decide(&defaults, &[], &[], flow("203.0.113.1", 443)), Verdict::NotAllowed);
        assert_eq!(decide(&defaults, &[], &[], flow("10.0.0.1", 443)), Verdict::Private);
    }

    #[test]
    fn an_entry_wins_over_the_private_block_and_never_over_never() {
        let defaults = Defaults::default();
        let entries = [entry("10.0.0.0/8", false), entry("0.0.0.0/0", false)];
        assert_eq!(decide(&defaults, &entries, &[], flow("10.0.0.1", 443)), Verdict::Allowed);
        assert_eq!(decide(&defaults, &entries, &[], flow("192.168.0.1", 443)), Verdict::Private);
        assert_eq!(decide(&defaults, &entries, &[], flow("127.0.0.1", 443)), Verdict::Never);
        assert_eq!(decide(&defaults, &entries, &[], flow("203.0.113.1", 443)), Verdict::Allowed);
        assert_eq!(decide(&defaults, &entries, &[], flow("203.0.113.1", 80)), Verdict::NotAllowed);
    }

    #[test]
    fn n6_an_answer_opens_no_private_address_unless_its_entry_is_private() {
        let defaults = Defaults::default();
        let entries = [entry("a.example", false), entry("b.example", true)];
        let answer = |entry| [Answer { address: "10.0.0.1".parse().unwrap(), entry }];
        assert_eq!(
            decide(&defaults, &entries, &answer(0), flow("10.0.0.1", 443)),
            Verdict::Private
        );
        assert_eq!(
            decide(&defaults, &entries, &answer(1), flow("10.0.0.1", 443)),
            Verdict::Allowed
        );
    }

    #[test]
    fn allow_public_opens_public_only() {
        let defaults = Defaults { allow_public: true, ..Defaults::default() };
        assert_eq!(decide(&defaults, &[], &[], flow("203.0.113.1", 9)), Verdict::Allowed);
        assert_eq!(decide(&defaults, &[], &[], flow("10.0.0.1", 9)), Verdict::Private);
        let open = Defaults { block_rfc1918: false, ..defaults };
        assert_eq!(decide(&open, &[], &[], flow("10.0.0.1", 9)), Verdict::NotAllowed);
    }
}
