//! The review of guarded files: what this computer would run, compared by content
//! with what was there before a session (DESIGN 5, THREATS F2 to F4). The guard
//! ([`crate::guard`]) is the hurdle, this is the wall: a path that did not exist, one
//! that was replaced from the host, and one behind a renamed folder are all seen.
//!
//! What was there is recorded when a session begins. What differs from it stays a
//! change until a person keeps it or puts back what was there: another session
//! does not make it the new record.

mod answers;
mod below;
mod diff;
mod differences;
mod look;
mod moved;
mod named;
mod put_back;
mod record;
mod roles;
mod words;

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use look::{Entry, Files};
use record::{Place, Record};
use roles::{Role, Roles};

use crate::display;
use crate::error::{Code, Error, Result};
use crate::guard::open_root;
use crate::host::Host;
use crate::lock::Lock;
use crate::project::Project;

pub use answers::{keep, put_back, undo};
pub use diff::DiffLine;
pub use differences::{Looked, look_with_differences};

/// Changes that are told; more are counted.
const MAX_CHANGES: usize = 500;
/// Folders that are named in notes.
const MAX_NOTES: usize = 20;

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It was not there.
    New,
    /// It was there, and is another.
    Changed,
    /// It is not there any more.
    Removed,
}

impl What {
    /// The word on the command line and in the window.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// One path that differs from the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Of this very change: another content has another. A whole SHA-256 in hexadecimal
    /// digits: whoever writes the files can make two contents with one short id.
    pub id: String,
    /// Relative to the project, harmless for display.
    pub path: String,
    /// What became of it.
    pub what: What,
    /// This computer would run it without being asked to; otherwise it is part of a
    /// build, which agents change every day, or leads out of the project.
    pub runs_by_itself: bool,
    /// It is a link that leads out of the project, and nothing else is known of it.
    pub leads_out: bool,
    /// Who would run it, and when: a sentence.
    pub why: String,
    /// What was there is known, so that it can be put back, and what is there now can be
    /// kept, so that this can be undone.
    pub can_put_back: bool,
}

/// What a look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Review {
    /// By path.
    pub changes: Vec<Change>,
    /// Sentences about what could not be compared.
    pub notes: Vec<String>,
    /// Something was put back, and what was there instead is kept.
    pub can_undo: bool,
}

impl Review {
    /// Changes that a person should see before using the folder.
    pub fn alarming(&self) -> usize {
        self.changes.iter().filter(|change| change.runs_by_itself).count()
    }

    /// Links that lead out of the project, or did.
    pub fn links(&self) -> usize {
        self.changes.iter().filter(|change| change.leads_out).count()
    }

    /// One line, or none when there is nothing to look at.
    pub fn line(&self) -> Option<String> {
        let (alarming, links) = (self.alarming(), self.links());
        let built = self.changes.len() - alarming - links;
        let counts = [
            (alarming, "file", " that this computer would run"),
            (built, "file", " of the build"),
            (links, "link", " out of the project"),
        ];
        let counts = counts.iter().filter(|(count, ..)| *count > 0);
        let changed: Vec<String> = counts
            .map(|(count, name, which)| {
                let plural = if *count == 1 { "" } else { "s" };
                format!("{count} {name}{plural}{which} changed")
            })
            .collect();
        let changed = changed.join(", and ");
        // What was not compared may be what matters.
        match (self.notes.is_empty(), changed.is_empty()) {
            (true, true) => None,
            (true, false) => Some(format!("{changed}: `rcc review` shows them.")),
            (false, true) => {
                Some("not all of the folder could be compared: `rcc review` says why.".into())
            }
            (false, false) => {
                Some(format!("{changed}; not all could be compared: `rcc review` shows them."))
            }
        }
    }
}

/// Compares what is there with the record. A project without a record has no
/// changes: nothing ran in it yet.
///
/// # Errors
/// [`Code::Review`], [`Code::Io`].
pub async fn look(project: &Project, host: &Host) -> Result<Review> {
    let recorded = State::of_record(project, host).await?;
    Ok(recorded.map_or_else(Review::default, |(state, _lock)| state.review()))
}

/// The difference of one change; `None` where it is not text, or was not kept.
///
/// # Errors
/// [`Code::Review`] when there is no such change (any more), [`Code::Io`].
pub async fn diff(project: &Project, host: &Host, id: &str) -> Result<Option<Vec<DiffLine>>> {
    let (state, _lock) = State::read(project, host).await?;
    state.difference(&state.found(id)?)
}

/// Before anything of a new session runs. What an earlier session changed and
/// nobody looked at stays a change; what the person changed since then does not
/// become one. `opening` is the session's own mark.
pub(crate) async fn begin(project: &Project, host: &Host, opening: &str) -> Result<()> {
    let _lock = Lock::take(&Place::lock(project, host)).await?;
    let place = Place::find(project, host)?;
    let old = place.load()?;
    place.is_of(project)?;
    let (root, home) = (root(project)?, host.home.clone());
    let (place, now, roles) = apart(move || {
        let mut failed = None;
        let (now, roles) = look::look(&root, &home, &mut |sha256, bytes| {
            if let Err(e) = place.keep(sha256, bytes) {
                failed = Some(e);
            }
        });
        failed.map_or(Ok((place, now, roles)), Err)
    })
    .await??;
    let path = project.path().to_string_lossy().into_owned();
    let mut old = old
        .map(|old| moved::of_this_folder(old, &now))
        .unwrap_or_else(|| Record { before: now.clone(), ..Record::default() });
    let (undo, named) = (std::mem::take(&mut old.undo), std::mem::take(&mut old.named));
    let before = carried_over(old, &now);
    let named = roles.known(&named, &before, &now);
    let opening = opening.to_string();
    place.save(&Record { path, opening, before, undo, named, ..Record::default() })
}

/// The record for the next session: of what the last one left alone, what is there
/// now; of the rest, what was there before it.
fn carried_over(old: Record, now: &Files) -> Files {
    let Some(ended) = old.ended else {
        // Who changed what nobody knows.
        return old.before;
    };
    let paths: std::collections::BTreeSet<PathBuf> =
        [&old.before, &ended, now].into_iter().flat_map(|files| files.keys().cloned()).collect();
    // In a folder that could not be listed then, a file that nobody saw may be the agent's.
    let unseen = |path: &PathBuf| match ended.get(path) {
        Some(entry) => *entry == Entry::Crowd,
        None => path.ancestors().any(|above| ended.get(above) == Some(&Entry::Crowd)),
    };
    let entry = |path: &PathBuf| {
        let left_alone = old.before.get(path) == ended.get(path) && !unseen(path);
        if left_alone { now.get(path) } else { old.before.get(path) }.cloned()
    };
    paths.into_iter().filter_map(|path| Some((path.clone(), entry(&path)?))).collect()
}

/// After the last program of a session ended. When another one has begun since, what it
/// changes must not pass for the person's.
pub(crate) async fn end(project: &Project, host: &Host, opening: &str) -> Result<()> {
    let _lock = Lock::take(&Place::lock(project, host)).await?;
    let place = Place::of(project, host);
    if place.is_of_another(project) {
        return Ok(());
    }
    let record = place.load()?.filter(|record| record.opening == opening);
    let Some(mut record) = record else { return Ok(()) };
    let (root, home) = (root(project)?, host.home.clone());
    record.ended = Some(apart(move || look::look(&root, &home, &mut |_, _| ()).0).await?);
    place.save(&record)
}

/// In a thread for what takes long: a look reads up to hundreds of megabytes.
async fn apart<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let looked = tokio::task::spawn_blocking(look).await;
    looked.map_err(|e| Error::new(Code::Review, format!("The look at the project broke off: {e}.")))
}

fn root(project: &Project) -> Result<OwnedFd> {
    open_root(project.path()).map_err(|e| {
        let shown = project.path().display();
        Error::new(Code::Review, format!("The project {shown} cannot be read: {e}."))
    })
}

/// A path for display; the project itself is a dot.
fn shown(path: &Path) -> String {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    display::line(&path.to_string_lossy(), 200)
}

fn gone(id: &str) -> Error {
    let id = display::line(id, 20);
    Error::new(Code::Review, format!("There is no change {id}: it is another one by now."))
}

/// The record and what is there.
struct State {
    place: Place,
    record: Record,
    root: OwnedFd,
    now: Files,
    roles: Roles,
}

struct Found {
    path: PathBuf,
    before: Option<Entry>,
    now: Option<Entry>,
}

impl Found {
    fn id(&self) -> String {
        let described = serde_json::to_vec(&(&self.before, &self.now)).unwrap_or_default();
        let mut bytes = self.path.as_os_str().as_bytes().to_vec();
        bytes.push(0);
        bytes.extend(described);
        look::hash(&bytes)
    }
}

impl State {
    /// Nobody else writes the record while the lock is held.
    async fn read(project: &Project, host: &Host) -> Result<(Self, Lock)> {
        let lock = Lock::take(&Place::lock(project, host)).await?;
        let place = Place::find(project, host)?;
        let record = place.load()?;
        Ok((Self::of(project, host, place, record).await?, lock))
    }

    /// None when nothing ran in the project yet.
    async fn of_record(project: &Project, host: &Host) -> Result<Option<(Self, Lock)>> {
        let lock = Lock::take(&Place::lock(project, host)).await?;
        let place = Place::find(project, host)?;
        let Some(record) = place.load()? else { return Ok(None) };
        Ok(Some((Self::of(project, host, place, Some(record)).await?, lock)))
    }

    async fn of(
        project: &Project,
        host: &Host,
        place: Place,
        record: Option<Record>,
    ) -> Result<Self> {
        let (root, home) = (root(project)?, host.home.clone());
        let looked = apart(move || {
            let (mut now, roles) = look::look(&root, &home, &mut |_, _| ());
            let record = match record {
                Some(record) => moved::of_this_folder(record, &now),
                None => Record { before: now.clone(), ..Record::default() },
            };
            // A crowd of folders in front of it must not make it look removed.
            let is_missing = |(path, entry): &(&PathBuf, &Entry)| {
                !now.contains_key(*path) && **entry != Entry::Crowd
            };
            let missing = record.before.iter().filter(is_missing);
            let missing: Vec<PathBuf> = missing.map(|(path, _)| path.clone()).collect();
            now.extend(look::look_at_each(&root, &missing));
            (root, record, now, roles)
        });
        let (root, record, now, roles) = looked.await?;
        Ok(Self { place, record, root, now, roles })
    }

    fn all_found(&self) -> Vec<Found> {
        let paths: std::collections::BTreeSet<&PathBuf> =
            self.record.before.keys().chain(self.now.keys()).collect();
        paths
            .into_iter()
            .filter(|path| !same(self.record.before.get(*path), self.now.get(*path)))
            .map(|path| Found {
                path: path.clone(),
                before: self.record.before.get(path).cloned(),
                now: self.now.get(path).cloned(),
            })
            .collect()
    }

    fn found(&self, id: &str) -> Result<Found> {
        self.all_found().into_iter().find(|one| one.id() == id).ok_or_else(|| gone(id))
    }

    fn review(&self) -> Review {
        let found = self.all_found();
        let mut notes = Vec::new();
        if found.len() > MAX_CHANGES {
            let left = found.len() - MAX_CHANGES;
            notes.push(format!("{left} more changed than are listed here."));
        }
        let unknown = found.iter().filter(|one| one.before == Some(Entry::Unknown)).count();
        if unknown > 0 {
            notes.push(format!(
                "{unknown} of these are not as they were when another folder had this one's name, or before \
                 a backup took its place. They may be yours, and cannot be put back."
            ));
        }
        let crowds = self.now.iter().filter(|(_, entry)| **entry == Entry::Crowd);
        notes.extend(crowds.take(MAX_NOTES).map(|(path, _)| {
            if path.as_os_str().is_empty() {
                return "The project has more folders, or more in what is guarded, than are looked into: \
                        what is furthest down is not compared."
                    .into();
            }
            let shown = shown(path);
            format!("{shown} has more files than are compared, or cannot be listed: look at it yourself.")
        }));
        let change = |one: &Found| {
            let role = self.roles.of(&one.path, one.before.as_ref(), one.now.as_ref());
            Change {
                id: one.id(),
                path: shown(&one.path),
                what: match (&one.before, &one.now) {
                    (None, _) => What::New,
                    (_, None) => What::Removed,
                    _ => What::Changed,
                },
                runs_by_itself: role == Role::Runs,
                leads_out: role == Role::Link,
                why: words::why(&one.path, role, one.now.as_ref()),
                can_put_back: self.why_not(one).is_none(),
            }
        };
        let mut changes: Vec<Change> = found.iter().map(change).collect();
        // A flood of harmless ones must not hide the others.
        changes.sort_by_key(|change| !change.runs_by_itself);
        changes.truncate(MAX_CHANGES);
        Review { changes, notes, can_undo: !self.record.undo.is_empty() }
    }

    fn content_before(&self, entry: &Entry) -> Option<Vec<u8>> {
        match entry {
            Entry::File { sha256, .. } => self.place.kept(sha256),
            Entry::Link { to } => Some(to.clone()),
            _ => None,
        }
    }
}

/// A file that may be read by others or not is the same; one that can be executed
/// or not is another: Git runs hooks that can.
fn same(before: Option<&Entry>, now: Option<&Entry>) -> bool {
    match (before, now) {
        (
            Some(Entry::File { sha256: a, mode: x, .. }),
            Some(Entry::File { sha256: b, mode: y, .. }),
        ) => a == b && is_executable(*x) == is_executable(*y),
        // Gone, whatever it was.
        (Some(Entry::Unknown), None) => true,
        (before, now) => before == now,
    }
}

fn is_executable(mode: u32) -> bool {
    mode & 0o111 != 0
}

#[cfg(test)]
mod tests;
