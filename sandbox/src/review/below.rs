//! Guarded names in folders further down: a repository in the repository, a part of
//! the project that is opened in an editor by itself. Git looks for a repository in
//! each folder in which it is called, many a shell's prompt calls it in each that is
//! entered, and its settings name programs.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, OFlags};
use rustix::io::Errno;

use crate::guard::{self, GUARDED, Kind, PER_REPOSITORY, Wanted, kind, open_beneath};

/// Folders that are looked into; the nearest come first.
const MAX_FOLDERS: usize = 20_000;
/// Names that are read.
const MAX_NAMES: usize = 500_000;
/// Other people's code, which a build runs in any case and a person does not work
/// in; such names stand there by the thousand.
const PASSED_OVER: &[&[u8]] = &[b"node_modules"];

/// Every path below a folder of the project, and of the project itself when that is
/// a bare repository, that is guarded where it stands in the project's own folder.
pub(super) fn wanted(root: &OwnedFd) -> Wanted {
    let mut wanted = Wanted::default();
    let mut folders = VecDeque::from([PathBuf::new()]);
    let (mut entered, mut names) = (0, 0);
    while let Some(folder) = folders.pop_front() {
        entered += 1;
        if entered > MAX_FOLDERS || names >= MAX_NAMES {
            // The project as a whole.
            wanted.unread.push(PathBuf::new());
            break;
        }
        let found = match Found::read(root, &folder, MAX_NAMES - names) {
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
        }
        // At the top they are known.
        if !folder.as_os_str().is_empty() {
            for name in &found.guarded {
                let here = |path: &&&str| first(path) == name.as_bytes();
                wanted.paths.extend(GUARDED.iter().filter(here).map(|path| folder.join(path)));
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
    }
    wanted
}

/// The guarded path that `path` is, or is in, at whatever depth it stands.
pub(super) fn top(path: &Path) -> Option<PathBuf> {
    path.ancestors()
        .find(|above| GUARDED.iter().any(|guarded| above.ends_with(guarded)))
        .map(Into::into)
}

/// The path from the guarded name on: `sub/.git/config` is read as `.git/config` is.
pub(super) fn from_guarded_name(path: &Path) -> &Path {
    let mut rest = path.components();
    loop {
        let at = rest.as_path();
        match rest.next() {
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

/// What of a folder matters.
#[derive(Default)]
struct Found {
    names: usize,
    folders: Vec<std::ffi::OsString>,
    guarded: Vec<std::ffi::OsString>,
    head: bool,
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
            let is_folder = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => kind(root, &path.join(name)) == Kind::Folder,
                _ => false,
            };
            match name.as_bytes() {
                b"HEAD" => found.head = true,
                b"objects" => found.objects = true,
                b"refs" => found.refs = true,
                _ => {}
            }
            if is_guarded(name) {
                found.guarded.push(name.into());
            } else if is_folder && !PASSED_OVER.contains(&name.as_bytes()) {
                found.folders.push(name.into());
            }
        }
        Ok(found)
    }

    /// What Git takes for one without a `.git` (gitrepository-layout(5)).
    fn is_repository(&self) -> bool {
        self.head && self.objects && self.refs
    }
}
