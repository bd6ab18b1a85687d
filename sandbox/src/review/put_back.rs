//! Puts back what was there: beside it and then in its place, by descriptors of
//! folders, so that no link of the agent's leads out of the project.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2, renameat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use super::below;
use super::look::{Entry, parent};
use crate::guard;

/// Makes `path` what it was: `entry` with these bytes, or nothing at all.
pub(super) fn put_back(
    root: &OwnedFd,
    path: &Path,
    entry: Option<&Entry>,
    bytes: &[u8],
) -> rustix::io::Result<()> {
    match entry {
        None => remove(root, path),
        Some(Entry::File { mode, .. }) => replace(root, path, |folder, name| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let file = openat(folder, name, flags | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?;
            let mut file = File::from(file);
            file.write_all(bytes).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
            fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
            file.sync_all().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
        }),
        Some(Entry::Link { to }) => {
            replace(root, path, |folder, name| symlinkat(to.as_slice(), folder, name))
        }
        Some(Entry::Large { .. } | Entry::Other | Entry::Crowd | Entry::Unknown) => {
            Err(Errno::NOTSUP)
        }
    }
}

fn remove(root: &OwnedFd, path: &Path) -> rustix::io::Result<()> {
    let (folder, name) = parent(root, path).ok_or(Errno::NOENT)?;
    match unlinkat(&folder, name, AtFlags::empty()) {
        Err(Errno::NOENT) => {}
        done => done?,
    }
    // Folders that are empty now, up to the guarded path itself.
    let mut tops = guard::wanted(root).paths;
    tops.extend(below::top(path));
    for above in path.ancestors().skip(1) {
        if !tops.iter().any(|top| above.starts_with(top)) {
            break;
        }
        let Some((folder, name)) = parent(root, above) else { break };
        if unlinkat(&folder, name, AtFlags::REMOVEDIR).is_err() {
            break;
        }
    }
    Ok(())
}

/// `make` makes the new one under a name that is free; it takes the place at once.
fn replace(
    root: &OwnedFd,
    path: &Path,
    make: impl FnOnce(&OwnedFd, &str) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    let above = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let folder = folder(root, above)?;
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let beside = format!(".rcc-{:016x}", u64::from_ne_bytes(random));
    let placed = make(&folder, &beside).and_then(|()| {
        // An empty folder in its place goes; one with something in it is an error.
        let _ = unlinkat(&folder, name, AtFlags::REMOVEDIR);
        renameat(&folder, &*beside, &folder, name)
    });
    if placed.is_err() {
        let _ = unlinkat(&folder, &*beside, AtFlags::empty());
    }
    placed
}

/// The folder, made where it is missing. Anything else in the place of one is an error.
fn folder(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let open = |at: &OwnedFd, name: &Path| openat2(at.as_fd(), name, flags, Mode::empty(), resolve);
    let mut at = open(root, Path::new("."))?;
    for part in path.components() {
        let part: PathBuf = part.as_os_str().into();
        at = match open(&at, &part) {
            Err(Errno::NOENT) => {
                mkdirat(&at, &part, Mode::from_raw_mode(0o755))?;
                open(&at, &part)?
            }
            opened => opened?,
        };
    }
    Ok(at)
}
