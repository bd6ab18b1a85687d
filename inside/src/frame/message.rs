//! The messages inside the frames.

use serde::{Deserialize, Serialize};

use super::{Frame, FrameError};
use crate::state::State;
use crate::text::{MAX_SHOWN, clean};

/// The signals that [`Request::Signal`] may carry: HUP, INT, KILL, TERM (signal(7)).
pub const TERMINAL_SIGNALS: [i32; 4] = [1, 2, 9, 15];

/// The most terminals that [`Reply::Terminals`] lists; more are cut off.
pub const MAX_TERMINALS: usize = 64;

const CONTROL: u8 = 1;
const INPUT: u8 = 2;
const SCREEN: u8 = 3;
const OUTPUT: u8 = 4;

const MAX_NAME: usize = 64;
const MAX_ARGUMENTS: usize = 1024;
const MAX_VARIABLES: usize = 1024;
/// Linux gives a new program at least 128 KiB per string and much more in total (execve(2)).
const MAX_START_BYTES: usize = 128 << 10;

/// What the host asks of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "body", rename_all = "snake_case")]
pub enum Request {
    /// The first message of each connection.
    Hello {
        /// [`PROTOCOL_VERSION`](super::PROTOCOL_VERSION) of the sender.
        version: u32,
    },
    /// Starts a program on a new terminal. Answered by [`Reply::Started`] or [`Reply::Error`]; does not attach.
    Start {
        /// Program and arguments. A program without a slash is looked up in `PATH` of `env`. 1 to 1024 items.
        argv: Vec<String>,
        /// The whole environment; nothing is inherited. `TERM` and `COLORTERM` get defaults, `RCC_TERMINAL` is set.
        env: Vec<(String, String)>,
        /// The working directory, absolute.
        cwd: String,
        /// Columns of the terminal, brought into 2 ..= 1000.
        cols: u16,
        /// Rows of the terminal, brought into 1 ..= 500.
        rows: u16,
        /// What kind of terminal this is. `claude` makes its state follow Claude Code's life; at most 64 characters.
        name: String,
    },
    /// Attaches this connection to a terminal, and detaches it from the one before. Answered by [`Reply::Screen`].
    Attach {
        /// The terminal, also one whose program has ended.
        terminal: u32,
        /// Columns, as in [`Request::Start`]. The terminal takes the size of whoever attached or resized last.
        cols: u16,
        /// Rows, as in [`Request::Start`].
        rows: u16,
        /// Whether the redraw begins with the scrollback, and clears what the viewer had in its own.
        #[serde(default = "yes")]
        history: bool,
    },
    /// Bytes for the attached terminal, as if typed. A frame of exactly `0x03` overtakes input that still waits.
    #[serde(skip)]
    Input(Vec<u8>),
    /// The attached terminal's new size.
    Resize {
        /// Columns, as in [`Request::Start`].
        cols: u16,
        /// Rows, as in [`Request::Start`].
        rows: u16,
    },
    /// Allows so many more bytes of output on this connection.
    Credit {
        /// Bytes; what is outstanding is held at 16 MiB.
        bytes: u32,
    },
    /// Asks for [`Reply::Terminals`].
    List,
    /// Sends a signal to the process groups of a terminal's program.
    Signal {
        /// The terminal.
        terminal: u32,
        /// One of [`TERMINAL_SIGNALS`].
        signal: i32,
    },
    /// From now on this connection gets `State`, `Title`, `Event` and `Exited` of all terminals, beginning with
    /// [`Reply::Terminals`].
    Subscribe,
    /// A hook of Claude Code; `inside hook` sends it.
    Hook {
        /// The terminal that Claude Code was started in, when it is known.
        terminal: Option<u32>,
        /// What happened.
        event: HookEvent,
    },
}

/// What a sandbox answers or tells. All text is cleaned when it is decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "body", rename_all = "snake_case")]
pub enum Reply {
    /// Answer to [`Request::Hello`].
    Welcome {
        /// [`PROTOCOL_VERSION`](super::PROTOCOL_VERSION) of the sandbox.
        version: u32,
    },
    /// A terminal was made.
    Started {
        /// Its number: from 1, never used again in this sandbox.
        terminal: u32,
    },
    /// Bytes that redraw the whole terminal, whatever it showed before. A long redraw comes in several frames.
    #[serde(skip)]
    Screen(Vec<u8>),
    /// Bytes that the program wrote.
    #[serde(skip)]
    Output(Vec<u8>),
    /// The terminal's program has ended and all of its output was sent.
    Exited {
        /// The terminal.
        terminal: u32,
        /// The exit code, 0 ..= 255, unless a signal ended it.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
    },
    /// All terminals, living and ended, by number.
    Terminals(Vec<TerminalInfo>),
    /// A hook of Claude Code.
    Event {
        /// The terminal it came from, when it is known and was one of ours.
        terminal: Option<u32>,
        /// What happened.
        event: HookEvent,
    },
    /// A terminal's title changed; at most 4 a second.
    Title {
        /// The terminal.
        terminal: u32,
        /// At most 140 characters, without control characters and direction overrides.
        title: String,
    },
    /// A terminal's state changed; at most 4 a second.
    State {
        /// The terminal.
        terminal: u32,
        /// The new state.
        state: State,
        /// The question, tool or reason, at most 140 characters.
        detail: Option<String>,
        /// Turns that were finished so far; `Done` with 0 means that the first prompt is awaited.
        turns: u32,
        /// When the state began, in seconds of Unix time by the sandbox's clock.
        since_unix_s: u64,
    },
    /// A request was refused.
    Error {
        /// What to decide by.
        code: ErrorCode,
        /// A sentence for a person, at most 500 characters.
        message: String,
    },
}

/// A terminal as [`Reply::Terminals`] shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalInfo {
    /// Its number.
    pub terminal: u32,
    /// The name given to [`Request::Start`].
    pub name: String,
    /// The program, at most 140 characters.
    pub argv0: String,
    /// What it is doing.
    pub state: State,
    /// The question, tool or reason that belongs to the state.
    pub detail: Option<String>,
    /// Turns that were finished so far.
    pub turns: u32,
    /// When the state began, in seconds of Unix time.
    pub since_unix_s: u64,
    /// When the program was started, in seconds of Unix time.
    pub started_unix_s: u64,
    /// The title that the program set, or empty.
    pub title: String,
    /// The glyph that the title begins with, if any.
    pub title_glyph: Option<char>,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// Whether the program still runs.
    pub alive: bool,
    /// How it ended.
    pub exit: Option<Exit>,
}

/// How a program ended: one of the two is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code, 0 ..= 255.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// What a hook of Claude Code said. Each text is at most 140 characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookEvent {
    /// `hook_event_name`, such as `Stop`.
    pub name: String,
    /// `notification_type` of a `Notification`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notification_type: Option<String>,
    /// `tool_name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// `source` of a `SessionStart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `error` of a `StopFailure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The question asked, what the tool would do, or the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whether a `Stop` left background tasks or scheduled ones behind.
    #[serde(default)]
    pub background: bool,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame was no request, or one with values out of range; the connection is closed.
    BadRequest,
    /// The two sides speak different versions; the connection is closed.
    Version,
    /// There is no terminal of that number, or its program has ended.
    NoSuchTerminal,
    /// Input or a size came on a connection that is not attached.
    NotAttached,
    /// Too many terminals run.
    TooMany,
    /// The program is not there or may not be executed.
    NotFound,
    /// The working directory is not there.
    NoDirectory,
    /// The program could not be started for another reason.
    StartFailed,
    /// The program does not read its input; this frame of it was thrown away.
    InputFull,
    /// A code that this side does not know.
    #[serde(other)]
    Unknown,
}

/// Why a frame is no message.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The kind is none of this direction.
    #[error("a frame of kind {0} has no meaning in this direction")]
    Kind(u8),
    /// The payload is not the JSON of a message.
    #[error("a control frame cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// A value is out of its range.
    #[error("a request was refused: {0}")]
    Range(&'static str),
}

impl Request {
    /// The bytes of this message as one frame.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when it does not fit into [`MAX_FRAME`](super::MAX_FRAME).
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        Ok(super::encode(&self.to_frame()?))
    }

    /// This message as a frame.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when it does not fit.
    pub fn to_frame(&self) -> Result<Frame, FrameError> {
        match self {
            Self::Input(bytes) => Frame::new(INPUT, bytes.clone()),
            other => control(other),
        }
    }

    /// Reads a frame that came from the host.
    ///
    /// # Errors
    /// [`MessageError`] when it is no request or a value is out of range.
    pub fn decode(frame: &Frame) -> Result<Self, MessageError> {
        match frame.kind() {
            INPUT => Ok(Self::Input(frame.payload().to_vec())),
            CONTROL => serde_json::from_slice::<Self>(frame.payload())?.checked(),
            kind => Err(MessageError::Kind(kind)),
        }
    }

    fn checked(mut self) -> Result<Self, MessageError> {
        match &mut self {
            Self::Start { argv, env, cwd, name, .. } => check_start(argv, env, cwd, name)?,
            Self::Signal { signal, .. } if !TERMINAL_SIGNALS.contains(signal) => {
                return Err(MessageError::Range("only HUP, INT, TERM and KILL may be sent"));
            }
            Self::Hook { event, .. } => event.clean(),
            _ => {}
        }
        Ok(self)
    }
}

impl Reply {
    /// The bytes of this message as one frame.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when it does not fit into [`MAX_FRAME`](super::MAX_FRAME).
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        Ok(super::encode(&self.to_frame()?))
    }

    /// This message as a frame.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] when it does not fit.
    pub fn to_frame(&self) -> Result<Frame, FrameError> {
        match self {
            Self::Screen(bytes) => Frame::new(SCREEN, bytes.clone()),
            Self::Output(bytes) => Frame::new(OUTPUT, bytes.clone()),
            other => control(other),
        }
    }

    /// Reads a frame that came from a sandbox, and cleans and cuts all text in it.
    ///
    /// # Errors
    /// [`MessageError`] when it is no reply. A caller may pass over such a frame: a newer sandbox may know more kinds.
    pub fn decode(frame: &Frame) -> Result<Self, MessageError> {
        match frame.kind() {
            SCREEN => Ok(Self::Screen(frame.payload().to_vec())),
            OUTPUT => Ok(Self::Output(frame.payload().to_vec())),
            CONTROL => Ok(serde_json::from_slice::<Self>(frame.payload())?.cleaned()),
            kind => Err(MessageError::Kind(kind)),
        }
    }

    fn cleaned(mut self) -> Self {
        match &mut self {
            Self::Terminals(terminals) => {
                terminals.truncate(MAX_TERMINALS);
                terminals.iter_mut().for_each(TerminalInfo::clean);
            }
            Self::Event { event, .. } => event.clean(),
            Self::Title { title, .. } => *title = clean(title, MAX_SHOWN),
            Self::State { detail, .. } => clean_option(detail),
            Self::Error { message, .. } => *message = clean(message, 500),
            Self::Welcome { .. }
            | Self::Started { .. }
            | Self::Exited { .. }
            | Self::Screen(_)
            | Self::Output(_) => {}
        }
        self
    }
}

impl TerminalInfo {
    fn clean(&mut self) {
        self.name = clean(&self.name, MAX_NAME);
        self.argv0 = clean(&self.argv0, MAX_SHOWN);
        self.title = clean(&self.title, MAX_SHOWN);
        self.title_glyph = self.title_glyph.filter(|glyph| self.title.starts_with(*glyph));
        clean_option(&mut self.detail);
    }
}

impl HookEvent {
    /// Cleans and cuts all text.
    pub fn clean(&mut self) {
        self.name = clean(&self.name, MAX_NAME);
        for text in [
            &mut self.notification_type,
            &mut self.tool,
            &mut self.source,
            &mut self.error,
            &mut self.detail,
        ] {
            clean_option(text);
        }
    }
}

fn clean_option(text: &mut Option<String>) {
    *text = text.take().map(|text| clean(&text, MAX_SHOWN)).filter(|text| !text.is_empty());
}

fn check_start(
    argv: &[String],
    env: &[(String, String)],
    cwd: &str,
    name: &mut String,
) -> Result<(), MessageError> {
    if argv.first().is_none_or(String::is_empty) {
        return Err(MessageError::Range("there is no program to start"));
    }
    if argv.len() > MAX_ARGUMENTS || env.len() > MAX_VARIABLES {
        return Err(MessageError::Range("there are more than 1024 arguments or variables"));
    }
    let variables = || env.iter().flat_map(|(key, value)| [key, value]);
    let bytes: usize = argv.iter().chain(variables()).map(|text| text.len() + 1).sum();
    if bytes > MAX_START_BYTES {
        return Err(MessageError::Range("arguments and environment exceed 128 KiB"));
    }
    if argv.iter().chain(variables()).any(|text| text.contains('\0')) || cwd.contains('\0') {
        return Err(MessageError::Range(
            "an argument, a variable or the directory contains a NUL byte",
        ));
    }
    if env.iter().any(|(key, _)| key.is_empty() || key.contains('=')) {
        return Err(MessageError::Range(
            "the name of a variable is empty or contains an equals sign",
        ));
    }
    if !cwd.starts_with('/') {
        return Err(MessageError::Range("the working directory is not absolute"));
    }
    *name = clean(name, MAX_NAME);
    Ok(())
}

fn control(message: &impl Serialize) -> Result<Frame, FrameError> {
    // These types serialize without fail: no map has keys other than strings, and raw bytes never come here.
    Frame::new(CONTROL, serde_json::to_vec(message).unwrap_or_default())
}

fn yes() -> bool {
    true
}
