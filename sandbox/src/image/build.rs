//! mmdebstrap's archive straight into the engine: nothing of it lies on the disk
//! twice, and an archive that breaks off is never taken in.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::Recipe;
use super::sources::Sources;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::programs;
use crate::progress::{Cancel, Progress, Reporter, Step};

/// After a polite signal it removes its temporary folder.
const CLEAN_UP_PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of one piece of the archive.
const PIECE: usize = 256 << 10;

/// Documentation that nobody reads in a sandbox; licences stay.
const LEFT_OUT: [&str; 5] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
];

pub(super) async fn run(
    engine: &Engine,
    reference: &str,
    recipe: &Recipe,
    sources: &Sources,
    report: &Reporter,
    cancel: &Cancel,
) -> Result<()> {
    let program = programs::find("mmdebstrap")
        .ok_or_else(|| Error::new(Code::ImageTool, "There is no program `mmdebstrap` on PATH."))?;
    let mut child = command(&program, recipe, sources).spawn().map_err(|e| {
        Error::new(Code::ImageTool, format!("{} could not be started: {e}.", program.display()))
    })?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    feed(&mut child, sources);
    let log = follow(&mut child, report);
    let Some(archive) = child.stdout.take() else {
        return Err(Error::new(Code::ImageBuild, "mmdebstrap was started without its output."));
    };
    let status = Arc::new(Mutex::new(None));
    let body = body(child, archive, status.clone(), recipe.size, report.clone());
    // It gets its name only after mmdebstrap said that all was well.
    let unfinished = format!("localhost/rcc-unfinished:{}", std::process::id());
    let taken = tokio::select! {
        taken = take_in(engine, &unfinished, body) => taken,
        () = cancel.cancelled() => Err(Error::cancelled()),
    };
    let whole = status
        .lock()
        .ok()
        .and_then(|status| *status)
        .is_some_and(|status: ExitStatus| status.success());
    let named = match taken {
        Ok(()) if whole => engine.rename_image(&unfinished, reference).await,
        Ok(()) => Err(Error::new(Code::ImageBuild, "The archive broke off.")),
        Err(error) => Err(error),
    };
    if let Err(error) = named {
        // Dropping the body ended mmdebstrap's output; it still has to tidy up.
        end(group).await;
        forget(engine, &unfinished).await;
        if error.code() == Code::Cancelled {
            return Err(error);
        }
        let failed = status
            .lock()
            .ok()
            .and_then(|status| *status)
            .is_some_and(|status: ExitStatus| !status.success());
        let log = log.lock().map(|log| log.clone()).unwrap_or_default();
        return Err(if failed { explain(&log) } else { error.with_detail(log) });
    }
    Ok(())
}

fn command(program: &std::path::Path, recipe: &Recipe, sources: &Sources) -> Command {
    let mut command = programs::command(program);
    command
        .args(["--mode=unshare", "--variant=minbase", "--format=tar"])
        .arg(format!("--include={}", recipe.packages.join(",")))
        .args(LEFT_OUT.iter().map(|option| format!("--dpkgopt={option}")))
        .args(sources.options.iter().map(|option| format!("--aptopt={option}")))
        // Suite, target on stdout; with lines, they come on stdin.
        .arg(&sources.suite)
        .arg("-");
    if !sources.lines.is_empty() {
        command.arg("-");
    }
    if std::env::var_os("TMPDIR").is_none() {
        // /tmp may be in memory and too small for a whole root file system.
        command.env("TMPDIR", "/var/tmp");
    }
    command
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C is handled here; mmdebstrap must be able to tidy up.
        .process_group(0);
    command
}

fn feed(child: &mut Child, sources: &Sources) {
    if let Some(mut stdin) = child.stdin.take() {
        let lines = sources.lines.join("\n") + "\n";
        tokio::spawn(async move {
            // If it ended before reading, its exit status says why.
            let _ = stdin.write_all(lines.as_bytes()).await;
        });
    }
}

/// Keeps the end of what mmdebstrap says, and reports its steps.
fn follow(child: &mut Child, report: &Reporter) -> Arc<Mutex<String>> {
    let log = Arc::new(Mutex::new(String::new()));
    if let Some(stderr) = child.stderr.take() {
        let (log, report) = (log.clone(), report.clone());
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                let line = crate::display::line(&String::from_utf8_lossy(&line), 200);
                if let Some(step) = line.strip_prefix("I: ") {
                    report.report(Progress::Doing(
                        Step::Image,
                        step.trim_end_matches('.').to_string(),
                    ));
                }
                if let Ok(mut log) = log.lock() {
                    log.push_str(&line);
                    log.push('\n');
                    *log = crate::engine::tail(&log, 4000);
                }
            }
        });
    }
    log
}

/// The archive as the body of a request. It ends in an error, not in an end of
/// file, when mmdebstrap fails: the engine then throws away what it has.
fn body(
    child: Child,
    archive: ChildStdout,
    status: Arc<Mutex<Option<ExitStatus>>>,
    size: u64,
    report: Reporter,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let state = (child, archive, status, report, 0_u64);
    stream::unfold(Some(state), move |state| async move {
        let (mut child, mut archive, status, report, done) = state?;
        let mut piece = vec![0; PIECE];
        match archive.read(&mut piece).await {
            Ok(0) => {
                let ended = child.wait().await.unwrap_or(ExitStatus::from_raw(1 << 8));
                if let Ok(mut status) = status.lock() {
                    *status = Some(ended);
                }
                let failure = std::io::Error::other("the archive is not complete");
                (!ended.success()).then_some((Err(failure), None))
            }
            Ok(count) => {
                piece.truncate(count);
                let done = done + count as u64;
                report.report(Progress::Amount {
                    step: Step::Image,
                    done,
                    total: Some(size.max(done)),
                });
                Some((Ok(Bytes::from(piece)), Some((child, archive, status, report, done))))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
}

async fn take_in(
    engine: &Engine,
    reference: &str,
    archive: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> Result<()> {
    engine.import(reference, archive).await.map_err(|e| {
        Error::new(Code::ImageBuild, format!("Podman did not take the image in: {e}."))
    })
}

/// An empty archive is an image a moment after its connection broke off.
async fn forget(engine: &Engine, unfinished: &str) {
    for _ in 0..10 {
        if engine.has_image(unfinished).await.unwrap_or(false) {
            return engine.forget_image(unfinished).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Ends mmdebstrap and waits until its group is gone.
async fn end(group: Option<Pid>) {
    let Some(group) = group else { return };
    // An error means that nobody of the group is left.
    if killpg(group, Signal::SIGTERM).is_err() {
        return;
    }
    let gone = async {
        while killpg(group, None).is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(CLEAN_UP_PATIENCE, gone).await.is_err() {
        let _ = killpg(group, Signal::SIGKILL);
    }
}

/// The lines of the log that say what went wrong.
fn explain(log: &str) -> Error {
    let why = log
        .lines()
        .rev()
        .find(|line| line.starts_with("E: ") && !line.contains("mmdebstrap failed"))
        .or_else(|| log.lines().rev().find(|line| line.contains("Err:") || line.contains("error")))
        .map_or("mmdebstrap failed without a reason", |line| line.trim_start_matches("E: "));
    Error::new(Code::ImageBuild, format!("mmdebstrap says: {}.", why.trim_end_matches('.')))
        .with_detail(log)
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[test]
    fn the_reason_is_found_in_the_log() {
        let log = "I: running apt-get update...\nE: Unable to fetch some archives\nE: mmdebstrap failed to run\n";
        assert_eq!(explain(log).body(), "mmdebstrap says: Unable to fetch some archives.");
    }

    async fn archive_of(script: &str) -> Vec<std::io::Result<Bytes>> {
        let mut child =
            Command::new("/bin/sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let archive = child.stdout.take().unwrap();
        body(child, archive, Arc::default(), 10, Reporter::silent()).collect().await
    }

    #[tokio::test]
    async fn an_archive_that_breaks_off_ends_in_an_error() {
        let good = archive_of("printf whole").await;
        assert!(good.iter().all(std::result::Result::is_ok) && !good.is_empty());
        let bad = archive_of("printf half; exit 1").await;
        assert!(bad.last().unwrap().is_err());
    }
}
