//! A project: one folder that may be opened in a sandbox.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Code, Error, Result};
use crate::host::Host;

/// A checked folder. Two paths to the same folder make equal projects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Project {
    path: PathBuf,
    id: String,
}

impl Project {
    /// Follows symlinks and checks that the folder may be opened.
    ///
    /// # Errors
    /// [`Code::FolderMissing`] and [`Code::FolderRefused`], with the reason.
    pub fn open(path: &Path, host: &Host) -> Result<Self> {
        let cannot = |why: String| {
            Error::new(Code::FolderMissing, why)
                .title_is(format!("Cannot open {}.", path.display()))
        };
        let canonical = fs::canonicalize(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => cannot("There is no such folder.".into()),
            _ => cannot(format!("The path cannot be followed: {e}.")),
        })?;
        let meta = fs::metadata(&canonical)
            .map_err(|e| cannot(format!("It cannot be looked at: {e}.")))?;
        if !meta.is_dir() {
            return Err(cannot("It is not a folder.".into())
                .hint_is("Choose the folder that the file is in."));
        }
        if let Some(why) = refusal(&canonical, &host.home, &own_folders(host)) {
            let refused = Error::new(Code::FolderRefused, why.body)
                .title_is(format!("Cannot open {}.", why.name));
            let is_home = canonical == host.home;
            return Err(if is_home {
                refused.hint_is("Choose a project folder inside it.")
            } else {
                refused
            });
        }
        rustix::fs::access(&canonical, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .map_err(|e| {
                cannot(format!("You may not write there: {e}."))
                    .hint_is("Claude works with your rights; choose a folder that you can change.")
            })?;
        crate::programs::distrust(&canonical);
        Ok(Self::of_canonical(canonical))
    }

    fn of_canonical(path: PathBuf) -> Self {
        let digest = Sha256::digest(path.as_os_str().as_bytes());
        let id = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { path, id }
    }

    /// Canonical path on the host; any bytes that a path may have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// 16 hexadecimal digits from the canonical path: the same on every day
    /// and through every symlink.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The folder's name, harmless for display.
    pub fn name(&self) -> String {
        crate::display::line(
            &self.path.file_name().unwrap_or(OsStr::new("/")).to_string_lossy(),
            80,
        )
    }

    /// A short word for container names: `[a-z0-9-]`, 1 to 24 characters.
    pub fn slug(&self) -> String {
        let mut slug = String::new();
        for c in self.name().chars() {
            match c.to_ascii_lowercase() {
                c @ ('a'..='z' | '0'..='9') => slug.push(c),
                _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
                _ => {}
            }
            if slug.len() == 24 {
                break;
            }
        }
        let slug = slug.trim_matches('-');
        if slug.is_empty() { "project".into() } else { slug.into() }
    }
}

/// Folders of rcc's own: an agent in there could change what guards it.
fn own_folders(host: &Host) -> Vec<PathBuf> {
    let own = [&host.config, &host.data, &host.state, &host.runtime_root];
    own.into_iter().map(|path| fs::canonicalize(path).unwrap_or_else(|_| path.clone())).collect()
}

struct Refusal {
    name: String,
    body: String,
}

/// Folders of the system that hold no projects.
const SYSTEM: &[&str] = &[
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/root",
    "/run", "/sbin", "/sys", "/usr",
];

/// System folders that are refused themselves, while folders deeper inside may
/// well be projects.
const SHALLOW: &[&str] =
    &["/home", "/media", "/mnt", "/opt", "/srv", "/tmp", "/var", "/var/lib", "/var/tmp"];

/// Hidden folders below the home that hold keys, sessions or start-up files.
/// `.config` and `.local` stand for all of them: what a desktop starts is there.
const HIDDEN: &[&str] = &[
    ".android",
    ".ansible",
    ".aws",
    ".azure",
    ".bashrc.d",
    ".cargo",
    ".cache",
    ".claude",
    ".config",
    ".docker",
    ".gcloud",
    ".gnome",
    ".gnupg",
    ".kde",
    ".kube",
    ".local",
    ".m2",
    ".mozilla",
    ".netrc",
    ".npm",
    ".password-store",
    ".pki",
    ".profile.d",
    ".rustup",
    ".ssh",
    ".thunderbird",
    ".var",
    ".vim",
    ".vscode",
    ".emacs.d",
    ".oh-my-zsh",
    ".minikube",
    ".gem",
    ".gradle",
    ".terraform.d",
    ".wine",
];

fn refusal(path: &Path, home: &Path, own: &[PathBuf]) -> Option<Refusal> {
    let refuse = |name: &str, body: &str| Some(Refusal { name: name.into(), body: body.into() });
    let shown = path.display().to_string();
    if path == Path::new("/") {
        return refuse(
            "the whole computer",
            "Claude could then reach every file that you can reach.",
        );
    }
    if path == home {
        return refuse(
            "your home folder",
            "Claude could then read keys and passwords of every program.",
        );
    }
    if home.starts_with(path) {
        return refuse(
            &shown,
            "Your home folder is in it, with keys and passwords of every program.",
        );
    }
    if let Some(own) = own.iter().find(|own| path.starts_with(own) || own.starts_with(path)) {
        return refuse(
            &shown,
            &format!(
                "rcc's own files or the sockets of your session are in {}; Claude could change what guards it.",
                own.display()
            ),
        );
    }
    if let Ok(below) = path.strip_prefix(home) {
        let first = below.components().next();
        if let Some(Component::Normal(first)) = first
            && HIDDEN.iter().any(|hidden| OsStr::new(hidden) == first)
        {
            return refuse(
                &shown,
                &format!(
                    "~/{} holds keys, settings or programs of yours.",
                    first.to_string_lossy()
                ),
            );
        }
        return None;
    }
    let system = SYSTEM.iter().any(|system| path.starts_with(system));
    let shallow = SHALLOW.iter().any(|shallow| path == Path::new(shallow));
    if system || shallow {
        return refuse(&shown, "It belongs to the system, not to a project.");
    }
    if path.parent() == Some(Path::new("/home")) {
        return refuse(&shown, "It is another user's home folder.");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(path: &str) -> bool {
        let own = [PathBuf::from("/home/ann/.config/rcc"), PathBuf::from("/data/run/1000")];
        refusal(Path::new(path), Path::new("/home/ann"), &own).is_some()
    }

    #[test]
    fn folders_that_hold_more_than_a_project_are_refused() {
        for path in [
            "/",
            "/home",
            "/home/ann",
            "/home/bob",
            "/home/ann/.ssh",
            "/home/ann/.ssh/deep",
            "/home/ann/.config",
            "/home/ann/.config/app",
            "/etc",
            "/etc/x",
            "/usr/src",
            "/proc/self/cwd",
            "/tmp",
            "/run/user/1000/x",
            "/root/work",
            "/data",
            "/data/run/1000",
            "/data/run/1000/sub",
            "/home/ann/.local/share/rcc",
        ] {
            assert!(refused(path), "{path} was accepted");
        }
    }

    #[test]
    fn ordinary_project_folders_are_accepted() {
        for path in [
            "/home/ann/code",
            "/home/ann/code/.ssh-tool",
            "/home/ann/.dotfiles",
            "/srv/web",
            "/tmp/x",
            "/home/ann/a b:c,d\ne",
            "/home/annex/code",
            "/data/projects",
            "/etcetera",
            "/opt/thing",
        ] {
            assert!(!refused(path), "{path} was refused");
        }
    }

    proptest! {
        #[test]
        fn whatever_contains_the_home_is_refused(depth in 0usize..4, names in prop::collection::vec("[a-z]{1,6}", 4)) {
            let home = PathBuf::from(format!("/{}", names.join("/")));
            let above: PathBuf = home.ancestors().nth(depth.min(4)).unwrap().into();
            prop_assert!(refusal(&above, &home, &[]).is_some());
        }

        #[test]
        fn slugs_are_container_names(name in "\\PC{0,60}") {
            let project = Project::of_canonical(Path::new("/p").join(name.replace('/', "")));
            let slug = project.slug();
            prop_assert!(!slug.is_empty() && slug.len() <= 24);
            prop_assert!(slug.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            prop_assert!(!slug.starts_with('-') && !slug.ends_with('-'));
        }
    }

    #[test]
    fn the_same_folder_through_a_symlink_is_the_same_project() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        let host = crate::testing::host(dir.path());
        let one = Project::open(&real, &host).unwrap();
        let two = Project::open(&dir.path().join("link"), &host).unwrap();
        assert_eq!(one, two);
        assert_eq!(one.id().len(), 16);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(Project::open(&file, &host).unwrap_err().code(), Code::FolderMissing);
        assert_eq!(
            Project::open(&dir.path().join("no"), &host).unwrap_err().code(),
            Code::FolderMissing
        );
    }
}
