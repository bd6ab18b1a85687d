//! One connection to PID 1.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rcc_inside::frame::{
    Decoder, ErrorCode, INITIAL_CREDIT, MAX_DATA, MessageError, Reply, Request,
};

/// Credit is held at this, so that a viewer cannot make us buffer more.
const MAX_CREDIT: u32 = 16 << 20;

/// With so many bytes unsent a connection takes no more output, whatever it granted, and no events.
const BACKLOG: usize = 1 << 20;

/// With so many bytes unsent a connection that asks for more is dropped.
const MAX_BACKLOG: usize = 8 << 20;

/// A viewer that takes nothing for so long no longer holds the terminal up.
pub const STALL_AFTER: Duration = Duration::from_secs(2);

/// How long a connection may exist without a `Hello`, or take to receive its last bytes.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A connection and what it is allowed.
pub struct Connection {
    stream: UnixStream,
    decoder: Decoder,
    out: Vec<u8>,
    sent: usize,
    credit: u32,
    pub greeted: bool,
    pub subscribed: bool,
    pub viewing: Option<Viewing>,
    /// Events were left out because the connection did not take them.
    behind: bool,
    /// Nothing is read any more, and it ends when all is sent or at this time.
    closing: Option<Instant>,
    opened: Instant,
    failed: bool,
}

/// A connection's attachment to a terminal.
pub struct Viewing {
    pub terminal: u32,
    pub history: bool,
    /// Since when it could not be sent output.
    starved: Option<Instant>,
    /// It was passed over and needs a new screen.
    pub missed: bool,
}

impl Viewing {
    pub fn new(terminal: u32, history: bool) -> Self {
        Self { terminal, history, starved: None, missed: false }
    }
}

impl Connection {
    pub fn new(stream: UnixStream, now: Instant) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            decoder: Decoder::new(),
            out: Vec::new(),
            sent: 0,
            credit: INITIAL_CREDIT,
            greeted: false,
            subscribed: false,
            viewing: None,
            behind: false,
            closing: None,
            opened: now,
            failed: false,
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub fn wants_read(&self) -> bool {
        self.closing.is_none()
    }

    pub fn wants_write(&self) -> bool {
        self.backlog() > 0
    }

    /// Reads once and gives the requests that are complete. A frame that is none ends the connection.
    pub fn read(&mut self, now: Instant) -> Vec<Request> {
        let mut bytes = vec![0; MAX_DATA];
        let count = match self.stream.read(&mut bytes) {
            Ok(0) => {
                self.close(now);
                return Vec::new();
            }
            Ok(count) => count,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return Vec::new();
            }
            Err(_) => {
                self.failed = true;
                return Vec::new();
            }
        };
        let mut requests = Vec::new();
        let mut refusal = None;
        for frame in self.decoder.push(bytes.get(..count).unwrap_or_default()) {
            let request = match frame {
                Ok(frame) => {
                    Request::decode(&frame).map_err(|error: MessageError| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            match request {
                Ok(request) => requests.push(request),
                Err(message) => {
                    refusal = Some(message);
                    break;
                }
            }
        }
        if let Some(message) = refusal {
            self.refuse(ErrorCode::BadRequest, message);
            self.close(now);
        }
        requests
    }

    /// Queues a reply.
    pub fn send(&mut self, reply: &Reply) {
        if self.backlog() > MAX_BACKLOG {
            self.failed = true;
            return;
        }
        match reply.encode() {
            Ok(bytes) => self.out.extend(bytes),
            Err(_) => self.failed = true,
        }
    }

    /// Queues an error reply.
    pub fn refuse(&mut self, code: ErrorCode, message: impl Into<String>) {
        self.send(&Reply::Error { code, message: message.into() });
    }

    /// Queues something that a subscriber can do without, if it takes what it gets.
    pub fn tell(&mut self, reply: &Reply) {
        if self.subscribed {
            if self.backlog() > BACKLOG {
                self.behind = true;
            } else {
                self.send(reply);
            }
        }
    }

    /// Whether events were left out and there is room again; asked once.
    pub fn has_caught_up(&mut self) -> bool {
        self.backlog() == 0 && std::mem::take(&mut self.behind)
    }

    /// Queues a redraw, in as many frames as it needs.
    pub fn send_screen(&mut self, bytes: &[u8]) {
        if self.backlog() > MAX_BACKLOG {
            self.failed = true;
            return;
        }
        for part in bytes.chunks(MAX_DATA) {
            if let Ok(bytes) = Reply::Screen(part.to_vec()).encode() {
                self.out.extend(bytes);
            }
        }
        if let Some(viewing) = &mut self.viewing {
            viewing.missed = false;
        }
    }

    /// Queues output, or notes that it was left out because there was no [`room`](Self::room) for it.
    pub fn send_output(&mut self, bytes: &[u8], now: Instant) {
        if self.room() < bytes.len() {
            if let Some(viewing) = &mut self.viewing {
                viewing.starved.get_or_insert(now);
                viewing.missed = true;
            }
            return;
        }
        for part in bytes.chunks(MAX_DATA) {
            self.credit = self.credit.saturating_sub(u32::try_from(part.len()).unwrap_or(u32::MAX));
            self.send(&Reply::Output(part.to_vec()));
        }
    }

    pub fn grant(&mut self, bytes: u32) {
        self.credit = self.credit.saturating_add(bytes).min(MAX_CREDIT);
    }

    /// How many bytes of output it can be sent; 0 while it has missed some and waits for a new screen.
    pub fn room(&self) -> usize {
        if self.backlog() > BACKLOG || self.viewing.as_ref().is_some_and(|viewing| viewing.missed) {
            return 0;
        }
        self.credit as usize
    }

    /// Whether it missed output and can be sent a new screen.
    pub fn wants_screen(&self) -> bool {
        self.credit > 0
            && self.backlog() <= BACKLOG
            && self.viewing.as_ref().is_some_and(|viewing| viewing.missed)
    }

    /// Follows for how long the connection could not be sent output. Gives false once that is too long.
    pub fn holds_up(&mut self, now: Instant) -> bool {
        let starved = self.room() == 0;
        let Some(viewing) = &mut self.viewing else { return false };
        if !starved {
            viewing.starved = None;
            return true;
        }
        now < *viewing.starved.get_or_insert(now) + STALL_AFTER
    }

    /// Stops reading and ends when everything is sent.
    pub fn close(&mut self, now: Instant) {
        self.viewing = None;
        self.subscribed = false;
        self.closing.get_or_insert(now + PATIENCE);
    }

    /// Writes what the other side takes.
    pub fn flush(&mut self) {
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.failed = true;
                    break;
                }
            }
        }
        if self.backlog() == 0 {
            self.out.clear();
            self.out.shrink_to(4 * MAX_DATA);
            self.sent = 0;
        } else if self.sent > BACKLOG {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }

    pub fn is_over(&self, now: Instant) -> bool {
        self.failed
            || (!self.greeted && self.opened + PATIENCE <= now)
            || self.closing.is_some_and(|until| until <= now || self.backlog() == 0)
    }

    /// When, after `now`, something is to be done without anything having happened.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let greeting = (!self.greeted).then(|| self.opened + PATIENCE);
        let starved = self
            .viewing
            .as_ref()
            .and_then(|viewing| viewing.starved)
            .map(|since| since + STALL_AFTER);
        [greeting, self.closing, starved]
            .into_iter()
            .flatten()
            .filter(|deadline| *deadline > now)
            .min()
    }

    fn backlog(&self) -> usize {
        self.out.len() - self.sent
    }
}
