//! The administrator's file: reading it, and replacing it whole.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rcc_policy::{Defaults, Entry, MAX_DOCUMENT, MayAttach, Policy, PolicyError, UsersMayAdd};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::io::unix::AsyncFd;

use crate::layout::{POLICY_FILE, STATE_FOLDER};

/// An editor renames, writes and removes: what it leaves counts, not what is there in
/// between. So long nothing may happen, and so often that is waited for.
const SETTLED: Duration = Duration::from_millis(100);
const AT_MOST: u32 = 5;

/// The folder is another one, or none.
const GONE: AddWatchFlags = AddWatchFlags::IN_MOVE_SELF.union(AddWatchFlags::IN_DELETE_SELF);

/// The file as it is in force.
#[derive(Debug, Clone, Default)]
pub struct InForce {
    /// Its bytes.
    pub document: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub version: String,
    /// Its meaning.
    pub policy: Policy,
}

/// The file could not be read or written.
#[derive(Debug, Error)]
pub enum PolicyFileError {
    /// The system said no.
    #[error("cannot use {POLICY_FILE}: {0}")]
    Io(#[from] io::Error),
    /// It is not a policy.
    #[error("{POLICY_FILE}, {0}")]
    Invalid(#[from] PolicyError),
}

impl InForce {
    /// Reads the file. Without one nothing is allowed.
    pub fn read() -> Result<Self, PolicyFileError> {
        let mut bytes = Vec::new();
        // Never through a link that somebody put in its place.
        let file =
            OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(POLICY_FILE);
        match file {
            Ok(file) => file.take(MAX_DOCUMENT as u64 + 1).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::of(String::new(), Policy::default()));
            }
            Err(error) => return Err(error.into()),
        };
        let policy = Policy::parse(&bytes)?;
        // Parsed, so it is UTF-8.
        Ok(Self::of(String::from_utf8_lossy(&bytes).into_owned(), policy))
    }

    /// Takes a document that is to be the file.
    pub fn parse(document: String) -> Result<Self, PolicyError> {
        let policy = Policy::parse(document.as_bytes())?;
        Ok(Self::of(document, policy))
    }

    /// What a service starts with when the file does not read: what was in force before, as
    /// for one that runs; else nothing at all, for nobody.
    pub fn last_or_nothing() -> Self {
        let recorded =
            fs::read_to_string(record_path()).ok().and_then(|text| Self::parse(text).ok());
        recorded.unwrap_or_else(|| {
            let defaults = Defaults {
                users_may_add: UsersMayAdd::None,
                attach: MayAttach::Nobody,
                ..Defaults::default()
            };
            Self { policy: Policy { defaults, entries: Vec::new() }, ..Self::default() }
        })
    }

    /// Writes down that this is in force.
    pub fn record(&self) {
        let path = record_path();
        if fs::read_to_string(&path).is_ok_and(|text| text == self.document) {
            return;
        }
        let written = match self.document.is_empty() {
            true => Err(io::ErrorKind::NotFound.into()),
            false => crate::state::write_atomically(&path, self.document.as_bytes()),
        };
        if written.is_err() {
            // Better none than another one.
            let _ = fs::remove_file(&path);
        }
    }

    fn of(document: String, policy: Policy) -> Self {
        let digest = Sha256::digest(document.as_bytes());
        let version = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { document, version, policy }
    }

    /// Makes the file this.
    pub fn write(&self) -> io::Result<()> {
        let path = Path::new(POLICY_FILE);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        crate::state::write_atomically(path, self.document.as_bytes())
    }

    /// True when `new` allows nothing that this does not.
    pub fn is_narrowed_by(&self, new: &Self) -> bool {
        let (old, new) = (&self.policy, &new.policy);
        let order = |may: UsersMayAdd| may as u8;
        // Lists may be long, and who asks may be anybody.
        let mut there: HashMap<_, Vec<&Entry>> = HashMap::new();
        for entry in &old.entries {
            there.entry((entry.target(), entry.protocol())).or_default().push(entry);
        }
        let kept = |entry: &Entry| {
            there.get(&(entry.target(), entry.protocol())).is_some_and(|others| {
                others.iter().any(|other| {
                    (other.private() || !entry.private())
                        && entry.ports().iter().all(|port| other.ports().contains(port))
                })
            })
        };
        new.entries.iter().all(kept)
            && (old.defaults.allow_public || !new.defaults.allow_public)
            && (new.defaults.block_rfc1918 || !old.defaults.block_rfc1918)
            && order(new.defaults.users_may_add) <= order(old.defaults.users_may_add)
            && (new.defaults.attach == old.defaults.attach
                || new.defaults.attach == MayAttach::Nobody)
            && (old.defaults.uplink.is_none() || new.defaults.uplink == old.defaults.uplink)
    }
}

/// The list that was in force last, until the computer starts anew.
fn record_path() -> PathBuf {
    Path::new(STATE_FOLDER).join("list")
}

/// Takes the record away, with the firewall.
pub fn forget() {
    let _ = fs::remove_file(record_path());
}

/// Hears of edits of the file, by whatever program.
pub struct Edits(AsyncFd<OwnedFd>);

impl Edits {
    /// Begins to listen. None where the file's folder is not there.
    pub fn listen() -> io::Result<Option<Self>> {
        let folder = Path::new(POLICY_FILE).parent().ok_or(io::ErrorKind::InvalidInput)?;
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | GONE
            | AddWatchFlags::IN_ONLYDIR;
        match inotify.add_watch(folder, flags) {
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Some(Self(crate::fd::watch(inotify.into())?))),
        }
    }

    /// Waits until something in the folder was changed, and that has settled.
    pub async fn next(&self) -> io::Result<()> {
        self.some().await?;
        for _ in 0..AT_MOST {
            tokio::time::sleep(SETTLED).await;
            match tokio::time::timeout(Duration::ZERO, self.some()).await {
                Ok(more) => more?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// What has come, at least one event. Which one is nobody's concern: the file is
    /// read, and counts when it is another one. But for the end of the folder itself, which
    /// is an error: only a service that starts anew sees what is in its place.
    async fn some(&self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        loop {
            let mut ready = self.0.readable().await?;
            match nix::unistd::read(self.0.get_ref(), &mut bytes) {
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
                Ok(length) if is_gone(&bytes[..length]) => {
                    return Err(io::Error::other("its folder was moved or removed"));
                }
                Ok(_) => return Ok(()),
            }
        }
    }
}

/// One of the events (struct inotify_event, inotify(7)) is the end of what is watched.
fn is_gone(mut events: &[u8]) -> bool {
    const HEADER: usize = 16;
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_ne_bytes);
    while events.len() >= HEADER {
        if AddWatchFlags::from_bits_retain(number(&events[4..8])).intersects(GONE) {
            return true;
        }
        let length = HEADER + number(&events[12..16]) as usize;
        events = events.get(length..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_replaced_is_told_from_a_file_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let watched = folder.path().join("rcc");
        fs::create_dir(&watched).unwrap();
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        inotify.add_watch(&watched, AddWatchFlags::IN_CLOSE_WRITE | GONE).unwrap();
        let fd: OwnedFd = inotify.into();
        let heard = || {
            let mut bytes = [0; 4096];
            let length = nix::unistd::read(&fd, &mut bytes).unwrap();
            bytes[..length].to_vec()
        };
        fs::write(watched.join("network-whitelist.yaml"), "version: 1\n").unwrap();
        assert!(!is_gone(&heard()));
        fs::write(watched.join("network-whitelist.yaml"), "version: 1\n").unwrap();
        fs::rename(&watched, folder.path().join("other")).unwrap();
        assert!(is_gone(&heard()), "behind another event, too");
    }

    fn document(rest: &str) -> InForce {
        InForce::parse(format!("version: 1\n{rest}")).unwrap()
    }

    #[test]
    fn widening_is_told_from_narrowing() {
        let old = document("whitelist:\n  - host: a.example\n    ports: [80, 443]\n");
        for narrower in [
            "",
            "whitelist:\n  - host: a.example\n    ports: [443]\n",
            "defaults:\n  users_may_add: none\nwhitelist:\n  - host: a.example\n    ports: [443]\n",
            "defaults:\n  attach: nobody\n",
            "defaults:\n  uplink: wg0\n",
        ] {
            assert!(old.is_narrowed_by(&document(narrower)), "{narrower}");
        }
        for wider in [
            "whitelist:\n  - host: b.example\n    ports: [443]\n",
            "whitelist:\n  - host: a.example\n    ports: [22]\n",
            "whitelist:\n  - host: a.example\n    ports: [443]\n    private: true\n",
            "defaults:\n  allow_public: true\n",
            "defaults:\n  block_rfc1918: false\n",
            "defaults:\n  users_may_add: private\n",
            "defaults:\n  attach: group rcc-users\n",
        ] {
            assert!(!old.is_narrowed_by(&document(wider)), "{wider}");
        }
        let bound = document("defaults:\n  uplink: wg0\n");
        assert!(bound.is_narrowed_by(&bound));
        for wider in ["", "defaults:\n  uplink: eth0\n"] {
            assert!(!bound.is_narrowed_by(&document(wider)), "{wider}");
        }
    }
}
