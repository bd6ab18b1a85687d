//! What the sandboxes were not let through to: the log of the days that are
//! kept, and what came since.

use std::collections::{BTreeSet, HashMap};

use rcc_sandbox::blocked_log::Record;
use rcc_sandbox::session::Reached;

use crate::wire::{NetworkLine, Outcome};

/// Hosts that are remembered of one project; the oldest goes first. A sandbox
/// must not fill the window's memory.
const MOST: usize = 2_000;

/// Lines that are sent at once.
pub const SENT: usize = 500;

#[derive(Default)]
pub struct Seen {
    projects: HashMap<String, Project>,
    /// The log was read.
    loaded: bool,
    /// Projects whose change was not told yet.
    changed: BTreeSet<String>,
}

#[derive(Default)]
struct Project {
    lines: HashMap<Key, Line>,
    /// Targets since the person looked.
    unseen: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    target: String,
    port: u16,
    protocol: String,
}

struct Line {
    address: String,
    reason: String,
    count: u32,
    last: u64,
}

impl Seen {
    /// Takes the log in, once.
    pub fn load(&mut self, read: impl FnOnce() -> Vec<Record>) {
        if !self.loaded {
            self.loaded = true;
            for record in read() {
                self.add(&record);
            }
        }
    }

    /// Takes one in; `quiet` ones do not count as something to look at.
    pub fn blocked(&mut self, record: &Record, quiet: bool) {
        let Some(target) = target(record) else { return };
        self.add(record);
        let project = self.projects.entry(record.project.clone()).or_default();
        if !quiet && project.unseen.len() < MOST {
            project.unseen.insert(target.into());
        }
    }

    fn add(&mut self, record: &Record) {
        let Some(target) = target(record) else { return };
        let project = self.projects.entry(record.project.clone()).or_default();
        let key =
            Key { target: target.into(), port: record.port, protocol: record.protocol.clone() };
        let line = project.lines.entry(key).or_insert_with(|| Line {
            address: String::new(),
            reason: String::new(),
            count: 0,
            last: 0,
        });
        line.count = line.count.saturating_add(record.count.max(1));
        line.last = line.last.max(record.time);
        line.reason.clone_from(&record.reason);
        if !record.address.is_empty() && !record.host.is_empty() {
            line.address.clone_from(&record.address);
        }
        if project.lines.len() > MOST {
            let oldest = project.lines.iter().min_by_key(|(_, line)| line.last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                project.lines.remove(&oldest);
            }
        }
    }

    /// Hosts since the person looked.
    pub fn unseen(&self, project: &str) -> u32 {
        let count = self.projects.get(project).map_or(0, |project| project.unseen.len());
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The person looked; answers whether there was something new.
    pub fn look(&mut self, project: &str) -> bool {
        self.projects
            .get_mut(project)
            .is_some_and(|project| !std::mem::take(&mut project.unseen).is_empty())
    }

    /// The newest of `reached` and of the blocked ones that `keep` lets through,
    /// and how many are left off.
    pub fn lines(
        &self,
        project: &str,
        quiet: &[String],
        reached: Vec<NetworkLine>,
        keep: impl Fn(&NetworkLine) -> bool,
    ) -> (Vec<NetworkLine>, u32) {
        let mut lines: Vec<NetworkLine> = self
            .projects
            .get(project)
            .into_iter()
            .flat_map(|project| &project.lines)
            .map(|(key, line)| NetworkLine {
                target: key.target.clone(),
                address: (!line.address.is_empty()).then(|| line.address.clone()),
                port: key.port,
                protocol: key.protocol.clone(),
                outcome: Outcome::Blocked,
                reason: Some(line.reason.clone()),
                count: line.count,
                last: line.last,
                quiet: quiet.contains(&key.target),
            })
            .filter(keep)
            .chain(reached)
            .collect();
        lines.sort_by(|a, b| {
            b.last.cmp(&a.last).then_with(|| (&a.target, a.port).cmp(&(&b.target, b.port)))
        });
        let more = u32::try_from(lines.len().saturating_sub(SENT)).unwrap_or(u32::MAX);
        lines.truncate(SENT);
        (lines, more)
    }

    /// Notes that a view changed; true when somebody has to tell it soon.
    pub fn note(&mut self, project: &str) -> bool {
        let first = self.changed.is_empty();
        self.changed.insert(project.into());
        first
    }

    /// The views that changed since the last time.
    pub fn noted(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }
}

/// One line for each name and port, however many addresses it has.
pub fn reached(all: &[Reached]) -> Vec<NetworkLine> {
    let mut lines: HashMap<Key, NetworkLine> = HashMap::new();
    for one in all {
        let named = !one.host.is_empty();
        let target = if named { &one.host } else { &one.address };
        let key = Key { target: target.clone(), port: one.port, protocol: one.protocol.clone() };
        let line = lines.entry(key).or_insert_with(|| NetworkLine {
            target: target.clone(),
            address: None,
            port: one.port,
            protocol: one.protocol.clone(),
            outcome: Outcome::Reached,
            reason: None,
            count: 0,
            last: 0,
            quiet: false,
        });
        line.count = line.count.saturating_add(one.count);
        if one.last >= line.last {
            line.last = one.last;
            line.address = named.then(|| one.address.clone());
        }
    }
    lines.into_values().collect()
}

/// Name, or the address when there is no name.
pub fn target(record: &Record) -> Option<&str> {
    let target = if record.host.is_empty() { &record.address } else { &record.host };
    (!record.project.is_empty() && !target.is_empty()).then_some(target)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn record(host: &str, time: u64) -> Record {
        Record {
            time,
            project: "p".into(),
            path: "/p".into(),
            host: host.into(),
            address: "192.0.2.1".into(),
            port: 443,
            protocol: "tcp".into(),
            reason: "not-allowed".into(),
            count: 2,
        }
    }

    #[test]
    fn one_host_is_one_line_with_its_count() {
        let mut seen = Seen::default();
        seen.load(|| vec![record("a.example", 5)]);
        seen.load(|| panic!("twice"));
        assert_eq!(seen.unseen("p"), 0);
        seen.blocked(&record("a.example", 9), false);
        seen.blocked(&record("ads.example", 7), true);
        assert_eq!(seen.unseen("p"), 1);
        let (lines, more) = seen.lines("p", &["ads.example".into()], Vec::new(), |_| true);
        let shown: Vec<_> =
            lines.iter().map(|line| (line.target.as_str(), line.count, line.quiet)).collect();
        assert_eq!(shown, [("a.example", 4, false), ("ads.example", 2, true)]);
        assert_eq!((lines[0].last, more), (9, 0));
        assert!(seen.look("p") && !seen.look("p"));
        assert_eq!(seen.unseen("p"), 0);
        assert!(seen.lines("p", &[], Vec::new(), |_| false).0.is_empty());
    }

    #[test]
    fn n17_a_flood_of_names_is_bounded() {
        let mut seen = Seen::default();
        for number in 0..MOST as u64 + 50 {
            seen.blocked(&record(&format!("h{number}.example"), number), false);
        }
        let (lines, more) = seen.lines("p", &[], Vec::new(), |_| true);
        assert_eq!((lines.len(), more as usize), (SENT, MOST - SENT));
        assert_eq!(lines[0].target, format!("h{}.example", MOST + 49));
        assert_eq!(seen.unseen("p") as usize, MOST);
    }

    #[test]
    fn a_record_without_a_project_or_a_name_is_not_shown() {
        let mut nameless = record("", 1);
        assert_eq!(target(&nameless), Some("192.0.2.1"));
        nameless.address.clear();
        assert_eq!(target(&nameless), None);
        let mut seen = Seen::default();
        seen.blocked(&nameless, false);
        assert_eq!(seen.unseen("p"), 0);
    }

    #[test]
    fn a_name_that_was_reached_is_one_line_among_the_blocked() {
        let at = |host: &str, address: &str, last| Reached {
            host: host.into(),
            address: address.into(),
            port: 443,
            protocol: "tcp".into(),
            count: 1,
            last,
        };
        let all = [
            at("b.example", "192.0.2.9", 8),
            at("b.example", "192.0.2.8", 6),
            at("", "192.0.2.7", 1),
        ];
        let mut seen = Seen::default();
        seen.blocked(&record("a.example", 7), false);
        let (lines, more) = seen.lines("p", &[], reached(&all), |_| true);
        let shown: Vec<_> =
            lines.iter().map(|line| (line.target.as_str(), line.outcome, line.count)).collect();
        assert_eq!(
            shown,
            [
                ("b.example", Outcome::Reached, 2),
                ("a.example", Outcome::Blocked, 2),
                ("192.0.2.7", Outcome::Reached, 1)
            ]
        );
        assert_eq!((lines[0].address.as_deref(), more), (Some("192.0.2.9"), 0));
    }

    #[test]
    fn changes_are_gathered() {
        let mut seen = Seen::default();
        assert!(seen.note("p") && !seen.note("q") && !seen.note("p"));
        assert_eq!(seen.noted().len(), 2);
        assert!(seen.note("p"));
    }
}
