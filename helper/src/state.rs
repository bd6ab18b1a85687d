//! Files that must be whole or absent.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::layout::STATE_FOLDER;

/// Makes the folder for the helper's state, for root alone.
pub fn make_folder() -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(STATE_FOLDER) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Replaces a file so that whoever reads it, also after a power cut, finds the
/// old bytes or the new ones (H6); after an error, the old ones. The mode of an existing
/// file is kept.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let fresh = folder.join(format!(".{name}.new"));
    let result = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&fresh)?;
        if let Ok(metadata) = fs::metadata(path) {
            file.set_permissions(metadata.permissions())?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        let before = replace(&fresh, path)?;
        fs::File::open(folder)?.sync_all().inspect_err(|_| {
            // It stands there and may not last: whoever is told that it failed finds what
            // was there before.
            let _ = match before {
                Before::Nothing => fs::remove_file(path),
                Before::Kept => fs::rename(&fresh, path),
                Before::Gone => Ok(()),
            };
        })
    })();
    // On success it has the old bytes, or is gone.
    let _ = fs::remove_file(&fresh);
    result
}

/// What was at a place that a file was put into.
enum Before {
    Nothing,
    /// It is where the file was.
    Kept,
    /// The file system cannot exchange two files (some of networks, old ZFS).
    Gone,
}

/// Puts `fresh` in the place of `path`.
fn replace(fresh: &Path, path: &Path) -> io::Result<Before> {
    match renameat2(AT_FDCWD, fresh, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => Ok(Before::Kept),
        Err(Errno::ENOENT) => fs::rename(fresh, path).map(|()| Before::Nothing),
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            fs::rename(fresh, path).map(|()| Before::Gone)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h6_a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomically(&path, b"old").unwrap();
        // A folder in the place of the new file makes the write fail.
        fs::create_dir(folder.path().join(".file.new")).unwrap();
        assert!(write_atomically(&path, b"new").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        fs::remove_dir(folder.path().join(".file.new")).unwrap();
        // Of a writer that was killed.
        fs::write(folder.path().join(".file.new"), b"newer than new").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
