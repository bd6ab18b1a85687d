//! `Setup` of the contract: units at boot, and other firewalls that let sandboxes
//! through. The service itself runs none of their programs: it asks systemd to
//! start `rcc-setup@STEP.service`, which is `rcc-helper setup STEP`.
//!
//! What was done is written down in [`RECORD`], and undone by `rcc-helper remove`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use rcc_dbus::{Code, HelperError, SetupStep};
use thiserror::Error;
use tracing::info;
use zbus::zvariant::OwnedObjectPath;
use zbus::{MatchRule, MessageStream};

use crate::rules::HOST_LINK;

/// Outlives a reboot, as the other firewalls' own settings do.
const RECORD: &str = "/var/lib/rcc/setup";
/// What starts at boot.
const UNITS: [&str; 2] = ["rcc-firewall.service", "rcc-whitelist-update.timer"];
/// firewalld takes seconds to load its rules again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Names of ours in firewalld.
const ZONE: &str = "rcc";
const POLICY: &str = "rcc-out";

/// A step could not be done.
#[derive(Debug, Error)]
pub enum SetupError {
    /// A program of the other firewall's could not be run or said no.
    #[error("{program} {arguments}: {why}")]
    Program {
        /// Which.
        program: &'static str,
        /// With what.
        arguments: String,
        /// Its words.
        why: String,
    },
    /// The record of what was done.
    #[error("cannot write {RECORD}: {0}")]
    Record(#[from] io::Error),
}

type Call = (&'static str, Vec<String>);

/// What opens a firewall.
fn opening(step: SetupStep, running: bool) -> Vec<Call> {
    match step {
        SetupStep::Boot => Vec::new(),
        SetupStep::Firewalld => firewalld(
            running,
            &[
                vec![format!("--new-zone={ZONE}")],
                vec![format!("--zone={ZONE}"), "--set-target=DROP".into()],
                vec![format!("--zone={ZONE}"), format!("--add-interface={HOST_LINK}")],
                vec![format!("--new-policy={POLICY}")],
                vec![format!("--policy={POLICY}"), format!("--add-ingress-zone={ZONE}")],
                vec![format!("--policy={POLICY}"), "--add-egress-zone=ANY".into()],
                vec![format!("--policy={POLICY}"), "--set-target=ACCEPT".into()],
            ],
        ),
        SetupStep::Ufw => {
            vec![("/usr/sbin/ufw", words(&["route", "allow", "in", "on", HOST_LINK]))]
        }
        SetupStep::Docker => docker("-I"),
    }
}

/// What closes it again.
fn closing(step: SetupStep, running: bool) -> Vec<Call> {
    match step {
        SetupStep::Boot => Vec::new(),
        SetupStep::Firewalld => firewalld(
            running,
            &[vec![format!("--delete-policy={POLICY}")], vec![format!("--delete-zone={ZONE}")]],
        ),
        SetupStep::Ufw => {
            vec![("/usr/sbin/ufw", words(&["route", "delete", "allow", "in", "on", HOST_LINK]))]
        }
        SetupStep::Docker => docker("-D"),
    }
}

/// Its permanent settings; what runs takes them over by a reload.
fn firewalld(running: bool, steps: &[Vec<String>]) -> Vec<Call> {
    if !running {
        let offline = |step: &Vec<String>| ("/usr/bin/firewall-offline-cmd", step.clone());
        return steps.iter().map(offline).collect();
    }
    const PROGRAM: &str = "/usr/bin/firewall-cmd";
    let permanent =
        |step: &Vec<String>| (PROGRAM, [vec!["--permanent".to_owned()], step.clone()].concat());
    let mut calls: Vec<_> = steps.iter().map(permanent).collect();
    calls.push((PROGRAM, words(&["--reload"])));
    calls
}

/// `DOCKER-USER` is the chain that Docker leaves to others.
fn docker(how: &str) -> Vec<Call> {
    const PROGRAM: &str = "/usr/sbin/iptables";
    let reply = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"];
    vec![
        (PROGRAM, words(&["-w", how, "DOCKER-USER", "-i", HOST_LINK, "-j", "ACCEPT"])),
        (PROGRAM, words(&[&["-w", how, "DOCKER-USER", "-o", HOST_LINK], &reply[..]].concat())),
    ]
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Opens a firewall, from `rcc-setup@STEP.service`. What it has already counts as
/// done. Written down first: what is half done is undone, too.
pub fn apply(step: SetupStep) -> Result<(), SetupError> {
    let mut record = record();
    record.insert(step.as_str().to_owned());
    write(&record)?;
    // An older one of ours, or half of one.
    for (program, arguments) in closing(step, firewalld_runs()) {
        let _ = run(program, &arguments);
    }
    for (program, arguments) in opening(step, firewalld_runs()) {
        run(program, &arguments)?;
    }
    Ok(())
}

/// Opens again what was opened and does not last: Docker's chains are new after a
/// reboot. A chain that is not there yet is no error.
pub fn renew() {
    if !record().contains(SetupStep::Docker.as_str()) {
        return;
    }
    for (program, mut arguments) in docker("-C") {
        if run(program, &arguments).is_err() {
            "-I".clone_into(&mut arguments[1]);
            let _ = run(program, &arguments);
        }
    }
}

/// Closes everything that was opened. Goes on after an error and reports the first.
pub fn undo() -> Result<(), SetupError> {
    let mut first = Ok(());
    let mut open = BTreeSet::new();
    for step in record().iter().filter_map(|word| SetupStep::from_wire(word)) {
        for (program, arguments) in closing(step, firewalld_runs()) {
            // A firewall that is not there any more needs nothing.
            if Path::new(program).exists()
                && let Err(error) = run(program, &arguments)
            {
                open.insert(step.as_str().to_owned());
                first = first.and(Err(error));
            }
        }
    }
    if !open.is_empty() {
        // For the next time.
        return first.and(write(&open).map_err(SetupError::from));
    }
    match fs::remove_file(RECORD) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => first.and(Err(error.into())),
        _ => {
            // Its folder is its own; another file there would keep it.
            let _ = Path::new(RECORD).parent().map(fs::remove_dir);
            first
        }
    }
}

fn firewalld_runs() -> bool {
    run("/usr/bin/firewall-cmd", &words(&["--state"])).is_ok()
}

fn record() -> BTreeSet<String> {
    fs::read_to_string(RECORD).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn write(record: &BTreeSet<String>) -> io::Result<()> {
    let path = Path::new(RECORD);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text: String = record.iter().map(|step| format!("{step}\n")).collect();
    crate::state::write_atomically(path, text.as_bytes())
}

fn run(program: &'static str, arguments: &[String]) -> Result<(), SetupError> {
    let failed = |why: String| SetupError::Program { program, arguments: arguments.join(" "), why };
    let output = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    Err(failed(said.lines().take(3).collect::<Vec<_>>().join(" ")))
}

// The service's side.

/// The steps of a call, each once.
///
/// # Errors
/// For a word that is none of [`SetupStep`], and for no step at all.
pub fn steps(words: &[String]) -> Result<Vec<SetupStep>, HelperError> {
    let bad = |text: String| HelperError::new(Code::InvalidArgument, text);
    let mut steps = Vec::new();
    for word in words.iter().take(SetupStep::ALL.len() + 1) {
        let step = SetupStep::from_wire(word)
            .ok_or_else(|| bad("Setup has no such step; see the contract for the words.".into()))?;
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    if steps.is_empty() || words.len() > SetupStep::ALL.len() {
        return Err(bad("Setup takes each of its steps once.".into()));
    }
    Ok(steps)
}

/// For the password prompt.
pub fn describe(steps: &[SetupStep]) -> String {
    steps.iter().map(|step| step.words()).collect::<Vec<_>>().join("; ")
}

/// Does the steps over systemd's own interface.
pub async fn run_units(
    connection: &zbus::Connection,
    uid: u32,
    steps: &[SetupStep],
) -> Result<(), HelperError> {
    let systemd = Systemd(connection);
    for step in steps {
        match step {
            SetupStep::Boot => {
                let arguments = (&UNITS[..], false, true);
                let _: (bool, Vec<(String, String, String)>) =
                    systemd.call("EnableUnitFiles", &arguments).await?;
                let () = systemd.call("Reload", &()).await?;
                for unit in UNITS {
                    systemd.start(unit).await?;
                }
            }
            other => systemd.start(&format!("rcc-setup@{}.service", other.as_str())).await?,
        }
        info!(event = "setup", uid, step = step.as_str(), "set up");
    }
    Ok(())
}

const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Starts the regular check now.
pub async fn check_now(connection: &zbus::Connection) -> Result<(), HelperError> {
    Systemd(connection).start("rcc-whitelist-update.service").await
}

struct Systemd<'a>(&'a zbus::Connection);

impl Systemd<'_> {
    const NAME: &'static str = "org.freedesktop.systemd1";

    async fn call<A, T>(&self, method: &str, arguments: &A) -> Result<T, HelperError>
    where
        A: serde::Serialize + zbus::zvariant::DynamicType,
        T: serde::de::DeserializeOwned + zbus::zvariant::Type,
    {
        let path = "/org/freedesktop/systemd1";
        let answer =
            self.0.call_method(Some(Self::NAME), path, Some(MANAGER), method, arguments).await;
        let failed = |error: zbus::Error| {
            HelperError::new(Code::Failed, format!("systemd refused a step: {error}."))
        };
        answer.map_err(failed)?.body().deserialize().map_err(failed)
    }

    /// Starts a unit and waits for the end of the job.
    async fn start(&self, unit: &str) -> Result<(), HelperError> {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .sender(Self::NAME)?
            .interface(MANAGER)?
            .member("JobRemoved")?
            .build();
        let mut ended = MessageStream::for_match_rule(rule, self.0, Some(64)).await?;
        // Refused when this connection has done so before.
        let _ = self.call::<_, ()>("Subscribe", &()).await;
        let job: OwnedObjectPath = self.call("StartUnit", &(unit, "replace")).await?;
        let result = async {
            while let Some(Ok(message)) = ended.next().await {
                let body = message.body();
                let removed: Result<(u32, OwnedObjectPath, String, String), _> = body.deserialize();
                if let Ok((_, path, _, result)) = removed
                    && path == job
                {
                    return result;
                }
            }
            "lost".to_owned()
        };
        match tokio::time::timeout(PATIENCE, result).await.as_deref() {
            Ok("done") => Ok(()),
            _ => {
                let text = format!("{unit} did not end well; `journalctl -u {unit}` says why.");
                Err(HelperError::new(Code::Failed, text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_steps_or_are_refused() {
        let read = |words: &[&str]| steps(&super::words(words));
        assert_eq!(read(&["boot", "ufw", "boot"]).unwrap(), [SetupStep::Boot, SetupStep::Ufw]);
        for bad in [&[][..], &["nonsense"], &["boot; reboot"], &["../boot"], &["boot"; 9]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert!(describe(&SetupStep::ALL).contains("ufw"));
    }

    #[test]
    fn what_is_opened_is_closed() {
        for step in SetupStep::ALL {
            for running in [true, false] {
                let (open, close) = (opening(step, running), closing(step, running));
                assert_eq!(open.is_empty(), close.is_empty(), "{step:?}");
                assert_eq!(open.is_empty(), step == SetupStep::Boot);
            }
        }
    }
}
