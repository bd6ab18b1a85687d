//! What was refused and waits to be logged, or told.

use std::collections::HashMap;

use super::Blocked;

/// Different things of one sandbox that may wait: more would take the room of others.
const MOST_OF_ONE: usize = 256;
/// And of all together: more than one person's sandboxes can have.
const MOST: usize = 50_000;

/// How often what was refused, by sandbox.
#[derive(Default)]
pub struct Refusals {
    of: HashMap<u32, HashMap<Blocked, u32>>,
    different: usize,
}

impl Refusals {
    /// Counts it; false when there is no room for another one.
    pub fn count(&mut self, what: Blocked, times: u32) -> bool {
        let own = self.of.entry(what.id).or_default();
        if let Some(before) = own.get_mut(&what) {
            *before = before.saturating_add(times);
            return true;
        }
        let room = own.len() < MOST_OF_ONE && self.different < MOST;
        if room {
            own.insert(what, times);
            self.different += 1;
        }
        room
    }

    /// Takes what is of one sandbox.
    pub fn take_of(&mut self, id: u32) -> HashMap<Blocked, u32> {
        let taken = self.of.remove(&id).unwrap_or_default();
        self.different -= taken.len();
        taken
    }

    /// Numbers of the sandboxes of which something is there.
    pub fn ids(&self) -> Vec<u32> {
        self.of.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcc_dbus::BlockedReason;

    fn blocked(id: u32, port: u16) -> Blocked {
        Blocked {
            id,
            host: String::new(),
            address: "203.0.113.9".into(),
            port,
            protocol: "tcp".into(),
            reason: BlockedReason::NotAllowed,
        }
    }

    #[test]
    fn r1_one_sandbox_leaves_the_others_their_room() {
        let mut refusals = Refusals::default();
        let kept = (1..=60_000).filter(|port| refusals.count(blocked(1, *port), 1)).count();
        assert_eq!(kept, MOST_OF_ONE);
        assert!(refusals.count(blocked(2, 1), 3), "another one's");
        assert!(refusals.count(blocked(1, 1), 4), "one that is known");
        assert_eq!(refusals.take_of(1)[&blocked(1, 1)], 5);
        assert_eq!(refusals.ids(), [2]);
        assert!(refusals.count(blocked(1, 9), 1), "there is room again");
        assert_eq!(refusals.different, 2);
    }
}
