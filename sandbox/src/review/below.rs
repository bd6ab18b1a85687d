//! Guarded names in folders further down: a repository in the repository, a part of
//! the project that is opened in an editor by itself. Git looks for a repository in
//! each folder in which it is called, many a shell's prompt calls it in each that is
//! entered, and its settings name programs.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Dir, FileType, OFlags, readlinkat};
use rustix::io::Errno;

use super::look::{self, REVIEWED};
use crate::guard::{self, GUARDED, Kind, PER_REPOSITORY, Wanted, kind, open_beneath};

/// Folders that are looked into; the nearest come first.
const MAX_FOLDERS: usize = 20_000;
/// Names that are read.
const MAX_NAMES: usize = 500_000;
/// Other people's code, which a build runs in any case and a person does not work
/// in; such names stand there by the thousand.
const PASSED_OVER: &[&[u8]] = &[b"node_modules"];
/// Settings of an editor's under any name.
const ENDING: &[u8] = b".code-workspace";
/// In `.claude`: a folder of working trees.
pub(super) const WORKTREES: &str = "worktrees";
/// Links out of the project that are compared.
const MAX_LINKS: usize = 1_000;
/// Where links may lead without a word: nobody but root writes there.
const OF_THE_SYSTEM: &[&str] =
    &["/bin", "/dev/null", "/lib", "/lib64", "/nix/store", "/sbin", "/usr"];

/// Every path below a folder of the project, and of the project itself when that is
/// a bare repository, that is guarded where it stands in the project's own folder; and
/// the links that lead out of the project.
pub(super) fn wanted(root: &OwnedFd) -> (Wanted, Vec<PathBuf>) {
    wanted_of(root, MAX_NAMES)
}

fn wanted_of(root: &OwnedFd, max_names: usize) -> (Wanted, Vec<PathBuf>) {
    let (mut wanted, mut links) = (Wanted::default(), Vec::new());
    let mut folders = VecDeque::from([PathBuf::new()]);
    let (mut entered, mut names) = (0, 0);
    while let Some(folder) = folders.pop_front() {
        entered += 1;
        if entered > MAX_FOLDERS {
            // The project as a whole.
            wanted.unread.push(PathBuf::new());
            break;
        }
        let found = match Found::read(root, &folder, max_names - names) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(_) => {
                wanted.unread.push(folder);
                continue;
            }
        };
        names += found.names;
        if found.is_repository() {
            wanted.paths.extend(PER_REPOSITORY.iter().map(|name| folder.join(name)));
            // A bare one has working trees, too: `git worktree add` beside it.
            wanted.extend(guard::repositories(root, &folder));
        }
        wanted.paths.extend(found.workspaces.iter().map(|name| folder.join(name)));
        links.extend(found.links.iter().map(|name| folder.join(name)));
        if links.len() > MAX_LINKS {
            links.truncate(MAX_LINKS);
            if !wanted.unread.contains(&PathBuf::new()) {
                wanted.unread.push(PathBuf::new());
            }
        }
        if found.guarded.iter().any(|name| name == ".claude") {
            folders.push_back(folder.join(".claude").join(WORKTREES));
        }
        // At the top they are known.
        if !folder.as_os_str().is_empty() {
            for name in &found.guarded {
                let here = |path: &&&str| first(path) == name.as_bytes();
                let here = GUARDED.iter().chain(REVIEWED).filter(here);
                wanted.paths.extend(here.map(|path| folder.join(path)));
            }
            let git = folder.join(".git");
            match kind(root, &git) {
                Kind::Folder => wanted.extend(guard::repositories(root, &git)),
                // A pointer to a repository elsewhere, or a link.
                Kind::Missing => {}
                _ => wanted.paths.push(git),
            }
        }
        folders.extend(found.folders.into_iter().map(|name| folder.join(name)));
        if names >= max_names {
            // Also of the last folder: it may have more.
            wanted.unread.push(PathBuf::new());
            break;
        }
    }
    (wanted, links)
}

/// The guarded path that `path` is, or is in, at whatever depth it stands.
pub(super) fn top(path: &Path) -> Option<PathBuf> {
    path.ancestors()
        .find(|above| GUARDED.iter().chain(REVIEWED).any(|guarded| above.ends_with(guarded)))
        .map(Into::into)
}

/// Whether a link in `folder` leads out of the project, as far as the texts say: what
/// it leads to is not asked, it may be a network.
fn leads_out(folder: &Path, to: &Path) -> bool {
    if to.is_absolute() {
        return !OF_THE_SYSTEM.iter().any(|system| to.starts_with(system))
            || to.components().any(|part| part == Component::ParentDir);
    }
    let mut depth = folder.components().count();
    let mut went_down = false;
    for part in to.components() {
        match part {
            // What is above a name depends on what that is: it may be a link itself.
            Component::ParentDir if depth == 0 || went_down => return true,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => went_down = true,
            _ => {}
        }
    }
    false
}

/// The path from the guarded name on: `sub/.git/config` is read as `.git/config` is.
pub(super) fn from_guarded_name(path: &Path) -> &Path {
    let mut rest = path.components();
    loop {
        let at = rest.as_path();
        match rest.next() {
            // A working tree of Claude Code's is read as a project is.
            Some(_) if at.starts_with(".claude/worktrees") => {
                rest.next();
                rest.next();
            }
            Some(name) if is_guarded(name.as_os_str()) => return at,
            Some(_) => {}
            None => return path,
        }
    }
}

fn is_guarded(name: &OsStr) -> bool {
    GUARDED.iter().any(|path| first(path) == name.as_bytes())
}

/// The first part of a guarded path.
fn first(path: &str) -> &[u8] {
    path.split('/').next().unwrap_or(path).as_bytes()
}

/// What a folder says that a name in it is; asked for where it does not say, as on some
/// file systems.
fn kind_of(said: FileType, ask: impl FnOnce() -> Kind) -> Kind {
    match said {
        FileType::Directory => Kind::Folder,
        FileType::Symlink => Kind::Symlink,
        FileType::Unknown => ask(),
        _ => Kind::File,
    }
}

/// Where a link leads; nowhere when it is none any more.
fn target(root: &OwnedFd, path: &Path) -> PathBuf {
    let read = || {
        let (folder, name) = look::parent(root, path)?;
        readlinkat(&folder, name, Vec::new()).ok()
    };
    read().map(|to| OsStr::from_bytes(to.as_bytes()).into()).unwrap_or_default()
}

/// What of a folder matters.
#[derive(Default)]
struct Found {
    names: usize,
    folders: Vec<std::ffi::OsString>,
    guarded: Vec<std::ffi::OsString>,
    /// Files of [`ENDING`].
    workspaces: Vec<std::ffi::OsString>,
    /// Links that lead out of the project.
    links: Vec<std::ffi::OsString>,
    head: bool,
    common: bool,
    objects: bool,
    refs: bool,
}

impl Found {
    /// Reads at most `most` names; an error when it cannot be read to its end.
    fn read(root: &OwnedFd, path: &Path, most: usize) -> rustix::io::Result<Self> {
        let at = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let opened = open_beneath(root, at, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut found = Self::default();
        for entry in Dir::new(opened)?.take(most) {
            let entry = entry?;
            found.names += 1;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let kind = kind_of(entry.file_type(), || kind(root, &path.join(name)));
            match name.as_bytes() {
                b"HEAD" => found.head = true,
                b"commondir" => found.common = true,
                b"objects" => found.objects = true,
                b"refs" => found.refs = true,
                _ => {}
            }
            if is_guarded(name) {
                found.guarded.push(name.into());
            } else if name.as_bytes().ends_with(ENDING) {
                found.workspaces.push(name.into());
            } else if kind == Kind::Symlink && leads_out(path, &target(root, &path.join(name))) {
                found.links.push(name.into());
            } else if kind == Kind::Folder && !PASSED_OVER.contains(&name.as_bytes()) {
                found.folders.push(name.into());
            }
        }
        Ok(found)
    }

    /// What Git takes for one without a `.git`, or for the other half of one: a `HEAD` may
    /// stand in a folder whose `commondir` names another one, in which the rest is, and the
    /// settings (gitrepository-layout(5)).
    fn is_repository(&self) -> bool {
        (self.head && self.common) || (self.objects && self.refs)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn f3_links_lead_out_by_whatever_way() {
        let out = |folder: &str, to: &str| leads_out(Path::new(folder), Path::new(to));
        assert!(out("a/b", "../../../c"));
        assert!(!out("a/b", "../../c"));
        // From the project's own folder, when `up` is a link to it.
        assert!(out("", "a/b/c/d/up/../../.ssh/authorized_keys"));
        assert!(out("sub", "a/up/..") && out("sub/a", "../b/up/.."));
        assert!(!out("a/b/c/d", "../../../.."));
        assert!(!out("", "./a/b"));
        assert!(out("", "/etc/passwd") && !out("", "/usr/bin/env"));
    }

    #[test]
    fn f3_a_name_whose_kind_is_not_said_is_asked_for() {
        let ask = || Kind::Symlink;
        assert_eq!(kind_of(FileType::Unknown, ask), Kind::Symlink);
        assert_eq!(kind_of(FileType::Directory, ask), Kind::Folder);
        assert_eq!(kind_of(FileType::RegularFile, ask), Kind::File);
    }

    #[test]
    fn f2_the_bound_on_names_is_told_in_the_last_folder_too() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..20 {
            fs::write(dir.path().join(format!("{number}")), "").unwrap();
        }
        let root = guard::open_root(dir.path()).unwrap();
        let unread = |most| wanted_of(&root, most).0.unread;
        assert_eq!(unread(20), [PathBuf::new()]);
        assert!(unread(100).is_empty());
    }
}
