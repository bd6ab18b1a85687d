//! The log of blocked hosts: one line of JSON each, kept for as many days as the
//! person chose, seven at first, in their state folder. It is written while any
//! face of rcc is there, by one of them at a time.

use std::collections::HashMap;
use std::fs::{self, File};
use std::future::{Future, pending};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::events::{Blocked, Events, NetworkEvent};
use crate::host::{Host, make_dirs, write_atomically};
use crate::lock::Lock;
use crate::network::Network;
use crate::preferences::Preferences;
use crate::session::Session;

/// Seconds of a day.
const DAY_S: u64 = 24 * 3600;

/// What was blocked just now is at the helper after this, which gathers for 0.2 s.
const A_MOMENT: Duration = Duration::from_millis(300);

/// Lines that are kept, at most.
const MAX_LINES: usize = 50_000;
/// Bytes of the log, at most, also while it is written: a sandbox that asks for new names
/// without end writes gigabytes a day.
const MAX_BYTES: u64 = 16 << 20;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since 1970.
    pub time: u64,
    /// The project's id, or empty when its session was gone already.
    pub project: String,
    /// The project's folder, for display.
    pub path: String,
    /// The name, printable ASCII, or empty.
    pub host: String,
    /// The address, or empty.
    pub address: String,
    /// 0 when only a name was asked.
    pub port: u16,
    /// `tcp`, `udp` …
    pub protocol: String,
    /// The word of the helper.
    pub reason: String,
    /// How often.
    pub count: u32,
}

impl Record {
    /// The time of day and date in UTC, `2026-05-01 12:00:05Z`.
    pub fn when(&self) -> String {
        let (days, seconds) = (self.time / 86_400, self.time % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
    }
}

/// The Gregorian date of a day since 1970 (Howard Hinnant, "chrono-compatible
/// low-level date algorithms").
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

fn file(host: &Host) -> PathBuf {
    host.state.join("blocked.jsonl")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Names of hosts are personal data: none is kept longer than this, in seconds.
fn kept_s(host: &Host) -> Result<u64> {
    Ok(u64::from(Preferences::load(host)?.keep_log_days) * DAY_S)
}

/// What was blocked in the days that are kept, oldest first.
///
/// # Errors
/// `Code::Io`, `Code::Settings`; a line that cannot be read is passed over.
pub fn read(host: &Host) -> Result<Vec<Record>> {
    let path = file(host);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", &path, e)),
    };
    let oldest = now().saturating_sub(kept_s(host)?);
    let lines = BufReader::new(file).lines().map_while(std::result::Result::ok);
    Ok(lines
        .filter_map(|line| serde_json::from_str::<Record>(&line).ok())
        .filter(|record| record.time > oldest)
        .collect())
}

/// Writes down what is blocked until `end`, and loses nothing then: what comes
/// later waits at the helper for the next who watches. Waits for as long as
/// another face does it.
///
/// # Errors
/// `Code::HelperMissing`, `Code::Io`.
pub async fn record(
    host: &Host,
    engine: &Engine,
    network: &Network,
    end: impl Future<Output = ()>,
) -> Result<()> {
    let mut end = std::pin::pin!(end);
    let lock = lock(host);
    let _only_one = tokio::select! {
        taken = Lock::take(&lock) => taken?,
        () = &mut end => return Ok(()),
    };
    write_down(host, engine, network, end).await
}

/// Writes down what was blocked while nothing of rcc ran. When another face
/// writes, it is told without delay and this one waits for it a moment.
///
/// # Errors
/// As [`record`].
pub async fn catch_up(host: &Host, engine: &Engine, network: &Network) -> Result<()> {
    match tokio::time::timeout(A_MOMENT, Lock::take(&lock(host))).await {
        Ok(lock) => {
            let _only_one = lock?;
            write_down(host, engine, network, tokio::time::sleep(A_MOMENT)).await
        }
        Err(_) => Ok(()),
    }
}

fn lock(host: &Host) -> PathBuf {
    host.runtime.join("log.lock")
}

/// Under the lock.
async fn write_down(
    host: &Host,
    engine: &Engine,
    network: &Network,
    end: impl Future<Output = ()>,
) -> Result<()> {
    tidy(host)?;
    let mut log = Log::open(host)?;
    watch(engine, network, end, |record| {
        // Asked each time: the choice holds from the moment it is made.
        if kept_s(host).is_ok_and(|kept| kept == 0) {
            return;
        }
        // A full disk must not end what is shown.
        let _ = log.write(host, record);
    })
    .await
}

/// The file, which one it is, and how much is in it.
struct Log {
    file: File,
    id: (u64, u64),
    bytes: u64,
}

impl Log {
    fn open(host: &Host) -> Result<Self> {
        let path = file(host);
        make_dirs(&host.state)?;
        let file = File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| Error::io("write", &path, e))?;
        let meta = file.metadata().map_err(|e| Error::io("look at", &path, e))?;
        Ok(Self { file, id: (meta.dev(), meta.ino()), bytes: meta.len() })
    }

    fn write(&mut self, host: &Host, record: &Record) -> Result<()> {
        let mut line = serde_json::to_string(record).unwrap_or_default();
        line.push('\n');
        let length = line.len() as u64;
        // Another face may have made it shorter: that is another file.
        let now = fs::metadata(file(host)).map(|meta| (meta.dev(), meta.ino()));
        if now.ok() != Some(self.id) {
            *self = Self::open(host)?;
        }
        if self.bytes + length > MAX_BYTES {
            // Half of it, so that it is not done again at once.
            shorten(host, MAX_LINES / 2, MAX_BYTES / 2)?;
            *self = Self::open(host)?;
        }
        self.file.write_all(line.as_bytes()).map_err(|e| Error::io("write", &file(host), e))?;
        self.bytes += length;
        Ok(())
    }
}

/// Tells what is blocked from now on until the bus is gone, and writes it down
/// unless another face does.
///
/// # Errors
/// As [`record`].
pub async fn follow(
    host: &Host,
    engine: &Engine,
    network: &Network,
    tell: impl Fn(&Record),
) -> Result<()> {
    tokio::select! {
        ended = watch(engine, network, pending(), |record| tell(record)) => ended,
        ended = record(host, engine, network, pending()) => ended,
    }
}

/// Tells what is blocked until `end`. Each event that came is told: the end waits
/// for it.
async fn watch(
    engine: &Engine,
    network: &Network,
    end: impl Future<Output = ()>,
    mut tell: impl FnMut(&Record),
) -> Result<()> {
    let mut events = Events::watch(network).await?;
    let mut end = std::pin::pin!(end);
    let mut owners = Owners::default();
    loop {
        tokio::select! {
            event = events.next() => {
                if let NetworkEvent::Blocked(blocked) = event? {
                    tell(&owners.describe(engine, network, blocked).await);
                }
            }
            () = &mut end => break,
        }
    }
    for event in events.end(network).await? {
        if let NetworkEvent::Blocked(blocked) = event {
            tell(&owners.describe(engine, network, blocked).await);
        }
    }
    Ok(())
}

/// Projects and their paths by attachment, asked for when one is new.
#[derive(Default)]
struct Owners(HashMap<u32, (String, String)>);

impl Owners {
    async fn describe(&mut self, engine: &Engine, network: &Network, blocked: Blocked) -> Record {
        if !self.0.contains_key(&blocked.attachment) {
            self.0 = attachments(engine, network).await;
        }
        let (project, path) = self.0.get(&blocked.attachment).cloned().unwrap_or_default();
        describe(blocked, project, path)
    }
}

/// Whose attachment is whose: project and path by attachment.
async fn attachments(engine: &Engine, network: &Network) -> HashMap<u32, (String, String)> {
    let mut projects = HashMap::new();
    for session in Session::all(engine).await.unwrap_or_default() {
        if let Ok(Some(attachment)) = session.attachment(network).await {
            let path = crate::display::line(&session.path().to_string_lossy(), 4096);
            projects.insert(attachment.id, (session.project_id().to_string(), path));
        }
    }
    projects
}

fn describe(blocked: Blocked, project: String, path: String) -> Record {
    Record {
        time: now(),
        project,
        path,
        host: blocked.host,
        address: blocked.address,
        port: blocked.port,
        protocol: blocked.protocol,
        reason: blocked.reason.map_or("other", |reason| reason.as_str()).to_string(),
        count: blocked.count,
    }
}

/// Takes out what is too old or too much. Called when the person chose to keep
/// less, too.
///
/// # Errors
/// As [`read`].
pub fn tidy(host: &Host) -> Result<()> {
    shorten(host, MAX_LINES, MAX_BYTES)
}

fn shorten(host: &Host, most_lines: usize, most_bytes: u64) -> Result<()> {
    let path = file(host);
    let Ok(before) = fs::metadata(&path) else {
        return Ok(());
    };
    let mut lines = Vec::new();
    let mut bytes = 0;
    for record in read(host)?.iter().rev().take(most_lines) {
        let line = serde_json::to_string(record).unwrap_or_default() + "\n";
        bytes += line.len() as u64;
        if bytes > most_bytes {
            bytes -= line.len() as u64;
            break;
        }
        lines.push(line);
    }
    if bytes == before.len() {
        return Ok(());
    }
    lines.reverse();
    write_atomically(&path, lines.concat().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u64) -> Record {
        let blocked = Blocked {
            attachment: 1,
            host: "a.example".into(),
            address: String::new(),
            port: 443,
            protocol: "tcp".into(),
            reason: None,
            count: 2,
        };
        Record { time, ..describe(blocked, "p".into(), "/p".into()) }
    }

    #[test]
    fn dates_are_the_calendars() {
        assert_eq!(at(0).when(), "1970-01-01 00:00:00Z");
        assert_eq!(at(951_782_400).when(), "2000-02-29 00:00:00Z");
        assert_eq!(at(1_767_225_599).when(), "2025-12-31 23:59:59Z");
    }

    #[test]
    fn n17_a_flood_is_bounded_while_it_is_written_and_the_newest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        make_dirs(&host.state).unwrap();
        let mut log = Log::open(&host).unwrap();
        let record = |number: u16| Record { port: number, path: "/p".repeat(2_000), ..at(now()) };
        for number in 0..10_000 {
            log.write(&host, &record(number)).unwrap();
            assert!(log.bytes <= MAX_BYTES);
        }
        let length = fs::metadata(file(&host)).unwrap().len();
        assert_eq!(length, log.bytes);
        let kept = read(&host).unwrap();
        assert_eq!(kept.last().unwrap().port, 9_999);
        assert!(kept.len() > 1_000 && kept.len() < 5_000, "{}", kept.len());
    }

    #[test]
    fn what_is_written_after_another_face_made_it_shorter_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        make_dirs(&host.state).unwrap();
        let mut log = Log::open(&host).unwrap();
        log.write(&host, &at(1)).unwrap();
        // The window, when a person saves its settings.
        tidy(&host).unwrap();
        log.write(&host, &at(now())).unwrap();
        assert_eq!(read(&host).unwrap().len(), 1);
        assert_eq!(fs::metadata(file(&host)).unwrap().len(), log.bytes);
    }

    #[test]
    fn old_lines_and_broken_lines_are_taken_out() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        let recent = at(now() - 5);
        let line = |record: &Record| serde_json::to_string(record).unwrap();
        let text = format!("{}\nnot json\n{}\n", line(&at(now() - 7 * DAY_S - 5)), line(&recent));
        write_atomically(&file(&host), text.as_bytes()).unwrap();
        tidy(&host).unwrap();
        assert_eq!(fs::read_to_string(file(&host)).unwrap(), format!("{}\n", line(&recent)));
        assert_eq!(read(&host).unwrap(), [recent]);
        Preferences { keep_log_days: 0, ..Preferences::default() }.save(&host).unwrap();
        tidy(&host).unwrap();
        assert_eq!(fs::read_to_string(file(&host)).unwrap(), "");
    }
}
