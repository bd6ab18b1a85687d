//! Programs of this computer and of rcc itself.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use crate::error::{Code, Error, Result};
use crate::host::{Host, write_atomically};

/// In the person's state folder: for each project that was opened, where it is.
const FOLDERS: &str = "folders";

/// Folders of projects: what lies in them is the agent's to write, so no program
/// of theirs runs on the host (THREATS F5).
static PROJECTS: RwLock<Vec<PathBuf>> = RwLock::new(Vec::new());

/// Variables with which a folder of a project could lead a trusted program to code
/// of the agent's. mmdebstrap is a program of Perl's.
const MISLEADING: [&str; 12] = [
    "GIT_DIR",
    "GIT_EXEC_PATH",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
];

/// A command for a program that [`find`] found.
pub(crate) fn command(program: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(program);
    for variable in MISLEADING {
        command.env_remove(variable);
    }
    // Whatever else leads there: CONTAINERS_CONF names programs that Podman starts.
    for (variable, value) in env::vars_os() {
        if env::split_paths(&value).any(|path| path.is_absolute() && is_in_project(&path)) {
            command.env_remove(variable);
        }
    }
    // Last: the one that is there may lead into a project, too.
    command.env("PATH", path());
    command
}

/// Writes down that `folder` was opened: from now on it is distrusted whichever folder
/// is worked in.
///
/// # Errors
/// [`Code::Io`].
pub(crate) fn remember(folder: &Path, id: &str, host: &Host) -> Result<()> {
    let file = host.state.join(FOLDERS).join(id);
    let bytes = folder.as_os_str().as_bytes();
    if fs::read(&file).is_ok_and(|known| known == bytes) {
        return Ok(());
    }
    write_atomically(&file, bytes)
}

/// Distrusts every folder that was opened. Where that cannot be read nothing is
/// trusted: no program is found.
pub(crate) fn distrust_remembered(host: &Host) {
    let entries = match fs::read_dir(host.state.join(FOLDERS)) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return,
        Err(_) => return distrust(Path::new("/")),
    };
    for entry in entries {
        // What an interrupted write left is not a record.
        if entry.as_ref().is_ok_and(|entry| entry.file_name().as_bytes().starts_with(b".")) {
            continue;
        }
        match entry.and_then(|entry| fs::read(entry.path())) {
            Ok(path) => distrust(Path::new(OsStr::from_bytes(&path))),
            // Written anew at this moment, by another face.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(_) => distrust(Path::new("/")),
        }
    }
}

/// Whether a path is one of a project's that is known.
pub(crate) fn is_in_project(path: &Path) -> bool {
    let in_one = |projects: &Vec<PathBuf>| projects.iter().any(|one| path.starts_with(one));
    PROJECTS.read().map_or(true, |projects| in_one(&projects))
}

/// Finds no program in `folder` from now on. An empty path, as in settings that a person
/// wrote by hand, is no folder: every other one would begin with it.
pub(crate) fn distrust(folder: &Path) {
    if folder.is_absolute()
        && let Ok(mut projects) = PROJECTS.write()
        && !projects.iter().any(|known| known == folder)
    {
        projects.push(folder.to_path_buf());
    }
}

/// The program `name` in the absolute folders of `PATH`, but none that lies in a
/// project or a working copy: with an active virtual environment `PATH` begins
/// with a folder that the agent writes.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let home = home();
    // Without the list nothing is trusted.
    let projects = PROJECTS.read().ok()?;
    env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(
        |candidate| is_program(candidate) && is_trusted(candidate, &projects, home.as_deref()),
    )
}

/// `PATH` without the folders in which [`find`] finds nothing: a program that is trusted
/// starts others by it, as Podman does `newuidmap`, and `npm` its `node`.
pub(crate) fn path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let Ok(projects) = PROJECTS.read() else { return OsString::new() };
    trusted_folders(&path, &projects, home().as_deref())
}

fn trusted_folders(path: &OsStr, projects: &[PathBuf], home: Option<&Path>) -> OsString {
    let trusted = env::split_paths(path).filter(|dir| {
        dir.is_absolute() && dir.canonicalize().is_ok_and(|dir| is_outside(&dir, projects, home))
    });
    env::join_paths(trusted).unwrap_or_default()
}

fn home() -> Option<PathBuf> {
    env::var_os("HOME").map(PathBuf::from).and_then(|home| home.canonicalize().ok())
}

fn is_trusted(candidate: &Path, projects: &[PathBuf], home: Option<&Path>) -> bool {
    let folder = candidate.parent().and_then(|folder| folder.canonicalize().ok());
    let (Some(folder), Ok(program)) = (folder, candidate.canonicalize()) else { return false };
    [folder, program].iter().all(|path| is_outside(path, projects, home))
}

/// Outside all projects and working copies.
fn is_outside(path: &Path, projects: &[PathBuf], home: Option<&Path>) -> bool {
    let in_project = projects.iter().any(|project| path.starts_with(project));
    // The home folder itself may be a working copy, of somebody's settings.
    let in_working_copy = path
        .ancestors()
        .take_while(|above| Some(*above) != home)
        .any(|above| above.join(".git").exists());
    !in_project && !in_working_copy
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The static program that runs inside: `RCC_INSIDE`, beside this executable,
/// or where a package puts it.
///
/// # Errors
/// [`Code::InsideMissing`] names where it was looked for.
pub(crate) fn inside() -> Result<PathBuf> {
    let beside = env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let candidates: Vec<PathBuf> = env::var_os("RCC_INSIDE")
        .map(PathBuf::from)
        .into_iter()
        .chain(beside.iter().flat_map(|dir| [dir.join("inside"), dir.join("rcc-inside")]))
        .chain([PathBuf::from("/usr/lib/rcc/inside")])
        .collect();
    for candidate in &candidates {
        if is_program(candidate)
            && let Ok(path) = candidate.canonicalize()
        {
            return Ok(path);
        }
    }
    let looked: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    Err(Error::new(Code::InsideMissing, "The program that runs inside each sandbox was not found.")
        .with_detail(format!("Looked for it at: {}", looked.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path) -> PathBuf {
        std::fs::create_dir_all(folder).unwrap();
        let path = folder.join("git");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn f5_a_program_of_a_project_is_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let good = program(&root.join("bin"));
        let venv = program(&root.join("web/.venv/bin"));
        let projects = [root.join("web")];
        assert!(is_trusted(&good, &projects, None));
        assert!(!is_trusted(&venv, &projects, None));
        // By a link out of a trusted folder into the project, and the other way round.
        std::fs::create_dir_all(root.join("links")).unwrap();
        std::os::unix::fs::symlink(&venv, root.join("links/git")).unwrap();
        assert!(!is_trusted(&root.join("links/git"), &projects, None));
        std::os::unix::fs::symlink(&good, root.join("web/git")).unwrap();
        assert!(!is_trusted(&root.join("web/git"), &projects, None));
        // A project that rcc does not know yet, but that is a working copy.
        std::fs::create_dir_all(root.join("other/.git")).unwrap();
        let other = program(&root.join("other/node_modules/.bin"));
        assert!(!is_trusted(&other, &projects, None));
        // The home folder as a working copy is fine.
        std::fs::create_dir_all(root.join(".git")).unwrap();
        assert!(is_trusted(&good, &projects, Some(&root)));
        assert!(!is_trusted(&good, &projects, None));
    }

    #[test]
    fn f5_a_folder_that_was_opened_is_distrusted_without_settings_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        let opened = dir.path().join("opened");
        distrust_remembered(&host);
        assert!(!is_in_project(&opened.join("bin")));
        remember(&opened, "0123", &host).unwrap();
        distrust_remembered(&host);
        assert!(is_in_project(&opened.join("bin")) && !is_in_project(&dir.path().join("other")));
        // A write that was broken off, and settings without a path.
        fs::write(host.state.join(FOLDERS).join(".0123.7.new"), "").unwrap();
        distrust_remembered(&host);
        distrust(Path::new(""));
        assert!(!is_in_project(Path::new("/usr/bin")));
        let removed = |variable: &str| {
            let command = command(Path::new("/bin/true"));
            command.as_std().get_envs().any(|(name, value)| name == variable && value.is_none())
        };
        assert!(removed("PERL5LIB") && removed("LD_LIBRARY_PATH") && !removed("HOME"));
    }

    #[test]
    fn f5_what_a_trusted_program_starts_is_none_of_a_projects_either() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for place in ["bin", "web/.venv/bin", "other/.git", "other/node_modules/.bin"] {
            std::fs::create_dir_all(root.join(place)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("web/.venv/bin"), root.join("link")).unwrap();
        let all = ["web/.venv/bin", "bin", "link", "other/node_modules/.bin", "none"];
        let mut all = env::join_paths(all.iter().map(|one| root.join(one))).unwrap();
        all.push(":relative:");
        let trusted = trusted_folders(&all, &[root.join("web")], None);
        assert_eq!(trusted, root.join("bin"));
    }
}
