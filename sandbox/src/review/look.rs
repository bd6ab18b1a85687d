//! What is there now. The project is the agent's to write, while this looks: no
//! symlink is followed, nothing is opened that could block, everything is bounded.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, DirEntry, FileType, OFlags, fstat, readlinkat};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::roles::Roles;
use super::{below, named};
use crate::guard::{self, Kind, kind, open_beneath};

/// What a build or a person's own command runs. Shown, not guarded: an agent is
/// asked to change these every day (THREATS F3).
pub(super) const BUILT: &[&str] = &[
    ".cargo/config",
    ".cargo/config.toml",
    ".circleci",
    ".github/workflows",
    ".gitlab-ci.yml",
    ".mise.toml",
    ".npmrc",
    ".pnpmfile.cjs",
    ".pre-commit-config.yaml",
    ".tool-versions",
    ".travis.yml",
    ".yarnrc",
    ".yarnrc.yml",
    "CMakeLists.txt",
    "Dockerfile",
    "GNUmakefile",
    "Jenkinsfile",
    "Justfile",
    "Makefile",
    "Rakefile",
    "Taskfile.yml",
    "azure-pipelines.yml",
    "build.gradle",
    "build.gradle.kts",
    "build.rs",
    "compose.yaml",
    "conftest.py",
    "docker-compose.yml",
    "gradlew",
    "justfile",
    "makefile",
    "mise.toml",
    "mvnw",
    "noxfile.py",
    "package.json",
    "pyproject.toml",
    "rust-toolchain.toml",
    "setup.py",
    "tox.ini",
];

/// Reviewed, not guarded: the agent writes here as it works, while hooks and skills in
/// it are run or followed by Claude Code on this computer.
pub(super) const REVIEWED: &[&str] = &[".claude"];

/// Contents up to this size are kept, so that they can be shown and put back.
pub(super) const MAX_KEPT: u64 = 1 << 20;
/// Contents up to this size are read; larger files are known by their stamps.
const MAX_READ: u64 = 16 << 20;
/// Contents of one look together that are kept.
const MAX_KEPT_TOGETHER: u64 = 32 << 20;
/// Contents that one look reads. What is beyond is known by its stamps, and the project
/// is told as a crowd: a clock instead would make the answer depend on the disk.
const MAX_READ_TOGETHER: u64 = 256 << 20;
/// Files of one look.
const MAX_FILES_TOGETHER: usize = 50_000;
/// Files below one guarded path; more are told as one thing.
const MAX_FILES: usize = 1_000;
/// Folders in folders below one guarded path.
const MAX_DEPTH: usize = 8;

/// One path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(super) enum Entry {
    File {
        sha256: String,
        size: u64,
        mode: u32,
    },
    /// Too large to be read, or beyond what one look reads.
    Large {
        size: u64,
        stamp: String,
    },
    Link {
        to: Vec<u8>,
    },
    /// A pipe, a socket, or what cannot be opened.
    Other,
    /// A folder with more files, or deeper ones, than are looked at, or one that cannot
    /// be listed. The empty path stands for the project.
    Crowd,
    /// Only of what was there before: nobody knows it.
    Unknown,
}

/// By path, relative to the project; folders themselves do not matter.
pub(super) type Files = BTreeMap<PathBuf, Entry>;

/// Takes the contents that are read: hash and bytes.
pub(super) type Keep<'a> = &'a mut dyn FnMut(&str, &[u8]);

/// Everything that is guarded or shown. `home` is the person's.
pub(super) fn look(root: &OwnedFd, home: &Path, keep: Keep<'_>) -> (Files, Roles) {
    let mut look = Look::new(root, keep);
    let mut wanted = guard::wanted(root);
    wanted.paths.extend(REVIEWED.iter().map(PathBuf::from));
    let named = named::wanted(root, home, &wanted.repositories);
    // Last, so that what the agent adds there leaves the others their part.
    let (below, links) = below::wanted(root);
    let of_below = named::wanted(root, home, &below.repositories);
    let mut by_name = [&*wanted.paths, &*below.paths].concat();
    let all_named = [&*named.paths, &*of_below.paths].concat();
    wanted.extend(named);
    wanted.extend(below);
    wanted.extend(of_below);
    let rebases = wanted.repositories.iter().map(|git| git.join(guard::REBASE));
    by_name.extend(rebases.clone());
    wanted.paths.extend(rebases);
    let built: Vec<PathBuf> = BUILT.iter().map(PathBuf::from).collect();
    for path in wanted.paths.iter().chain(&built).chain(&links) {
        look.at(path);
    }
    for path in &wanted.unread {
        look.crowd(path);
    }
    (look.files, Roles::new(by_name, all_named))
}

/// The one path, as [`look`] sees it.
pub(super) fn look_at(root: &OwnedFd, path: &Path, keep: Keep<'_>) -> Option<Entry> {
    let mut look = Look::new(root, keep);
    look.at(path);
    look.files.remove(path)
}

/// What is at these paths, bounded as one [`look`].
pub(super) fn look_at_each(root: &OwnedFd, paths: &[PathBuf]) -> Files {
    let mut keep = |_: &str, _: &[u8]| ();
    let mut look = Look::new(root, &mut keep);
    paths.iter().for_each(|path| look.at(path));
    look.files.retain(|path, _| paths.binary_search(path).is_ok());
    look.files
}

struct Look<'a> {
    root: &'a OwnedFd,
    files: Files,
    /// By device and inode: one file has many names for the asking.
    read: HashMap<guard::Identity, Entry>,
    bytes_left: u64,
    files_left: usize,
    kept: u64,
    keep: Keep<'a>,
}

impl<'a> Look<'a> {
    fn new(root: &'a OwnedFd, keep: Keep<'a>) -> Self {
        Self {
            root,
            files: Files::new(),
            read: HashMap::new(),
            bytes_left: MAX_READ_TOGETHER,
            files_left: MAX_FILES_TOGETHER,
            kept: 0,
            keep,
        }
    }

    /// A part of the path that is no folder stands for everything below it: a link
    /// in the place of `.git` is what has to be shown.
    fn at(&mut self, path: &Path) {
        let mut part = PathBuf::new();
        for component in path.components() {
            part.push(component);
            match kind(self.root, &part) {
                Kind::Folder => {}
                Kind::Missing => return,
                found => return self.leaf(part, found),
            }
        }
        let mut left = MAX_FILES;
        self.folder(path, path, 0, &mut left);
    }

    fn folder(&mut self, top: &Path, path: &Path, depth: usize, left: &mut usize) {
        let Some(names) = names(self.root, path).filter(|_| depth < MAX_DEPTH) else {
            return self.crowd(top);
        };
        let hooks = path.file_name().is_some_and(|name| name == "hooks");
        for name in names {
            // Counted before any is passed over: what comes after so many was never read.
            if *left == 0 {
                return self.crowd(top);
            }
            *left -= 1;
            if hooks && name.as_bytes().ends_with(b".sample") {
                // Git's examples, a dozen with each repository: not run under this name.
                continue;
            }
            // Working trees of Claude Code's are looked at as other folders are.
            let is_worktrees = name == below::WORKTREES && path.ends_with(".claude");
            let path = path.join(name);
            match kind(self.root, &path) {
                Kind::Folder if is_worktrees => {}
                Kind::Folder => self.folder(top, &path, depth + 1, left),
                Kind::Missing => {}
                found => self.leaf(path, found),
            }
        }
    }

    fn crowd(&mut self, top: &Path) {
        self.files.insert(top.into(), Entry::Crowd);
    }

    fn leaf(&mut self, path: PathBuf, kind: Kind) {
        if self.files_left == 0 {
            return self.crowd(Path::new(""));
        }
        self.files_left -= 1;
        let entry = match kind {
            Kind::Symlink => link(self.root, &path),
            Kind::File => self.file(&path),
            _ => None,
        };
        self.files.insert(path, entry.unwrap_or(Entry::Other));
    }

    fn file(&mut self, path: &Path) -> Option<Entry> {
        let opened = open_beneath(self.root, path, OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
        let stat = fstat(&opened).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(known) = self.read.get(&identity) {
            return Some(known.clone());
        }
        let size = u64::try_from(stat.st_size).ok()?;
        let is_beyond = size > self.bytes_left;
        if size > MAX_READ || is_beyond {
            if is_beyond {
                self.crowd(Path::new(""));
            }
            let stamp = format!("{} {}.{}", stat.st_ino, stat.st_ctime, stat.st_ctime_nsec);
            return Some(Entry::Large { size, stamp });
        }
        let mut bytes = Vec::new();
        // It may grow while it is read.
        File::from(opened).take(MAX_READ + 1).read_to_end(&mut bytes).ok()?;
        let sha256 = hash(&bytes);
        let size = bytes.len() as u64;
        self.bytes_left = self.bytes_left.saturating_sub(size);
        if size <= MAX_KEPT && self.kept + size <= MAX_KEPT_TOGETHER {
            self.kept += size;
            (self.keep)(&sha256, &bytes);
        }
        let entry = Entry::File { sha256, size, mode: stat.st_mode & 0o777 };
        self.read.insert(identity, entry.clone());
        Some(entry)
    }
}

pub(super) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The folder that a path is in, and its name there.
pub(super) fn parent<'a>(root: &OwnedFd, path: &'a Path) -> Option<(OwnedFd, &'a OsStr)> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    let folder = open_beneath(root, above, OFlags::PATH | OFlags::DIRECTORY).ok()?;
    Some((folder, path.file_name()?))
}

fn link(root: &OwnedFd, path: &Path) -> Option<Entry> {
    let (folder, name) = parent(root, path)?;
    let to = readlinkat(&folder, name, Vec::new()).ok()?;
    Some(Entry::Link { to: to.into_bytes() })
}

/// Names in a folder, sorted; one more than are looked at. None when they cannot be
/// listed, or not to their end.
fn names(root: &OwnedFd, path: &Path) -> Option<Vec<OsString>> {
    let folder = open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY).ok()?;
    let name = |entry: DirEntry| OsString::from_vec(entry.file_name().to_bytes().to_vec());
    let mut names = Dir::read_from(&folder)
        .ok()?
        .map(|entry| entry.map(name))
        .filter(|name| !matches!(name, Ok(name) if name == "." || name == ".."))
        .take(MAX_FILES + 1)
        .collect::<rustix::io::Result<Vec<OsString>>>()
        .ok()?;
    names.sort();
    Some(names)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn r1_a_look_reads_a_file_once_and_no_more_than_its_part() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::File::create(dir.path().join(name)).unwrap().set_len(1 << 20).unwrap();
        };
        file(".vscode/one");
        for number in 0..20 {
            let name = dir.path().join(format!(".vscode/{number}"));
            fs::hard_link(dir.path().join(".vscode/one"), name).unwrap();
        }
        for name in [".idea/1", ".idea/2", ".idea/3"] {
            file(name);
        }
        let root = guard::open_root(dir.path()).unwrap();
        let mut keep = |_: &str, _: &[u8]| ();
        let mut look = Look::new(&root, &mut keep);
        look.bytes_left = 3 << 20;
        look.at(Path::new(".vscode"));
        assert_eq!((look.bytes_left, look.files.len()), (2 << 20, 21));
        look.at(Path::new(".idea"));
        let at = |look: &Look<'_>, path: &str| look.files.get(Path::new(path)).cloned();
        assert!(matches!(at(&look, ".idea/2"), Some(Entry::File { .. })));
        assert!(matches!(at(&look, ".idea/3"), Some(Entry::Large { .. })));
        // Whoever sees that hears that not all was compared.
        assert_eq!(at(&look, ""), Some(Entry::Crowd));

        let mut look = Look::new(&root, &mut keep);
        look.files_left = 21;
        look.at(Path::new(".vscode"));
        assert_eq!(at(&look, ""), None);
        look.at(Path::new(".idea"));
        assert_eq!((at(&look, ""), at(&look, ".idea/1")), (Some(Entry::Crowd), None));
    }
}
