//! Putting the levels together: what a user adds holds within the
//! administrator's bounds.

use std::collections::HashSet;

use crate::document::{Defaults, Policy, UsersMayAdd};
use crate::entry::{Entry, Reach};

/// A user's entry that does not hold, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Index in the list that was given.
    pub index: usize,
    /// A sentence.
    pub reason: String,
}

/// The user's entries that hold under `policy`, and those that do not. Entries
/// that the administrator's file has already are kept out silently: they hold
/// anyway.
pub fn merge(policy: &Policy, user: &[Entry]) -> (Vec<Entry>, Vec<Dropped>) {
    let administrators: HashSet<&Entry> = policy.entries.iter().collect();
    let mut seen = HashSet::new();
    let mut held = Vec::new();
    let mut dropped = Vec::new();
    for (index, entry) in user.iter().enumerate() {
        if administrators.contains(entry) || !seen.insert(entry) {
            continue;
        }
        match bound(&policy.defaults, entry) {
            Ok(()) => held.push(entry.clone()),
            Err(reason) => dropped.push(Dropped { index, reason }),
        }
    }
    (held, dropped)
}

fn bound(defaults: &Defaults, entry: &Entry) -> Result<(), String> {
    // What a wide network has of private addresses is closed by `block_rfc1918` alone.
    let private = if defaults.block_rfc1918 {
        entry.reach() == Reach::Private
    } else {
        entry.touches_private()
    };
    match (defaults.users_may_add, private) {
        (UsersMayAdd::Private, _) | (UsersMayAdd::Public, false) => Ok(()),
        (UsersMayAdd::None, _) => Err(format!(
            "The administrator allows no hosts beyond the computer's own list; {} is not in it.",
            entry.target()
        )),
        (UsersMayAdd::Public, true) => Err(format!(
            "The administrator allows only public hosts here; {} reaches private addresses.",
            entry.target()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Flow, Verdict, decide};
    use crate::entry::Protocol;
    use crate::ranges::{Range, classify};
    use proptest::prelude::*;

    fn entry(target: &str, private: bool) -> Entry {
        Entry::new(target, &[443], Protocol::Tcp, private).unwrap()
    }

    #[test]
    fn users_stay_within_bounds() {
        let user =
            [entry("a.example", false), entry("db.internal", true), entry("10.0.0.0/8", false)];
        let with = |users_may_add| {
            let mut policy = Policy::default();
            policy.defaults.users_may_add = users_may_add;
            let (held, dropped) = merge(&policy, &user);
            (held.len(), dropped.iter().map(|d| d.index).collect::<Vec<_>>())
        };
        assert_eq!(with(UsersMayAdd::None), (0, vec![0, 1, 2]));
        assert_eq!(with(UsersMayAdd::Public), (1, vec![1, 2]));
        assert_eq!(with(UsersMayAdd::Private), (3, vec![]));
    }

    #[test]
    fn n6_a_wide_network_is_no_way_to_private_addresses() {
        let user = [entry("8.0.0.0/5", false), entry("0.0.0.0/0", false)];
        let held = |block_rfc1918, users_may_add| {
            let mut policy = Policy::default();
            policy.defaults.block_rfc1918 = block_rfc1918;
            policy.defaults.users_may_add = users_may_add;
            merge(&policy, &user).0.len()
        };
        assert_eq!(held(false, UsersMayAdd::Public), 0);
        assert_eq!(held(false, UsersMayAdd::Private), 2);
        // There step 5 keeps them from private addresses.
        assert_eq!(held(true, UsersMayAdd::Public), 2);
    }

    proptest! {
        #[test]
        fn n6_what_users_may_add_under_public_opens_no_private_address(
            block_rfc1918: bool,
            begin: u32,
            length in 0u8..=32,
            inside: u32,
        ) {
            let mask = u32::MAX.checked_shl(u32::from(32 - length)).unwrap_or(0);
            let target = format!("{}/{length}", std::net::Ipv4Addr::from(begin & mask));
            let rule = Entry::new(&target, &[443], Protocol::Tcp, false);
            let mut policy = Policy::default();
            policy.defaults.block_rfc1918 = block_rfc1918;
            let (held, _) = merge(&policy, &rule.into_iter().collect::<Vec<_>>());
            let within = std::net::Ipv4Addr::from((begin & mask) | (inside & !mask));
            let edges = ["10.0.0.0", "10.255.255.255", "172.16.0.9", "192.168.0.1", "100.64.0.1"];
            let edges = edges.map(|address| address.parse().unwrap());
            for address in edges.into_iter().chain([within.into()]) {
                let flow = Flow { address, protocol: Protocol::Tcp, port: 443 };
                let allowed = decide(&policy.defaults, &held, &[], flow) == Verdict::Allowed;
                prop_assert!(!allowed || classify(address) == Range::Public, "{target}: {address}");
            }
        }
    }

    #[test]
    fn what_holds_anyway_is_not_kept_twice() {
        let policy = Policy { entries: vec![entry("a.example", false)], ..Policy::default() };
        let user =
            [entry("a.example", false), entry("b.example", false), entry("b.example", false)];
        assert_eq!(merge(&policy, &user), (vec![entry("b.example", false)], vec![]));
    }
}
