//! What tests of every room share. Needed by none of the programs, so that each crate
//! may name it among its `dev-dependencies`.

#![allow(clippy::unwrap_used, reason = "tests alone use it")]

mod screen;

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub use screen::{Group, Screen};

/// Says that the test of this thread, or its rest, did not run, and why: on standard
/// error and, for `cargo xtask test`, in the file that `RCC_SKIPPED` names.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let line = format!("SKIPPED {test}: {reason}\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("RCC_SKIPPED")
        && let Ok(mut file) = fs::OpenOptions::new().create(true).append(true).open(path)
    {
        // It was said already.
        let _ = file.write_all(line.as_bytes());
    }
}

/// Runs an ignored test of this program with a session bus of its own, which ends with
/// it; its system bus is the same one. Without dbus-run-session it says that it did not
/// run.
pub fn on_a_bus(test: &str) {
    const RUN: &str = "DBUS_SYSTEM_BUS_ADDRESS=$DBUS_SESSION_BUS_ADDRESS exec \"$@\"";
    let folder = tempfile::tempdir().unwrap();
    let mut run = bus(folder.path());
    run.args(["--", "/bin/sh", "-c", RUN, "sh"]);
    match ignored(run, test) {
        Ok(ran) => passed(&ran, test),
        Err(error) => skip(&format!("dbus-run-session: {error}")),
    }
}

/// Starts a session bus for whatever is added behind `--`; its configuration lies in
/// `folder`. It starts nothing by itself, as a computer's own keyring or portal, and
/// lets everybody in who reaches its socket.
pub fn bus(folder: &Path) -> Command {
    let configuration = folder.join("bus.conf");
    fs::write(&configuration, BUS).unwrap();
    let mut run = Command::new("dbus-run-session");
    run.arg(format!("--config-file={}", configuration.display()));
    run
}

/// Runs an ignored test of this program as a user whom the permissions of files bind:
/// as this one, or as a root without capabilities.
pub fn without_privileges(test: &str) {
    let is_root = fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    let mut run = Command::new(if is_root { "setpriv" } else { "env" });
    if is_root {
        run.arg("--bounding-set=-all");
    }
    match ignored(run, test) {
        Ok(ran) => passed(&ran, test),
        Err(error) => skip(&format!("setpriv: {error}")),
    }
}

/// Runs an ignored test of this program while every system call of a name fails with
/// EIO, as on a disk that breaks. `calls` is as strace(1) has it: `fsync`, or
/// `fsync:when=3` for the third of each thread. Without strace it says that it did not
/// run, and answers no.
pub fn while_calls_fail(calls: &str, test: &str) -> bool {
    while_calls_fail_in(Path::new(""), calls, test)
}

/// The same for a test that works in a folder of the caller's, as [`folder`] tells it.
pub fn while_calls_fail_in(folder: &Path, calls: &str, test: &str) -> bool {
    let mut run = Command::new("strace");
    run.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={calls}:error=EIO")]);
    run.env(FOLDER, folder);
    let ran = match ignored(run, test) {
        Ok(ran) => ran,
        Err(error) => {
            skip(&format!("strace: {error}"));
            return false;
        }
    };
    let errors = String::from_utf8_lossy(&ran.stderr);
    if errors.contains("PTRACE_TRACEME") || errors.contains("Operation not permitted") {
        skip(&format!("strace may not trace here: {}", errors.trim()));
        return false;
    }
    passed(&ran, calls);
    true
}

/// See [`while_calls_fail_in`].
pub fn folder() -> PathBuf {
    std::env::var_os(FOLDER).unwrap().into()
}

const FOLDER: &str = "RCC_TEST_FOLDER";

/// One ignored test of the program that asks, started by way of another.
fn ignored(mut by: Command, test: &str) -> std::io::Result<Output> {
    by.arg(std::env::current_exe()?).args(["--exact", test, "--ignored", "--nocapture"]).output()
}

/// A name that is no test's runs none, and passes.
fn passed(ran: &Output, what: &str) {
    let out = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    let well = ran.status.success() && out.contains("1 passed");
    // Its lines must not be taken for those of the program that asked.
    let said = format!("{out}\n{errors}").replace('\n', "\n| ");
    assert!(well, "{what}: {said}");
}

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:tmpdir=/tmp</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"#;
