//! Entries of one level, found by name.

use std::collections::{HashMap, HashSet};

use rcc_policy::{Entry, HostPattern, Name, Protocol, Target};

use crate::rules::TLS;

/// See the module.
#[derive(Default)]
pub struct Index {
    exact: HashMap<Name, Vec<u32>>,
    below: HashMap<Name, Vec<u32>>,
    /// Names above allowed ones: they exist, with no records of their own.
    above: HashSet<String>,
    /// What each entry opens, by its number.
    opens: Vec<Opens>,
}

struct Opens {
    protocol: Protocol,
    ports: Box<[u16]>,
    private: bool,
}

impl Index {
    /// Of these entries, by their numbers.
    pub fn new(entries: &[Entry]) -> Self {
        let mut index = Self::default();
        for (number, entry) in entries.iter().enumerate() {
            let ports = entry.ports().into();
            let (protocol, private) = (entry.protocol(), entry.private());
            index.opens.push(Opens { protocol, ports, private });
            let Target::Host(pattern) = entry.target() else { continue };
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            match pattern {
                HostPattern::Exact(name) => index.exact.entry(name.clone()).or_default(),
                HostPattern::Below(name) => {
                    index.above.insert(name.as_str().to_owned());
                    index.below.entry(name.clone()).or_default()
                }
            }
            .push(number);
            let mut rest = pattern.base().as_str();
            while let Some((_, parent)) = rest.split_once('.') {
                index.above.insert(parent.to_owned());
                rest = parent;
            }
        }
        index
    }

    /// Numbers of the entries that a name fits.
    pub fn matching(&self, name: &Name) -> Vec<u32> {
        let mut found = self.exact.get(name).cloned().unwrap_or_default();
        let mut rest = name.as_str();
        while let Some((_, parent)) = rest.split_once('.') {
            if let Ok(parent) = parent.parse::<Name>() {
                found.extend(self.below.get(&parent).into_iter().flatten());
            }
            rest = parent;
        }
        found
    }

    /// The name itself stands there, not a wildcard alone.
    pub fn names(&self, name: &Name) -> bool {
        self.exact.contains_key(name)
    }

    /// The name stands above an allowed one.
    pub fn above(&self, name: &Name) -> bool {
        self.above.contains(name.as_str())
    }

    /// Answers to one of these entries may be private.
    pub fn private(&self, numbers: &[u32]) -> bool {
        self.of(numbers).any(|one| one.private)
    }

    /// One of these entries opens this port.
    pub fn opens(&self, numbers: &[u32], protocol: Protocol, port: u16) -> bool {
        self.of(numbers).any(|one| one.protocol == protocol && one.ports.contains(&port))
    }

    /// A TLS server of this name is allowed.
    pub fn allows_tls(&self, name: &Name) -> bool {
        self.opens(&self.matching(name), Protocol::Tcp, TLS)
    }

    fn of(&self, numbers: &[u32]) -> impl Iterator<Item = &Opens> {
        numbers.iter().filter_map(|number| self.opens.get(*number as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_agrees_with_the_policy() {
        let entry = |target: &str| Entry::new(target, &[443], Protocol::Tcp, false).unwrap();
        let entries = [
            entry("a.example.com"),
            entry("*.example.com"),
            entry("*.b.example.com"),
            entry("198.51.100.1"),
        ];
        let index = Index::new(&entries);
        for name in
            ["a.example.com", "x.example.com", "x.b.example.com", "example.com", "other.org"]
        {
            let name: Name = name.parse().unwrap();
            let mut found = index.matching(&name);
            found.sort_unstable();
            let expected: Vec<u32> =
                rcc_policy::match_name(&entries, &name).map(|n| n as u32).collect();
            assert_eq!(found, expected, "{name}");
        }
        assert!(index.above.contains("example.com") && index.above.contains("com"));
        assert!(!index.above.contains("a.example.com"));
    }

    #[test]
    fn an_entry_opens_its_own_ports_and_no_other() {
        let entries = [
            Entry::new("a.example", &[443], Protocol::Tcp, false).unwrap(),
            Entry::new("a.example", &[8443], Protocol::Udp, true).unwrap(),
            Entry::new("b.example", &[8443], Protocol::Tcp, false).unwrap(),
        ];
        let index = Index::new(&entries);
        let own = index.matching(&"a.example".parse().unwrap());
        for (protocol, port, open) in [
            (Protocol::Tcp, 443, true),
            (Protocol::Udp, 8443, true),
            (Protocol::Udp, 443, false),
            (Protocol::Tcp, 8443, false),
        ] {
            assert_eq!(index.opens(&own, protocol, port), open, "{protocol} {port}");
        }
        assert!(index.private(&own) && !index.private(&[0, 2]));
    }
}
