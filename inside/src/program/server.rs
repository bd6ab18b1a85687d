//! What PID 1 does all day: one loop over the terminals, the connections and the signals.

mod requests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal as Number;
use nix::sys::signalfd::SignalFd;
use rcc_inside::frame::{Exit, MAX_DATA, Reply, TerminalInfo};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Signal, Uid, WaitOptions};

use super::connection::Connection;
use super::terminal::{Ended, Terminal};

/// The most terminals that run at once.
const MAX_LIVING: usize = 32;

/// The most ended terminals whose last screen is kept.
const MAX_ENDED: usize = 16;

/// The most connections at once.
const MAX_CONNECTIONS: usize = 64;

/// Hook events that are passed on: so many at once, and one more per interval. The agent can send any number.
const MAX_EVENTS: u32 = 32;
const EVENT_INTERVAL: Duration = Duration::from_millis(62);

/// How long programs have to end after they were asked to. Engines wait 10 seconds before they kill.
const GRACE: Duration = Duration::from_secs(3);

/// Everything that PID 1 holds.
pub struct Server {
    listener: UnixListener,
    signals: SignalFd,
    own: Uid,
    connections: BTreeMap<u32, Connection>,
    next_connection: u32,
    terminals: BTreeMap<u32, Terminal>,
    next_terminal: u32,
    ended: VecDeque<Ended>,
    events_left: u32,
    events_counted: Instant,
    /// Set when the sandbox is to end: the time at which what is left is killed.
    ending: Option<Instant>,
}

#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Connection(u32),
    Terminal(u32),
}

impl Server {
    pub fn new(listener: UnixListener, signals: SignalFd) -> Self {
        Self {
            listener,
            signals,
            own: rustix::process::getuid(),
            connections: BTreeMap::new(),
            next_connection: 1,
            terminals: BTreeMap::new(),
            next_terminal: 1,
            ended: VecDeque::new(),
            events_left: MAX_EVENTS,
            events_counted: Instant::now(),
            ending: None,
        }
    }

    /// Works until a signal ends it.
    pub fn run(&mut self) -> io::Result<()> {
        loop {
            let now = Instant::now();
            self.do_what_is_due(now);
            if let Some(kill_at) = self.ending
                && (self.terminals.values().all(|terminal| !terminal.is_alive()) || kill_at <= now)
            {
                self.end_now();
                return Ok(());
            }
            for (source, flags) in self.wait(now)? {
                let now = Instant::now();
                match source {
                    Source::Signals => self.take_signals(now),
                    Source::Listener => self.accept(now),
                    Source::Connection(id) => self.serve(id, flags, now),
                    Source::Terminal(id) => self.move_bytes(id, flags, now),
                }
            }
        }
    }

    fn do_what_is_due(&mut self, now: Instant) {
        let mut news = Vec::new();
        for terminal in self.terminals.values_mut() {
            news.extend(terminal.title_to_tell(now));
            news.extend(terminal.state_to_tell(now));
        }
        for reply in news {
            self.tell_all(&reply);
        }
        self.bury_finished(now);
        self.redraw_those_left_out();
        let behind: Vec<u32> = self
            .connections
            .iter_mut()
            .filter_map(|(id, one)| one.has_caught_up().then_some(*id))
            .collect();
        if !behind.is_empty() {
            let list = Reply::Terminals(self.list(now));
            for id in behind {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.tell(&list);
                }
            }
        }
        for connection in self.connections.values_mut() {
            connection.flush();
        }
        self.connections.retain(|_, connection| !connection.is_over(now));
    }

    /// Moves terminals whose program is gone, and whose output was all read, to the ended ones.
    fn bury_finished(&mut self, now: Instant) {
        let finished: Vec<(u32, Exit)> = self
            .terminals
            .iter()
            .filter_map(|(id, terminal)| Some((*id, terminal.finished(now)?)))
            .collect();
        for (id, exit) in finished {
            let Some(mut terminal) = self.terminals.remove(&id) else {
                continue;
            };
            // A viewer without credit may have kept the last output waiting: then the last screen shows it.
            let rest = terminal.read(MAX_DATA, false, now);
            if !rest.is_empty() {
                for connection in self.viewers(id) {
                    connection.send_output(&rest, now);
                }
            }
            // The last state must not be lost to the interval between reports.
            let last = terminal.state(now);
            let ended = terminal.into_ended(now);
            let farewell = Reply::Exited { terminal: id, code: exit.code, signal: exit.signal };
            for connection in self.connections.values_mut() {
                connection.tell(&last);
                match connection.viewing.as_ref().filter(|viewing| viewing.terminal == id) {
                    Some(viewing) => {
                        if viewing.missed {
                            let history = viewing.history;
                            connection.send_screen(ended.redraw(history));
                        }
                        connection.send(&farewell);
                    }
                    None => connection.tell(&farewell),
                }
            }
            self.ended.push_back(ended);
            if self.ended.len() > MAX_ENDED {
                self.ended.pop_front();
            }
        }
    }

    fn redraw_those_left_out(&mut self) {
        for connection in
            self.connections.values_mut().filter(|connection| connection.wants_screen())
        {
            let Some((id, history)) =
                connection.viewing.as_ref().map(|viewing| (viewing.terminal, viewing.history))
            else {
                continue;
            };
            if let Some(terminal) = self.terminals.get_mut(&id) {
                connection.send_screen(&terminal.redraw(history));
            }
        }
    }

    fn wait(&mut self, now: Instant) -> io::Result<Vec<(Source, PollFlags)>> {
        let living: Vec<u32> = self.terminals.keys().copied().collect();
        let limits: BTreeMap<u32, usize> =
            living.into_iter().map(|id| (id, self.limit(id, now))).collect();
        let mut sources: Vec<(Source, BorrowedFd<'_>, PollFlags)> =
            vec![(Source::Signals, self.signals.as_fd(), PollFlags::IN)];
        if self.connections.len() < MAX_CONNECTIONS {
            sources.push((Source::Listener, self.listener.as_fd(), PollFlags::IN));
        }
        for (id, connection) in &self.connections {
            let flags = wanted(connection.wants_read(), connection.wants_write());
            sources.push((Source::Connection(*id), connection.fd(), flags));
        }
        for (id, terminal) in &self.terminals {
            let open = terminal.wants_read(now);
            let readable = open && limits.get(id).is_some_and(|limit| *limit > 0);
            let flags = wanted(readable, open && terminal.wants_write());
            // Polled for nothing, a terminal that nobody has open would still report that, again and again.
            if !flags.is_empty() {
                sources.push((Source::Terminal(*id), terminal.fd(), flags));
            }
        }
        let mut polled: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let timeout = self.deadline(now).map(|deadline| {
            // One more millisecond, so that the deadline is over when the wait is.
            Timespec::try_from(deadline.saturating_duration_since(now) + Duration::from_millis(1))
                .unwrap_or_default()
        });
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready =
            sources.iter().zip(&polled).map(|((source, ..), polled)| (*source, polled.revents()));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    /// When something is to be done without anything having happened. What is due already was done.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let terminals = self.terminals.values().filter_map(|terminal| terminal.deadline(now));
        let connections =
            self.connections.values().filter_map(|connection| connection.deadline(now));
        terminals.chain(connections).chain(self.ending).filter(|deadline| *deadline > now).min()
    }

    /// How many bytes of a terminal's output may be read now: what each of its viewers takes that is not stalled.
    fn limit(&mut self, id: u32, now: Instant) -> usize {
        let mut limit = MAX_DATA;
        for connection in self.viewers(id) {
            if connection.holds_up(now) {
                limit = limit.min(connection.room());
            }
        }
        limit
    }

    fn viewers(&mut self, id: u32) -> impl Iterator<Item = &mut Connection> {
        self.connections.values_mut().filter(move |connection| {
            connection.viewing.as_ref().is_some_and(|viewing| viewing.terminal == id)
        })
    }

    fn move_bytes(&mut self, id: u32, flags: PollFlags, now: Instant) {
        let limit = self.limit(id, now);
        let answer = self.viewers(id).all(|connection| connection.room() == 0);
        let Some(terminal) = self.terminals.get_mut(&id) else { return };
        if flags.contains(PollFlags::OUT) {
            terminal.write();
        }
        if limit == 0 || !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        let bytes = terminal.read(limit, answer, now);
        if bytes.is_empty() {
            return;
        }
        for connection in self.viewers(id) {
            connection.send_output(&bytes, now);
        }
    }

    fn accept(&mut self, now: Instant) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        // The socket can be reached by whoever shares the network namespace; only the agent's own user may use it.
        let same_user =
            rustix::net::sockopt::socket_peercred(&stream).is_ok_and(|peer| peer.uid == self.own);
        if same_user && let Ok(connection) = Connection::new(stream, now) {
            self.connections.insert(self.next_connection, connection);
            self.next_connection = self.next_connection.wrapping_add(1);
        }
    }

    fn serve(&mut self, id: u32, flags: PollFlags, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if flags.contains(PollFlags::OUT) {
            connection.flush();
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        for request in connection.read(now) {
            self.answer(id, request, now);
        }
    }

    fn take_signals(&mut self, now: Instant) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo)
                .ok()
                .and_then(|number| Number::try_from(number).ok())
            {
                Some(Number::SIGCHLD) => self.reap(now),
                Some(Number::SIGTERM | Number::SIGINT) => self.begin_to_end(now),
                _ => {}
            }
        }
    }

    /// Takes all children that have ended: programs of terminals, and orphans of theirs.
    fn reap(&mut self, now: Instant) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let exit = Exit { code: status.exit_status(), signal: status.terminating_signal() };
            let terminal = self
                .terminals
                .values_mut()
                .find(|terminal| terminal.is_alive() && terminal.pid() == pid);
            if let Some(terminal) = terminal {
                terminal.exited(exit, now);
            }
        }
    }

    fn begin_to_end(&mut self, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(now + GRACE);
        for terminal in self.terminals.values_mut() {
            // A shell ends on HUP, most others on TERM, and what was stopped must run to hear either.
            for signal in [Signal::HUP, Signal::TERM, Signal::CONT] {
                terminal.signal(signal);
            }
        }
    }

    fn end_now(&mut self) {
        let now = Instant::now();
        for terminal in self.terminals.values_mut() {
            terminal.signal(Signal::KILL);
        }
        // Programs that have ended are told of, also when something of theirs still holds the terminal.
        self.do_what_is_due(now);
        for connection in self.connections.values_mut() {
            connection.flush();
        }
    }

    fn tell_all(&mut self, reply: &Reply) {
        for connection in self.connections.values_mut() {
            connection.tell(reply);
        }
    }

    fn list(&self, now: Instant) -> Vec<TerminalInfo> {
        let mut list: Vec<_> = self.ended.iter().map(|ended| ended.info.clone()).collect();
        list.extend(self.terminals.values().map(|terminal| terminal.info(now)));
        list.sort_by_key(|info| info.terminal);
        list
    }
}

fn wanted(read: bool, write: bool) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::IN, read);
    flags.set(PollFlags::OUT, write);
    flags
}
