//! What changed in each file, of one look.

use std::collections::BTreeMap;

use super::look::{self, Entry};
use super::{DiffLine, Found, Review, State, diff, gone, is_executable};
use crate::error::Result;
use crate::host::Host;
use crate::project::Project;

/// A look, and the differences of what it found. The record may be another's to write
/// meanwhile: whoever reads the answer may take long.
pub struct Looked {
    /// What was found.
    pub review: Review,
    /// By the id of the change.
    found: BTreeMap<String, Found>,
    state: Option<State>,
}

/// As [`super::look`], for whoever wants the differences, too.
///
/// # Errors
/// [`crate::Code::Review`], [`crate::Code::Io`].
pub async fn look_with_differences(project: &Project, host: &Host) -> Result<Looked> {
    let Some((state, _lock)) = State::of_record(project, host).await? else {
        return Ok(Looked { review: Review::default(), found: BTreeMap::new(), state: None });
    };
    let found = state.all_found().into_iter().map(|one| (one.id(), one)).collect();
    Ok(Looked { review: state.review(), found, state: Some(state) })
}

impl Looked {
    /// The difference of one change; `None` where it is not text, or was not kept.
    ///
    /// # Errors
    /// [`crate::Code::Review`] when there is no such change, or not any more.
    pub fn diff(&self, id: &str) -> Result<Option<Vec<DiffLine>>> {
        match (&self.state, self.found.get(id)) {
            (Some(state), Some(found)) => state.difference(found),
            _ => Err(gone(id)),
        }
    }
}

impl State {
    pub(super) fn difference(&self, found: &Found) -> Result<Option<Vec<DiffLine>>> {
        let mut now = Vec::new();
        let entry = look::look_at(&self.root, &found.path, &mut |_, bytes| now = bytes.to_vec());
        if entry != found.now {
            return Err(gone(&found.id()));
        }
        let mut lines = Vec::new();
        if let (
            Some(Entry::File { sha256: before, mode: x, .. }),
            Some(Entry::File { sha256: after, mode: y, .. }),
        ) = (&found.before, &found.now)
        {
            if is_executable(*x) != is_executable(*y) {
                lines.push(DiffLine::Executable(is_executable(*y)));
            }
            if before == after {
                return Ok(Some(lines));
            }
        }
        let before = match &found.before {
            Some(entry) => self.content_before(entry),
            None => Some(Vec::new()),
        };
        let readable = match &found.now {
            Some(Entry::File { size, .. }) => *size == now.len() as u64,
            Some(Entry::Link { to }) => {
                now.clone_from(to);
                true
            }
            Some(_) => false,
            None => true,
        };
        let changed = before.filter(|_| readable).and_then(|before| diff::diff(&before, &now));
        Ok(changed.map(|changed| [lines, changed].concat()))
    }
}
