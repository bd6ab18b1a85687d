//! What the helper knows of the sandboxes that are attached.

mod files;

use std::collections::{BTreeMap, HashMap, HashSet};
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
/// Ports of them all.
const MAX_OPEN_PORTS: usize = 8_192;
/// Disconnected namespaces that are remembered without a link.
const MOST_LOCKED: usize = 1_000;

/// A user's rule and when it ends, in seconds of [`crate::clock::now`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The rule.
    pub entry: Entry,
    /// `None` for one that stays.
    pub until: Option<u64>,
}

/// What the kernel must hear of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Opening {
    /// Ports that nothing else opens for longer.
    pub ports: Vec<u16>,
    /// For so many seconds.
    pub seconds: u32,
    /// It may have them already, with another life.
    pub renewed: bool,
    /// Until when the same answer was open before.
    pub before: Option<u64>,
}

/// What the two open is in one set, if their ports are the same.
fn same_set(one: &Entry, other: &Entry) -> bool {
    one.protocol() == other.protocol() && one.reach() == other.reach()
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
        let held: HashSet<&Entry> =
            policy.entries.iter().chain(self.held.iter().map(|held| &held.entry)).collect();
        self.answers.retain(|(entry, _), until| *until > now && held.contains(entry));
    }

    /// Notes that `entry` opens `address`, and says what the kernel must hear of it;
    /// `None` when it knows it for long enough.
    ///
    /// # Errors
    /// `StorageFull` when the sandbox has as many addresses open as it may.
    pub fn note_answer(
        &mut self,
        entry: &Entry,
        address: Ipv4Addr,
        ttl: u32,
        now: u64,
    ) -> io::Result<Option<Opening>> {
        let life = u64::from(ttl.clamp(*LIFE.start(), *LIFE.end())) + GRACE;
        let key = (entry.clone(), address);
        if let Some(until) = self.answers.get(&key)
            && *until >= now + life - GRACE / 2
        {
            return Ok(None);
        }
        if !self.answers.contains_key(&key) && self.is_full(entry) {
            self.answers.retain(|_, until| *until > now);
            if self.is_full(entry) {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let until = now + life;
        // The kernel has one life for a port, whatever opened it: the longest one (N7).
        let longer: HashSet<u16> = self
            .answers
            .iter()
            .filter(|((other, open), end)| {
                *open == address && **end >= until && same_set(other, entry)
            })
            .flat_map(|((other, _), _)| other.ports().iter().copied())
            .collect();
        let ports = entry.ports().iter().copied().filter(|port| !longer.contains(port)).collect();
        // By this entry or another one with the same ports.
        let renewed = self.answers.keys().any(|(_, open)| *open == address);
        let before = self.answers.insert(key, until);
        let seconds = u32::try_from(life).unwrap_or(u32::MAX);
        Ok(Some(Opening { ports, seconds, renewed, before }))
    }

    /// Takes back what was noted, since the kernel did not hear of it.
    pub fn unnote_answer(&mut self, key: (Entry, Ipv4Addr), before: Option<u64>) {
        match before {
            Some(until) => drop(self.answers.insert(key, until)),
            None => drop(self.answers.remove(&key)),
        }
    }

    /// No address more can be open by this entry.
    fn is_full(&self, entry: &Entry) -> bool {
        let ports = || self.answers.keys().map(|(entry, _)| entry.ports().len()).sum::<usize>();
        self.answers.len() >= MAX_ANSWERS || ports() + entry.ports().len() > MAX_OPEN_PORTS
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
    /// Numbers of sandboxes whose files did not read, and why.
    pub left_out: Vec<(u32, String)>,
    last_id: u32,
    last_generation: u32,
    last_revision: u64,
    last_offset: u32,
    resting: Vec<(Ipv4Addr, u64)>,
    /// Namespaces whose sandboxes an administrator had disconnected when they lost their
    /// links: their users do not plug another one in.
    locked: Vec<NetnsId>,
}

impl Attachments {
    /// None, when nobody knows which there were: numbers that none of them can have had.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn anew() -> io::Result<Self> {
        let random = || -> io::Result<u32> {
            let mut bytes = [0; 4];
            getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
            Ok(u32::from_ne_bytes(bytes) & !UNCHECKED)
        };
        let count = SANDBOXES.end() - SANDBOXES.start() + 1;
        Ok(Self {
            last_id: random()?,
            last_generation: random()?,
            last_revision: u64::from(random()?),
            last_offset: random()? % count,
            ..Self::default()
        })
    }

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
        if gone.locked {
            // Most of them are dead already. The oldest goes.
            if self.locked.len() >= MOST_LOCKED {
                self.locked.remove(0);
            }
            self.locked.push(gone.netns);
        }
        Some(gone)
    }

    /// An administrator disconnected what lives in this namespace. One that the gate has
    /// not `met` is another one, with the number of one that died.
    pub fn is_locked(&mut self, netns: NetnsId, met: bool) -> bool {
        if !met {
            self.locked.retain(|locked| *locked != netns);
        }
        self.locked.contains(&netns)
    }

    /// The attachment behind a link of the gate.
    pub fn by_link(&self, link: u32) -> Option<&Attachment> {
        self.all.values().find(|attachment| attachment.link == link && link != 0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rcc_policy::Protocol;

    pub(crate) fn attachment(id: u32, address: Ipv4Addr) -> Attachment {
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
    fn n9_numbers_that_are_given_out_after_all_were_forgotten_are_others() {
        let mut numbers = HashSet::new();
        for _ in 0..100 {
            let mut one = Attachments::anew().unwrap();
            numbers.insert(one.next_id());
            let generation = one.next_generation();
            assert_eq!(generation & UNCHECKED, 0);
            numbers.insert(generation);
            let offset = one.next_address(0).unwrap();
            assert!(crate::layout::POOL.contains(&offset));
        }
        // Two of two hundred may be the same by chance, once in a hundred thousand times.
        assert!(numbers.len() >= 199, "{}", numbers.len());
    }

    #[test]
    fn h1_what_an_administrator_disconnected_is_remembered_while_it_lives() {
        let mut attachments = Attachments::default();
        let mut one = attachment(1, [198, 18, 0, 16].into());
        let netns = one.netns;
        one.locked = true;
        attachments.all.insert(1, one.clone());
        attachments.remove(1, 0);
        assert!(attachments.is_locked(netns, true));
        assert!(!attachments.is_locked(NetnsId { device: 4, inode: 10 }, true));
        // Another namespace has its number now, and keeps it.
        assert!(!attachments.is_locked(netns, false));
        assert!(!attachments.is_locked(netns, true));
        one.locked = false;
        attachments.all.insert(1, one);
        attachments.remove(1, 0);
        assert!(!attachments.is_locked(netns, true));
    }

    #[test]
    fn answers_live_as_long_as_documented_and_are_not_written_twice() {
        let mut one = attachment(1, [198, 18, 0, 16].into());
        let entry = one.held[0].entry.clone();
        let fresh: Ipv4Addr = [203, 0, 113, 9].into();
        let mut note = |ttl, now| {
            let opening = one.note_answer(&entry, fresh, ttl, now).unwrap();
            opening.map(|opening| (opening.seconds, opening.renewed))
        };
        assert_eq!(note(5, 100), Some((360, false)));
        assert_eq!(note(5, 101), None);
        assert_eq!(note(5, 300), Some((360, true)));
        assert_eq!(note(1_000_000, 300), Some((3_900, true)));
    }

    #[test]
    fn n7_a_short_answer_shortens_no_long_one() {
        let mut one = attachment(1, [198, 18, 0, 16].into());
        let fresh: Ipv4Addr = [203, 0, 113, 9].into();
        let entry =
            |name: &str, ports: &[u16], protocol| Entry::new(name, ports, protocol, false).unwrap();
        let mut ports = |entry: &Entry, ttl| {
            one.note_answer(entry, fresh, ttl, 100).unwrap().map(|opening| opening.ports)
        };
        let long = entry("long.example", &[443, 8_443], Protocol::Tcp);
        let short = entry("short.example", &[80, 443], Protocol::Tcp);
        let other = entry("other.example", &[443], Protocol::Udp);
        assert_eq!(ports(&long, 3_600), Some(vec![443, 8_443]));
        assert_eq!(ports(&short, 60), Some(vec![80]));
        assert_eq!(ports(&other, 60), Some(vec![443]), "of another protocol");
        assert_eq!(ports(&short, 1_000), Some(vec![80]));
        // What the kernel did not take is not known as open.
        let key = (long.clone(), fresh);
        let before = one.answers[&key];
        let opening = one.note_answer(&long, fresh, 3_600, 2_000).unwrap().unwrap();
        one.unnote_answer(key.clone(), opening.before);
        assert_eq!(one.answers[&key], before);
        one.unnote_answer(key.clone(), None);
        assert!(!one.answers.contains_key(&key));
    }
}
