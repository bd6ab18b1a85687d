//! What sandboxes asked for and reached, for the people who look at it. Nothing
//! here decides anything, and nothing of it is written down.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use rcc_dbus::Reached;
use rcc_policy::Name;

/// Most names, and destinations, that are kept of one sandbox. The oldest go.
const MOST: usize = 1_024;

/// Of one sandbox.
#[derive(Debug, Default)]
struct Sandbox {
    names: HashMap<Ipv4Addr, (Name, u64)>,
    reached: HashMap<(Ipv4Addr, u16, String), Destination>,
}

#[derive(Debug, Default, Clone)]
struct Destination {
    host: String,
    count: u32,
    last: u64,
}

/// Of all sandboxes, by their number.
#[derive(Debug, Default)]
pub struct Seen(HashMap<u32, Sandbox>);

impl Seen {
    /// There is a sandbox with this number. What is told of others is not kept: an answer
    /// may come when its sandbox is gone.
    pub fn begin(&mut self, id: u32) {
        self.0.entry(id).or_default();
    }

    /// A name that was answered with these addresses.
    pub fn answered(&mut self, id: u32, name: &Name, addresses: &[Ipv4Addr]) {
        let Some(sandbox) = self.0.get_mut(&id) else { return };
        for address in addresses {
            make_room(&mut sandbox.names, address, |(_, when)| *when);
            sandbox.names.insert(*address, (name.clone(), now()));
        }
    }

    /// The name by which a sandbox knows an address.
    pub fn name_of(&self, id: u32, address: Ipv4Addr) -> Option<&Name> {
        self.0.get(&id)?.names.get(&address).map(|(name, _)| name)
    }

    /// A flow that was let through.
    pub fn reached(&mut self, id: u32, address: Ipv4Addr, port: u16, protocol: &str) {
        let Some(sandbox) = self.0.get_mut(&id) else { return };
        let host = sandbox.names.get(&address).map(|(name, _)| name.to_string());
        let key = (address, port, protocol.to_owned());
        make_room(&mut sandbox.reached, &key, |destination| destination.last);
        let destination = sandbox.reached.entry(key).or_default();
        destination.host = host.unwrap_or_default();
        destination.count = destination.count.saturating_add(1);
        destination.last = now();
    }

    /// Where a sandbox went, the latest first.
    pub fn list(&self, id: u32) -> Vec<Reached> {
        let Some(sandbox) = self.0.get(&id) else { return Vec::new() };
        let line =
            |((address, port, protocol), seen): (&(Ipv4Addr, u16, String), &Destination)| Reached {
                host: seen.host.clone(),
                address: address.to_string(),
                port: *port,
                protocol: protocol.clone(),
                count: seen.count,
                last: seen.last,
            };
        let mut lines: Vec<Reached> = sandbox.reached.iter().map(line).collect();
        lines.sort_by(|a, b| b.last.cmp(&a.last).then_with(|| a.address.cmp(&b.address)));
        lines
    }

    /// The sandbox is gone.
    pub fn forget(&mut self, id: u32) {
        self.0.remove(&id);
    }
}

/// Lets the oldest go when a fresh one would be one too many.
fn make_room<K: Eq + Hash + Clone, V>(map: &mut HashMap<K, V>, fresh: &K, age: impl Fn(&V) -> u64) {
    if map.len() < MOST || map.contains_key(fresh) {
        return;
    }
    let oldest = map.iter().min_by_key(|(_, value)| age(value)).map(|(key, _)| key.clone());
    if let Some(oldest) = oldest {
        map.remove(&oldest);
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reached_has_the_name_that_was_asked_for() {
        let mut seen = Seen::default();
        let address = Ipv4Addr::new(203, 0, 113, 9);
        seen.begin(1);
        seen.begin(2);
        seen.answered(1, &"www.example.org".parse().unwrap(), &[address]);
        for _ in 0..3 {
            seen.reached(1, address, 443, "tcp");
        }
        seen.reached(2, address, 443, "tcp");
        let lines = seen.list(1);
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].host.as_str(), lines[0].count), ("www.example.org", 3));
        assert_eq!(seen.list(2)[0].host, "", "another's names are another's");
        seen.forget(1);
        assert!(seen.list(1).is_empty() && seen.name_of(1, address).is_none());
        seen.answered(1, &"www.example.org".parse().unwrap(), &[address]);
        seen.reached(1, address, 443, "tcp");
        assert_eq!(seen.0.len(), 1, "what was under way when it went is not kept");
    }

    #[test]
    fn n17_memory_is_bounded() {
        let mut seen = Seen::default();
        let name: Name = "a.example".parse().unwrap();
        seen.begin(1);
        for number in 0..5_000_u32 {
            let address = Ipv4Addr::from(number);
            seen.answered(1, &name, &[address]);
            seen.reached(1, address, 1, "udp");
        }
        assert_eq!(seen.0[&1].names.len(), MOST);
        assert_eq!(seen.list(1).len(), MOST);
    }
}
