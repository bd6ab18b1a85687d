//! Which folders were opened in this window, newest first:
//! `$XDG_STATE_HOME/rcc/projects.json`. Only a convenience: when it is damaged the
//! list begins anew, and when the disk fails the window goes on without it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rcc_sandbox::host::write_atomically;
use serde::{Deserialize, Serialize};

/// More than anybody scrolls through.
const MAX: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// The project's id when it was added; it stays when the folder goes.
    pub id: String,
    pub path: PathBuf,
    /// Seconds since 1970; none when it was only added.
    pub opened: Option<u64>,
    /// Taken out of the list by the person, although settings for it exist.
    #[serde(default)]
    pub hidden: bool,
    /// Claude had a turn there: the agent's home keeps a conversation.
    #[serde(default)]
    pub conversation: bool,
    /// Its login is not to be one for all projects: the person said so.
    #[serde(default)]
    pub login_stays: bool,
}

impl Folder {
    pub fn new(id: &str, path: &Path) -> Self {
        Self {
            id: id.into(),
            path: path.into(),
            opened: None,
            hidden: false,
            conversation: false,
            login_stays: false,
        }
    }
}

#[derive(Debug)]
pub struct Remembered {
    file: PathBuf,
    folders: Vec<Folder>,
    /// What the file holds is not known, so nothing is put in its place.
    unread: bool,
}

impl Remembered {
    pub fn load(state: &Path) -> Self {
        let file = state.join("projects.json");
        let (folders, unread) = match fs::read(&file) {
            Ok(bytes) => (serde_json::from_slice(&bytes).unwrap_or_default(), false),
            Err(error) if error.kind() == ErrorKind::NotFound => (Vec::new(), false),
            Err(error) => {
                eprintln!(
                    "rcc-desktop: {} cannot be read, and is left as it is: {error}",
                    file.display()
                );
                (Vec::new(), true)
            }
        };
        Self { file, folders, unread }
    }

    pub fn folders(&self) -> &[Folder] {
        &self.folders
    }

    pub fn path(&self, id: &str) -> Option<&Path> {
        self.folders.iter().find(|folder| folder.id == id).map(|folder| folder.path.as_path())
    }

    /// Puts a folder into the list; one that is there keeps its time.
    pub fn add(&mut self, id: &str, path: &Path) {
        match self.folders.iter_mut().find(|folder| folder.id == id) {
            Some(folder) if !folder.hidden => return,
            Some(folder) => folder.hidden = false,
            None => self.folders.push(Folder::new(id, path)),
        }
        self.save();
    }

    /// Puts a folder into the list that is none of it yet; one that was taken out stays out.
    pub fn keep(&mut self, id: &str, path: &Path) {
        if self.path(id).is_none() {
            self.add(id, path);
        }
    }

    /// Notes that a folder of the list was opened.
    pub fn opened(&mut self, id: &str, now: u64) {
        let Some(at) = self.folders.iter().position(|folder| folder.id == id) else { return };
        let mut folder = self.folders.remove(at);
        folder.opened = Some(now);
        folder.hidden = false;
        self.folders.insert(0, folder);
        self.folders.truncate(MAX);
        self.save();
    }

    /// Notes that the window was hidden; true for the first time of all.
    pub fn hidden_once(&self) -> bool {
        let note = self.file.with_file_name("hidden-once");
        let first = !note.exists();
        // It is said once more when this fails.
        let _ = fs::write(note, "");
        first
    }

    /// Notes that a conversation is kept there.
    pub fn conversation(&mut self, id: &str) {
        if let Some(folder) = self.folders.iter_mut().find(|folder| folder.id == id)
            && !folder.conversation
        {
            folder.conversation = true;
            self.save();
        }
    }

    /// The person wants to hear no more of the login there.
    pub fn login_stays(&mut self, id: &str) {
        if let Some(folder) = self.folders.iter_mut().find(|folder| folder.id == id) {
            folder.login_stays = true;
            self.save();
        }
    }

    pub fn hide(&mut self, id: &str) {
        if let Some(folder) = self.folders.iter_mut().find(|folder| folder.id == id) {
            folder.hidden = true;
            self.save();
        }
    }

    /// A full disk must not keep anybody from working.
    fn save(&self) {
        if self.unread {
            return;
        }
        // A path that is no text cannot be written as JSON; it is left out.
        let writable: Vec<&Folder> =
            self.folders.iter().filter(|folder| folder.path.to_str().is_some()).collect();
        let Ok(json) = serde_json::to_vec_pretty(&writable) else { return };
        if let Err(error) = write_atomically(&self.file, &json) {
            eprintln!("rcc-desktop: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_comes_back_with_the_last_opened_first() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("rcc");
        let mut list = Remembered::load(&state);
        list.add("a", Path::new("/p/a"));
        list.add("b", Path::new("/p/b"));
        list.add("a", Path::new("/p/a"));
        list.opened("b", 7);
        list.conversation("b");
        let again = Remembered::load(&state);
        assert_eq!(again.folders(), list.folders());
        let ids: Vec<&str> = again.folders().iter().map(|folder| folder.id.as_str()).collect();
        assert_eq!(ids, ["b", "a"]);
        assert!(again.folders()[0].conversation && !again.folders()[1].conversation);
        assert_eq!(again.path("a"), Some(Path::new("/p/a")));
    }

    #[test]
    fn what_was_taken_out_comes_back_when_it_is_added_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut list = Remembered::load(dir.path());
        list.add("a", Path::new("/p/a"));
        list.hide("a");
        assert!(Remembered::load(dir.path()).folders()[0].hidden);
        list.add("a", Path::new("/p/a"));
        assert!(!Remembered::load(dir.path()).folders()[0].hidden);
    }

    #[test]
    fn a_damaged_file_is_an_empty_list() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("projects.json"), "[{").unwrap();
        assert!(Remembered::load(dir.path()).folders().is_empty());
    }

    #[test]
    fn h6_a_file_that_cannot_be_read_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("projects.json");
        // A link to itself can be read by nobody, and a new file would take its place.
        std::os::unix::fs::symlink(&file, &file).unwrap();
        let mut list = Remembered::load(dir.path());
        list.add("a", Path::new("/p/a"));
        assert_eq!(list.folders().len(), 1, "the window goes on");
        assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
    }

    #[test]
    fn h6_a_disk_that_fails_leaves_the_old_list() {
        for calls in ["fsync", "/^rename"] {
            rcc_test_aids::while_calls_fail(calls, "remembered::tests::on_a_disk_that_fails");
        }
    }

    #[test]
    #[ignore = "the one above starts it with a disk that fails"]
    fn on_a_disk_that_fails() {
        let dir = tempfile::tempdir().unwrap();
        let old = r#"[{"id": "a", "path": "/p/a", "opened": 1}]"#;
        fs::write(dir.path().join("projects.json"), old).unwrap();
        let mut list = Remembered::load(dir.path());
        list.add("b", Path::new("/p/b"));
        list.opened("b", 7);
        assert_eq!(list.folders().len(), 2, "the window goes on");
        assert_eq!(fs::read_to_string(dir.path().join("projects.json")).unwrap(), old);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half is left");
    }
}
