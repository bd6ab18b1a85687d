//! What callers send over the bus.

use rcc_dbus::Rule;
use rcc_policy::{Defaults, Entry, Policy, UsersMayAdd, merge};
use zbus::zvariant::LE;
use zbus::zvariant::serialized::{Context, Data};

/// Rules as they stand in a message, and what the helper makes of them.
pub fn arguments(bytes: &[u8]) {
    let data = Data::new(bytes, Context::new_dbus(LE, 0));
    let Ok((rules, _)) = data.deserialize::<Vec<Rule>>() else { return };
    let entries: Vec<Entry> = rules.iter().filter_map(|rule| rule.to_entry().ok()).collect();
    for entry in &entries {
        // What is told of a rule later is that rule.
        assert_eq!(Rule::from(entry).to_entry().as_ref(), Ok(entry));
    }
    for users_may_add in [UsersMayAdd::None, UsersMayAdd::Public, UsersMayAdd::Private] {
        let defaults = Defaults { users_may_add, ..Defaults::default() };
        let (held, dropped) = merge(&Policy { defaults, entries: Vec::new() }, &entries);
        assert!(held.len() + dropped.len() <= entries.len());
        assert!(users_may_add != UsersMayAdd::None || held.is_empty());
    }
}
