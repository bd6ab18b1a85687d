//! Lists that a person edits by hand take effect in the sandboxes that run, for
//! as long as a process of rcc's follows them: the window, or a command that has
//! a sandbox on its terminal.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcc_policy::{Entry, Policy, UserRules};

use super::rules::{DroppedRule, refresh_of};
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::host::Host;
use crate::hosts::COMPUTER_FILE;
use crate::levels::{Watch, Whose};
use crate::network::Network;

/// After so long it is tried again to bring what could not be brought.
const AGAIN: Duration = Duration::from_secs(10);

/// The three lists, as they were and as they become.
pub struct Follow {
    host: Host,
    watch: Watch,
    /// What each had when it was read last.
    known: HashMap<Whose, Vec<Entry>>,
    /// What each had that may still hold in a sandbox, as nobody could be told.
    owed: BTreeMap<Whose, Vec<Entry>>,
}

/// One list that is another one now.
#[derive(Debug)]
pub struct Edited {
    /// Whose it is.
    pub whose: Whose,
    /// Why it cannot be read. What it had holds on.
    pub mistake: Option<Error>,
    /// What could not be brought before: whoever said so need not say it again.
    pub again: bool,
    /// What it had. None: there is nothing to bring.
    before: Option<Vec<Entry>>,
}

impl Follow {
    /// Begins to listen.
    ///
    /// # Errors
    /// `Code::Io` when the kernel gives no watch.
    pub fn begin(host: &Host) -> Result<Self> {
        // First the watch: what is written between the two is heard of.
        let watch = Watch::begin(host)?;
        let mut follow =
            Self { host: host.clone(), watch, known: HashMap::new(), owed: BTreeMap::new() };
        let projects = fs::read_dir(host.config.join("projects")).into_iter().flatten().flatten();
        let ids = projects.filter_map(|entry| {
            entry.file_name().to_str()?.strip_suffix(".yaml").map(str::to_string)
        });
        for whose in ids.map(Whose::Project).chain([Whose::AllProjects]) {
            if let Ok(entries) = follow.read(&whose) {
                follow.known.insert(whose, entries);
            }
        }
        Ok(follow)
    }

    /// The next edits; `None` when the kernel ended the watch.
    pub async fn next(&mut self) -> Option<Vec<Edited>> {
        loop {
            let changed = if self.owed.is_empty() {
                self.watch.next().await?
            } else {
                match tokio::time::timeout(AGAIN, self.watch.next()).await {
                    Ok(changed) => changed?,
                    Err(_) => Vec::new(),
                }
            };
            let owed: Vec<_> =
                self.owed.keys().filter(|whose| !changed.contains(whose)).cloned().collect();
            let mut edited: Vec<_> = changed.into_iter().map(|whose| self.take(whose)).collect();
            edited.extend(owed.into_iter().filter_map(|whose| self.take_again(whose)));
            if !edited.is_empty() {
                return Some(edited);
            }
        }
    }

    /// Brings an edit to the sandboxes that run: what the list had and has no more
    /// goes and its flows are cut, what it has now comes. What fails is brought again
    /// with the next edit, or after ten seconds.
    ///
    /// # Errors
    /// As [`super::allow`].
    pub async fn bring(
        &mut self,
        edited: Edited,
        engine: &Engine,
        network: &Network,
    ) -> Result<Vec<DroppedRule>> {
        let (Some(before), Some(only)) = (&edited.before, own(&edited.whose)) else {
            return Ok(Vec::new());
        };
        let brought = refresh_of(&self.host, engine, network, only, before).await;
        if brought.is_err() {
            self.keep(edited);
        }
        brought
    }

    /// Nobody can be told now: it is brought again as what fails is.
    pub fn keep(&mut self, edited: Edited) {
        if let Some(before) = edited.before {
            add(self.owed.entry(edited.whose).or_default(), before);
        }
    }

    fn take(&mut self, whose: Whose) -> Edited {
        let mut edited = Edited { whose, mistake: None, again: false, before: None };
        if edited.whose == Whose::Computer {
            edited.mistake = computer(Path::new(COMPUTER_FILE)).err();
            return edited;
        }
        match self.read(&edited.whose) {
            Ok(now) => {
                let mut before = self.known.insert(edited.whose.clone(), now).unwrap_or_default();
                add(&mut before, self.owed.remove(&edited.whose).unwrap_or_default());
                edited.before = Some(before);
            }
            Err(mistake) => edited.mistake = Some(mistake),
        }
        edited
    }

    /// None while the list cannot be read: its own edit said so.
    fn take_again(&mut self, whose: Whose) -> Option<Edited> {
        let edited = self.take(whose);
        edited.mistake.is_none().then_some(Edited { again: true, ..edited })
    }

    fn read(&self, whose: &Whose) -> Result<Vec<Entry>> {
        let path = match whose {
            Whose::Project(id) => self.host.config.join("projects").join(format!("{id}.yaml")),
            _ => self.host.config.join("hosts.yaml"),
        };
        let text = crate::levels::document(&path)?;
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        UserRules::parse(text.as_bytes())
            .map(|rules| rules.entries)
            .map_err(|mistake| not_in_force(&path, &mistake))
    }
}

/// Of the person's own lists, the project that it is for; none is every project.
fn own(whose: &Whose) -> Option<Option<&str>> {
    match whose {
        Whose::Computer => None,
        Whose::AllProjects => Some(None),
        Whose::Project(id) => Some(Some(id)),
    }
}

fn add(entries: &mut Vec<Entry>, more: Vec<Entry>) {
    for entry in more {
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }
}

/// What the helper will say of it, to its journal alone.
fn computer(path: &Path) -> Result<()> {
    // One that is away allows nothing, which is no mistake.
    let Ok(bytes) = fs::read(path) else { return Ok(()) };
    Policy::parse(&bytes).map(drop).map_err(|mistake| not_in_force(path, &mistake))
}

fn not_in_force(path: &Path, mistake: &dyn std::fmt::Display) -> Error {
    let path: PathBuf = path.into();
    let why = crate::display::line(&format!("{}, {mistake}.", path.display()), 300);
    Error::new(Code::Settings, why)
        .title_is("The edited list of hosts is not in force.")
        .hint_is("What it allowed before stays, until it is corrected.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::write_atomically;

    const NONSENSE: &[u8] = b"version: 1\nwhitelst: []\n";

    fn entry(name: &str) -> Entry {
        crate::levels::parse_host(name, false).unwrap()
    }

    fn list(name: &str) -> String {
        format!("version: 1\nwhitelist:\n  - host: {name}\n    ports: [443]\n")
    }

    async fn one(follow: &mut Follow) -> Edited {
        let mut edited = follow.next().await.unwrap();
        assert_eq!(edited.len(), 1, "{edited:?}");
        edited.remove(0)
    }

    #[tokio::test]
    async fn an_edit_by_hand_is_told_with_what_was_there_and_a_mistake_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        let all = host.config.join("hosts.yaml");
        write_atomically(&all, list("a.example.org").as_bytes()).unwrap();
        let mut follow = Follow::begin(&host).unwrap();

        write_atomically(&all, NONSENSE).unwrap();
        let edited = one(&mut follow).await;
        assert_eq!((&edited.whose, &edited.before), (&Whose::AllProjects, &None));
        let mistake = edited.mistake.unwrap();
        assert!(mistake.body().contains("hosts.yaml, line 2"), "{}", mistake.body());
        write_atomically(&all, list("b.example.org").as_bytes()).unwrap();
        let edited = one(&mut follow).await;
        assert_eq!(edited.before, Some(vec![entry("a.example.org")]));
        fs::remove_file(&all).unwrap();
        let edited = one(&mut follow).await;
        assert_eq!(edited.before, Some(vec![entry("b.example.org")]));

        let own = host.config.join("projects/0123456789abcdef.yaml");
        write_atomically(&own, list("c.example.org").as_bytes()).unwrap();
        let edited = one(&mut follow).await;
        assert_eq!(edited.whose, Whose::Project("0123456789abcdef".into()));
        assert_eq!((edited.before, edited.again), (Some(Vec::new()), false));
    }

    #[tokio::test]
    async fn what_could_not_be_brought_comes_again_with_the_next_edit_of_any_list() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        let all = host.config.join("hosts.yaml");
        let own = host.config.join("projects/0123456789abcdef.yaml");
        write_atomically(&all, list("a.example.org").as_bytes()).unwrap();
        let mut follow = Follow::begin(&host).unwrap();
        // Two are taken out, one after the other, while nobody can be told.
        for name in ["b.example.org", "c.example.org"] {
            write_atomically(&all, list(name).as_bytes()).unwrap();
            let edited = one(&mut follow).await;
            follow.keep(edited);
        }
        write_atomically(&own, NONSENSE).unwrap();
        let edited = follow.next().await.unwrap();
        assert!(edited[0].mistake.is_some() && edited[1].again, "{edited:?}");
        let mut gone = edited[1].before.clone().unwrap();
        gone.retain(|entry| entry.target().to_string() != "c.example.org");
        gone.sort_by_key(|entry| entry.target().to_string());
        assert_eq!(gone, [entry("a.example.org"), entry("b.example.org")]);
        // A list that cannot be read gives nothing back of what it owes.
        follow.keep(Edited { again: false, ..follow_up(edited) });
        write_atomically(&all, NONSENSE).unwrap();
        let edited = one(&mut follow).await;
        assert!(edited.mistake.is_some() && edited.before.is_none());
        write_atomically(&all, list("d.example.org").as_bytes()).unwrap();
        let edited = one(&mut follow).await;
        assert_eq!(edited.before.unwrap().len(), 3);
    }

    fn follow_up(edited: Vec<Edited>) -> Edited {
        edited.into_iter().nth(1).unwrap()
    }

    #[test]
    fn a_mistake_in_the_computers_list_is_said_and_none_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("network-whitelist.yaml");
        assert!(computer(&path).is_ok());
        fs::write(&path, "version: 1\nwhitelist: []\n").unwrap();
        assert!(computer(&path).is_ok());
        fs::write(&path, "version: 1\nwhitelist: 7\n").unwrap();
        let mistake = computer(&path).unwrap_err();
        assert!(mistake.body().contains("network-whitelist.yaml, line 2"), "{}", mistake.body());
        assert!(mistake.hint().contains("stays"), "{}", mistake.hint());
    }
}
