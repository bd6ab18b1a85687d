//! The user's own levels of allowed hosts: files for all projects and for one.
//! What holds is decided by the helper; here they are only read and edited.

mod watch;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rcc_policy::{Entry, UserRules};

use crate::error::{Code, Error, Result};
use crate::host::{Host, write_atomically};
use crate::lock::Lock;
use crate::project::Project;

pub use watch::{Watch, Whose};

/// Which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level<'a> {
    /// All projects of this user.
    All,
    /// One project.
    Project(&'a Project),
}

impl Level<'_> {
    /// Where the file is; it need not exist.
    pub fn path(&self, host: &Host) -> PathBuf {
        match self {
            Self::All => host.config.join("hosts.yaml"),
            Self::Project(project) => of_id(project.id(), host),
        }
    }
}

/// The entries of one level; none when the file does not exist.
///
/// # Errors
/// [`Code::Settings`] with line and column.
pub fn read(level: &Level<'_>, host: &Host) -> Result<Vec<Entry>> {
    entries(&level.path(host))
}

fn of_id(project: &str, host: &Host) -> PathBuf {
    host.config.join("projects").join(format!("{project}.yaml"))
}

fn entries(path: &Path) -> Result<Vec<Entry>> {
    let text = document(path)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    UserRules::parse(text.as_bytes())
        .map(|rules| rules.entries)
        .map_err(|e| Error::new(Code::Settings, format!("{}, {e}.", path.display())))
}

/// What a session of `project` asks for: all projects' entries, then its own.
///
/// # Errors
/// As [`read`].
pub fn of_project(project: &Project, host: &Host) -> Result<Vec<Entry>> {
    of_session(project.id(), host)
}

/// The same by the project's id: its folder may be gone while its sandbox runs.
pub(crate) fn of_session(project: &str, host: &Host) -> Result<Vec<Entry>> {
    let mut all = read(&Level::All, host)?;
    for entry in entries(&of_id(project, host))? {
        if !all.contains(&entry) {
            all.push(entry);
        }
    }
    Ok(all)
}

/// Writes `entry` into the file, keeping comments and order.
///
/// # Errors
/// [`Code::Settings`] when the file cannot be understood, [`Code::Io`].
pub fn add(level: &Level<'_>, host: &Host, entry: &Entry) -> Result<()> {
    edit(level, host, |text| rcc_policy::add_entry(text, entry))
}

/// Takes every entry for the target of `entry` and its protocol out of the
/// file; answers whether something was there.
///
/// # Errors
/// As [`add`].
pub fn remove(level: &Level<'_>, host: &Host, entry: &Entry) -> Result<bool> {
    let before = read(level, host)?.len();
    if before == 0 {
        return Ok(false);
    }
    edit(level, host, |text| {
        rcc_policy::remove_entry(text, entry.target(), Some(entry.protocol()))
    })?;
    Ok(read(level, host)?.len() != before)
}

fn edit(
    level: &Level<'_>,
    host: &Host,
    change: impl FnOnce(&str) -> std::result::Result<String, rcc_policy::EditError>,
) -> Result<()> {
    let path = level.path(host);
    let _lock = Lock::wait(&lock(host))?;
    let text = document(&path)?;
    let changed = change(&text)
        .map_err(|e| Error::new(Code::Settings, format!("{}: {e}.", path.display())))?;
    if changed == text { Ok(()) } else { write_atomically(&path, changed.as_bytes()) }
}

/// Held while a list is read and written again.
pub(crate) fn lock(host: &Host) -> PathBuf {
    host.runtime.join("hosts.lock")
}

pub(crate) fn document(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(e) => {
            Err(Error::new(Code::Settings, format!("{} cannot be read: {e}.", path.display())))
        }
    }
}

/// Reads `HOST[:PORT]` as a person types it.
///
/// # Errors
/// [`Code::Rule`] with the reason.
pub fn parse_host(text: &str, private: bool) -> Result<Entry> {
    rcc_policy::parse_spec(text, private).map_err(|e| {
        let shown = crate::display::line(text, 100);
        Error::new(Code::Rule, crate::display::line(&format!("{e}."), 300))
            .title_is(format!("`{shown}` cannot be allowed."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting() -> (tempfile::TempDir, Host, Project) {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        fs::create_dir_all(&host.runtime).unwrap();
        let folder = dir.path().join("code");
        fs::create_dir(&folder).unwrap();
        let project = Project::open(&folder, &host).unwrap();
        (dir, host, project)
    }

    #[test]
    fn a_project_gets_both_levels_and_its_files_are_not_in_it() {
        let (_dir, host, project) = setting();
        let everywhere = parse_host("a.example.org", false).unwrap();
        let here = parse_host("b.example.org:8443", false).unwrap();
        add(&Level::All, &host, &everywhere).unwrap();
        add(&Level::Project(&project), &host, &here).unwrap();
        add(&Level::Project(&project), &host, &everywhere).unwrap();
        assert_eq!(of_project(&project, &host).unwrap(), [everywhere.clone(), here.clone()]);
        assert_eq!(fs::read_dir(project.path()).unwrap().count(), 0);
        assert!(remove(&Level::Project(&project), &host, &here).unwrap());
        assert!(!remove(&Level::Project(&project), &host, &here).unwrap());
        assert_eq!(of_project(&project, &host).unwrap(), [everywhere]);
    }

    #[test]
    fn what_holds_in_a_sandbox_is_known_while_its_folder_is_gone() {
        let (_dir, host, project) = setting();
        let here = parse_host("b.example.org:8443", false).unwrap();
        add(&Level::Project(&project), &host, &here).unwrap();
        fs::remove_dir(project.path()).unwrap();
        assert_eq!(of_session(project.id(), &host).unwrap(), [here]);
    }

    #[test]
    fn comments_survive_an_edit() {
        let (_dir, host, project) = setting();
        let level = Level::Project(&project);
        let path = level.path(&host);
        write_atomically(&path, b"version: 1\n# the build needs it\nwhitelist:\n  - host: a.example.org # why\n    ports: [443]\n").unwrap();
        add(&level, &host, &parse_host("b.example.org", false).unwrap()).unwrap();
        let text = fs::read_to_string(path).unwrap();
        assert!(
            text.contains("# the build needs it")
                && text.contains("# why")
                && text.contains("b.example.org"),
            "{text}"
        );
    }

    #[test]
    fn a_broken_file_is_an_error_that_names_the_place_and_stays() {
        let (_dir, host, project) = setting();
        let level = Level::All;
        write_atomically(&level.path(&host), b"version: 1\nwhitelst: []\n").unwrap();
        let error = of_project(&project, &host).unwrap_err();
        assert_eq!(error.code(), Code::Settings);
        assert!(error.body().contains("line 2"), "{}", error.body());
        add(&level, &host, &parse_host("b.example.org", false).unwrap()).unwrap_err();
        assert_eq!(fs::read_to_string(level.path(&host)).unwrap(), "version: 1\nwhitelst: []\n");
    }

    #[test]
    fn h6_a_disk_that_fails_leaves_the_old_lists_and_settings() {
        for calls in ["fsync", "/^rename"] {
            rcc_test_aids::while_calls_fail(calls, "levels::tests::on_a_disk_that_fails");
        }
    }

    #[test]
    #[ignore = "the one above starts it with a disk that fails"]
    fn on_a_disk_that_fails() {
        use crate::preferences::Preferences;
        use crate::settings::Settings;
        let (_dir, host, project) = setting();
        let entry = parse_host("a.example.org", false).unwrap();
        type Write<'a> = &'a dyn Fn() -> Result<()>;
        let writes: [(PathBuf, &str, Write<'_>); 4] = [
            (Level::All.path(&host), "version: 1 # mine\nwhitelist: []\n", &|| {
                add(&Level::All, &host, &entry)
            }),
            (Level::Project(&project).path(&host), "version: 1 # mine\nwhitelist: []\n", &|| {
                add(&Level::Project(&project), &host, &entry)
            }),
            (Settings::file(&project, &host), "# mine\n", &|| {
                Settings::default().save(&project, &host)
            }),
            (Preferences::file(&host), "# mine\n", &|| Preferences::default().save(&host)),
        ];
        for (path, text, write) in writes {
            let folder = path.parent().unwrap();
            fs::create_dir_all(folder).unwrap();
            fs::write(&path, text).unwrap();
            let names = || {
                fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>()
            };
            let before = names();
            let error = write().unwrap_err();
            assert_eq!(error.code(), Code::Io, "{}", path.display());
            assert!(
                error.to_string().contains("os error 5") || error.body().contains("os error 5"),
                "{error:?}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(names(), before, "nothing half is left");
        }
    }

    #[test]
    fn what_cannot_be_a_host_is_said_with_its_name() {
        for bad in
            ["", "a b", "*.com", "127.0.0.1", "a.example:0", "a.example:x", "evil\x1b[2J.example"]
        {
            let error = parse_host(bad, false).unwrap_err();
            assert_eq!(error.code(), Code::Rule, "{bad}");
            assert!(!error.to_string().chars().any(char::is_control), "{bad}");
        }
    }
}
