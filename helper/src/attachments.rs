//! What the helper knows of the sandboxes that are attached.

mod files;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::Ipv4Addr;

use rcc_dbus::{AttachmentInfo, Rule, StandingRule};
use rcc_policy::{Defaults, Entry, Policy};

use crate::layout::{SANDBOXES, UNCHECKED, pool_address};
use crate::netlink::Mac;
use crate::netns::NetnsId;
use crate::nft::Transaction;
use crate::rules::{self, Answered, AttachmentRules};

/// How long an address rests before another sandbox gets it, in seconds.
const REST: u64 = 600;
/// Bounds of what an answer's time to live counts for, and what is added, in seconds.
const LIFE: std::ops::RangeInclusive<u32> = 60..=3_600;
const GRACE: u64 = 300;
/// Addresses by name that one sandbox may have open at once.
const MAX_ANSWERS: usize = 2_048;

/// A user's rule and when it ends, in seconds of [`crate::clock::now`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The rule.
    pub entry: Entry,
    /// `None` for one that stays.
    pub until: Option<u64>,
}

/// One sandbox's link.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Its number, and that in the names of its link and chain.
    pub id: u32,
    /// Whose it is.
    pub uid: u32,
    /// The sandbox's namespace.
    pub netns: NetnsId,
    /// Number of its link in the gate; 0 until it is made.
    pub link: u32,
    /// The sandbox's address.
    pub address: Ipv4Addr,
    /// Hardware address of the sandbox's end, and of the gate's.
    pub macs: (Mac, Mac),
    /// False while disconnected.
    pub connected: bool,
    /// Disconnected by an administrator.
    pub locked: bool,
    /// Open to the public internet until then, in seconds of [`crate::clock::now`].
    pub open_until: Option<u64>,
    /// When it was attached, seconds since 1970.
    pub since: u64,
    /// The user's rules.
    pub held: Vec<Held>,
    /// Mark of flows accepted under the present rules.
    pub generation: u32,
    /// Changes with every change of the rules.
    pub revision: u64,
    /// Addresses by name, and until when they are open.
    pub answers: HashMap<(Entry, Ipv4Addr), u64>,
    /// Networks that its sets in the gate may hold; [`usize::MAX`] when nobody knows.
    pub networks: usize,
}

impl Attachment {
    /// The entries of the user, in the order that the resolver counts them.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.held.iter().map(|held| &held.entry)
    }

    /// Lets timed rules go whose time is over; true when one went.
    pub fn expire(&mut self, now: u64) -> bool {
        let before = (self.held.len(), self.open_until);
        self.held.retain(|held| held.until.is_none_or(|until| until > now));
        self.open_until = self.open_until.filter(|until| *until > now);
        (self.held.len(), self.open_until) != before
    }

    /// When the first timed rule ends, in seconds of [`crate::clock::now`].
    pub fn next_end(&self) -> Option<u64> {
        self.held.iter().filter_map(|held| held.until).chain(self.open_until).min()
    }

    /// The administrator's defaults as they hold for this sandbox now.
    pub fn defaults(&self, policy: &Policy) -> Defaults {
        let allow_public = policy.defaults.allow_public || self.open_until.is_some();
        Defaults { allow_public, ..policy.defaults.clone() }
    }

    /// Keeps the answers of entries that still hold and have not expired.
    pub fn prune_answers(&mut self, policy: &Policy, now: u64) {
        let held: std::collections::HashSet<&Entry> =
            policy.entries.iter().chain(self.held.iter().map(|held| &held.entry)).collect();
        self.answers.retain(|(entry, _), until| *until > now && held.contains(entry));
    }

    /// Notes that `entry` opens `address`, and says for how many seconds the kernel
    /// must hear of it, and whether it may have the address already with another
    /// life; `None` when it knows it for long enough.
    ///
    /// # Errors
    /// `StorageFull` when the sandbox has as many addresses open as it may.
    pub fn note_answer(
        &mut self,
        entry: &Entry,
        address: Ipv4Addr,
        ttl: u32,
        now: u64,
    ) -> io::Result<Option<(u32, bool)>> {
        let life = u64::from(ttl.clamp(*LIFE.start(), *LIFE.end())) + GRACE;
        let key = (entry.clone(), address);
        if let Some(until) = self.answers.get(&key)
            && *until >= now + life - GRACE / 2
        {
            return Ok(None);
        }
        if self.answers.len() >= MAX_ANSWERS {
            self.answers.retain(|_, until| *until > now);
            if self.answers.len() >= MAX_ANSWERS {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        // By this entry or another one with the same ports.
        let renewed = self.answers.keys().any(|(_, open)| *open == address);
        self.answers.insert(key, now + life);
        Ok(Some((u32::try_from(life).unwrap_or(u32::MAX), renewed)))
    }

    /// What writes its rules to the gate.
    pub fn transaction(&mut self, policy: &Policy, now: u64) -> Transaction {
        let rules = self.rules(policy, now);
        let (transaction, networks) = (rules::attachment(&rules), rules.networks());
        self.networks = networks;
        transaction
    }

    /// What the gate must do for it.
    fn rules<'a>(&'a self, policy: &'a Policy, now: u64) -> AttachmentRules<'a> {
        let answers = self.answers.iter().filter(|(_, until)| **until > now);
        AttachmentRules {
            id: self.id,
            address: self.address,
            defaults: self.defaults(policy),
            entries: policy.entries.iter().chain(self.entries()).collect(),
            answers: answers
                .map(|((entry, address), until)| Answered {
                    entry,
                    address: *address,
                    seconds: u32::try_from(until - now).unwrap_or(u32::MAX),
                    renewed: false,
                })
                .collect(),
            generation: self.generation,
            connected: self.connected,
            networks_before: self.networks,
        }
    }

    /// As its user sees it.
    pub fn info(&self, now: u64) -> AttachmentInfo {
        let left = |until: u64| u32::try_from(until.saturating_sub(now)).unwrap_or(u32::MAX).max(1);
        AttachmentInfo {
            id: self.id,
            uid: self.uid,
            netns: self.netns.inode,
            address4: self.address.to_string(),
            address6: String::new(),
            connected: self.connected,
            locked: self.locked,
            since: self.since,
            rules: self
                .held
                .iter()
                .map(|held| StandingRule {
                    rule: Rule::from(&held.entry),
                    expires_in: held.until.map_or(0, left),
                })
                .collect(),
            open_for: self.open_until.map_or(0, left),
        }
    }
}

/// All attachments, and what makes the next one different from all before.
#[derive(Debug, Default)]
pub struct Attachments {
    /// By number.
    pub all: BTreeMap<u32, Attachment>,
    /// Version of the administrator's file that they were last held against.
    pub policy: String,
    last_id: u32,
    last_generation: u32,
    last_revision: u64,
    last_offset: u32,
    resting: Vec<(Ipv4Addr, u64)>,
}

impl Attachments {
    /// Numbers of all that stand.
    pub fn ids(&self) -> Vec<u32> {
        self.all.keys().copied().collect()
    }

    /// A number that no attachment had.
    pub fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        self.last_id
    }

    /// A mark that no flow has. Wraps after two billion changes, past 0: the highest
    /// bit is not its own ([`crate::layout::UNCHECKED`]).
    pub fn next_generation(&mut self) -> u32 {
        self.last_generation = (self.last_generation.wrapping_add(1) & !UNCHECKED).max(1);
        self.last_generation
    }

    /// A revision that no rules had.
    pub fn next_revision(&mut self) -> u64 {
        self.last_revision += 1;
        self.last_revision
    }

    /// An address that nobody has and that has rested; round robin, so that a
    /// dead sandbox's address comes back as late as possible.
    pub fn next_address(&mut self, now: u64) -> Option<Ipv4Addr> {
        self.resting.retain(|(_, until)| *until > now);
        let count = SANDBOXES.end() - SANDBOXES.start() + 1;
        for step in 1..=count {
            let offset = SANDBOXES.start() + (self.last_offset + step) % count;
            let address = pool_address(offset);
            let taken = self.all.values().any(|attachment| attachment.address == address)
                || self.resting.iter().any(|(resting, _)| *resting == address);
            if !taken {
                self.last_offset = offset - SANDBOXES.start();
                return Some(address);
            }
        }
        None
    }

    /// Takes an attachment out; its address rests.
    pub fn remove(&mut self, id: u32, now: u64) -> Option<Attachment> {
        let gone = self.all.remove(&id)?;
        self.resting.push((gone.address, now + REST));
        Some(gone)
    }

    /// The attachment behind a link of the gate.
    pub fn by_link(&self, link: u32) -> Option<&Attachment> {
        self.all.values().find(|attachment| attachment.link == link && link != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcc_policy::Protocol;

    pub(super) fn attachment(id: u32, address: Ipv4Addr) -> Attachment {
        let entry = Entry::new("a.example", &[443], Protocol::Tcp, false).unwrap();
        Attachment {
            id,
            uid: 1000,
            netns: NetnsId { device: 4, inode: 9 },
            link: 7,
            address,
            macs: ([2; 6], [3; 6]),
            connected: true,
            locked: false,
            open_until: Some(60),
            since: 1,
            held: vec![Held { entry: entry.clone(), until: Some(50) }],
            generation: 1,
            revision: 1,
            answers: HashMap::from([((entry, [203, 0, 113, 1].into()), 90)]),
            networks: usize::MAX,
        }
    }

    #[test]
    fn n9_addresses_rest_before_they_come_back() {
        let mut attachments = Attachments::default();
        let first = attachments.next_address(0).unwrap();
        attachments.all.insert(1, attachment(1, first));
        attachments.remove(1, 0);
        // Round the whole pool, the resting one is left out.
        let count = SANDBOXES.end() - SANDBOXES.start() + 1;
        for _ in 1..count {
            assert_ne!(attachments.next_address(REST - 1).unwrap(), first);
        }
        assert_ne!(attachments.next_address(REST - 1).unwrap(), first);
        let later = (0..count).map(|_| attachments.next_address(REST).unwrap());
        assert!(later.into_iter().any(|address| address == first));
    }

    #[test]
    fn answers_live_as_long_as_documented_and_are_not_written_twice() {
        let mut one = attachment(1, [198, 18, 0, 16].into());
        let entry = one.held[0].entry.clone();
        let fresh: Ipv4Addr = [203, 0, 113, 9].into();
        let mut note = |ttl, now| one.note_answer(&entry, fresh, ttl, now).unwrap();
        assert_eq!(note(5, 100), Some((360, false)));
        assert_eq!(note(5, 101), None);
        assert_eq!(note(5, 300), Some((360, true)));
        assert_eq!(note(1_000_000, 300), Some((3_900, true)));
    }
}
