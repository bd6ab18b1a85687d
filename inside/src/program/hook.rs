//! What Claude Code runs when something happens: tells PID 1, and never stands in Claude Code's way.

use std::io::{self, Read as _, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rcc_inside::TERMINAL_VARIABLE;
use rcc_inside::frame::{PROTOCOL_VERSION, Request};
use rcc_inside::hooks::{MAX_INPUT, parse};

use super::client;

/// After so long Claude Code goes on, told or not.
const PATIENCE: Duration = Duration::from_millis(900);

/// Reads the hook's input and tells PID 1. Every failure is silent: what is printed here could reach the conversation.
pub fn run(socket: String) {
    let (done, is_done) = mpsc::channel();
    thread::spawn(move || {
        let _lost = tell(&socket);
        let _late = done.send(());
    });
    let _late = is_done.recv_timeout(PATIENCE);
}

fn tell(socket: &str) -> io::Result<()> {
    let mut input = Vec::new();
    io::stdin().lock().take(MAX_INPUT as u64).read_to_end(&mut input)?;
    let Some(event) = parse(&input) else { return Ok(()) };
    let terminal = std::env::var(TERMINAL_VARIABLE).ok().and_then(|number| number.parse().ok());
    let mut stream = client::connect(socket, Duration::ZERO)?;
    for request in [Request::Hello { version: PROTOCOL_VERSION }, Request::Hook { terminal, event }]
    {
        stream.write_all(&request.encode().map_err(io::Error::other)?)?;
    }
    // PID 1 closes when it has read all, so that this process does not end, and its session with it, before.
    stream.shutdown(std::net::Shutdown::Write)?;
    io::copy(&mut stream, &mut io::sink())?;
    Ok(())
}
