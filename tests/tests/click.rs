//! The way through the window's button, for real: an ordinary user clicks, the
//! real Claude Code runs in a container behind the real helper, and its API is
//! played in the lab. `tests/end_to_end.rs` goes the same way by the command line.

use std::fs;
use std::os::unix::fs::chown;

use rcc_policy::Preset;
use rcc_tests::{ANN, Window, Workshop, skip};

/// Says the greeting of a server, or how it failed.
const REACH: &str = "timeout 10 bash -c 'exec 3<>/dev/tcp/other.example/443 && head -n 1 <&3' \
                     || echo unreachable\n";

#[test]
fn a_click_opens_claude_and_another_allows_a_blocked_host() {
    if let Some(reason) = Window::missing() {
        skip(&reason);
        return;
    }
    let started = Workshop::start(&Preset::Locked.document(&[])).expect("a lab with containers");
    let workshop = match started {
        Ok(workshop) => workshop,
        Err(reason) => {
            skip(&reason);
            return;
        }
    };
    let project = workshop.project("web-shop").expect("a project");
    let (notes, reach) = (project.join("notes.txt"), project.join("reach.sh"));
    fs::write(&notes, "before\n").expect("write");
    fs::write(&reach, REACH).expect("write");
    for path in [&notes, &reach] {
        chown(path, Some(ANN.0), Some(ANN.0)).expect("chown");
    }
    // The window takes the image from the project's settings.
    let ready = workshop.rcc(&project, &["init", "--yes", "--image", "small"]).expect("rcc init");
    assert_eq!(ready.code, 0, "{ready:?}");

    let window = Window::open(&workshop, &project).expect("the window");
    window.click("Open Folder…");
    window.shows("Claude can change this folder and nothing else.");
    window.click("Open in Sandbox");
    window.shows("Behind the firewall");
    window.prints("Claude Code");
    window.shows("Ready");

    let ask = |prompt: &str| {
        window.enter_terminal();
        window.keys(prompt);
        window.prints(prompt);
        window.keys("\u{e007}");
    };
    ask("Say hello.");
    window.prints("Hello from the played API.");
    let asked = workshop.api.requests();
    let message = asked.iter().find(|request| request.line.starts_with("POST /v1/messages"));
    let message = message.unwrap_or_else(|| panic!("no message came: {asked:?}"));
    assert!(message.known, "with another key");
    assert_eq!(message.peer.ip().to_string(), "192.0.2.2", "through the gate and the host");

    ask("run: echo after >> notes.txt; wc -l notes.txt");
    window.prints("The command printed: 2 notes.txt");
    assert_eq!(fs::read_to_string(&notes).expect("read"), "before\nafter\n");

    ask("run: bash reach.sh");
    window.prints("unreachable");
    window.shows("Blocked: other.example");
    let never = workshop.lab.dns.asked_names();
    assert!(!never.iter().any(|name| name.contains("other")), "N5: {never:?}");

    window.click("Allow for This Project");
    window.until("the bar goes", || {
        (!window.text().contains("Blocked: other.example")).then_some(())
    });
    ask("run: bash reach.sh");
    window.prints("from 192.0.2.2:");

    window.click("Project menu");
    window.click("Stop Session…");
    window.click("Stop Session");
    window.shows("Open in Sandbox");
    let left = workshop.run(&project, "podman", &["ps", "--all", "--quiet"]).expect("podman");
    assert_eq!(left.out.trim(), "", "{left:?}");
}
