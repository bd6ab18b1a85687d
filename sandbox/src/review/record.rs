//! What was there before: below the user's state folder, where no sandbox reaches.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::look::{Entry, Files, hash};
use crate::error::{Code, Error, Result};
use crate::host::{Host, make_dirs, write_atomically};
use crate::project::Project;

/// What a person has seen, or what was there when nobody had changed anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// The project's folder, for whoever looks into the file.
    pub path: String,
    /// Which session it was made for, by the mark of its opening.
    #[serde(default)]
    pub opening: String,
    #[serde(with = "list")]
    pub before: Files,
    /// What was there when the last session ended, if rcc ended it: what differs
    /// from it now, the person did.
    #[serde(default, with = "maybe", skip_serializing_if = "Option::is_none")]
    pub ended: Option<Files>,
    /// What was put back last, as it was until then.
    #[serde(default, deserialize_with = "undo", skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<Replaced>,
    /// It was made of another folder, which had the same name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_another: bool,
    /// What settings of Git named, there or not, and all of it is in `before`.
    #[serde(default, with = "set", skip_serializing_if = "BTreeSet::is_empty")]
    pub named: BTreeSet<PathBuf>,
}

/// A record of an older rcc says it in another form: it holds, and nothing can be undone.
fn undo<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Vec<Replaced>, D::Error> {
    let list = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(list).unwrap_or_default())
}

/// What was put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replaced {
    #[serde(with = "one")]
    pub path: PathBuf,
    /// What was there until then.
    pub was: Option<Entry>,
    /// What was put in its place.
    pub left: Option<Entry>,
}

/// The folder of one project's record.
pub(super) struct Place {
    folder: PathBuf,
}

impl Place {
    pub(super) fn of(project: &Project, host: &Host) -> Self {
        Self::at(Self::all(host).join(project.id()))
    }

    /// Folder of all records.
    pub(super) fn all(host: &Host) -> PathBuf {
        host.state.join("review")
    }

    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// For [`crate::lock::Lock`].
    pub(super) fn lock(project: &Project, host: &Host) -> PathBuf {
        host.runtime.join(format!("{}.review.lock", project.id()))
    }

    pub(super) fn has_record(&self) -> bool {
        self.file().exists()
    }

    fn file(&self) -> PathBuf {
        self.folder.join("record.json")
    }

    fn content(&self, sha256: &str) -> PathBuf {
        self.folder.join(sha256)
    }

    pub(super) fn load(&self) -> Result<Option<Record>> {
        let path = self.file();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Error::new(Code::Review, format!("The record {} cannot be read: {e}.", path.display()))
        })
    }

    /// Contents first: a record never names one that was not written. What no
    /// record names any more is removed.
    pub(super) fn save(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(|e| Error::io("write", &self.file(), e))?;
        write_atomically(&self.file(), &bytes)?;
        let named: BTreeSet<&str> = record
            .before
            .values()
            .chain(record.undo.iter().filter_map(|one| one.was.as_ref()))
            .filter_map(|entry| match entry {
                Entry::File { sha256, .. } => Some(sha256.as_str()),
                _ => None,
            })
            .collect();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            if name.len() == 64 && !named.contains(name) {
                // One that stays costs only space.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    pub(super) fn keep(&self, sha256: &str, bytes: &[u8]) -> Result<()> {
        let path = self.content(sha256);
        if path.exists() {
            return Ok(());
        }
        make_dirs(&self.folder)?;
        write_atomically(&path, bytes)
    }

    /// The content, or none when it was too large to be kept.
    pub(super) fn kept(&self, sha256: &str) -> Option<Vec<u8>> {
        fs::read(self.content(sha256)).ok().filter(|bytes| hash(bytes) == sha256)
    }
}

/// A path has any bytes but NUL: one that is no text stands as hexadecimal digits
/// after a NUL.
fn to_text(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_string(),
        None => {
            let digits = path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}"));
            std::iter::once("\0".to_string()).chain(digits).collect()
        }
    }
}

fn from_text(text: &str) -> Option<PathBuf> {
    let Some(digits) = text.strip_prefix('\0') else { return Some(PathBuf::from(text)) };
    let bytes = digits.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes = bytes.collect::<Option<Vec<u8>>>()?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

fn path_of<E: serde::de::Error>(text: &str) -> std::result::Result<PathBuf, E> {
    from_text(text).ok_or_else(|| E::custom("a path that cannot be read"))
}

mod list {
    use super::*;

    pub(super) fn serialize<S: Serializer>(files: &Files, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(files.iter().map(|(path, entry)| (to_text(path), entry)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Files, D::Error> {
        let pairs = Vec::<(String, Entry)>::deserialize(from)?;
        pairs.into_iter().map(|(text, entry)| Ok((path_of(&text)?, entry))).collect()
    }

    type Result<T, E> = std::result::Result<T, E>;
}

mod maybe {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        files: &Option<Files>,
        to: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        list::serialize(files.as_ref().unwrap_or(&Files::new()), to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> std::result::Result<Option<Files>, D::Error> {
        list::deserialize(from).map(Some)
    }
}

mod set {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        paths: &BTreeSet<PathBuf>,
        to: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        to.collect_seq(paths.iter().map(|path| to_text(path)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> std::result::Result<BTreeSet<PathBuf>, D::Error> {
        Vec::<String>::deserialize(from)?.iter().map(|text| path_of(text)).collect()
    }
}

pub(super) mod one {
    use super::*;

    pub(in crate::review) fn serialize<S: Serializer>(
        path: &Path,
        to: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        to_text(path).serialize(to)
    }

    pub(in crate::review) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> std::result::Result<PathBuf, D::Error> {
        path_of(&String::deserialize(from)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_with_another_form_of_what_can_be_undone_is_read() {
        let text = r#"{"path": "/p", "before": [], "undo": [[".envrc", null]]}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert!(record.undo.is_empty() && record.path == "/p");
        serde_json::from_str::<Record>(&text.replace("undo", "other")).unwrap_err();
    }

    proptest! {
        #[test]
        fn every_path_comes_back(bytes in prop::collection::vec(1u8.., 1..40)) {
            let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
            prop_assert_eq!(from_text(&to_text(&path)), Some(path));
        }
    }
}
