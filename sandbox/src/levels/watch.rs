//! Hears of edits of the person's own lists, by whatever program.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

use crate::error::{Error, Result};
use crate::host::{Host, make_dirs};

/// The folder with the person's lists and the one with the projects', held open.
#[derive(Debug)]
pub struct Watch {
    inotify: AsyncFd<Held>,
}

/// What tokio needs to wait for it.
#[derive(Debug)]
struct Held(Inotify);

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Held {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watch {
    /// Begins to listen.
    ///
    /// # Errors
    /// `Code::Io` when the kernel gives no watch (inotify(7)).
    pub fn begin(host: &Host) -> Result<Self> {
        let projects = host.config.join("projects");
        make_dirs(&projects)?;
        let failed = |e: &dyn std::fmt::Display| Error::io("watch", &host.config, e);
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|e| failed(&e))?;
        // An editor writes in place or by rename.
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        for folder in [&host.config, &projects] {
            inotify.add_watch(folder, flags).map_err(|e| failed(&e))?;
        }
        Ok(Self { inotify: AsyncFd::register(Held(inotify)).map_err(|e| failed(&e))? })
    }

    /// The next lists that changed: none for the one of all projects, else a
    /// project's id.
    ///
    /// # Errors
    /// `Code::Io` when the kernel ends it.
    pub async fn next(&mut self) -> Result<Vec<Option<String>>> {
        loop {
            let ended = |e: &dyn std::fmt::Display| {
                Error::io("watch", std::path::Path::new("the lists of allowed hosts"), e)
            };
            let mut ready = self.inotify.readable().await.map_err(|e| ended(&e))?;
            let events = match ready.try_io(|inotify| Ok(inotify.get_ref().0.read_events()?)) {
                Ok(events) => events.map_err(|e| ended(&e))?,
                Err(_would_block) => continue,
            };
            let names = events.iter().filter_map(|event| event.name.as_ref()?.to_str());
            let mut changed: Vec<_> = names.filter_map(level).collect();
            changed.sort();
            changed.dedup();
            if !changed.is_empty() {
                return Ok(changed);
            }
        }
    }
}

/// Whose list a file is.
fn level(name: &str) -> Option<Option<String>> {
    if name == "hosts.yaml" {
        return Some(None);
    }
    let id = name.strip_suffix(".yaml")?;
    let hex = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| Some(id.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::write_atomically;

    #[tokio::test]
    async fn an_edit_by_another_program_is_heard_of() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        let mut watch = Watch::begin(&host).unwrap();
        write_atomically(&host.config.join("preferences.toml"), b"").unwrap();
        write_atomically(&host.config.join("hosts.yaml"), b"version: 1\n").unwrap();
        assert_eq!(watch.next().await.unwrap(), [None]);
        std::fs::write(host.config.join("projects/0123456789abcdef.yaml"), "version: 1\n").unwrap();
        assert_eq!(watch.next().await.unwrap(), [Some("0123456789abcdef".to_string())]);
    }
}
