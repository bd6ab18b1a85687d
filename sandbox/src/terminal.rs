//! Terminals in a sandbox: programs on a PTY that `inside` holds, so that they
//! outlive whoever looks at them.

mod client;
mod environment;

use bytes::Bytes;
use rcc_inside::frame::{MAX_DATA, Reply, Request};
use tokio::sync::mpsc;

use crate::error::{Code, Error, Result};

pub(crate) use client::Client;
pub use client::Watch;
pub(crate) use environment::environment;

/// Where programs are looked up when the image says nothing else.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Requests that may wait for the sandbox to read them.
const WAITING_REQUESTS: usize = 64;

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// 2 to 1000.
    pub columns: u16,
    /// 1 to 500.
    pub rows: u16,
}

impl Default for Size {
    fn default() -> Self {
        Self { columns: 80, rows: 24 }
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// 0 to 255, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal, signal(7).
    pub signal: Option<i32>,
}

impl Ended {
    /// As a shell shows it: the code, or 128 and the signal.
    pub fn exit_code(self) -> i32 {
        self.code.or(self.signal.and_then(|signal| signal.checked_add(128))).unwrap_or(1)
    }
}

/// What a terminal has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TerminalEvent {
    /// Bytes that redraw everything, whatever was shown before.
    Screen(Bytes),
    /// Bytes that the program wrote. Give them back with [`TerminalInput::credit`].
    Output(Bytes),
    /// The program ended and all its output was delivered. Nothing follows.
    Ended(Ended),
    /// The sandbox ended, or does not speak any more. Nothing follows.
    Lost,
}

/// One attached terminal. Dropping it detaches; the program goes on.
#[derive(Debug)]
pub struct Terminal {
    number: u32,
    input: TerminalInput,
    output: TerminalOutput,
}

/// The way in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TerminalInput {
    number: u32,
    requests: mpsc::Sender<Request>,
}

/// The way out.
#[derive(Debug)]
pub struct TerminalOutput {
    events: mpsc::Receiver<TerminalEvent>,
}

/// What to start.
#[derive(Clone)]
pub(crate) struct Start {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) cwd: String,
    pub(crate) name: String,
}

impl Terminal {
    pub(crate) async fn start(mut client: Client, start: Start, size: Size) -> Result<Self> {
        let program = start.argv.first().cloned().unwrap_or_default();
        let request = Request::Start {
            argv: start.argv,
            env: start.env,
            cwd: start.cwd,
            cols: size.columns,
            rows: size.rows,
            name: start.name,
        };
        let number = client
            .ask(&request, |reply| match reply {
                Reply::Started { terminal } => Some(Ok(terminal)),
                Reply::Error { code, message } => {
                    let program = crate::display::line(&program, 80);
                    let why = format!("`{program}`: {}.", message.trim_end_matches('.'));
                    Some(Err(Error::new(Code::Terminal, why).with_detail(format!("{code:?}"))))
                }
                _ => None,
            })
            .await?;
        Self::attached(client, number, size, false).await
    }

    pub(crate) async fn attach(client: Client, number: u32, size: Size) -> Result<Self> {
        Self::attached(client, number, size, true).await
    }

    async fn attached(mut client: Client, number: u32, size: Size, history: bool) -> Result<Self> {
        let request =
            Request::Attach { terminal: number, cols: size.columns, rows: size.rows, history };
        let first = client
            .ask(&request, |reply| match reply {
                Reply::Screen(bytes) => Some(Ok(TerminalEvent::Screen(bytes.into()))),
                Reply::Error { message, .. } => {
                    let why = format!("Terminal {number}: {message}");
                    let hint = "`rcc ls` lists the terminals that are there.";
                    Some(Err(Error::new(Code::Terminal, why).hint_is(hint)))
                }
                _ => None,
            })
            .await?;
        let (requests, waiting) = mpsc::channel(WAITING_REQUESTS);
        let (events, output) = mpsc::channel(WAITING_REQUESTS);
        tokio::spawn(client.carry(number, first, waiting, events));
        Ok(Self {
            number,
            input: TerminalInput { number, requests },
            output: TerminalOutput { events: output },
        })
    }

    /// Its number in the sandbox: from 1, never used again there.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Both ways, to be used from different tasks.
    pub fn split(self) -> (TerminalInput, TerminalOutput) {
        (self.input, self.output)
    }
}

impl TerminalOutput {
    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<TerminalEvent> {
        self.events.recv().await
    }
}

impl TerminalInput {
    /// Types bytes. Waits while the sandbox does not read.
    ///
    /// # Errors
    /// [`Code::Inside`] when the terminal is gone.
    pub async fn write(&self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(MAX_DATA) {
            self.send(Request::Input(piece.to_vec())).await?;
        }
        Ok(())
    }

    /// Tells the new size.
    ///
    /// # Errors
    /// As [`TerminalInput::write`].
    pub async fn resize(&self, size: Size) -> Result<()> {
        self.send(Request::Resize { cols: size.columns, rows: size.rows }).await
    }

    /// Asks for a [`TerminalEvent::Screen`] that draws over whatever else was shown.
    ///
    /// # Errors
    /// As [`TerminalInput::write`].
    pub async fn redraw(&self, size: Size) -> Result<()> {
        let (cols, rows) = (size.columns, size.rows);
        self.send(Request::Attach { terminal: self.number, cols, rows, history: false }).await
    }

    /// Says that so many bytes of output were dealt with; without it output
    /// stops after 256 KiB.
    ///
    /// # Errors
    /// As [`TerminalInput::write`].
    pub async fn credit(&self, bytes: u32) -> Result<()> {
        self.send(Request::Credit { bytes }).await
    }

    /// Sends HUP (1), INT (2), KILL (9) or TERM (15) to the program.
    ///
    /// # Errors
    /// As [`TerminalInput::write`].
    pub async fn signal(&self, signal: i32) -> Result<()> {
        self.send(Request::Signal { terminal: self.number, signal }).await
    }

    async fn send(&self, request: Request) -> Result<()> {
        self.requests
            .send(request)
            .await
            .map_err(|_| Error::new(Code::Inside, format!("Terminal {} is gone.", self.number)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_a_shells() {
        assert_eq!(Ended { code: Some(3), signal: None }.exit_code(), 3);
        assert_eq!(Ended { code: None, signal: Some(9) }.exit_code(), 137);
        assert_eq!(Ended { code: None, signal: Some(i32::MAX) }.exit_code(), 1);
    }
}
