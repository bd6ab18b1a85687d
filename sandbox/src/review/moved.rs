//! A project's record is found by the path of its folder. A folder that was moved, or
//! renamed, is still the one that an agent wrote in: its record goes with it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::record::{self, Place};
use crate::error::{Error, Result};
use crate::host::{Host, write_atomically};
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
        if known.is_some_and(|known| known.mark == mark) {
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
                break;
            }
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

    /// Two folders may have changed their names with each other: no record is lost. One that
    /// stays aside, as after a power cut, is found there. A network's file system may know no
    /// exchange in one step.
    fn exchange(&self, with: &Self) -> Result<()> {
        let rename =
            |from: &Path, to: &Path| fs::rename(from, to).map_err(|e| Error::io("move", from, e));
        if !with.path().exists() {
            return rename(self.path(), with.path());
        }
        let mut aside = with.path().with_extension("aside");
        while aside.exists() {
            aside.as_mut_os_string().push("-");
        }
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
