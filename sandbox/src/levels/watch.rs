//! Hears of edits of the three lists, by whatever program.

use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::host::{Host, make_dirs};
use crate::hosts::COMPUTER_FILE;

/// Changes that may wait to be asked for.
const WAITING: usize = 64;

/// Whose list one is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Whose {
    /// The administrator's. The helper puts it in force by itself.
    Computer,
    /// The person's, for all projects.
    AllProjects,
    /// One project's, by its id.
    Project(String),
}

/// The folders with the three lists, listened to by a thread that sleeps while
/// nothing happens.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<Vec<Whose>>,
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
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).map_err(|e| failed(&e))?;
        // An editor writes in place or by rename.
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        for folder in [&host.config, &projects] {
            inotify.add_watch(folder, flags).map_err(|e| failed(&e))?;
        }
        // A computer may have no list; nothing of this depends on it.
        if let Some(folder) = Path::new(COMPUTER_FILE).parent() {
            let _ = inotify.add_watch(folder, flags);
        }
        let (tell, changes) = mpsc::channel(WAITING);
        std::thread::Builder::new()
            .name("lists".into())
            .spawn(move || listen(&inotify, &tell))
            .map_err(|e| failed(&e))?;
        Ok(Self { changes })
    }

    /// The next lists that changed; `None` when the kernel ended it.
    pub async fn next(&mut self) -> Option<Vec<Whose>> {
        self.changes.recv().await
    }
}

/// Ends with the first event that nobody waits for any more.
fn listen(inotify: &Inotify, tell: &mpsc::Sender<Vec<Whose>>) {
    while let Ok(events) = inotify.read_events() {
        let names = events.iter().filter_map(|event| event.name.as_ref()?.to_str());
        let mut changed: Vec<_> = names.filter_map(whose).collect();
        changed.sort();
        changed.dedup();
        if !changed.is_empty() && tell.blocking_send(changed).is_err() {
            break;
        }
    }
}

/// Whose list a file is.
fn whose(name: &str) -> Option<Whose> {
    if name == "hosts.yaml" {
        return Some(Whose::AllProjects);
    }
    if Path::new(COMPUTER_FILE).file_name().is_some_and(|of| of == name) {
        return Some(Whose::Computer);
    }
    let id = name.strip_suffix(".yaml")?;
    let hex = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| Whose::Project(id.to_string()))
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
        assert_eq!(watch.next().await, Some(vec![Whose::AllProjects]));
        std::fs::write(host.config.join("projects/0123456789abcdef.yaml"), "version: 1\n").unwrap();
        assert_eq!(watch.next().await, Some(vec![Whose::Project("0123456789abcdef".to_string())]));
    }
}
