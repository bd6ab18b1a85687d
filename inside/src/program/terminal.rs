//! One terminal: a program, our side of its PTY, its screen and its state.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rcc_inside::frame::{Exit, Reply, TerminalInfo};
use rcc_inside::state::{Program, Status, Tracker, title_glyph};
use rcc_inside::text::{MAX_SHOWN, clean};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use rustix::termios::{LocalModes, SpecialCodeIndex};

use super::launch::{self, Launched};
use super::screen::{Screen, Size};

/// The most bytes of input that wait for a program that does not read.
pub const MAX_INPUT: usize = 4 << 20;

/// A title is told at most this often.
const TITLE_INTERVAL: Duration = Duration::from_millis(250);

/// How long a terminal whose program is gone is read for what others still write to it.
const LINGER: Duration = Duration::from_secs(1);

/// How long a terminal that nobody has open, while its program lives, is left alone.
const HUNG_UP_PAUSE: Duration = Duration::from_millis(100);

/// One read gives at most a page, so several make one frame.
const READS: usize = 16;
const MAX_TURN: Duration = Duration::from_millis(10);
const READ_BYTES: usize = 4096;
const MIN_READ_BYTES: usize = 64;

/// What a terminal is made from.
pub struct New {
    pub id: u32,
    pub name: String,
    pub argv0: String,
    pub launched: Launched,
    pub size: Size,
    pub now: Instant,
}

/// A terminal whose program runs, or has ended just now.
pub struct Terminal {
    id: u32,
    name: String,
    argv0: String,
    started: SystemTime,
    pid: Pid,
    master: OwnedFd,
    screen: Screen,
    tracker: Tracker,
    input: VecDeque<u8>,
    exit: Option<(Exit, Instant)>,
    /// Whether somebody outside asked the program to end.
    asked_to_end: bool,
    /// Nothing more will be read.
    drained: bool,
    quiet_until: Option<Instant>,
    /// Bytes of one read: grows while the model is quick with them, and shrinks while it has much to do for each.
    read_bytes: usize,
    title_due: Option<Instant>,
    title_told: Option<Instant>,
}

impl Terminal {
    pub fn new(new: New) -> Self {
        let program = if new.name == "claude" { Program::Claude } else { Program::Other };
        Self {
            id: new.id,
            name: new.name,
            argv0: clean(&new.argv0, MAX_SHOWN),
            started: SystemTime::now(),
            pid: new.launched.pid,
            master: new.launched.master,
            screen: Screen::new(new.size),
            tracker: Tracker::new(program, new.now),
            input: VecDeque::new(),
            exit: None,
            asked_to_end: false,
            drained: false,
            quiet_until: None,
            read_bytes: MIN_READ_BYTES,
            title_due: None,
            title_told: None,
        }
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    pub fn tracker(&mut self) -> &mut Tracker {
        &mut self.tracker
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    pub fn wants_write(&self) -> bool {
        !self.input.is_empty()
    }

    /// Whether polling for output makes sense now. A terminal that nobody has open reports an end all the time.
    pub fn wants_read(&self, now: Instant) -> bool {
        !self.drained && self.quiet_until.is_none_or(|until| until <= now)
    }

    /// Reads at most `limit` bytes of output and takes them into the model. `answer` says that no viewer answers the
    /// program's questions.
    pub fn read(&mut self, limit: usize, answer: bool, now: Instant) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut page = [0; READ_BYTES];
        self.quiet_until = None;
        for _ in 0..READS {
            let Some(part) = page
                .get_mut(..self.read_bytes.min(limit - bytes.len()))
                .filter(|part| !part.is_empty())
            else {
                break;
            };
            match rustix::io::read(&self.master, &mut *part) {
                Ok(count) if count > 0 => {
                    let part = part.get(..count).unwrap_or_default();
                    bytes.extend(part);
                    self.take_in(part, answer, now);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.drained = self.exit.is_some();
                    break;
                }
                // Nobody has the terminal open.
                Ok(_) | Err(_) => {
                    self.drained = self.exit.is_some();
                    self.quiet_until = Some(now + HUNG_UP_PAUSE);
                    break;
                }
            }
            // A few bytes can ask the model for much work; the other terminals and the host wait meanwhile.
            if now.elapsed() > MAX_TURN {
                self.read_bytes = (self.read_bytes / 2).max(MIN_READ_BYTES);
                return bytes;
            }
        }
        self.read_bytes = (self.read_bytes * 2).min(READ_BYTES);
        bytes
    }

    fn take_in(&mut self, bytes: &[u8], answer: bool, now: Instant) {
        let effects = self.screen.process(bytes);
        if effects.title {
            self.tracker.title(self.screen.title(), now);
            let due = self.title_told.map_or(now, |told| now.max(told + TITLE_INTERVAL));
            self.title_due.get_or_insert(due);
        }
        if answer && !effects.answers.is_empty() {
            let _full = self.type_in(&effects.answers, now);
        }
    }

    /// Queues input. Gives false, and takes nothing, when the program has left too much unread.
    pub fn type_in(&mut self, bytes: &[u8], now: Instant) -> bool {
        // An interrupt must not wait behind a paste that the program does not read, and that fills the kernel's buffer.
        if bytes == b"\x03" && !self.input.is_empty() {
            self.input.clear();
            if self.interrupts() {
                self.interrupt();
                return true;
            }
        }
        // Escape, also as kitty's keyboard protocol writes it.
        if matches!(bytes, b"\x1b" | b"\x1b[27u" | b"\x1b[27;1u") {
            self.tracker.escape(now);
        }
        if self.input.len() + bytes.len() > MAX_INPUT {
            return false;
        }
        self.input.extend(bytes);
        self.write();
        true
    }

    /// Whether the terminal makes a signal of Ctrl-C, now.
    fn interrupts(&self) -> bool {
        rustix::termios::tcgetattr(&self.master).is_ok_and(|modes| {
            modes.local_modes.contains(LocalModes::ISIG)
                && modes.special_codes[SpecialCodeIndex::VINTR] == 0x03
        })
    }

    /// Does what the kernel does when it reads Ctrl-C.
    fn interrupt(&self) {
        if let Ok(foreground) = rustix::termios::tcgetpgrp(&self.master) {
            // A group that is gone needs no signal.
            let _gone = rustix::process::kill_process_group(foreground, Signal::INT);
        }
    }

    /// Writes what the terminal takes of the queued input.
    pub fn write(&mut self) {
        while !self.input.is_empty() {
            let (front, _) = self.input.as_slices();
            match rustix::io::write(&self.master, front) {
                Ok(count) => drop(self.input.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.input.clear(),
            }
        }
        if self.input.is_empty() {
            self.input.shrink_to(READ_BYTES);
        }
    }

    pub fn resize(&mut self, size: Size) {
        self.screen.resize(size);
        // It fails only on a terminal that is gone, where the size means nothing.
        let _gone = launch::set_size(&self.master, size);
    }

    pub fn redraw(&mut self, history: bool) -> Vec<u8> {
        self.screen.redraw(history)
    }

    /// Sends a signal to the program's process group and to the one in the foreground, while the program lives.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit.is_some() {
            // The number may belong to somebody else by now.
            return;
        }
        if signal != Signal::INT {
            self.asked_to_end = true;
        }
        let foreground =
            rustix::termios::tcgetpgrp(&self.master).ok().filter(|group| *group != self.pid);
        for group in [Some(self.pid), foreground].into_iter().flatten() {
            // A group that is gone needs no signal. Before the program made its session it has no group of its own.
            if rustix::process::kill_process_group(group, signal).is_err() && group == self.pid {
                let _gone = rustix::process::kill_process(group, signal);
            }
        }
    }

    /// The program was reaped.
    pub fn exited(&mut self, exit: Exit, now: Instant) {
        self.exit = Some((exit, now));
        self.quiet_until = None;
        self.tracker.exited(exit, self.asked_to_end, now);
    }

    pub fn is_alive(&self) -> bool {
        self.exit.is_none()
    }

    /// How the program ended, once all it wrote has been read.
    pub fn finished(&self, now: Instant) -> Option<Exit> {
        let (exit, at) = self.exit?;
        (self.drained || at + LINGER <= now).then_some(exit)
    }

    /// The title, when it is to be told now.
    pub fn title_to_tell(&mut self, now: Instant) -> Option<Reply> {
        self.title_due.take_if(|due| *due <= now)?;
        self.title_told = Some(now);
        Some(Reply::Title { terminal: self.id, title: self.screen.title().to_owned() })
    }

    /// The state, when it is to be told now.
    pub fn state_to_tell(&mut self, now: Instant) -> Option<Reply> {
        self.tracker.tick(now);
        self.tracker.report(now)?;
        Some(self.state(now))
    }

    /// The state as it is now, whenever it was told last.
    pub fn state(&self, now: Instant) -> Reply {
        let status = self.tracker.status();
        Reply::State {
            terminal: self.id,
            state: status.state,
            detail: status.detail.clone(),
            turns: status.turns,
            since_unix_s: since(status, now),
        }
    }

    /// When, after `now`, something is to be done without anything having happened.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let linger = self.exit.map(|(_, at)| at + LINGER);
        let all = [self.tracker.deadline(), self.title_due, self.quiet_until, linger];
        all.into_iter().flatten().filter(|deadline| *deadline > now).min()
    }

    pub fn info(&self, now: Instant) -> TerminalInfo {
        let status = self.tracker.status();
        let size = self.screen.size();
        TerminalInfo {
            terminal: self.id,
            name: self.name.clone(),
            argv0: self.argv0.clone(),
            state: status.state,
            detail: status.detail.clone(),
            turns: status.turns,
            since_unix_s: since(status, now),
            started_unix_s: unix(self.started),
            title: self.screen.title().to_owned(),
            title_glyph: title_glyph(self.screen.title()),
            cols: size.cols.get(),
            rows: size.rows.get(),
            alive: self.exit.is_none(),
            exit: self.exit.map(|(exit, _)| exit),
        }
    }

    /// What is kept of a terminal that has ended.
    pub fn into_ended(mut self, now: Instant) -> Ended {
        Ended {
            info: self.info(now),
            screen: self.redraw(false),
            screen_and_history: self.redraw(true),
        }
    }
}

/// What is kept of a terminal that has ended.
pub struct Ended {
    pub info: TerminalInfo,
    screen: Vec<u8>,
    screen_and_history: Vec<u8>,
}

impl Ended {
    pub fn redraw(&self, history: bool) -> &[u8] {
        if history { &self.screen_and_history } else { &self.screen }
    }
}

fn since(status: &Status, now: Instant) -> u64 {
    unix(SystemTime::now() - now.saturating_duration_since(status.since))
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
