//! Why a path is looked at. The same name may be a program of Git's in one project and a
//! link like any other in the next: what counts is what asked for it, not how it is called.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::look::{BUILT, Entry, Files};
use super::same;

/// What a changed path is to this computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Run or read without being asked for.
    Runs,
    /// Part of a build.
    Built,
    /// A link that leads out of the project, and no more.
    Link,
}

/// Paths that are guarded, or that something of the project's names, there or not.
#[derive(Debug, Default)]
pub(super) struct Roles {
    by_name: BTreeSet<PathBuf>,
    /// Settings of Git name them, whatever they are called.
    named: BTreeSet<PathBuf>,
}

impl Roles {
    pub(super) fn new(by_name: Vec<PathBuf>, named: Vec<PathBuf>) -> Self {
        Self { by_name: BTreeSet::from_iter(by_name), named: BTreeSet::from_iter(named) }
    }

    pub(super) fn of(&self, path: &Path, before: Option<&Entry>, now: Option<&Entry>) -> Role {
        let is_link = |entry| matches!(entry, None | Some(&Entry::Link { .. }));
        if is_about(&self.by_name, path) || is_about(&self.named, path) {
            Role::Runs
        } else if is_built(path) {
            Role::Built
        } else if is_link(before) && is_link(now) {
            Role::Link
        } else {
            Role::Runs
        }
    }

    /// Whether a path is compared only because settings of Git name it, and did not when the
    /// record was made: nobody knows then whether it was there. `known` is of
    /// [`Roles::known`].
    pub(super) fn is_named_since(&self, path: &Path, known: &BTreeSet<PathBuf>) -> bool {
        let is_named = |known: &BTreeSet<PathBuf>| is_about(known, path);
        is_named(&self.named) && !is_named(&self.by_name) && !is_built(path) && !is_named(known)
    }

    /// What settings name of which a record says all that is there: because the last one
    /// did, or because nothing is another there than in the record.
    pub(super) fn known(
        &self,
        last: &BTreeSet<PathBuf>,
        before: &Files,
        now: &Files,
    ) -> BTreeSet<PathBuf> {
        let paths = before.keys().chain(now.keys());
        let other = paths.filter(|path| !same(before.get(*path), now.get(*path))).cloned();
        let other: BTreeSet<PathBuf> = other.collect();
        let is_known = |path: &&PathBuf| last.contains(*path) || !is_about(&other, path);
        self.named.iter().filter(is_known).cloned().collect()
    }
}

/// Whether a path is one of these, or in one. A link in the place of a folder stands for
/// what would be in it.
fn is_about(paths: &BTreeSet<PathBuf>, path: &Path) -> bool {
    let below = || paths.range(path.to_path_buf()..).next();
    path.ancestors().any(|above| paths.contains(above))
        || below().is_some_and(|below| below.starts_with(path))
}

/// Whether a path is one of those that are only shown, or a folder that one is in.
fn is_built(path: &Path) -> bool {
    BUILT.iter().any(|built| path.starts_with(built) || Path::new(built).starts_with(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f2_a_path_is_what_asked_for_it() {
        let wanted = ["ci", ".git/config", "gradlew"].map(PathBuf::from);
        let roles = Roles::new(wanted.to_vec(), Vec::new());
        let link = Entry::Link { to: b"/tmp".to_vec() };
        let of = |path: &str, before, now| roles.of(Path::new(path), before, now);
        for path in ["ci", "ci/pre-push", ".git", ".git/config", "gradlew", ""] {
            assert_eq!(of(path, None, Some(&link)), Role::Runs, "{path}");
        }
        for path in ["package.json", ".github", ".github/workflows/ci.yml"] {
            assert_eq!(of(path, Some(&link), None), Role::Built, "{path}");
        }
        assert_eq!(of("sub/config", None, Some(&link)), Role::Link);
        assert_eq!(of("sub/config", Some(&Entry::Other), Some(&link)), Role::Runs);
    }
}
