//! Files of the project that its settings of Git name: more settings (`include.path`), a
//! folder of hooks (`core.hooksPath`) and programs. They may have any name. Settings are
//! those of each repository in the project and of its working trees.

mod settings;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use crate::guard::{Kind, Wanted, kind, open_beneath};
use settings::settings;

/// Repositories whose settings are read.
const MAX_REPOSITORIES: usize = 256;
/// Settings of one that are read, one naming the next.
const MAX_FILES: usize = 16;
/// Bytes of each.
const MAX_READ: u64 = 256 << 10;
/// Bytes of all.
const MAX_READ_TOGETHER: u64 = 8 << 20;
/// Names that are tried.
const MAX_TRIED: usize = 20_000;

/// Settings whose value is a path.
const PATHS: &[&str] = &["core.attributesfile", "core.hookspath"];
/// Settings whose value is a program, or a line for a shell (git-config(1)). Subsections
/// are left out: `filter.<driver>.clean` is `filter.clean`.
const PROGRAMS: &[&str] = &[
    "browser.cmd",
    "core.alternaterefscommand",
    "core.askpass",
    "core.editor",
    "core.fsmonitor",
    "core.gitproxy",
    "core.pager",
    "core.sshcommand",
    "credential.helper",
    "diff.command",
    "diff.external",
    "diff.textconv",
    "difftool.cmd",
    "difftool.path",
    "filter.clean",
    "filter.process",
    "filter.smudge",
    "gpg.defaultkeycommand",
    "gpg.program",
    "hook.command",
    "interactive.difffilter",
    "man.cmd",
    "merge.driver",
    "mergetool.cmd",
    "mergetool.path",
    "remote.receivepack",
    "remote.uploadpack",
    "sequence.editor",
    "submodule.update",
    "tar.command",
    "trailer.cmd",
    "trailer.command",
    "uploadpack.packobjectshook",
];

/// What the settings of these repositories name within the project. `home` is the
/// person's.
pub(super) fn wanted(root: &OwnedFd, home: &Path, repositories: &[PathBuf]) -> Wanted {
    let project = std::fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()));
    let mut named = Named {
        root,
        home,
        real_home: home.canonicalize().unwrap_or_else(|_| home.into()),
        project: project.unwrap_or_default(),
        repositories,
        bytes_left: MAX_READ_TOGETHER,
        tries_left: MAX_TRIED,
        is_beyond: repositories.len() > MAX_REPOSITORIES,
        paths: BTreeSet::new(),
    };
    repositories.iter().take(MAX_REPOSITORIES).for_each(|git| named.repository(git));
    // What is beyond is told of the project as a whole.
    let unread = if named.is_beyond { vec![PathBuf::new()] } else { Vec::new() };
    Wanted { paths: named.paths.into_iter().collect(), unread, ..Wanted::default() }
}

struct Named<'a> {
    root: &'a OwnedFd,
    home: &'a Path,
    /// Where that is, whatever links lead there.
    real_home: PathBuf,
    /// Canonical path of the project.
    project: PathBuf,
    repositories: &'a [PathBuf],
    bytes_left: u64,
    tries_left: usize,
    is_beyond: bool,
    paths: BTreeSet<PathBuf>,
}

impl Named<'_> {
    fn repository(&mut self, git: &Path) {
        let own = [git.join("config"), git.join("config.worktree")];
        let mut configs = own.to_vec();
        if let Some(text) = self.read(&git.join("commondir")) {
            let common = self.within(git, text.trim_end());
            configs.extend(common.map(|common| common.join("config")));
        }
        let (mut paths, mut programs, mut trees) = (Vec::new(), Vec::new(), self.trees(git));
        let mut at = 0;
        while let Some(config) = configs.get(at).cloned() {
            if at == MAX_FILES {
                self.is_beyond = true;
                break;
            }
            at += 1;
            let Some(text) = self.read(&config) else { continue };
            for (key, value) in settings(&text) {
                match &*key {
                    // Relative to the file that names it.
                    "include.path" => {
                        let above = config.parent().unwrap_or(Path::new(""));
                        let more = self.within(above, &value);
                        let is_full = configs.len() > MAX_FILES;
                        configs.extend(more.filter(|more| !is_full && !configs.contains(more)));
                    }
                    "core.worktree" => trees.extend(self.within(git, &value)),
                    key if PATHS.contains(&key) => paths.push(value),
                    key if is_program(key, &value) => programs.push(value),
                    _ => {}
                }
            }
        }
        self.paths.extend(configs.into_iter().skip(own.len()));
        // Relative to the working tree that Git is called in.
        for tree in &trees {
            for value in &paths {
                if self.may_try() {
                    self.paths.extend(self.within(tree, value));
                }
            }
            for word in programs.iter().flat_map(|value| words(value)) {
                if !self.may_try() {
                    return;
                }
                let is_file =
                    |path: &PathBuf| matches!(kind(self.root, path), Kind::File | Kind::Symlink);
                self.paths.extend(self.within(tree, word).filter(is_file));
            }
        }
    }

    fn may_try(&mut self) -> bool {
        let may = self.tries_left > 0;
        self.tries_left = self.tries_left.saturating_sub(1);
        self.is_beyond |= !may;
        may
    }

    /// Working trees of the repository, and of others that take its settings.
    fn trees(&mut self, git: &Path) -> BTreeSet<PathBuf> {
        let mut trees = BTreeSet::new();
        let linked = git.join("worktrees");
        let linked = self.repositories.iter().filter(|other| other.parent() == Some(&linked));
        let linked: Vec<PathBuf> = linked.take(MAX_FILES).cloned().collect();
        for git in std::iter::once(git).chain(linked.iter().map(|git| &**git)) {
            // A working tree's own folder names the `.git` of that tree.
            if let Some(text) = self.read(&git.join("gitdir")) {
                let of_tree = self.within(git, text.trim_end());
                trees.extend(of_tree.and_then(|path| path.parent().map(PathBuf::from)));
            }
        }
        trees.insert(match git.parent() {
            Some(above) if git.ends_with(".git") => above.into(),
            _ => git.into(),
        });
        trees
    }

    fn read(&mut self, path: &Path) -> Option<String> {
        if kind(self.root, path) != Kind::File {
            return None;
        }
        let file = open_beneath(self.root, path, OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
        let mut bytes = Vec::new();
        let most = MAX_READ.min(self.bytes_left);
        File::from(file).take(most).read_to_end(&mut bytes).ok()?;
        self.is_beyond |= bytes.len() as u64 == most;
        self.bytes_left -= bytes.len() as u64;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The path relative to the project; none when it leads out of it. Links within are
    /// not followed: the agent may write them.
    fn within(&self, base: &Path, value: &str) -> Option<PathBuf> {
        let of_home = value.strip_prefix("~/").map(|rest| self.home.join(rest));
        let value = of_home.as_deref().unwrap_or(Path::new(value));
        let path = without_dots(&self.project.join(base).join(value))?;
        let below = |path: &Path| path.strip_prefix(&self.project).ok().map(PathBuf::from);
        let by_home = || Some(self.real_home.join(path.strip_prefix(self.home).ok()?));
        let below = below(&path)
            .or_else(|| below(&by_home()?))
            .or_else(|| below(&with_real_top(&path, |top| top.canonicalize().ok())?));
        below.filter(|path| !path.as_os_str().is_empty())
    }
}

/// None when it begins with more steps up than it has folders.
fn without_dots(path: &Path) -> Option<PathBuf> {
    let mut without = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if !without.pop() && !path.is_absolute() => return None,
            Component::ParentDir | Component::CurDir => {}
            part => without.push(part),
        }
    }
    Some(without)
}

/// With `/home` as what it leads to, as `/var/home`. Only the first part is asked for, which
/// is root's to make: what is further down may be a network.
fn with_real_top(path: &Path, real: impl FnOnce(&Path) -> Option<PathBuf>) -> Option<PathBuf> {
    let top: PathBuf = path.components().take(2).collect();
    Some(real(&top)?.join(path.strip_prefix(&top).ok()?))
}

fn is_program(key: &str, value: &str) -> bool {
    let is_shells = key.starts_with("alias.") && value.starts_with('!');
    PROGRAMS.contains(&key) || key.starts_with("pager.") || is_shells
}

/// What may be a path in a line for a shell: all of it, what is quoted, and each word.
fn words(value: &str) -> impl Iterator<Item = &str> {
    let splits = |c: char| c.is_whitespace() || "\"'`;|&()<>=!".contains(c);
    let words = value.split(['"', '\'']).chain(value.split(splits));
    words.map(str::trim).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn named(dir: &Path, repositories: &[&str]) -> Wanted {
        let root = crate::guard::open_root(dir).unwrap();
        let repositories: Vec<PathBuf> = repositories.iter().map(PathBuf::from).collect();
        wanted(&root, &dir.canonicalize().unwrap().join("home"), &repositories)
    }

    fn write(dir: &Path, path: &str, text: &str) {
        fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
        fs::write(dir.join(path), text).unwrap();
    }

    #[test]
    fn f2_what_the_configuration_names_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().canonicalize().unwrap();
        let config = format!(
            "[core]\n\tHooksPath = tools/hooks # ours\n[include] path = ../.gitconfig\n\
             [includeIf \"gitdir:[x]/\"]\n\tPath = \"{0}/build/git\"\n\
             [include]\n\tpath = ../../outside\n\tpath = ~/.gitconfig\n\tpath = {0}\n[other]\n\tpath = no\n",
            own.display()
        );
        write(dir.path(), ".git/config", &config);
        write(dir.path(), ".gitconfig", "[include]\npath=more\n");
        let expected = [".gitconfig", "build/git", "home/.gitconfig", "more", "tools/hooks"];
        assert_eq!(named(dir.path(), &[".git"]).paths, expected.map(PathBuf::from));
    }

    #[test]
    fn f2_programs_that_any_repositorys_settings_name_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| write(dir.path(), path, text);
        let programs = [
            "[core]\n fsmonitor = ./watch %h\n sshCommand = \"ssh -F 'my keys/ssh'\"\n",
            "[filter \"x\"]\n clean = python3 tools/clean.py %f\n process = t/p\n smudge = t/s\n",
            "[diff \"x\"]\n textconv = t/text\n command = t/d\n[merge \"x\"]\n driver = t/m %O\n",
            "[gpg]\n program = t/gpg\n[alias]\n a = !t/alias\n log = t/none\n[user]\n name = t/none\n",
        ];
        write(".git/config", &programs.concat());
        let files =
            ["watch", "my keys/ssh", "tools/clean.py", "t/p", "t/s", "t/text", "t/d", "t/m"];
        for file in files.iter().chain(&["t/gpg", "t/alias", "t/none", "t/bare", "ours", "wt/ours"])
        {
            write(file, "");
        }
        write("sub/ours", "");
        write("bare/t/bare", "");
        write(".git/config.worktree", "[core]\n pager = ours\n");
        write(".git/modules/sub/config", "[core]\n worktree = ../../../sub\n editor = ours\n");
        let tree = dir.path().canonicalize().unwrap().join("wt/.git");
        write(".git/worktrees/wt/gitdir", &format!("{}\n", tree.display()));
        write(".git/worktrees/wt/config.worktree", "[core]\n hooksPath = hooks\n");
        write("bare/config", "[diff]\n external = t/bare\n");
        let repositories = [".git", ".git/modules/sub", ".git/worktrees/wt", "bare"];
        let wanted = named(dir.path(), &repositories);
        let expected = [&files[..], &["bare/t/bare", "ours", "sub/ours", "t/alias", "t/gpg"]];
        let mut expected: Vec<PathBuf> = expected.concat().iter().map(PathBuf::from).collect();
        // What a repository's own folder has is looked at in any case.
        expected.extend([".git/worktrees/wt/hooks", "wt/hooks", "wt/ours"].map(PathBuf::from));
        expected.sort();
        assert_eq!(wanted.paths, expected);
        assert!(wanted.unread.is_empty());
    }

    #[test]
    fn f2_what_is_named_by_another_way_to_the_project_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        let (project, home) = (real.join("real/project"), real.join("home"));
        let config = format!(
            "[include]\n path = {0}/one\n path = ~/project/two\n path = ../../project/three\n\
             path = {1}/no/../four\n path = {1}-other/no\n path = ../../other/no\n",
            home.join("project").display(),
            project.display()
        );
        write(&project, ".git/config", &config);
        std::os::unix::fs::symlink("real", &home).unwrap();
        let root = crate::guard::open_root(&project).unwrap();
        let found = wanted(&root, &home, &[".git".into()]).paths;
        assert_eq!(found, ["four", "one", "three", "two"].map(PathBuf::from));
    }

    #[test]
    fn f2_the_folder_of_all_homes_may_be_a_link() {
        let real = |top: &Path| (top == Path::new("/home")).then(|| PathBuf::from("/var/home"));
        let of = |path: &str| with_real_top(Path::new(path), real);
        assert_eq!(of("/home/me/project"), Some("/var/home/me/project".into()));
        assert_eq!((of("/srv/home/me"), of("me")), (None, None));
    }

    #[test]
    fn r1_settings_are_read_to_a_bound_that_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let is_told = |text: &str| {
            write(dir.path(), ".git/config", text);
            named(dir.path(), &[".git"]).unread == [PathBuf::new()]
        };
        let includes = |count: usize| {
            (0..count).map(|number| format!("path = {number}\n")).collect::<String>()
        };
        assert!(!is_told(&format!("[include]\n{}", includes(10))));
        assert!(is_told(&format!("[include]\n{}", includes(20))));
        assert!(is_told(&"#\n".repeat(200_000)));
        assert!(is_told(&format!("[core]\npager = {}\n", "x ".repeat(20_001))));
        let many: Vec<String> = (0..257).map(|number| format!("{number}/.git")).collect();
        let many: Vec<&str> = many.iter().map(|git| &**git).collect();
        assert_eq!(named(dir.path(), &many).unread, [PathBuf::new()]);
    }
}
