//! A lock between the faces of one user: a file that is locked while it is open.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::{Error, Result};

/// Held until it is dropped, or the process ends in whatever way.
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Waits without giving way: for locks that are held for a moment only.
    ///
    /// # Errors
    /// `Code::Io` when the file cannot be made.
    pub(crate) fn wait(path: &Path) -> Result<Self> {
        let file = open(path)?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map(|locked| Self { _file: locked })
            .map_err(|(_, e)| Error::io("take the lock", path, e))
    }

    /// Waits for as long as somebody else holds it; the wait can be cancelled by
    /// dropping the future.
    ///
    /// # Errors
    /// `Code::Io` when the file cannot be made.
    pub(crate) async fn take(path: &Path) -> Result<Self> {
        let mut file = open(path)?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => return Ok(Self { _file: locked }),
                Err((back, Errno::EWOULDBLOCK)) => file = back,
                Err((_, e)) => return Err(Error::io("take the lock", path, e)),
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

fn open(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| Error::io("make the lock", path, e))
}
