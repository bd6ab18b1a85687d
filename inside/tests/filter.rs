//! The first process of a sandbox and rcc's filter of system calls. Here there is no filter, so it must not begin.

#![allow(clippy::unwrap_used, reason = "in a test a failed step is the test's failure")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A process that is the first of its namespace, as in a container.
fn first_process(arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--"]);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_first_process_without_the_filter_does_not_begin() {
    match first_process(&["true"]).status() {
        Ok(status) if status.success() => {}
        other => {
            return rcc_test_aids::skip(&format!("namespaces cannot be made here: {other:?}"));
        }
    }
    let name = format!("rcc-filter-test-{}", std::process::id());
    let program = env!("CARGO_BIN_EXE_rcc-inside");
    let mut child = first_process(&[program, "--socket", &name, "init"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it began without the filter");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("the filter of system calls is not rcc's"), "{said}");
}
