//! What unit tests share.

use std::process::Command;

/// Runs an ignored test of this program with a session bus of its own, which
/// ends with it. Without dbus-run-session it says that it did not run.
pub fn on_a_bus(test: &str) {
    let ran = Command::new("dbus-run-session")
        .arg("--")
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
