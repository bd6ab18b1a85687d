//! Files of the project that its own Git configuration names: more configuration
//! (`include.path`) and a folder of hooks (`core.hooksPath`). They may have any name.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use crate::guard::{Kind, kind, open_beneath};

/// Configurations that are read, one naming the next.
const MAX_FILES: usize = 16;
/// Bytes of each.
const MAX_READ: u64 = 256 << 10;

/// What `.git/config` names within the project.
pub(super) fn wanted(root: &OwnedFd) -> Vec<PathBuf> {
    let mut configs = vec![PathBuf::from(".git/config")];
    let mut hooks = Vec::new();
    let mut at = 0;
    while let Some(config) = configs.get(at).filter(|_| at < MAX_FILES).cloned() {
        at += 1;
        let Some(text) = read(root, &config) else { continue };
        for (key, value) in settings(&text) {
            let found = match &*key {
                // Relative to the file that names it; hooks to the working tree.
                "include.path" => (&mut configs, config.parent().unwrap_or(Path::new(""))),
                "core.hookspath" => (&mut hooks, Path::new("")),
                _ => continue,
            };
            let (list, base) = found;
            if let Some(path) = within(root, base, &value).filter(|path| !list.contains(path)) {
                list.push(path);
            }
        }
    }
    configs.into_iter().skip(1).chain(hooks).collect()
}

fn read(root: &OwnedFd, path: &Path) -> Option<String> {
    if kind(root, path) != Kind::File {
        return None;
    }
    let file = open_beneath(root, path, OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
    let mut bytes = Vec::new();
    File::from(file).take(MAX_READ).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Sections and names in lower case; subsections, as of `includeIf`, are left out
/// (git-config(1), "Syntax").
fn settings(text: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let mut line = line;
        if let Some(rest) = line.strip_prefix('[') {
            // A subsection may have brackets in its quotes; a setting may follow on the line.
            let Some((head, rest)) = rest.rsplit_once(']') else { continue };
            section = head.split([' ', '\t', '"', '.']).next().unwrap_or("").to_ascii_lowercase();
            section = section.replace("includeif", "include");
            line = rest.trim();
        }
        if let Some((name, value)) = line.split_once('=') {
            let name = name.trim().to_ascii_lowercase();
            let value = value.trim();
            let value = match value.strip_prefix('"') {
                Some(rest) => rest.split('"').next().unwrap_or(rest),
                None => value.split([';', '#']).next().unwrap_or(value).trim_end(),
            };
            found.push((format!("{section}.{name}"), value.to_string()));
        }
    }
    found
}

/// The path relative to the project; none when it leads out of it.
fn within(root: &OwnedFd, base: &Path, value: &str) -> Option<PathBuf> {
    let value = Path::new(value);
    if value.is_absolute() {
        let project = std::fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd())).ok()?;
        let path = value.strip_prefix(project).ok()?;
        return Some(path.into()).filter(|path: &PathBuf| !path.as_os_str().is_empty());
    }
    let mut path = base.to_path_buf();
    for part in value.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if !path.pop() => return None,
            _ => {}
        }
    }
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn f2_what_the_configuration_names_is_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".git")).unwrap();
        let own = dir.path().canonicalize().unwrap();
        let config = format!(
            "[core]\n\tHooksPath = tools/hooks # ours\n[include] path = ../.gitconfig\n\
             [includeIf \"gitdir:[x]/\"]\n\tPath = \"{0}/build/git\"\n\
             [include]\n\tpath = ../../outside\n\tpath = ~/.gitconfig\n\tpath = {0}\n[other]\n\tpath = no\n",
            own.display()
        );
        fs::write(dir.path().join(".git/config"), config).unwrap();
        fs::write(dir.path().join(".gitconfig"), "[include]\npath=more\n").unwrap();
        let root = crate::guard::open_root(dir.path()).unwrap();
        let expected = [".gitconfig", "build/git", ".git/~/.gitconfig", "more", "tools/hooks"];
        assert_eq!(wanted(&root), expected.map(PathBuf::from));
    }
}
