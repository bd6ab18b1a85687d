//! A played host: starts the real program as `init` and talks to it through the real `client`.

// Each test file uses its own part of this; and clippy does not know a module of tests from any other.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rcc_inside::frame::{Decoder, ErrorCode, PROTOCOL_VERSION, Reply, Request, TerminalInfo};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_rcc-inside");

/// Long enough for a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// A running `init`, with a socket of its own.
pub struct Sandbox {
    pub init: Child,
    pub socket: String,
}

impl Sandbox {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let socket =
            format!("rcc-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let init = Command::new(PROGRAM)
            .args(["--socket", &socket, "init"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { init, socket }
    }

    pub fn pid(&self) -> u32 {
        self.init.id()
    }

    /// A greeted connection.
    pub fn connect(&self) -> Client {
        let mut client = self.connect_silently();
        client.send(&Request::Hello { version: PROTOCOL_VERSION });
        assert_eq!(client.next(), Some(Reply::Welcome { version: PROTOCOL_VERSION }));
        client
    }

    pub fn connect_silently(&self) -> Client {
        let mut process = Command::new(PROGRAM)
            .args(["--socket", &self.socket, "client"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take();
        let mut output = process.stdout.take().unwrap();
        let (sender, replies) = channel();
        thread::spawn(move || {
            let mut decoder = Decoder::new();
            let mut bytes = vec![0; 1 << 16];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                for frame in decoder.push(&bytes[..count]) {
                    if sender.send(Reply::decode(&frame.unwrap()).unwrap()).is_err() {
                        return;
                    }
                }
            }
        });
        Client { process, input, replies }
    }

    /// Starts a shell script on a terminal of 80 by 24.
    pub fn start(&self, client: &mut Client, script: &str) -> u32 {
        client.send(&start("shell", &["sh", "-c", script]));
        client.started()
    }

    pub fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill")
                .args([signal, &self.pid().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    pub fn status(&self, key: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    }

    /// Waits for the end of `init`.
    pub fn ended(&mut self, within: Duration) -> bool {
        until(within, || self.init.try_wait().unwrap().is_some())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.init.try_wait().unwrap().is_none() {
            self.signal("-TERM");
            if !self.ended(SOON) {
                self.init.kill().unwrap();
            }
        }
    }
}

/// One exec of the host.
pub struct Client {
    pub process: Child,
    pub input: Option<ChildStdin>,
    pub replies: Receiver<Reply>,
}

impl Client {
    pub fn send(&mut self, request: &Request) {
        self.send_raw(&request.encode().unwrap());
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        // A connection that was dropped is found out by what it no longer answers.
        let _broken = self.input.as_mut().unwrap().write_all(bytes);
    }

    pub fn type_in(&mut self, text: &str) {
        self.send(&Request::Input(text.as_bytes().to_vec()));
    }

    pub fn attach(&mut self, terminal: u32) {
        self.send(&Request::Attach { terminal, cols: 80, rows: 24, history: true });
    }

    /// The next reply, or nothing when the connection was closed.
    pub fn next(&mut self) -> Option<Reply> {
        match self.replies.recv_timeout(SOON) {
            Ok(reply) => Some(reply),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no reply came"),
        }
    }

    pub fn next_within(&mut self, time: Duration) -> Option<Reply> {
        self.replies.recv_timeout(time).ok()
    }

    pub fn is_closed(&mut self) -> bool {
        loop {
            match self.replies.recv_timeout(SOON) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Takes replies until one fits.
    pub fn find<T>(&mut self, mut wanted: impl FnMut(Reply) -> Option<T>) -> T {
        let end = Instant::now() + SOON;
        while Instant::now() < end {
            let reply = self.next().expect("the connection was closed");
            if let Some(found) = wanted(reply) {
                return found;
            }
        }
        panic!("what was waited for did not come");
    }

    pub fn started(&mut self) -> u32 {
        self.find(|reply| match reply {
            Reply::Started { terminal } => Some(terminal),
            Reply::Error { code, message } => panic!("{code:?}: {message}"),
            _ => None,
        })
    }

    pub fn error(&mut self) -> ErrorCode {
        self.find(|reply| match reply {
            Reply::Error { code, .. } => Some(code),
            _ => None,
        })
    }

    pub fn exited(&mut self) -> (Option<i32>, Option<i32>) {
        self.find(|reply| match reply {
            Reply::Exited { code, signal, .. } => Some((code, signal)),
            _ => None,
        })
    }

    pub fn list(&mut self) -> Vec<TerminalInfo> {
        self.send(&Request::List);
        self.find(|reply| match reply {
            Reply::Terminals(list) => Some(list),
            _ => None,
        })
    }

    /// Takes screen and output, and gives credit back, until the text was seen.
    pub fn see(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let end = Instant::now() + SOON;
        while Instant::now() < end {
            match self.next_within(SOON) {
                Some(Reply::Output(bytes)) => {
                    self.send(&Request::Credit { bytes: u32::try_from(bytes.len()).unwrap() });
                    seen.extend(bytes);
                }
                Some(Reply::Screen(bytes)) => seen.extend(bytes),
                Some(_) => {}
                None => break,
            }
            let seen = String::from_utf8_lossy(&seen);
            if seen.contains(text) {
                return seen.into_owned();
            }
        }
        panic!("{text:?} was not seen in {:?}", String::from_utf8_lossy(&seen));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

pub fn start(name: &str, argv: &[&str]) -> Request {
    Request::Start {
        argv: argv.iter().map(ToString::to_string).collect(),
        env: vec![("PATH".into(), std::env::var("PATH").unwrap()), ("PS1".into(), "$ ".into())],
        cwd: "/tmp".into(),
        cols: 80,
        rows: 24,
        name: name.into(),
    }
}

pub fn until(time: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if done() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    done()
}
