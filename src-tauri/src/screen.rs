//! One terminal on its way to the page: raw bytes on a channel.
//!
//! Nothing here waits for the page. A page that does not keep up, or is hidden,
//! gives no credit back, and then the sandbox itself stops: after 256 KiB, or what the
//! page let it be ahead.

use std::time::Duration;

use rcc_sandbox::{TerminalEvent, TerminalOutput};
use tauri::ipc::{Channel, InvokeResponseBody};
use tokio::time::{Instant, timeout_at};

use crate::app::{Shared, locked};
use crate::wire::Chunk;

/// What goes in one message, at most, unless a single frame is larger.
const COALESCED: usize = 64 * 1024;

/// For how long after a message what comes is gathered for the next one: half a frame
/// of a 60 Hz screen. A flood comes in pieces of 4 KiB, and a message costs the page as
/// much as drawing tens of them; what comes after a pause, a key's echo, never waits.
const GATHERED: Duration = Duration::from_millis(8);

pub type Screen = Channel<InvokeResponseBody>;

/// Carries output until the terminal ends or is closed.
pub async fn carry(app: Shared, number: u32, mut output: TerminalOutput, screen: Screen) {
    let mut waiting = None;
    let mut gathered_until = Instant::now();
    loop {
        let event = match waiting.take() {
            Some(event) => Some(event),
            None => output.next().await,
        };
        let (message, last) = match event {
            Some(TerminalEvent::Output(bytes)) => {
                let mut message = message(Chunk::Output, &bytes);
                while message.len() < COALESCED {
                    match timeout_at(gathered_until, output.next()).await {
                        Ok(Some(TerminalEvent::Output(bytes))) => message.extend_from_slice(&bytes),
                        Ok(other) => {
                            waiting = other;
                            break;
                        }
                        Err(_) => break,
                    }
                }
                (message, false)
            }
            Some(TerminalEvent::Screen(bytes)) => (message(Chunk::Screen, &bytes), false),
            Some(TerminalEvent::Ended(ended)) => {
                (message(Chunk::Ended, ended.exit_code().to_string().as_bytes()), true)
            }
            Some(TerminalEvent::Lost) | None => (message(Chunk::Lost, &[]), true),
        };
        gathered_until = Instant::now() + GATHERED;
        let sent = screen.send(InvokeResponseBody::Raw(message));
        if last || sent.is_err() || locked(&app.terminals).get(number).is_none() {
            break;
        }
    }
    locked(&app.terminals).remove(number);
}

fn message(chunk: Chunk, bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 + bytes.len());
    message.push(chunk as u8);
    message.extend_from_slice(bytes);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_comes_first() {
        assert_eq!(message(Chunk::Ended, b"7"), [2, b'7']);
    }
}
