//! The whole way, for real: an ordinary user, rootless Podman, the real Claude
//! Code in a container, the real helper, and an API that is played in the lab.
//! Each test starts a lab of its own; the labs take turns. Named after the rows
//! of docs/threat-model.md where they attack one.

mod bounds;
mod crowd;
mod engine;
mod keeping;
mod lists;
mod sessions;
mod verify;
mod walls;

use std::fs;
use std::path::{Path, PathBuf};

use rcc_policy::Preset;
use rcc_tests::{Ended, Workshop, skip};

/// Says the greeting of a server, or how it failed.
const REACH: &str = "timeout 10 bash -c 'exec 3<>/dev/tcp/other.example/443 && head -n 1 <&3' \
                     || echo unreachable";

fn start(name: &str) -> Option<(Workshop, PathBuf)> {
    match Workshop::start(&Preset::Locked.document(&[])).expect("a lab with containers") {
        Ok(workshop) => {
            let project = workshop.project(name).expect("a project");
            Some((workshop, project))
        }
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

/// Runs a script in the project's sandbox.
fn inside(workshop: &Workshop, project: &Path, script: &str) -> Ended {
    let arguments = ["run", "--yes", "--image", "small", "--", "bash", "-c", script];
    workshop.rcc(project, &arguments).expect("rcc run")
}

/// Adds to ann's settings for the project.
fn set(workshop: &Workshop, project: &Path, line: &str) {
    good(workshop, &workshop.rcc(project, &["init", "--yes", "--image", "small"]).expect("init"));
    let settings = workshop.home().join(".config/rcc/projects");
    let file = fs::read_dir(settings).expect("settings").next().expect("one").expect("file").path();
    let text = fs::read_to_string(&file).expect("read") + line;
    fs::write(&file, text).expect("write");
}

fn good(workshop: &Workshop, ended: &Ended) {
    assert_eq!(ended.code, 0, "{}\n{}\n{}", ended.out, ended.err, workshop.lab.log());
}

#[test]
fn claude_answers_changes_a_file_and_reaches_only_what_is_allowed() {
    let Some((workshop, project)) = start("web-shop") else { return };
    fs::write(project.join("notes.txt"), "before\n").expect("write");
    std::os::unix::fs::chown(project.join("notes.txt"), Some(4_001), Some(4_001)).expect("chown");
    let claude = |prompt: &str| {
        let arguments = ["claude", "--yes", "--image", "small", "-p", prompt];
        workshop.rcc(&project, &arguments).expect("rcc claude")
    };

    let said = claude("Say hello.");
    good(&workshop, &said);
    assert!(said.out.contains("Hello from the played API."), "{said:?}");
    let asked = workshop.api.requests();
    let message = asked.iter().find(|request| request.line.starts_with("POST /v1/messages"));
    let message = message.unwrap_or_else(|| panic!("no message came: {asked:?}"));
    assert!(message.known, "with another key");
    assert_eq!(message.peer.ip().to_string(), "192.0.2.2", "through the gate and the host");

    let changed = claude("run: pwd; echo after >> notes.txt; cat notes.txt");
    good(&workshop, &changed);
    assert!(changed.out.contains("/workspace") && changed.out.contains("after"), "{changed:?}");
    assert_eq!(fs::read_to_string(project.join("notes.txt")).expect("read"), "before\nafter\n");

    let blocked = claude(&format!("run: {REACH}"));
    good(&workshop, &blocked);
    assert!(blocked.out.contains("unreachable"), "{blocked:?}");
    let log = workshop.rcc(&project, &["log"]).expect("rcc log");
    good(&workshop, &log);
    assert!(log.out.contains("other.example"), "{log:?}");
    let never = workshop.lab.dns.asked_names();
    assert!(!never.iter().any(|name| name.contains("other")), "N5: {never:?}");

    let allowed = workshop.rcc(&project, &["allow", "other.example"]).expect("rcc allow");
    good(&workshop, &allowed);
    let reached = claude(&format!("run: {REACH}"));
    good(&workshop, &reached);
    assert!(reached.out.contains("from 192.0.2.2:"), "{reached:?}");

    let denied = workshop.rcc(&project, &["deny", "other.example"]).expect("rcc deny");
    good(&workshop, &denied);
    let again = claude(&format!("run: {REACH}"));
    assert!(again.out.contains("unreachable"), "{again:?}");
}
