//! Why a path is looked at. The same name may be a program of Git's in one project and a
//! link like any other in the next: what counts is what asked for it, not how it is called.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::look::{BUILT, Entry};

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
    wanted: BTreeSet<PathBuf>,
}

impl Roles {
    pub(super) fn new(wanted: &[PathBuf]) -> Self {
        Self { wanted: wanted.iter().cloned().collect() }
    }

    pub(super) fn of(&self, path: &Path, before: Option<&Entry>, now: Option<&Entry>) -> Role {
        let is_link = |entry| matches!(entry, None | Some(&Entry::Link { .. }));
        if self.is_wanted(path) {
            Role::Runs
        } else if is_built(path) {
            Role::Built
        } else if is_link(before) && is_link(now) {
            Role::Link
        } else {
            Role::Runs
        }
    }

    /// A link in the place of a folder stands for what would be in it.
    fn is_wanted(&self, path: &Path) -> bool {
        let below = || self.wanted.range(path.to_path_buf()..).next();
        path.ancestors().any(|above| self.wanted.contains(above))
            || below().is_some_and(|below| below.starts_with(path))
    }
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
        let roles = Roles::new(&wanted);
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
