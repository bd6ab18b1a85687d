//! Floods, slow viewers and hostile bytes against a real `init`. Needs: sh, yes; no privilege.

// Clippy does not know a helper of tests from any other function.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{SOON, Sandbox, start};
use rcc_inside::frame::{ErrorCode, INITIAL_CREDIT, Reply, Request};

fn resident_kilobytes(sandbox: &Sandbox) -> u64 {
    sandbox.status("VmRSS:").parse().unwrap()
}

/// Takes output without granting until none comes for a while, or far too much came.
fn output_without_grant(client: &mut common::Client, quiet: Duration) -> usize {
    let mut total = 0;
    while let Some(reply) = client.next_within(quiet) {
        if let Reply::Output(bytes) = reply {
            total += bytes.len();
        }
        if total > 16 * INITIAL_CREDIT as usize {
            break;
        }
    }
    total
}

#[test]
fn a_viewer_gets_what_it_granted_and_the_program_waits() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    client.send(&start("yes", &["yes"]));
    let terminal = client.started();
    client.attach(terminal);
    assert_eq!(
        output_without_grant(&mut client, Duration::from_millis(700)),
        INITIAL_CREDIT as usize
    );
    client.send(&Request::Credit { bytes: 1000 });
    assert_eq!(output_without_grant(&mut client, Duration::from_millis(700)), 1000);
}

#[test]
fn the_last_words_of_a_program_reach_a_viewer_that_granted_too_little() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    let script = format!(
        "stty -echo; read x; head -c {INITIAL_CREDIT} /dev/zero | tr '\\0' x; echo the tail"
    );
    let terminal = sandbox.start(&mut client, &script);
    client.attach(terminal);
    std::thread::sleep(Duration::from_millis(300));
    client.type_in("go\r");
    let mut last_screen = Vec::new();
    let code = client.find(|reply| match reply {
        Reply::Screen(bytes) => {
            last_screen = bytes;
            None
        }
        Reply::Exited { code, .. } => Some(code),
        _ => None,
    });
    assert_eq!(code, Some(0));
    assert!(String::from_utf8_lossy(&last_screen).contains("the tail"));
}

#[test]
fn a_flood_keeps_memory_bounded_and_ctrl_c_works_at_once() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    client.send(&start("yes", &["yes", "some line of text that is a little longer"]));
    let terminal = client.started();
    client.attach(terminal);
    let end = Instant::now() + Duration::from_secs(4);
    let mut bytes_seen = 0;
    while Instant::now() < end {
        if let Some(Reply::Output(bytes)) = client.next() {
            bytes_seen += bytes.len();
            client.send(&Request::Credit { bytes: u32::try_from(bytes.len()).unwrap() });
        }
    }
    // Far below what a busy two-core machine manages in a debug build.
    assert!(bytes_seen > 512 << 10, "{bytes_seen} bytes in four seconds");
    let memory = resident_kilobytes(&sandbox);
    assert!(memory < 24 << 10, "{memory} kB");
    let start = Instant::now();
    client.type_in("\x03");
    assert_eq!(client.exited(), (None, Some(2)));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn a_flood_that_nobody_looks_at_keeps_memory_bounded() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    client.send(&start("yes", &["yes"]));
    client.started();
    std::thread::sleep(Duration::from_secs(3));
    let memory = resident_kilobytes(&sandbox);
    assert!(memory < 24 << 10, "{memory} kB");
    assert_eq!(client.list().len(), 1);
}

#[test]
fn ctrl_c_works_while_the_viewer_grants_nothing() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    client.send(&start("yes", &["yes"]));
    let terminal = client.started();
    client.attach(terminal);
    output_without_grant(&mut client, Duration::from_millis(300));
    client.type_in("\x03");
    assert_eq!(client.exited(), (None, Some(2)));
}

#[test]
fn a_stalled_viewer_does_not_stop_others_and_gets_a_new_screen() {
    let sandbox = Sandbox::new();
    let (mut stalled, mut viewer) = (sandbox.connect(), sandbox.connect());
    // Each line is new, so that a screen that was sent late can be told from one that was sent early.
    let terminal = sandbox.start(&mut stalled, "i=0; while :; do i=$((i+1)); echo line $i; done");
    stalled.attach(terminal);
    viewer.attach(terminal);
    let mut received = 0;
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    while received < 4 * INITIAL_CREDIT as usize {
        if let Some(Reply::Output(bytes)) = viewer.next() {
            longest = longest.max(last.elapsed());
            last = Instant::now();
            received += bytes.len();
            viewer.send(&Request::Credit { bytes: u32::try_from(bytes.len()).unwrap() });
        }
    }
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&longest), "{longest:?}");
    let before = output_without_grant(&mut stalled, Duration::from_millis(300));
    assert_eq!(before, INITIAL_CREDIT as usize);
    stalled.send(&Request::Credit { bytes: 1000 });
    let first = stalled.find(|reply| match reply {
        Reply::Screen(_) | Reply::Output(_) => Some(reply),
        _ => None,
    });
    let Reply::Screen(screen) = first else { panic!("output that has a gap before it") };
    assert!(String::from_utf8_lossy(&screen).contains("line "));
}

#[test]
fn garbage_drops_that_connection_alone() {
    let sandbox = Sandbox::new();
    let mut good = sandbox.connect();
    let terminal = sandbox.start(&mut good, "cat");
    good.attach(terminal);
    for garbage in [
        &b"\xff\xff\xff\xff"[..],
        b"\0\0\0\0",
        b"\0\0\0\x05\x01nope",
        b"\0\0\0\x01\x09",
        b"\0\0\0\x02\x02x",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut bad = sandbox.connect_silently();
        bad.send_raw(garbage);
        assert!(bad.is_closed(), "{garbage:?}");
        let mut bad = sandbox.connect();
        if garbage == b"\0\0\0\x02\x02x" {
            continue;
        }
        bad.send_raw(garbage);
        assert_eq!(bad.error(), ErrorCode::BadRequest);
        assert!(bad.is_closed(), "{garbage:?}");
    }
    good.type_in("still here\r");
    good.see("still here\r\nstill here");
}

#[test]
fn a_connection_must_say_hello_in_the_right_version() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect_silently();
    client.send(&Request::List);
    assert_eq!(client.error(), ErrorCode::BadRequest);
    assert!(client.is_closed());
    let mut client = sandbox.connect_silently();
    client.send(&Request::Hello { version: 999 });
    assert_eq!(client.error(), ErrorCode::Version);
    assert!(client.is_closed());
    let mut client = sandbox.connect_silently();
    assert!(client.is_closed(), "a silent connection stays open");
}

#[test]
fn a_connection_that_asks_and_never_reads_is_dropped() {
    let sandbox = Sandbox::new();
    let mut good = sandbox.connect();
    // Straight to the socket, since a relay would read.
    use std::io::Write as _;
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&sandbox.socket).unwrap();
    let mut deaf = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
    deaf.write_all(&Request::Hello { version: 1 }.encode().unwrap()).unwrap();
    let terminal = sandbox.start(&mut good, "seq 5000; cat");
    let mut requests = Vec::new();
    for _ in 0..2000 {
        requests.extend(
            Request::Attach { terminal, cols: 200, rows: 100, history: true }.encode().unwrap(),
        );
    }
    let dropped = (0..50).any(|_| deaf.write_all(&requests).is_err());
    assert!(dropped);
    let memory = resident_kilobytes(&sandbox);
    assert!(memory < 48 << 10, "{memory} kB");
    assert_eq!(good.list().len(), 1);
}

#[test]
fn input_that_is_not_read_is_bounded_and_an_interrupt_overtakes_it() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    let terminal = sandbox.start(&mut client, "stty raw isig -echo; echo ready; exec sleep 1000");
    client.attach(terminal);
    client.see("ready");
    for _ in 0..10 {
        client.send(&Request::Input(vec![b'x'; 1 << 19]));
    }
    assert_eq!(client.error(), ErrorCode::InputFull);
    client.type_in("\x03");
    assert_eq!(client.exited(), (None, Some(2)));
}

#[test]
fn work_that_the_output_asks_for_does_not_stop_the_sandbox() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    // A character repeated as often as a terminal may be asked to, again and again.
    let terminal = sandbox
        .start(&mut client, "while :; do printf 'x\\033[65535b\\033[65535b\\033[65535b'; done");
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..5 {
        let start = Instant::now();
        assert_eq!(client.list().len(), 1);
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    }
    client.send(&Request::Signal { terminal, signal: 9 });
}

#[test]
fn nothing_happens_while_nothing_happens() {
    let sandbox = Sandbox::new();
    let mut client = sandbox.connect();
    client.send(&Request::Subscribe);
    // One whose program has closed its terminal, one that waits, and a viewer that grants nothing.
    sandbox.start(&mut client, "exec <&- >&- 2>&-; exec sleep 1000");
    let terminal = sandbox.start(&mut client, "cat");
    client.attach(terminal);
    let switches = || sandbox.status("voluntary_ctxt_switches:").parse::<u64>().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let before = switches();
    std::thread::sleep(Duration::from_secs(2));
    let woken = switches() - before;
    // The closed terminal is looked at ten times a second, since it can be opened again.
    assert!(woken < 30, "woken {woken} times");
}
