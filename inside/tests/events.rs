//! Hooks, titles and states through a real `init` and a real `hook`. Needs: sh; no privilege.

// Clippy does not know a helper of tests from any other function.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{PROGRAM, Sandbox, start};
use rcc_inside::frame::{HookEvent, Reply, Request};
use rcc_inside::state::State;

/// Runs the hook as Claude Code does; gives how long it took.
fn hook(socket: &str, terminal: Option<&str>, input: &[u8]) -> Duration {
    let start = Instant::now();
    let mut command = Command::new(PROGRAM);
    command
        .args(["--socket", socket, "hook"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    match terminal {
        Some(terminal) => command.env("RCC_TERMINAL", terminal),
        None => command.env_remove("RCC_TERMINAL"),
    };
    let mut child = command.spawn().unwrap();
    let _not_all_read = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    start.elapsed()
}

fn next_event(client: &mut common::Client) -> (Option<u32>, HookEvent) {
    client.find(|reply| match reply {
        Reply::Event { terminal, event } => Some((terminal, event)),
        _ => None,
    })
}

fn await_state(client: &mut common::Client, wanted: State) -> Option<String> {
    client.find(|reply| match reply {
        Reply::State { state, detail, .. } if state == wanted => Some(detail),
        _ => None,
    })
}

#[test]
fn a_hook_reaches_a_subscriber_and_changes_the_state() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    client.send(&Request::Subscribe);
    client.send(&start("claude", &["cat"]));
    let terminal = client.started();
    await_state(&mut client, State::Starting);
    let number = terminal.to_string();
    hook(&sandbox.socket, Some(&number), br#"{"hook_event_name":"UserPromptSubmit","prompt":"x"}"#);
    await_state(&mut client, State::Working);
    let question = br#"{"hook_event_name":"PermissionRequest","tool_name":"AskUserQuestion",
        "tool_input":{"questions":[{"question":"Which database?"}]}}"#;
    hook(&sandbox.socket, Some(&number), question);
    let (from, event) = next_event(&mut client);
    assert_eq!((from, event.name.as_str()), (Some(terminal), "PermissionRequest"));
    assert_eq!(await_state(&mut client, State::NeedsYou).as_deref(), Some("Which database?"));
    let info = client.list().remove(0);
    assert_eq!((info.state, info.detail.as_deref()), (State::NeedsYou, Some("Which database?")));
    assert!(info.since_unix_s >= info.started_unix_s);
}

#[test]
fn a_hook_of_an_unknown_terminal_names_none() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    client.send(&Request::Subscribe);
    client.list();
    for terminal in [None, Some("99"), Some("-1"), Some("x")] {
        hook(&sandbox.socket, terminal, br#"{"hook_event_name":"Stop"}"#);
        let (from, event) = next_event(&mut client);
        assert_eq!((from, event.name.as_str()), (None, "Stop"));
    }
}

#[test]
fn a_hook_never_fails_and_never_waits() {
    let sandbox = Sandbox::new();
    drop(sandbox.connect());
    let file = format!(r#"{{"hook_event_name":"Stop","x":"{}"}}"#, "y".repeat(1 << 20));
    for input in [&b""[..], b"{", b"\xff\xfe", b"null", file.as_bytes()] {
        assert!(hook(&sandbox.socket, Some("1"), input) < Duration::from_secs(1));
    }
    assert!(
        hook("rcc-test-nobody-listens", Some("1"), br#"{"hook_event_name":"Stop"}"#)
            < Duration::from_secs(1)
    );
}

#[test]
fn a_hook_does_not_wait_for_an_input_that_does_not_end() {
    let start = Instant::now();
    let mut child = Command::new(PROGRAM)
        .args(["--socket", "rcc-test-nobody-listens", "hook"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let _held_open = child.stdin.take();
    assert!(child.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn a_hook_does_not_wait_for_a_pid_1_that_does_not_answer() {
    let sandbox = Sandbox::new();
    drop(sandbox.connect());
    sandbox.signal("-STOP");
    let took = hook(&sandbox.socket, Some("1"), br#"{"hook_event_name":"Stop"}"#);
    sandbox.signal("-CONT");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn esc_does_not_leave_working_behind() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    client.send(&Request::Subscribe);
    // Plays Claude Code: turning until a key comes, then idle, and no hook.
    let script = r"stty -icanon -echo; printf '\033]0;◐ Fix it\007'; dd bs=1 count=1 >/dev/null 2>&1; printf '\033]0;✳ Fix it\007'; cat";
    client.send(&start("claude", &["sh", "-c", script]));
    let terminal = client.started();
    hook(
        &sandbox.socket,
        Some(&terminal.to_string()),
        br#"{"hook_event_name":"UserPromptSubmit"}"#,
    );
    await_state(&mut client, State::Working);
    client.attach(terminal);
    client.see("◐ Fix it");
    client.type_in("\x1b");
    await_state(&mut client, State::Done);
    let info = client.list().remove(0);
    assert_eq!((info.title.as_str(), info.title_glyph), ("✳ Fix it", Some('✳')));
}

#[test]
fn titles_are_told_clean_and_not_too_often() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    client.send(&Request::Subscribe);
    let script = r"i=0; while [ $i -lt 2000 ]; do i=$((i+1)); printf '\033]0;\342\200\256t%s\007' $i; done; cat";
    let begin = Instant::now();
    client.send(&start("shell", &["sh", "-c", script]));
    client.started();
    let mut titles = 0_u32;
    let last = client.find(|reply| match reply {
        Reply::Title { title, .. } => {
            titles += 1;
            assert!(title.starts_with('t'), "{title:?}");
            (title == "t2000").then_some(title)
        }
        _ => None,
    });
    assert_eq!(last, "t2000");
    let most = 2 + u32::try_from(begin.elapsed().as_millis() / 250).unwrap();
    assert!(titles <= most, "{titles} titles, at most {most}");
}

#[test]
fn states_are_told_at_most_four_times_a_second() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    client.send(&Request::Subscribe);
    client.send(&start("claude", &["cat"]));
    let terminal = client.started();
    let mut sender = sandbox.connect();
    let begin = Instant::now();
    for turn in 0..400 {
        let name = if turn % 2 == 0 { "UserPromptSubmit" } else { "Stop" };
        let event = HookEvent { name: name.into(), ..HookEvent::default() };
        sender.send(&Request::Hook { terminal: Some(terminal), event });
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut states = 0_u32;
    let mut events = 0_u32;
    client.find(|reply| {
        states += u32::from(matches!(reply, Reply::State { .. }));
        events += u32::from(matches!(reply, Reply::Event { .. }));
        matches!(reply, Reply::State { turns: 200, .. }).then_some(())
    });
    let most = 3 + u32::try_from(begin.elapsed().as_millis() / 250).unwrap();
    assert!(states <= most, "{states} states, at most {most}");
    assert!(events < 100, "{events} of 400 events were passed on");
}

#[test]
fn a_claude_that_fails_is_trouble() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    client.send(&Request::Subscribe);
    client.send(&start("claude", &["sh", "-c", "exit 1"]));
    assert_eq!(await_state(&mut client, State::Trouble).as_deref(), Some("exit code 1"));
    client.send(&start("claude", &["cat"]));
    let terminal = client.started();
    client.send(&Request::Signal { terminal, signal: 1 });
    await_state(&mut client, State::Ended);
}
