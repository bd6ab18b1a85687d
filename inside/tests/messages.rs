//! What crosses the border as a message. Needs nothing.

use rcc_inside::frame::{
    Decoder, ErrorCode, Frame, HookEvent, MAX_FRAME, MAX_TERMINALS, Reply, Request, TerminalInfo,
};
use rcc_inside::state::State;

fn start() -> Request {
    Request::Start {
        argv: vec!["claude".into()],
        env: vec![("HOME".into(), "/home/agent".into())],
        cwd: "/workspace".into(),
        cols: 80,
        rows: 24,
        name: "claude".into(),
    }
}

fn event() -> HookEvent {
    HookEvent {
        name: "Stop".into(),
        detail: Some("what".into()),
        background: true,
        ..HookEvent::default()
    }
}

fn info() -> TerminalInfo {
    TerminalInfo {
        terminal: 1,
        name: "claude".into(),
        argv0: "claude".into(),
        state: State::Working,
        detail: None,
        turns: 0,
        since_unix_s: 5,
        started_unix_s: 4,
        title: "✳ Claude Code".into(),
        title_glyph: Some('✳'),
        cols: 80,
        rows: 24,
        alive: true,
        exit: None,
    }
}

#[test]
fn requests_come_back_as_they_were() {
    for request in [
        Request::Hello { version: 1 },
        start(),
        Request::Attach { terminal: 1, cols: 80, rows: 24, history: false },
        Request::Input(vec![0, 255, 3]),
        Request::Resize { cols: 1, rows: 2 },
        Request::Credit { bytes: u32::MAX },
        Request::List,
        Request::Signal { terminal: 1, signal: 15 },
        Request::Subscribe,
        Request::Hook { terminal: Some(3), event: event() },
    ] {
        let bytes = request.encode().unwrap();
        let mut decoder = Decoder::new();
        let frame = decoder.push(&bytes).next().unwrap().unwrap();
        assert_eq!(Request::decode(&frame).unwrap(), request);
    }
}

#[test]
fn replies_come_back_as_they_were() {
    for reply in [
        Reply::Welcome { version: 1 },
        Reply::Started { terminal: 7 },
        Reply::Screen(b"\x1b[2J".to_vec()),
        Reply::Output(vec![0, 159]),
        Reply::Exited { terminal: 1, code: Some(0), signal: None },
        Reply::Terminals(vec![info()]),
        Reply::Event { terminal: None, event: event() },
        Reply::Title { terminal: 1, title: "✳ x".into() },
        Reply::State {
            terminal: 1,
            state: State::NeedsYou,
            detail: Some("Which?".into()),
            turns: 2,
            since_unix_s: 9,
        },
        Reply::Error { code: ErrorCode::NotFound, message: "no".into() },
    ] {
        let frame = reply.to_frame().unwrap();
        assert_eq!(Reply::decode(&frame).unwrap(), reply);
    }
}

#[test]
fn the_json_is_fixed() {
    let frame =
        Request::Attach { terminal: 2, cols: 80, rows: 24, history: true }.to_frame().unwrap();
    assert_eq!(frame.kind(), 1);
    assert_eq!(
        frame.payload(),
        br#"{"type":"attach","body":{"terminal":2,"cols":80,"rows":24,"history":true}}"#
    );
    let older = br#"{"type":"attach","body":{"terminal":2,"cols":80,"rows":24,"later":1}}"#;
    let frame = Frame::new(1, older.to_vec()).unwrap();
    assert_eq!(
        Request::decode(&frame).unwrap(),
        Request::Attach { terminal: 2, cols: 80, rows: 24, history: true }
    );
}

#[test]
fn text_from_a_sandbox_is_cleaned_and_cut() {
    let mut hostile = info();
    hostile.title = format!("\u{1b}]52;c;aGk=\u{7}\u{202e}{}", "x".repeat(500));
    hostile.title_glyph = Some('\u{1b}');
    hostile.name = "a\nb".into();
    let frame = Reply::Terminals(vec![hostile; MAX_TERMINALS + 9]).to_frame().unwrap();
    let Reply::Terminals(terminals) = Reply::decode(&frame).unwrap() else {
        panic!("another message")
    };
    assert_eq!(terminals.len(), MAX_TERMINALS);
    assert_eq!(terminals[0].name, "a b");
    assert!(terminals[0].title.starts_with("]52;c;aGk= xxx"));
    assert_eq!(terminals[0].title.chars().count(), 140);
    assert_eq!(terminals[0].title_glyph, None);

    let long =
        Reply::Error { code: ErrorCode::Unknown, message: "y".repeat(5000) }.to_frame().unwrap();
    assert!(
        matches!(Reply::decode(&long).unwrap(), Reply::Error { message, .. } if message.len() == 500)
    );
}

#[test]
fn an_error_code_of_a_newer_sandbox_is_unknown() {
    let frame =
        Frame::new(1, br#"{"type":"error","body":{"code":"brand_new","message":"m"}}"#.to_vec())
            .unwrap();
    assert!(matches!(Reply::decode(&frame), Ok(Reply::Error { code: ErrorCode::Unknown, .. })));
}

#[test]
fn requests_out_of_range_are_refused() {
    type Change<'a> = &'a dyn Fn(&mut Vec<String>, &mut Vec<(String, String)>, &mut String);
    let refused = |change: Change<'_>| {
        let mut request = start();
        if let Request::Start { argv, env, cwd, .. } = &mut request {
            change(argv, env, cwd);
        }
        Request::decode(&request.to_frame().unwrap()).is_err()
    };
    assert!(!refused(&|_, _, _| ()));
    assert!(refused(&|argv, _, _| argv.clear()));
    assert!(refused(&|argv, _, _| argv[0].clear()));
    assert!(refused(&|argv, _, _| argv.push("a\0b".into())));
    assert!(refused(&|argv, _, _| argv.push("x".repeat(200 << 10))));
    assert!(refused(&|argv, _, _| argv.resize(2000, String::new())));
    assert!(refused(&|_, env, _| env.push(("A=B".into(), String::new()))));
    assert!(refused(&|_, env, _| env.push((String::new(), String::new()))));
    assert!(refused(&|_, _, cwd| *cwd = "workspace".into()));
    for signal in [0, 3, 18, 19, -1, 64] {
        let frame = Request::Signal { terminal: 1, signal }.to_frame().unwrap();
        assert!(Request::decode(&frame).is_err(), "signal {signal}");
    }
}

#[test]
fn kinds_of_the_other_direction_are_refused() {
    assert!(Request::decode(&Frame::new(4, vec![]).unwrap()).is_err());
    assert!(Reply::decode(&Frame::new(2, vec![]).unwrap()).is_err());
    assert!(Reply::decode(&Frame::new(0, vec![]).unwrap()).is_err());
}

#[test]
fn a_message_too_large_for_a_frame_is_an_error() {
    assert!(Request::Input(vec![0; MAX_FRAME]).encode().is_err());
}
