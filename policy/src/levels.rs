//! Putting the levels together: what a user adds holds within the
//! administrator's bounds.

use std::collections::HashSet;

use crate::document::{Policy, UsersMayAdd};
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
        match bound(policy.defaults.users_may_add, entry) {
            Ok(()) => held.push(entry.clone()),
            Err(reason) => dropped.push(Dropped { index, reason }),
        }
    }
    (held, dropped)
}

fn bound(users_may_add: UsersMayAdd, entry: &Entry) -> Result<(), String> {
    match (users_may_add, entry.reach()) {
        (UsersMayAdd::Private, _) | (UsersMayAdd::Public, Reach::Public) => Ok(()),
        (UsersMayAdd::None, _) => Err(format!(
            "The administrator allows no hosts beyond the computer's own list; {} is not in it.",
            entry.target()
        )),
        (UsersMayAdd::Public, Reach::Private) => Err(format!(
            "The administrator allows only public hosts here; {} reaches private addresses.",
            entry.target()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Protocol;

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
    fn what_holds_anyway_is_not_kept_twice() {
        let policy = Policy { entries: vec![entry("a.example", false)], ..Policy::default() };
        let user =
            [entry("a.example", false), entry("b.example", false), entry("b.example", false)];
        assert_eq!(merge(&policy, &user), (vec![entry("b.example", false)], vec![]));
    }
}
