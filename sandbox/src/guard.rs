//! Guarded files: what the host would execute later is mounted read-only where
//! it exists, and every folder between `/workspace` and it is a mount of its
//! own, else its parent could be renamed and copied.
//!
//! The guard is a hurdle, not a wall: somebody on the host who replaces a file
//! by rename takes the mount off without a word (DESIGN 5). Paths that do not
//! exist are not made, so that nothing is left behind in the project.

mod repositories;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstat, fstatvfs, openat2,
};
use rustix::io::Errno;

use crate::engine::is_plain;
use crate::error::{Code, Error, Result};

pub(crate) use repositories::{PER_REPOSITORY, REBASE, Wanted, repositories};

/// Guarded where they exist, relative to the project.
pub(crate) const GUARDED: &[&str] = &[
    ".git/hooks",
    ".git/config",
    ".git/config.worktree",
    ".git/info/attributes",
    // Names another folder from which Git takes config and hooks.
    ".git/commondir",
    ".vscode",
    ".idea",
    ".zed",
    ".fleet",
    ".devcontainer",
    ".devcontainer.json",
    ".cursor",
    // Mercurial's hooks.
    ".hg/hgrc",
    ".husky",
    ".envrc",
    ".claude/settings.json",
    ".claude/settings.local.json",
    ".mcp.json",
    ".exrc",
    ".nvimrc",
    ".nvim.lua",
    ".vimrc",
    ".dir-locals.el",
];

/// What the guard mounts, parents before children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In an order in which they can be mounted.
    pub mounts: Vec<GuardMount>,
    /// Sentences about what is there and cannot be guarded.
    pub notes: Vec<String>,
    /// The project's folder itself.
    pub root: Identity,
}

/// Which file this is, whatever its name: device and inode.
pub type Identity = (u64, u64);

/// One mount over a path of the project, from that same path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuardMount {
    /// Relative to the project, UTF-8.
    pub path: PathBuf,
    /// A guarded path; otherwise a folder that is pinned in its place.
    pub read_only: bool,
    /// What was there. The engine mounts by name: see [`verify`].
    pub identity: Identity,
}

/// Looks at the project without following any symlink.
///
/// # Errors
/// [`Code::Guard`] when the project vanished or cannot be read.
pub fn plan(project: &Path) -> Result<Plan> {
    let unreadable = |e: Errno| {
        Error::new(Code::Guard, format!("The project {} cannot be read: {e}.", project.display()))
    };
    let root = open_root(project).map_err(unreadable)?;
    let mut plan = Plan { root: identity(&root).map_err(unreadable)?, ..Plan::default() };
    let mut guarded = BTreeSet::new();
    let mut odd = BTreeSet::new();
    let wanted = wanted(&root);
    for path in wanted.paths {
        match kind(&root, &path) {
            Kind::File | Kind::Folder if !path.to_str().is_some_and(is_plain) => {
                odd.insert(path);
            }
            Kind::File | Kind::Folder => {
                guarded.insert(path);
            }
            Kind::Symlink => plan.notes.push(format!(
                "{} is reached through a symlink and cannot be guarded; look at it before you run anything of it.",
                crate::display::line(&path.to_string_lossy(), 120)
            )),
            Kind::Other => plan.notes.push(format!(
                "{} is neither a file nor a folder and cannot be guarded.",
                crate::display::line(&path.to_string_lossy(), 120)
            )),
            Kind::Missing => {}
        }
    }
    if let Some(path) = odd.first() {
        plan.notes.push(format!(
            "{} is not guarded: its name has a character that the engine takes for a separator.",
            crate::display::line(&path.to_string_lossy(), 120)
        ));
    }
    if let Some(path) = wanted.unread.first() {
        plan.notes.push(format!(
            "{} cannot be listed, or has more than is looked at: not all in there is guarded.",
            crate::display::line(&path.to_string_lossy(), 120)
        ));
    }
    if kind(&root, Path::new(".git")) == Kind::File {
        plan.notes.push(
            "This folder is a git worktree or submodule: its repository is elsewhere and is not in the sandbox.".into(),
        );
    }
    let pinned: BTreeSet<PathBuf> = guarded
        .iter()
        .flat_map(|path| path.ancestors().skip(1))
        .filter(|parent| !parent.as_os_str().is_empty() && !guarded.contains(*parent))
        .map(Path::to_path_buf)
        .collect();
    plan.mounts = guarded
        .into_iter()
        .map(|path| (path, true))
        .chain(pinned.into_iter().map(|path| (path, false)))
        .map(|(path, read_only)| {
            let identity = open_beneath(&root, &path, OFlags::PATH)
                .and_then(|found| identity(&found))
                .map_err(|_| exchanged(&path))?;
            Ok(GuardMount { path, read_only, identity })
        })
        .collect::<Result<_>>()?;
    // A folder sorts before what is in it.
    plan.mounts.sort();
    if !matches!(kind(&root, Path::new(".rcc.yaml")), Kind::Missing) {
        plan.notes.push(
            "The project's .rcc.yaml is ignored: what is in the folder is the agent's to write."
                .into(),
        );
    }
    Ok(plan)
}

pub(crate) fn open_root(project: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(project, flags, Mode::empty())
}

/// What the guard and the review look at in the project's own folder.
pub(crate) fn wanted(root: &OwnedFd) -> Wanted {
    let paths = GUARDED.iter().map(PathBuf::from).collect();
    let mut wanted = Wanted { paths, ..Wanted::default() };
    match kind(root, Path::new(".git")) {
        Kind::Folder => wanted.extend(repositories(root, Path::new(".git"))),
        // A worktree's or submodule's pointer: it names the folder whose hooks run.
        Kind::File => wanted.paths.push(".git".into()),
        _ => {}
    }
    wanted
}

/// Compares what a sandbox got with the plan. `workspace` is the project as the
/// sandbox's first process sees it.
///
/// # Errors
/// [`Code::Guard`] when anything is not what the plan was made from.
pub fn verify(plan: &Plan, workspace: &OwnedFd) -> Result<()> {
    if identity(workspace) != Ok(plan.root) {
        return Err(exchanged(Path::new("The project's folder")));
    }
    for mount in &plan.mounts {
        let is_the_same = open_beneath(workspace, &mount.path, OFlags::PATH).and_then(|found| {
            let read_only = fstatvfs(&found)?.f_flag.contains(StatVfsMountFlags::RDONLY);
            Ok(identity(&found)? == mount.identity && (read_only || !mount.read_only))
        });
        if is_the_same != Ok(true) {
            return Err(exchanged(&mount.path));
        }
    }
    Ok(())
}

fn exchanged(path: &Path) -> Error {
    let shown = crate::display::line(&path.to_string_lossy(), 120);
    Error::new(Code::Guard, format!("{shown} was exchanged while the sandbox started."))
        .hint_is("Look at what it is now, and what put it there; then try again.")
}

fn identity(file: &OwnedFd) -> rustix::io::Result<Identity> {
    fstat(file).map(|stat| (stat.st_dev, stat.st_ino))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Symlink,
    Other,
    Missing,
}

pub(crate) fn open_beneath(
    root: &OwnedFd,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    openat2(
        root,
        path,
        flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )
}

pub(crate) fn kind(root: &OwnedFd, path: &Path) -> Kind {
    match open_beneath(root, path, OFlags::PATH) {
        Ok(found) => match fstat(&found).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::RegularFile) => Kind::File,
            Ok(FileType::Directory) => Kind::Folder,
            Ok(FileType::Symlink) => Kind::Symlink,
            _ => Kind::Other,
        },
        Err(Errno::LOOP) => Kind::Symlink,
        Err(Errno::NOENT | Errno::NOTDIR) => Kind::Missing,
        Err(_) => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn mount(path: &str, read_only: bool) -> (PathBuf, bool) {
        (path.into(), read_only)
    }

    fn mounts(plan: &Plan) -> Vec<(PathBuf, bool)> {
        plan.mounts.iter().map(|mount| (mount.path.clone(), mount.read_only)).collect()
    }

    fn repository(dir: &Path) {
        fs::create_dir_all(dir.join("hooks")).unwrap();
        fs::write(dir.join("config"), "").unwrap();
        fs::write(dir.join("HEAD"), "").unwrap();
    }

    #[test]
    fn what_exists_is_guarded_and_its_parents_are_pinned() {
        let dir = tempfile::tempdir().unwrap();
        repository(&dir.path().join(".git"));
        fs::create_dir(dir.path().join(".claude")).unwrap();
        fs::write(dir.path().join(".claude/settings.json"), "{}").unwrap();
        fs::write(dir.path().join(".envrc"), "").unwrap();
        let plan = plan(dir.path()).unwrap();
        assert_eq!(
            mounts(&plan),
            [
                mount(".claude", false),
                mount(".claude/settings.json", true),
                mount(".envrc", true),
                mount(".git", false),
                mount(".git/config", true),
                mount(".git/hooks", true),
            ]
        );
        assert!(plan.notes.is_empty());
    }

    #[test]
    fn submodules_are_guarded_with_every_folder_between() {
        let dir = tempfile::tempdir().unwrap();
        repository(&dir.path().join(".git"));
        repository(&dir.path().join(".git/modules/libs/thing"));
        let plan = plan(dir.path()).unwrap();
        for expected in [
            mount(".git/modules", false),
            mount(".git/modules/libs", false),
            mount(".git/modules/libs/thing", false),
            mount(".git/modules/libs/thing/config", true),
            mount(".git/modules/libs/thing/hooks", true),
        ] {
            assert!(mounts(&plan).contains(&expected), "{expected:?} is missing");
        }
    }

    #[test]
    fn names_that_the_engine_would_take_apart_are_left_out_and_said() {
        for name in ["a,ro=false", "a:b", "a=b", "a\"b", "a\\b", "a\nb"] {
            let dir = tempfile::tempdir().unwrap();
            repository(&dir.path().join(".git"));
            repository(&dir.path().join(".git/modules/plain"));
            repository(&dir.path().join(".git/modules").join(name));
            let plan = plan(dir.path()).unwrap();
            assert!(mounts(&plan).contains(&mount(".git/modules/plain/hooks", true)));
            let is_plain = |mount: &GuardMount| mount.path.to_str().is_some_and(is_plain);
            assert!(plan.mounts.iter().all(is_plain), "{:?}", plan.mounts);
            assert!(plan.notes[0].contains("is not guarded"), "{:?}", plan.notes);
        }
    }

    #[test]
    fn symlinks_are_not_followed_and_said() {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(outside.path().join("hooks")).unwrap();
        fs::write(outside.path().join("config"), "").unwrap();
        let dir = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join(".git")).unwrap();
        symlink(outside.path().join("config"), dir.path().join(".envrc")).unwrap();
        let plan = plan(dir.path()).unwrap();
        assert_eq!(plan.mounts, []);
        assert!(plan.notes.iter().any(|note| note.starts_with(".git/hooks ")), "{:?}", plan.notes);
        assert!(plan.notes.iter().any(|note| note.starts_with(".envrc ")), "{:?}", plan.notes);
    }

    #[test]
    fn what_was_exchanged_after_the_plan_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let (project, other) = (dir.path().join("project"), dir.path().join("other"));
        for folder in [&project, &other] {
            fs::create_dir_all(folder.join(".git/modules/x")).unwrap();
            fs::write(folder.join(".git/modules/x/HEAD"), "").unwrap();
        }
        let open = |path: &Path| -> OwnedFd { fs::File::open(path).unwrap().into() };
        let mut plan = plan(&project).unwrap();
        // A folder alone: nothing here can be mounted read-only.
        let pin = GuardMount {
            path: ".git".into(),
            read_only: false,
            identity: identity(&open(&project.join(".git"))).unwrap(),
        };
        plan.mounts = vec![pin];
        verify(&plan, &open(&project)).unwrap();
        let refused = |plan: &Plan, path: &Path| verify(plan, &open(path)).unwrap_err();
        assert_eq!(refused(&plan, &other).code(), Code::Guard);
        // A guard that is not mounted read-only is none.
        let mut writable = plan.clone();
        writable.mounts[0].read_only = true;
        assert_eq!(refused(&writable, &project).code(), Code::Guard);
        fs::rename(project.join(".git"), project.join("old")).unwrap();
        symlink("old", project.join(".git")).unwrap();
        assert!(refused(&plan, &project).body().contains(".git was exchanged"));
        fs::remove_file(project.join(".git")).unwrap();
        fs::rename(other.join(".git"), project.join(".git")).unwrap();
        assert!(refused(&plan, &project).body().contains(".git was exchanged"));
    }

    #[test]
    fn nothing_is_made_in_the_project() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(dir.path()).unwrap();
        assert!(plan.mounts.is_empty() && plan.notes.is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_projects_own_settings_are_ignored_aloud() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".rcc.yaml"), "mounts: [/]").unwrap();
        let plan = plan(dir.path()).unwrap();
        assert!(plan.mounts.is_empty());
        assert!(plan.notes[0].contains(".rcc.yaml is ignored"));
    }

    proptest! {
        #[test]
        fn every_parent_of_a_guard_is_a_mount_before_it(picks in prop::collection::vec(0..GUARDED.len(), 0..12)) {
            let dir = tempfile::tempdir().unwrap();
            for pick in picks {
                let path = dir.path().join(GUARDED[pick]);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                if !path.exists() {
                    fs::write(path, "").unwrap();
                }
            }
            let plan = plan(dir.path()).unwrap();
            for (index, guard) in plan.mounts.iter().enumerate() {
                for parent in guard.path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
                    let at = plan.mounts.iter().position(|mount| mount.path == parent);
                    prop_assert!(at.is_some_and(|at| at < index), "{:?}", plan.mounts);
                }
            }
        }
    }
}
