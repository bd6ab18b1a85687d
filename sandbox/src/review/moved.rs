//! A project's record is found by the path of its folder. A folder that was moved, or
//! renamed, is still the one that an agent wrote in: its record goes with it. Another
//! folder under its name has a record of its own; the old one is kept for the old folder.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::look::{Entry, Files};
use super::record::{self, Place, Record};
use super::same;
use crate::error::{Error, Result};
use crate::host::{Host, make_dirs, write_atomically};
use crate::project::Project;

/// Which folder a record is of.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Folder {
    mark: String,
    /// Where it was then.
    #[serde(with = "record::one")]
    path: PathBuf,
}

impl Place {
    /// The record of this very folder, wherever the folder was when it was made. To be
    /// called while [`Place::lock`] is held.
    pub(super) fn find(project: &Project, host: &Host) -> Result<Self> {
        let place = Self::of(project, host);
        let known = place.folder();
        let is_of_older_version = known.is_none() && place.has_record();
        let Some(mark) = mark(project.path()).filter(|_| !is_of_older_version) else {
            return Ok(place);
        };
        if known.as_ref().is_some_and(|known| is_same(&known.mark, &mark)) {
            return Ok(place);
        }
        let others = fs::read_dir(Self::all(host)).into_iter().flatten().flatten();
        for other in others.map(|entry| Self::at(entry.path())) {
            let is_its = |folder: &Folder| {
                // A folder with two names, as of a bind mount, was not moved.
                folder.mark == mark && self::mark(&folder.path).as_ref() != Some(&mark)
            };
            if other.path() != place.path() && other.folder().as_ref().is_some_and(is_its) {
                other.exchange(&place)?;
                return Ok(place);
            }
        }
        if known.is_some() {
            place.is_not_of(project)?;
        }
        Ok(place)
    }

    /// Writes down which folder the record is of.
    pub(super) fn is_of(&self, project: &Project) -> Result<()> {
        let Some(mark) = mark(project.path()) else { return Ok(()) };
        let folder = Folder { mark, path: project.path().into() };
        let file = self.folder_file();
        let bytes = serde_json::to_vec(&folder).map_err(|e| Error::io("write", &file, e))?;
        write_atomically(&file, &bytes)
    }

    /// Another folder has its name now.
    pub(super) fn is_of_another(&self, project: &Project) -> bool {
        self.folder().is_some_and(|folder| mark(project.path()).as_ref() != Some(&folder.mark))
    }

    /// The folder took the place of another one, which may still be somewhere: that one
    /// finds a copy. What stays here is a copy, too, as a backup that was put back over the
    /// folder looks the same.
    fn is_not_of(&self, project: &Project) -> Result<()> {
        let Some(record) = self.load()? else { return Ok(()) };
        // Otherwise nothing ran in the folder that was there, or its copy is made.
        if !record.of_another {
            self.copy_aside()?;
        }
        // Nor does a session that ends now end in this folder.
        self.save(&Record { of_another: true, before: record.before, ..Record::default() })?;
        self.is_of(project)
    }

    fn copy_aside(&self) -> Result<()> {
        let aside = self.free_aside();
        make_dirs(&aside)?;
        let copy = |name: &OsStr| {
            let from = self.path().join(name);
            fs::copy(&from, aside.join(name)).map(drop).map_err(|e| Error::io("copy", &from, e))
        };
        let file = self.folder_file();
        let name = file.file_name().unwrap_or_default();
        for entry in fs::read_dir(self.path()).map_err(|e| Error::io("read", self.path(), e))? {
            let entry = entry.map_err(|e| Error::io("read", self.path(), e))?;
            if entry.file_name() != name {
                copy(&entry.file_name())?;
            }
        }
        // Last: a copy that is not whole is nobody's.
        copy(name)
    }

    fn free_aside(&self) -> PathBuf {
        let mut aside = self.path().with_extension("aside");
        while aside.exists() {
            aside.as_mut_os_string().push("-");
        }
        aside
    }

    /// Two folders may have changed their names with each other: no record is lost. One that
    /// stays aside, as after a power cut, is found there. A network's file system may know no
    /// exchange in one step.
    fn exchange(&self, with: &Self) -> Result<()> {
        let rename =
            |from: &Path, to: &Path| fs::rename(from, to).map_err(|e| Error::io("move", from, e));
        if !with.path().exists() {
            return rename(self.path(), with.path());
        }
        let aside = with.free_aside();
        rename(with.path(), &aside)?;
        rename(self.path(), with.path())?;
        rename(&aside, self.path())
    }

    fn folder_file(&self) -> PathBuf {
        self.path().join("folder.json")
    }

    fn folder(&self) -> Option<Folder> {
        serde_json::from_slice(&fs::read(self.folder_file()).ok()?).ok()
    }
}

/// The record for what is there now. Of another folder's nothing is shown or put back, but
/// what is not as it was there has to be looked at: it may be the same folder out of a
/// backup, with what an agent changed in it.
pub(super) fn of_this_folder(record: Record, now: &Files) -> Record {
    if !record.of_another {
        return record;
    }
    let entry = |(path, entry): (&PathBuf, &Entry)| {
        let is_known = same(record.before.get(path), Some(entry));
        (path.clone(), if is_known { entry.clone() } else { Entry::Unknown })
    };
    let before = now.iter().map(entry).collect();
    Record { before, of_another: false, ..record }
}

/// Where a folder's birth is not known, a device has another number after a restart.
fn is_same(known: &str, mark: &str) -> bool {
    let inode = |mark: &str| mark.split_once(" on ").map(|(inode, _)| inode.to_string());
    known == mark || inode(known).is_some_and(|known| inode(mark) == Some(known))
}

/// The same for one folder under each of its names. An inode alone is another folder's
/// soon after; a device has another number after a restart.
fn mark(folder: &Path) -> Option<String> {
    let meta = fs::metadata(folder).ok()?;
    let born = meta.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    Some(match born {
        Some(born) => format!("{} born {}", meta.ino(), born.as_nanos()),
        None => format!("{} on {}", meta.ino(), meta.dev()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_birth_is_the_same_after_a_restart() {
        assert!(is_same("7 on 40", "7 on 41") && is_same("7 born 1", "7 born 1"));
        assert!(!is_same("7 on 40", "8 on 40") && !is_same("7 born 1", "7 born 2"));
        assert!(!is_same("7 on 40", "7 born 1"));
    }
}
