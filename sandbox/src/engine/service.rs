//! Finding the engine's socket, or starting its service.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::error::{Code, Error, Result};
use crate::host::Host;
use crate::lock::Lock;
use crate::secrets;

/// How long a new service may take; the first start of all sets up storage.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// The first socket behind which somebody answers.
pub(super) async fn socket(host: &Host) -> Result<PathBuf> {
    let own = host.runtime.join("podman.sock");
    let systems = host.runtime_root.join("podman/podman.sock");
    for socket in [&systems, &own] {
        if answers(socket).await {
            return Ok(socket.clone());
        }
    }
    // Two faces that start at once must not start two services.
    let _lock = Lock::take(&host.runtime.join("podman.lock")).await?;
    if !answers(&own).await {
        start(host, &own).await?;
    }
    Ok(own)
}

async fn answers(socket: &Path) -> bool {
    let asked = super::info::get(socket, "/_ping");
    tokio::time::timeout(Duration::from_secs(10), asked).await.is_ok_and(|answer| answer.is_ok())
}

async fn start(host: &Host, socket: &Path) -> Result<()> {
    let program = crate::programs::find("podman").ok_or_else(|| {
        Error::new(
            Code::EngineMissing,
            "There is no program `podman` on PATH, and no socket of it.",
        )
    })?;
    if socket.exists() {
        // Left by a service that was killed; nobody answered a moment ago.
        fs::remove_file(socket).map_err(|e| Error::io("remove the dead socket", socket, e))?;
    }
    let log_path = host.runtime.join("podman.log");
    let log = fs::File::create(&log_path).map_err(|e| Error::io("write", &log_path, e))?;
    let errors = log.try_clone().map_err(|e| Error::io("write", &log_path, e))?;
    let mut command = crate::programs::command(&program).into_std();
    command
        .args(["system", "service", "--time=0"])
        .arg(format!("unix://{}", socket.display()))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        // A group of its own: Ctrl-C in this terminal must not end other sessions.
        .process_group(0);
    for name in secrets::NAMES {
        command.env_remove(name);
    }
    let mut child = command.spawn().map_err(|e| {
        Error::new(Code::EngineMissing, format!("{} could not be started: {e}.", program.display()))
    })?;
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        if UnixStream::connect(socket).await.is_ok() && answers(socket).await {
            // Collects the child if it ends while this process still lives.
            std::thread::spawn(move || child.wait());
            return Ok(());
        }
        let ended = child.try_wait().ok().flatten();
        if ended.is_some() || Instant::now() > deadline {
            let log = fs::read_to_string(&log_path).unwrap_or_default();
            if ended.is_none() {
                // It was started here and never answered; nobody else can use it.
                let _ = child.kill();
                let _ = child.wait();
            }
            return Err(explain(&log, &host.user));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Turns Podman's words into the error that helps.
fn explain(log: &str, user: &str) -> Error {
    let has = |words: &[&str]| words.iter().any(|word| log.contains(word));
    let error = if has(&["subuid", "subgid", "newuidmap", "newgidmap"]) {
        super::info::no_subordinate_ids(user)
    } else {
        Error::new(
            Code::EngineUnreachable,
            "Its service was started and ended, or did not answer in 20 seconds.",
        )
    };
    error.with_detail(tail(log, 2000))
}

/// The last `limit` characters.
pub(crate) fn tail(text: &str, limit: usize) -> String {
    let skip = text.chars().count().saturating_sub(limit);
    text.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podmans_words_about_ids_become_the_right_error() {
        let log = "Error: cannot find UID/GID for user ann: no subuid ranges found for user \"ann\" in /etc/subuid";
        assert_eq!(explain(log, "ann").code(), Code::NoSubordinateIds);
        assert_eq!(explain("Error: disk on fire", "ann").code(), Code::EngineUnreachable);
    }

    #[test]
    fn the_tail_keeps_the_end() {
        assert_eq!(tail("abcäö", 2), "äö");
        assert_eq!(tail("ab", 5), "ab");
    }
}
