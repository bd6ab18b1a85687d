//! What unit tests share.

use std::path::Path;

use crate::host::Host;

/// A made-up user whose home, configuration and so on lie apart from `dir`'s projects.
pub(crate) fn host(dir: &Path) -> Host {
    let own = dir.join("own");
    Host {
        home: own.join("home"),
        user: "ann".into(),
        uid: 1000,
        gid: 1000,
        config: own.join("config"),
        data: own.join("data"),
        state: own.join("state"),
        runtime: own.join("run/rcc"),
        runtime_root: own.join("run"),
    }
}

/// Runs an ignored test of this program with a session bus of its own, which
/// ends with it; its system bus is the same one. Without dbus-run-session it says
/// that it did not run.
pub(crate) fn on_a_bus(test: &str) {
    const RUN: &str = "DBUS_SYSTEM_BUS_ADDRESS=$DBUS_SESSION_BUS_ADDRESS exec \"$@\"";
    // Without the computer's own services: a real keyring is not to be started.
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("bus.conf");
    std::fs::write(&configuration, BUS).unwrap();
    let ran = std::process::Command::new("dbus-run-session")
        .arg(format!("--config-file={}", configuration.display()))
        .args(["--", "/bin/sh", "-c", RUN, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output();
    let ran = match ran {
        Ok(ran) => ran,
        Err(error) => return skipped(test, &format!("dbus-run-session: {error}")),
    };
    let out = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && out.contains("1 passed"), "{out}\n{errors}");
}

/// Runs an ignored test of this program while every system call of a name fails with
/// EIO, as on a disk that breaks. Without strace it says that it did not run.
pub(crate) fn while_calls_fail(calls: &str, test: &str) {
    let ran = std::process::Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("inject={calls}:error=EIO"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output();
    let ran = match ran {
        Ok(ran) => ran,
        Err(error) => return skipped(test, &format!("strace: {error}")),
    };
    let out = String::from_utf8_lossy(&ran.stdout);
    let errors = String::from_utf8_lossy(&ran.stderr);
    if errors.contains("PTRACE_TRACEME") || errors.contains("Operation not permitted") {
        return skipped(test, &format!("strace may not trace here: {}", errors.trim()));
    }
    assert!(ran.status.success() && out.contains("1 passed"), "{calls}: {out}\n{errors}");
}

/// A session bus that starts nothing.
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
  </policy>
</busconfig>
"#;

/// Also in the file that `RCC_SKIPPED` names, where `cargo xtask test` looks.
fn skipped(test: &str, why: &str) {
    use std::io::Write;
    let line = format!("SKIPPED {test}: {why}\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("RCC_SKIPPED")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = file.write_all(line.as_bytes());
    }
}
