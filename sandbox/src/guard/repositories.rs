//! The repositories that a repository has in it: submodules and working trees.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, OFlags};

use super::{Kind, kind, open_beneath};

/// Files of each repository below `.git/modules` (submodules) and of each
/// working tree below `.git/worktrees`.
pub(crate) const PER_REPOSITORY: &[&str] =
    &["hooks", "config", "config.worktree", "info/attributes", "commondir"];

/// Of each repository: reviewed, not guarded. Git writes it as it rebases, in the sandbox,
/// too, and runs its `exec` lines when the rebase goes on (git-rebase(1)).
pub(crate) const REBASE: &str = "rebase-merge/git-rebase-todo";

/// Folders of a repository's own, in which no other one stands (gitrepository-layout(5)).
const GITS_OWN: &[&str] =
    &["branches", "hooks", "info", "lfs", "logs", "objects", "rebase-merge", "refs", "rr-cache"];

/// Repositories below `.git` that are looked at; that there are more is said.
const MAX_REPOSITORIES: usize = 64;
/// Names that are read of one folder of repositories.
const MAX_NAMES: usize = 1_000;

/// Where to look.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Every path that is to be guarded, there or not.
    pub paths: Vec<PathBuf>,
    /// Folders that cannot be listed, or not to their end. A name in them can be found
    /// all the same by whoever knows it, as Git does.
    pub unread: Vec<PathBuf>,
    /// Folders that Git takes for repositories, or for a part of one.
    pub repositories: Vec<PathBuf>,
}

impl Wanted {
    pub(crate) fn extend(&mut self, more: Self) {
        self.paths.extend(more.paths);
        self.unread.extend(more.unread);
        self.repositories.extend(more.repositories);
    }
}

/// The repository `git`, its submodules (which nest) and worktrees.
pub(crate) fn repositories(root: &OwnedFd, git: &Path) -> Wanted {
    let mut wanted = Wanted { repositories: vec![git.into()], ..Wanted::default() };
    let mut open = vec![git.join("modules"), git.join("worktrees")];
    let deepest = git.components().count() + 7;
    let mut seen = 0;
    while let Some(folder) = open.pop() {
        match kind(root, &folder) {
            Kind::Folder => {}
            Kind::Missing => continue,
            // A link to repositories elsewhere: it is what has to be shown.
            _ => {
                wanted.paths.push(folder);
                continue;
            }
        }
        // Git takes a link for a `HEAD`, too.
        let is_repository = kind(root, &folder.join("HEAD")) != Kind::Missing;
        if is_repository {
            seen += 1;
            if seen > MAX_REPOSITORIES {
                wanted.unread.push(git.into());
                return wanted;
            }
            wanted.paths.extend(PER_REPOSITORY.iter().map(|name| folder.join(name)));
            wanted.repositories.push(folder.clone());
        }
        let (names, all) = folders(root, &folder, if is_repository { GITS_OWN } else { &[] });
        let too_deep = folder.components().count() > deepest && !names.is_empty();
        if !all || too_deep {
            wanted.unread.push(folder.clone());
        }
        if too_deep {
            continue;
        }
        // A submodule in a subfolder: `modules/libs/thing`; a `HEAD` that somebody puts
        // into `libs` does not hide it.
        open.extend(names.into_iter().rev().map(|name| folder.join(name)));
    }
    wanted
}

/// Names of the folders and links in `path`, sorted, and whether these are all.
fn folders(root: &OwnedFd, path: &Path, without: &[&str]) -> (Vec<OsString>, bool) {
    let opened = open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY);
    let Ok(entries) = opened.and_then(Dir::new) else { return (Vec::new(), false) };
    let (mut names, mut read) = (Vec::new(), 0);
    let mut all = true;
    for entry in entries {
        read += 1;
        let Ok(entry) = entry else {
            all = false;
            break;
        };
        if read > MAX_NAMES {
            all = false;
            break;
        }
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let is_wanted = || matches!(kind(root, &path.join(name)), Kind::Folder | Kind::Symlink);
        let is_passed_over = name == "." || name == ".." || without.iter().any(|one| name == *one);
        if !is_passed_over && is_wanted() {
            names.push(name.to_os_string());
        }
    }
    names.sort();
    (names, all)
}
