//! The lists of allowed hosts as a face edits them: the administrator's, the
//! person's for all projects, and one for each project. Who writes says which
//! version was seen; a list that changed meanwhile is left alone.

mod fields;

use std::path::PathBuf;

use rcc_policy::{Policy, UserRules};
use sha2::{Digest, Sha256};

use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::host::{Host, write_atomically};
use crate::levels::{self, Level};
use crate::lock::Lock;
use crate::network::Network;
use crate::project::Project;
use crate::registries::Registries;
use crate::session::{DroppedRule, Session, refresh};

pub use fields::{Field, Fields, Mistake, allows};
pub use rcc_policy::{Entry, Preset, Protocol, Target, UsersMayAdd};

/// Where the administrator's file is (DESIGN 3).
pub const COMPUTER_FILE: &str = "/etc/rcc/network-whitelist.yaml";

/// Which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// The administrator's, behind the helper.
    Computer,
    /// One of the person's own.
    Own(Level<'a>),
}

/// A list as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Of the very bytes that were read.
    pub version: String,
    /// Its file, which need not exist yet.
    pub path: PathBuf,
    /// In the order of the file, each with what is written beside it, cleaned.
    pub entries: Vec<(Entry, Option<String>)>,
    /// The file as it was read.
    pub text: String,
    /// Of the administrator's list only.
    pub bounds: Option<Bounds>,
}

/// What the administrator decided besides the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// What people may add for their own projects.
    pub users_may_add: UsersMayAdd,
    /// The whole public internet is open.
    pub allow_public: bool,
    /// Private ranges are closed unless an entry names them.
    pub block_private: bool,
    /// The preset that the list is equal to.
    pub preset: Option<Preset>,
}

/// One edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new entry, or more ports for one that is there.
    Add(Entry),
    /// Another entry in the place of one.
    Replace {
        /// Of the one that goes.
        target: Target,
        /// See `target`.
        protocol: Protocol,
        /// What comes.
        entry: Entry,
    },
    /// An entry goes, and its flows are cut.
    Remove {
        /// Of the one that goes.
        target: Target,
        /// See `target`.
        protocol: Protocol,
    },
    /// The whole list becomes a preset; the administrator's only. What people
    /// may add stays as it is.
    Preset(Preset),
    /// What it was before another change, letter by letter.
    Back(String),
}

/// Reads a list.
///
/// # Errors
/// [`Code::Settings`] with line and column, [`Code::HelperMissing`],
/// [`Code::HelperRefused`].
pub async fn read(host: &Host, which: Which<'_>, network: Option<&Network>) -> Result<Document> {
    let (text, version) = match which {
        Which::Computer => needed(network)?.policy().await?,
        Which::Own(level) => own(host, level)?,
    };
    describe(host, which, &text, version)
}

/// Changes a list when its version is still `version`, and brings the change to
/// the sandboxes that run. Answers the list as it is then, and what the
/// administrator's bounds do not let through in them.
///
/// # Errors
/// [`Code::Changed`] when it is another version: nothing was written.
/// [`Code::Rule`] when the administrator does not let a person allow this;
/// [`Code::Settings`] for a layout that cannot be kept; as [`read`].
pub async fn change(
    host: &Host,
    engine: Option<&Engine>,
    network: Option<&Network>,
    which: Which<'_>,
    version: &str,
    change: &Change,
) -> Result<(Document, Vec<DroppedRule>)> {
    match which {
        Which::Computer => {
            let network = needed(network)?;
            let (before, now) = network.policy().await?;
            if now != version {
                return Err(changed());
            }
            let after = edit(&before, change, host)?;
            let now =
                if after == before { now } else { network.replace_policy(&after, version).await? };
            Ok((describe(host, which, &after, now)?, Vec::new()))
        }
        Which::Own(level) => {
            if let (Change::Add(entry) | Change::Replace { entry, .. }, Some(network)) =
                (change, network)
            {
                within_bounds(network, entry).await?;
            }
            let before = write(host, level, version, change)?;
            let mut dropped = Vec::new();
            if let (Some(engine), Some(network)) = (engine, network) {
                dropped = refresh(host, engine, network, level, &before).await?;
            }
            Ok((read(host, which, network).await?, dropped))
        }
    }
}

/// Writes the person's own list; answers the entries that it had.
fn write(host: &Host, level: Level<'_>, version: &str, change: &Change) -> Result<Vec<Entry>> {
    let _lock = Lock::wait(&levels::lock(host))?;
    let (before, now) = own(host, level)?;
    if now != version {
        return Err(changed());
    }
    let entries = parse_own(host, level, &before)?;
    let after = edit(&before, change, host)?;
    if after != before {
        write_atomically(&level.path(host), after.as_bytes())?;
    }
    Ok(entries)
}

fn edit(before: &str, change: &Change, host: &Host) -> Result<String> {
    let edited = match change {
        Change::Add(entry) => rcc_policy::add_entry(before, entry),
        Change::Replace { target, protocol, entry } => {
            rcc_policy::replace_entry(before, target, *protocol, entry)
        }
        Change::Remove { target, protocol } => {
            rcc_policy::remove_entry(before, target, Some(*protocol))
        }
        Change::Preset(preset) => return preset_over(before, *preset, host),
        Change::Back(text) => return Ok(text.clone()),
    };
    edited.map_err(|e| Error::new(Code::Settings, format!("{e}.")))
}

/// A preset says nothing about who may use sandboxes and what people may add:
/// that stays the administrator's.
fn preset_over(before: &str, preset: Preset, host: &Host) -> Result<String> {
    let defaults = if before.trim().is_empty() {
        Policy::default().defaults
    } else {
        Policy::parse(before.as_bytes())
            .map_err(|e| Error::new(Code::Settings, format!("{COMPUTER_FILE}, {e}.")))?
            .defaults
    };
    let said = if defaults.attach != Policy::default().defaults.attach {
        Some("who may use sandboxes")
    } else if defaults.uplink.is_some() {
        Some("by which interface sandboxes leave the computer")
    } else {
        None
    };
    if let Some(said) = said {
        return Err(Error::new(
            Code::Settings,
            format!("The list says {said}, and a preset would take that away."),
        )
        .hint_is(format!("Change {COMPUTER_FILE} in an editor.")));
    }
    let may = match defaults.users_may_add {
        UsersMayAdd::None => "none",
        UsersMayAdd::Public => "public",
        UsersMayAdd::Private => "private",
    };
    let document = preset.document(&hosts_of(&Registries::known(host)?.unwrap_or_default()));
    Ok(document.replacen("users_may_add: public", &format!("users_may_add: {may}"), 1))
}

fn hosts_of(registries: &Registries) -> Vec<(rcc_policy::Name, u16)> {
    let named = |entry: &Entry| match entry.target() {
        Target::Host(pattern) => pattern.to_string().parse().ok(),
        Target::Net(_) => None,
    };
    let hosts = registries.entries();
    let each = hosts.iter().filter_map(|entry| Some((named(entry)?, *entry.ports().first()?)));
    each.collect()
}

fn describe(host: &Host, which: Which<'_>, text: &str, version: String) -> Result<Document> {
    let (path, entries, bounds) = match which {
        Which::Computer => {
            let policy = Policy::parse(text.as_bytes())
                .map_err(|e| Error::new(Code::Settings, format!("{COMPUTER_FILE}, {e}.")))?;
            let bounds = Bounds {
                users_may_add: policy.defaults.users_may_add,
                allow_public: policy.defaults.allow_public,
                block_private: policy.defaults.block_rfc1918,
                preset: preset_of(&policy, host),
            };
            (COMPUTER_FILE.into(), policy.entries, Some(bounds))
        }
        Which::Own(level) => (level.path(host), parse_own(host, level, text)?, None),
    };
    let comments = rcc_policy::comments(text, entries.len());
    let entries = entries
        .into_iter()
        .zip(comments)
        .map(|(entry, comment)| (entry, comment.map(|text| crate::display::line(&text, 200))))
        .collect();
    Ok(Document { version, path, entries, text: text.into(), bounds })
}

/// With this computer's registries, or as it was before they were known.
fn preset_of(policy: &Policy, host: &Host) -> Option<Preset> {
    let known = Registries::known(host).ok().flatten().unwrap_or_default();
    let same = |preset: &Preset, registries: &[(rcc_policy::Name, u16)]| {
        Policy::parse(preset.document(registries).as_bytes()).is_ok_and(|fresh| {
            let mut entries = (fresh.entries, policy.entries.clone());
            entries.0.sort();
            entries.1.sort();
            entries.0 == entries.1
                && fresh.defaults.allow_public == policy.defaults.allow_public
                && fresh.defaults.block_rfc1918 == policy.defaults.block_rfc1918
        })
    };
    let hosts = hosts_of(&known);
    Preset::ALL.into_iter().find(|preset| same(preset, &hosts) || same(preset, &[]))
}

fn own(host: &Host, level: Level<'_>) -> Result<(String, String)> {
    let text = levels::document(&level.path(host))?;
    let digest = Sha256::digest(text.as_bytes());
    let version = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((text, version))
}

fn parse_own(host: &Host, level: Level<'_>, text: &str) -> Result<Vec<Entry>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    UserRules::parse(text.as_bytes())
        .map(|rules| rules.entries)
        .map_err(|e| Error::new(Code::Settings, format!("{}, {e}.", level.path(host).display())))
}

/// Refuses what would be written down and then not hold. Says nothing when the
/// firewall service does not answer: it decides when it does.
async fn within_bounds(network: &Network, entry: &Entry) -> Result<()> {
    match out_of_bounds(network, entry).await {
        None => Ok(()),
        Some(why) => {
            let target = crate::display::host(&entry.target().to_string());
            Err(Error::new(Code::Rule, why)
                .title_is(format!("{target} cannot be allowed."))
                .hint_is("Ask the administrator to allow it for everybody."))
        }
    }
}

/// Why the administrator's bounds do not let a person allow `entry`.
pub async fn out_of_bounds(network: &Network, entry: &Entry) -> Option<String> {
    let (text, _) = network.policy().await.ok()?;
    let policy = Policy::parse(text.as_bytes()).ok()?;
    let (_, dropped) = rcc_policy::merge(&policy, std::slice::from_ref(entry));
    dropped.into_iter().next().map(|dropped| crate::display::line(&dropped.reason, 300))
}

/// Everything that a project may reach now, as far as it can be known: the
/// computer's list, the person's, and what its running session has besides.
///
/// # Errors
/// [`Code::Settings`].
pub async fn in_force(
    host: &Host,
    engine: Option<&Engine>,
    network: Option<&Network>,
    project: &Project,
) -> Result<Vec<Entry>> {
    let mut entries = levels::of_project(project, host)?;
    let Some(network) = network else { return Ok(entries) };
    if let Ok((text, _)) = network.policy().await
        && let Ok(policy) = Policy::parse(text.as_bytes())
    {
        entries.extend(policy.entries);
    }
    if let Some(engine) = engine
        && let Ok(Some(session)) = Session::find(engine, project).await
        && let Ok(Some(attachment)) = session.attachment(network).await
    {
        entries.extend(attachment.rules.iter().filter_map(|rule| rule.rule.to_entry().ok()));
    }
    Ok(entries)
}

fn needed(network: Option<&Network>) -> Result<&Network> {
    network.ok_or_else(|| {
        Error::new(Code::HelperMissing, "It keeps the list of hosts allowed on this computer.")
            .hint_is("Install rcc's firewall service and try again.")
    })
}

pub(crate) fn changed() -> Error {
    Error::new(Code::Changed, "Somebody else wrote it since it was shown here.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::levels::parse_host;

    fn setting() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        std::fs::create_dir_all(&host.runtime).unwrap();
        (dir, host)
    }

    async fn now(host: &Host) -> Document {
        read(host, Which::Own(Level::All), None).await.unwrap()
    }

    async fn apply(host: &Host, version: &str, wanted: &Change) -> Result<Document> {
        change(host, None, None, Which::Own(Level::All), version, wanted)
            .await
            .map(|(list, _)| list)
    }

    #[tokio::test]
    async fn h6_who_saw_an_old_version_writes_nothing() {
        let (_dir, host) = setting();
        let a = parse_host("a.example.org", false).unwrap();
        let b = parse_host("b.example.org:80,443", false).unwrap();
        let empty = now(&host).await;
        let one = apply(&host, &empty.version, &Change::Add(a.clone())).await.unwrap();
        assert_eq!(one.entries, [(a.clone(), None)]);
        let late = apply(&host, &empty.version, &Change::Add(b.clone())).await.unwrap_err();
        assert_eq!(late.code(), Code::Changed);
        assert_eq!(now(&host).await, one);
        let replace = Change::Replace {
            target: a.target().clone(),
            protocol: a.protocol(),
            entry: b.clone(),
        };
        let two = apply(&host, &one.version, &replace).await.unwrap();
        assert_eq!(two.entries, [(b.clone(), None)]);
        let gone = Change::Remove { target: b.target().clone(), protocol: b.protocol() };
        let three = apply(&host, &two.version, &gone).await.unwrap();
        assert!(three.entries.is_empty() && three.bounds.is_none());
    }

    #[test]
    fn a_preset_takes_no_bound_of_the_administrators_away() {
        let (_dir, host) = setting();
        let before = "version: 1\ndefaults:\n  users_may_add: none\nwhitelist: []\n";
        let after = preset_over(before, Preset::Balanced, &host).unwrap();
        let policy = Policy::parse(after.as_bytes()).unwrap();
        assert_eq!(policy.defaults.users_may_add, UsersMayAdd::None);
        assert_eq!(preset_of(&policy, &host), Some(Preset::Balanced));
        for bound in ["attach: nobody", "uplink: wg0"] {
            let barred = format!("version: 1\ndefaults:\n  {bound}\nwhitelist: []\n");
            let refused = preset_over(&barred, Preset::Open, &host).unwrap_err();
            assert_eq!(refused.code(), Code::Settings);
        }
    }

    #[test]
    fn the_list_of_the_computer_is_described_with_its_bounds() {
        let (_dir, host) = setting();
        let text = "version: 1\ndefaults:\n  allow_public: true\nwhitelist:\n  - host: a.example # why\n    ports: [443]\n";
        let list = describe(&host, Which::Computer, text, "v".into()).unwrap();
        assert_eq!(list.entries[0].1.as_deref(), Some("why"));
        let bounds = list.bounds.unwrap();
        assert!(bounds.allow_public && bounds.block_private && bounds.preset.is_none());
        let wrong = describe(&host, Which::Computer, "version: 2\n", "v".into()).unwrap_err();
        assert!(wrong.body().contains("line 1"), "{}", wrong.body());
    }
}
