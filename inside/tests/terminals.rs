//! Terminals of a real `init`. Needs: sh, stty, kill and a devpts; no privilege.

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{PROGRAM, SOON, Sandbox, start, until};
use rcc_inside::frame::{ErrorCode, Reply, Request};
use rcc_inside::state::State;

#[test]
fn a_program_has_a_terminal_of_its_own_and_the_promised_environment() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    let terminal = sandbox.start(
        &mut client,
        "sleep 0.2; tty; echo $TERM/$COLORTERM/$RCC_TERMINAL/$HOME.; echo hi >/dev/tty; pwd; echo end",
    );
    assert_eq!(terminal, 1);
    client.attach(terminal);
    let seen = client.see("end\r\n");
    assert!(seen.contains("/dev/pts/"), "{seen}");
    assert!(seen.contains("xterm-256color/truecolor/1/."), "{seen}");
    assert!(seen.contains("hi\r\n/tmp\r\n"), "{seen}");
    assert_eq!(client.exited(), (Some(0), None));
}

#[test]
fn a_program_inherits_no_descriptors_and_no_blocked_signals() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    // Not through a shell, which would put signals right itself.
    client.send(&start("x", &["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]));
    let terminal = client.started();
    client.attach(terminal);
    // The last line whole: it may come in pieces.
    let mut seen = client.see("SigIgn");
    while !seen.ends_with('\n') {
        seen += &client.see("\n");
    }
    let mask = |name: &str| {
        let digits = seen.split(name).nth(1).unwrap().trim_start().get(..16).unwrap();
        u64::from_str_radix(digits, 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0, "{seen}");
    // glibc keeps 32 and 33 for itself and ignores them in new processes.
    assert_eq!(mask("SigIgn:") & 0x7fff_ffff, 0, "{seen}");

    client.send(&start("x", &["ls", "/proc/self/fd"]));
    let terminal = client.started();
    client.attach(terminal);
    // 3 is the folder itself.
    let seen = client.see("3\r\n");
    assert!(seen.ends_with("0  1  2  3\r\n"), "{seen}");
}

#[test]
fn what_was_open_when_init_started_is_not_inherited() {
    let socket = format!("rcc-test-inherit-{}", std::process::id());
    let init = Command::new("sh")
        .args(["-c", r#"exec 7</dev/null; exec "$0" --socket "$1" init"#, PROGRAM, &socket])
        .spawn()
        .unwrap();
    let sandbox = Sandbox { init, socket };
    let mut client = sandbox.connect();
    assert!(std::path::Path::new(&format!("/proc/{}/fd/7", sandbox.pid())).exists());
    let terminal =
        sandbox.start(&mut client, "sleep 0.2; test -e /proc/$$/fd/7 && echo inherited; echo end");
    client.attach(terminal);
    assert!(!client.see("end\r\n").contains("inherited"));
}

#[test]
fn what_is_typed_comes_back() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    let terminal = sandbox.start(&mut client, "cat");
    client.attach(terminal);
    client.type_in("grüße\r");
    client.see("grüße\r\ngrüße\r\n");
    client.type_in("\x04");
    assert_eq!(client.exited(), (Some(0), None));
}

#[test]
fn exit_codes_and_signals_are_told() {
    let sandbox = Sandbox::new();
    for (script, expected) in
        [("exit 0", (Some(0), None)), ("exit 7", (Some(7), None)), ("kill -9 $$", (None, Some(9)))]
    {
        let mut client = sandbox.connect();
        let terminal = sandbox.start(&mut client, script);
        client.attach(terminal);
        assert_eq!(client.exited(), expected, "{script}");
        let info = client.list().into_iter().find(|info| info.terminal == terminal).unwrap();
        assert!(!info.alive);
        assert_eq!(info.exit.map(|exit| (exit.code, exit.signal)), Some(expected));
        assert_eq!(info.state, State::Ended);
    }
}

#[test]
fn all_output_comes_before_the_exit() {
    let sandbox = Sandbox::new();
    for _ in 0..20 {
        let mut client = sandbox.connect();
        let terminal = sandbox.start(&mut client, "read x; seq 20000; echo the end");
        client.attach(terminal);
        client.type_in("go\r");
        client.see("20000\r\nthe end\r\n");
        assert_eq!(client.exited(), (Some(0), None));
    }
}

#[test]
fn what_cannot_be_started_is_told() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    client.send(&start("x", &["no-such-program-anywhere"]));
    assert_eq!(client.error(), ErrorCode::NotFound);
    client.send(&start("x", &["/etc/passwd"]));
    assert_eq!(client.error(), ErrorCode::NotFound);
    client.send(&start("x", &["/tmp"]));
    assert_eq!(client.error(), ErrorCode::NotFound);
    let mut request = start("x", &["sh"]);
    if let Request::Start { cwd, .. } = &mut request {
        *cwd = "/no/such/folder".into();
    }
    client.send(&request);
    assert_eq!(client.error(), ErrorCode::NoDirectory);
    assert!(client.list().is_empty());
}

#[test]
fn numbers_are_not_used_again_and_sixteen_ended_terminals_are_kept() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    client.send(&Request::Subscribe);
    for expected in 1..=20 {
        assert_eq!(sandbox.start(&mut client, "exit 3"), expected);
        assert_eq!(client.exited(), (Some(3), None));
    }
    let list = client.list();
    let numbers: Vec<_> = list.iter().map(|info| info.terminal).collect();
    assert_eq!(numbers, (5..=20).collect::<Vec<_>>());
    client.attach(4);
    assert_eq!(client.error(), ErrorCode::NoSuchTerminal);
}

#[test]
fn too_many_terminals_are_refused() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    for _ in 0..32 {
        sandbox.start(&mut client, "cat");
    }
    client.send(&start("x", &["cat"]));
    assert_eq!(client.error(), ErrorCode::TooMany);
}

#[test]
fn a_viewer_that_comes_back_sees_the_screen_again() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    let script = "printf '\\033]0;✳ Title\\007behind\\033[?1049h\\033[2J\\033[5;5Hfull screen\\033[?1002h\\033[?2004h\\033[?1h'; cat";
    let terminal = sandbox.start(&mut client, script);
    client.attach(terminal);
    client.see("full screen");
    drop(client);

    let mut client = sandbox.connect();
    client.attach(terminal);
    let Some(Reply::Screen(bytes)) = client.next() else { panic!("no screen") };
    let screen = String::from_utf8(bytes).unwrap();
    for part in [
        "behind",
        "\x1b[?1049h",
        "full screen",
        "\x1b[?1002h",
        "\x1b[?2004h",
        "\x1b[?1h",
        "✳ Title",
    ] {
        assert!(screen.contains(part), "{part:?} is missing in {screen:?}");
    }
    assert!(screen.find("behind").unwrap() < screen.find("\x1b[?1049h").unwrap());
    client.type_in("alive\r");
    client.see("alive\r\nalive");
}

#[test]
fn an_ended_terminal_shows_its_last_screen() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    client.send(&Request::Subscribe);
    let terminal = sandbox.start(&mut client, "echo last words; exit 4");
    assert_eq!(client.exited(), (Some(4), None));
    client.attach(terminal);
    client.see("last words");
    assert_eq!(client.exited(), (Some(4), None));
    client.type_in("x");
    assert_eq!(client.error(), ErrorCode::NotAttached);
}

#[test]
fn two_viewers_see_the_same() {
    let sandbox = Sandbox::new();
    let (mut one, mut two) = (sandbox.connect(), sandbox.connect());
    let terminal = sandbox.start(&mut one, "cat");
    one.attach(terminal);
    two.attach(terminal);
    two.see("\x1b[2J");
    one.type_in("from one\r");
    two.see("from one\r\nfrom one");
    two.type_in("from two\r");
    one.see("from two\r\nfrom two");
}

#[test]
fn the_size_reaches_the_program() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    let script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done";
    let terminal = sandbox.start(&mut client, script);
    client.attach(terminal);
    client.see("24 80\r\n");
    client.send(&Request::Resize { cols: 100, rows: 30 });
    client.see("30 100\r\n");
    client.send(&Request::Attach { terminal, cols: 60, rows: 20, history: false });
    client.see("20 60\r\n");
    client.send(&Request::Resize { cols: 0, rows: 0 });
    client.see("1 2\r\n");
    let info = client.list().remove(0);
    assert_eq!((info.cols, info.rows), (2, 1));
}

#[test]
fn questions_of_a_program_that_nobody_looks_at_are_answered() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    let script = r#"stty -icanon -echo; printf '\033[5n'; a=$(dd bs=4 count=1 2>/dev/null | od -An -tx1); echo "got$a"; cat"#;
    let terminal = sandbox.start(&mut client, script);
    std::thread::sleep(Duration::from_millis(500));
    client.attach(terminal);
    client.see("got 1b 5b 30 6e");
}

#[test]
fn signals_reach_the_programs_of_a_terminal() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    let terminal = sandbox.start(&mut client, "cat");
    client.attach(terminal);
    client.send(&Request::Signal { terminal, signal: 15 });
    assert_eq!(client.exited(), (None, Some(15)));
    client.send(&Request::Signal { terminal, signal: 15 });
    assert_eq!(client.error(), ErrorCode::NoSuchTerminal);
}

#[test]
fn orphans_are_reaped() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    let terminal = sandbox
        .start(&mut client, "for i in 1 2 3 4 5; do (setsid sleep 0.2 &); done; echo started; cat");
    client.attach(terminal);
    client.see("started");
    let children = || {
        let path = format!("/proc/{0}/task/{0}/children", sandbox.pid());
        std::fs::read_to_string(path).unwrap().split_whitespace().count()
    };
    assert!(until(SOON, || children() > 1), "the orphans were not adopted");
    assert!(until(SOON, || children() == 1), "the orphans were not reaped");
}

#[test]
fn sigterm_ends_everything() {
    let mut sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    let terminal = sandbox.start(&mut client, "echo pid $$; cat");
    client.attach(terminal);
    client.see("pid ");
    let start = Instant::now();
    sandbox.signal("-TERM");
    assert!(sandbox.ended(SOON));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(client.is_closed());
}

#[test]
fn sigterm_kills_what_does_not_want_to_end() {
    let mut sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    let script = "trap '' HUP TERM INT; echo pid $$ ready; while :; do sleep 1; done";
    let terminal = sandbox.start(&mut client, script);
    client.attach(terminal);
    let seen = client.see(" ready");
    let pid = seen.split("pid ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let start = Instant::now();
    sandbox.signal("-TERM");
    assert!(sandbox.ended(SOON));
    let took = start.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&took), "{took:?}");
    let alive = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    assert!(until(SOON, || !alive()));
}

#[test]
fn other_signals_do_not_end_the_sandbox() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    sandbox.signal("-HUP");
    assert!(client.list().is_empty());
}
