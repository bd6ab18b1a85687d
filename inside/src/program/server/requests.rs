//! What PID 1 does when it is asked.

use std::time::Instant;

use rcc_inside::frame::{ErrorCode, HookEvent, PROTOCOL_VERSION, Reply, Request};
use rustix::process::Signal;

use super::super::connection::Viewing;
use super::super::launch::{self, LaunchError, Start};
use super::super::screen::Size;
use super::super::terminal::{New, Terminal};
use super::{EVENT_INTERVAL, MAX_EVENTS, MAX_LIVING, Server};

/// Why a request was refused.
struct Refusal(ErrorCode, String);

impl Server {
    /// Does what a connection asks.
    pub(super) fn answer(&mut self, id: u32, request: Request, now: Instant) {
        let greeted = self.connections.get(&id).is_some_and(|connection| connection.greeted);
        let result = match request {
            Request::Hello { version } => self.greet(id, version, now),
            _ if !greeted => {
                self.close(id, now);
                Err(Refusal(ErrorCode::BadRequest, "a connection begins with a hello".to_owned()))
            }
            Request::Start { argv, env, cwd, cols, rows, name } => {
                self.start(id, Start { argv, env, cwd }, name, Size::clamped(cols, rows), now)
            }
            Request::Attach { terminal, cols, rows, history } => {
                self.attach(id, Viewing::new(terminal, history), Size::clamped(cols, rows))
            }
            Request::Input(bytes) => self.type_in(id, &bytes, now),
            Request::Resize { cols, rows } => self.resize(id, Size::clamped(cols, rows)),
            Request::Credit { bytes } => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.grant(bytes);
                }
                Ok(())
            }
            Request::List => {
                let list = Reply::Terminals(self.list(now));
                self.send(id, &list);
                Ok(())
            }
            Request::Signal { terminal, signal } => self.signal(terminal, signal),
            Request::Subscribe => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.subscribed = true;
                }
                let list = Reply::Terminals(self.list(now));
                self.send(id, &list);
                Ok(())
            }
            Request::Hook { terminal, event } => {
                self.hook(terminal, event, now);
                Ok(())
            }
        };
        if let Err(Refusal(code, message)) = result
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.refuse(code, message);
        }
    }

    fn greet(&mut self, id: u32, version: u32, now: Instant) -> Result<(), Refusal> {
        if version != PROTOCOL_VERSION {
            self.close(id, now);
            let message = format!(
                "this sandbox speaks version {PROTOCOL_VERSION}, not {version}: start it again"
            );
            return Err(Refusal(ErrorCode::Version, message));
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.greeted = true;
            connection.send(&Reply::Welcome { version: PROTOCOL_VERSION });
        }
        Ok(())
    }

    fn start(
        &mut self,
        id: u32,
        start: Start,
        name: String,
        size: Size,
        now: Instant,
    ) -> Result<(), Refusal> {
        if self.ending.is_some() {
            return Err(Refusal(
                ErrorCode::StartFailed,
                "this sandbox is being stopped".to_owned(),
            ));
        }
        if self.terminals.len() >= MAX_LIVING {
            let message = format!("{MAX_LIVING} terminals run in this sandbox already: close one");
            return Err(Refusal(ErrorCode::TooMany, message));
        }
        let terminal = self.next_terminal;
        let launched = launch::launch(&start, terminal, size).map_err(|error| {
            let code = match error {
                LaunchError::NotFound(_) => ErrorCode::NotFound,
                LaunchError::NoDirectory(_) => ErrorCode::NoDirectory,
                LaunchError::Terminal(_) | LaunchError::Start { .. } => ErrorCode::StartFailed,
            };
            Refusal(code, error.to_string())
        })?;
        self.next_terminal += 1;
        let argv0 = start.argv.into_iter().next().unwrap_or_default();
        self.terminals.insert(
            terminal,
            Terminal::new(New { id: terminal, name, argv0, launched, size, now }),
        );
        self.send(id, &Reply::Started { terminal });
        Ok(())
    }

    fn attach(&mut self, id: u32, viewing: Viewing, size: Size) -> Result<(), Refusal> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        connection.viewing = None;
        let number = viewing.terminal;
        if let Some(terminal) = self.terminals.get_mut(&number) {
            terminal.resize(size);
            let screen = terminal.redraw(viewing.history);
            connection.viewing = Some(viewing);
            connection.send_screen(&screen);
            return Ok(());
        }
        let ended = self
            .ended
            .iter()
            .find(|ended| ended.info.terminal == number)
            .ok_or_else(|| no_terminal(number))?;
        connection.send_screen(ended.redraw(viewing.history));
        let exit = ended.info.exit;
        connection.send(&Reply::Exited {
            terminal: number,
            code: exit.and_then(|exit| exit.code),
            signal: exit.and_then(|exit| exit.signal),
        });
        Ok(())
    }

    fn type_in(&mut self, id: u32, bytes: &[u8], now: Instant) -> Result<(), Refusal> {
        if self.attached(id)?.type_in(bytes, now) {
            return Ok(());
        }
        let message =
            format!("the program does not read its input: {} bytes were thrown away", bytes.len());
        Err(Refusal(ErrorCode::InputFull, message))
    }

    fn resize(&mut self, id: u32, size: Size) -> Result<(), Refusal> {
        self.attached(id)?.resize(size);
        Ok(())
    }

    fn signal(&mut self, number: u32, signal: i32) -> Result<(), Refusal> {
        let signal = [Signal::HUP, Signal::INT, Signal::KILL, Signal::TERM]
            .into_iter()
            .find(|known| known.as_raw() == signal)
            .ok_or_else(|| {
                Refusal(
                    ErrorCode::BadRequest,
                    "only HUP, INT, TERM and KILL may be sent".to_owned(),
                )
            })?;
        let terminal = self.terminals.get_mut(&number).filter(|terminal| terminal.is_alive());
        terminal.ok_or_else(|| no_terminal(number))?.signal(signal);
        Ok(())
    }

    fn hook(&mut self, terminal: Option<u32>, event: HookEvent, now: Instant) {
        let terminal = terminal.filter(|number| self.terminals.contains_key(number));
        if let Some(terminal) = terminal.and_then(|number| self.terminals.get_mut(&number)) {
            terminal.tracker().hook(&event, now);
        }
        if self.may_pass_event_on(now) {
            self.tell_all(&Reply::Event { terminal, event });
        }
    }

    fn may_pass_event_on(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.events_counted).as_millis()
            / EVENT_INTERVAL.as_millis();
        if passed > 0 {
            self.events_left = MAX_EVENTS
                .min(self.events_left.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX)));
            self.events_counted = now;
        }
        let may = self.events_left > 0;
        self.events_left = self.events_left.saturating_sub(1);
        may
    }

    fn attached(&mut self, id: u32) -> Result<&mut Terminal, Refusal> {
        let viewing = self.connections.get(&id).and_then(|connection| connection.viewing.as_ref());
        let number = viewing.map(|viewing| viewing.terminal).ok_or_else(|| {
            Refusal(
                ErrorCode::NotAttached,
                "this connection is not attached to a running terminal".to_owned(),
            )
        })?;
        self.terminals.get_mut(&number).ok_or_else(|| no_terminal(number))
    }

    fn send(&mut self, id: u32, reply: &Reply) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.send(reply);
        }
    }

    fn close(&mut self, id: u32, now: Instant) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.close(now);
        }
    }
}

fn no_terminal(number: u32) -> Refusal {
    Refusal(
        ErrorCode::NoSuchTerminal,
        format!("there is no running terminal {number} in this sandbox"),
    )
}
