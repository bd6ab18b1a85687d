//! What a person says about a change: it is kept, put back, and the last put-back undone.
//! Nothing that is taken away is lost: it is kept first, or left where it is.

use std::path::Path;

use super::look::{self, Entry, MAX_KEPT};
use super::record::Replaced;
use super::{Found, State, gone, put_back as files, same, shown};
use crate::error::{Code, Error, Result};
use crate::guard::{Kind, kind};
use crate::host::Host;
use crate::project::Project;

/// What is there now is what is to be there. `runs` says that a sandbox may be writing.
///
/// # Errors
/// [`Code::Review`] when one is no change (any more), or one whose content was not
/// compared, while a sandbox runs: nothing is kept then.
pub async fn keep(project: &Project, host: &Host, ids: &[String], runs: bool) -> Result<()> {
    let (mut state, _lock) = State::read(project, host).await?;
    let chosen = ids.iter().map(|id| state.found(id)).collect::<Result<Vec<_>>>()?;
    let is_compared = |one: &Found| !matches!(one.now, Some(Entry::Crowd | Entry::Other));
    if runs && let Some(one) = chosen.iter().find(|one| !is_compared(one)) {
        let shown = shown(&one.path);
        return Err(Error::new(
            Code::Review,
            format!("What is in {shown} is not compared: it may be another by now."),
        )
        .hint_is("Stop the sandbox, look at it yourself, and keep it then."));
    }
    for one in chosen {
        let entry = state.kept(&one)?;
        state.record.undo.retain(|other| other.path != one.path);
        state.record.before.remove(&one.path);
        if let Some(entry) = entry {
            state.record.before.insert(one.path, entry);
        }
    }
    state.place.save(&state.record)
}

/// What was there is there again; what was put in its place is kept for [`undo`].
///
/// # Errors
/// [`Code::Review`] names the one that could not be put back; those before it are. None
/// is when one of them has a reason against it that is known.
pub async fn put_back(project: &Project, host: &Host, ids: &[String]) -> Result<()> {
    let (mut state, _lock) = State::read(project, host).await?;
    let mut chosen = ids.iter().map(|id| state.found(id)).collect::<Result<Vec<_>>>()?;
    // What is new may stand in the way of what was there.
    chosen.sort_by_key(|one| one.before.is_some());
    for one in &chosen {
        if let Some(why) = state.why_not(one) {
            return Err(not_put_back(&one.path, why));
        }
        state.kept(one)?;
    }
    // Written before anything is put back: what a failing disk leaves half done can be
    // undone. To undo what was not done changes nothing.
    state.record.undo = replaced(&chosen);
    state.place.save(&state.record)?;
    for (done, one) in chosen.iter().enumerate() {
        let placed = state.kept(one).and_then(|_| state.restore(&one.path, one.before.as_ref()));
        if let Err(failed) = placed {
            state.record.undo = replaced(&chosen[..done]);
            // The first error is the one that tells.
            let _ = state.place.save(&state.record);
            return Err(failed);
        }
    }
    Ok(())
}

/// What can be undone. A pipe or a socket has no content and is not made again.
fn replaced(chosen: &[Found]) -> Vec<Replaced> {
    let replaced = |one: &Found| Replaced {
        path: one.path.clone(),
        was: one.now.clone(),
        left: one.before.clone(),
    };
    chosen.iter().filter(|one| one.now != Some(Entry::Other)).map(replaced).collect()
}

/// Takes the last [`put_back`] back, as far as nobody wrote there since.
///
/// # Errors
/// [`Code::Review`] when there is none, or names the first that cannot be put there: the
/// others are, and those that are not stay to be undone.
pub async fn undo(project: &Project, host: &Host) -> Result<()> {
    let (mut state, _lock) = State::read(project, host).await?;
    if state.record.undo.is_empty() {
        return Err(Error::new(Code::Review, "Nothing was put back that can be undone."));
    }
    let mut undo = std::mem::take(&mut state.record.undo);
    undo.sort_by_key(|one| one.was.is_some());
    let mut first = None;
    for one in undo {
        if let Err(failed) = state.undo(&one) {
            first.get_or_insert(failed);
            state.record.undo.push(one);
        }
    }
    state.place.save(&state.record)?;
    first.map_or(Ok(()), Err)
}

fn not_put_back(path: &Path, why: impl std::fmt::Display) -> Error {
    let shown = shown(path);
    Error::new(Code::Review, format!("{shown} could not be put back: {why}."))
}

impl State {
    /// Keeps what is there now, if it still is what the person saw.
    pub(super) fn kept(&self, one: &Found) -> Result<Option<Entry>> {
        if one.now == Some(Entry::Crowd) {
            // What is in there was never compared.
            return Ok(one.now.clone());
        }
        let mut failed = None;
        let entry = look::look_at(&self.root, &one.path, &mut |sha256, bytes| {
            failed = self.place.keep(sha256, bytes).err();
        });
        match failed {
            Some(failed) => Err(failed),
            None if entry != one.now => Err(gone(&one.id())),
            None => Ok(entry),
        }
    }

    /// Why what was there is not put in the place of what is; none when it can be.
    pub(super) fn why_not(&self, one: &Found) -> Option<&'static str> {
        match &one.before {
            None if self.roles.is_named_since(&one.path, &self.record.named) => {
                return Some(
                    "it is compared only since settings of Git name it, and may be yours from before; \
                     put the settings back",
                );
            }
            None | Some(Entry::Link { .. }) => {}
            Some(file @ Entry::File { .. }) if self.content_before(file).is_some() => {}
            Some(Entry::Unknown) => {
                return Some(
                    "another folder had this name then, and what was in this one nobody knows",
                );
            }
            Some(_) => {
                return Some("what was there was too large to be kept, or is no single file");
            }
        }
        let can_be_lost = match &one.now {
            None | Some(Entry::Link { .. }) => false,
            Some(Entry::File { size, .. }) => *size > MAX_KEPT,
            // Nothing is lost with a pipe; a file that cannot be read may be the person's.
            Some(Entry::Other) => kind(&self.root, &one.path) == Kind::File,
            Some(Entry::Large { .. } | Entry::Crowd | Entry::Unknown) => true,
        };
        can_be_lost.then_some(
            "what is there now is too large to be kept, or cannot be read; delete it yourself",
        )
    }

    /// Only where there is what the put-back left: what else is there is the person's, or
    /// nobody looked at it yet.
    fn undo(&self, one: &Replaced) -> Result<()> {
        let now = look::look_at(&self.root, &one.path, &mut |_, _| ());
        if same(now.as_ref(), one.was.as_ref()) {
            return Ok(());
        }
        if !same(now.as_ref(), one.left.as_ref()) {
            let failed = not_put_back(&one.path, "somebody wrote there since");
            return Err(failed.hint_is("Move away what is there now, or leave it as it is."));
        }
        self.restore(&one.path, one.was.as_ref())
    }

    fn restore(&self, path: &Path, entry: Option<&Entry>) -> Result<()> {
        let bytes = match entry {
            Some(entry) => self
                .content_before(entry)
                .ok_or_else(|| not_put_back(path, "its content was too large to be kept"))?,
            None => Vec::new(),
        };
        files::put_back(&self.root, path, entry, &bytes).map_err(|e| not_put_back(path, e))
    }
}
