//! What a terminal's program is doing, worked out from Claude Code's hooks and the glyph of the terminal's title.
//!
//! Two sources are needed. Hooks say what happened but not everything has one: Esc fires none. The title begins with
//! `✳` while Claude Code waits and with a turning glyph while it works, and follows within a tenth of a second.
//! Everything here is pure; time is passed in.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::frame::{Exit, HookEvent};

/// A changed status is handed out at most this often: four times a second.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// So long must the title say *idle*, and no hook come, before work without a `Stop` counts as over.
pub const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Hooks are processes of their own and can overtake the title: for so long a glyph that merely goes on turning does not
/// contradict a hook.
const TITLE_LAG: Duration = Duration::from_millis(300);

/// The glyph of a title while Claude Code waits.
const IDLE_GLYPH: char = '✳';

/// What a terminal's program is doing, as far as it says so itself. A hint, never a basis for a wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The program was started and has not said anything yet.
    Starting,
    /// It works on a turn.
    Working,
    /// It waits for an answer or a permission.
    NeedsYou,
    /// It waits for the next prompt.
    Done,
    /// It waits for the next prompt while its own tasks go on.
    Background,
    /// A turn or the program itself ended with an error.
    Trouble,
    /// The program ended.
    Ended,
}

/// Which life a program is expected to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Claude Code: it tells when it is ready, and an exit code other than 0 is trouble.
    Claude,
    /// Anything else, such as a shell: ready at once. When Claude Code is started in it, its hooks count while it runs.
    Other,
}

/// A state and what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What the program is doing.
    pub state: State,
    /// The question, tool or reason.
    pub detail: Option<String>,
    /// Turns that are over, however they ended. `Done` with 0 means that the first prompt is awaited.
    pub turns: u32,
    /// When the state began.
    pub since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Glyph {
    None,
    Idle,
    Turning,
}

/// Follows one terminal.
#[derive(Debug)]
pub struct Tracker {
    program: Program,
    status: Status,
    /// Whether a session of Claude Code was heard of in this terminal and has not ended.
    session: bool,
    /// Whether a `SessionEnd` was the last that was heard.
    said_goodbye: bool,
    exited: bool,
    glyph: Glyph,
    glyph_since: Instant,
    last_hook: Instant,
    /// The tool that a permission was asked for.
    asked_for: Option<String>,
    /// When the person pressed Esc at a question.
    escaped: Option<Instant>,
    reported: Option<(State, Option<String>, u32)>,
    reported_at: Option<Instant>,
}

impl Tracker {
    /// A program that was started just now.
    #[must_use]
    pub fn new(program: Program, now: Instant) -> Self {
        let state = match program {
            Program::Claude => State::Starting,
            Program::Other => State::Done,
        };
        Self {
            program,
            status: Status { state, detail: None, turns: 0, since: now },
            session: program == Program::Claude,
            said_goodbye: false,
            exited: false,
            glyph: Glyph::None,
            glyph_since: now,
            last_hook: now,
            asked_for: None,
            escaped: None,
            reported: None,
            reported_at: None,
        }
    }

    /// What the program is doing now.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// A hook fired.
    pub fn hook(&mut self, event: &HookEvent, now: Instant) {
        if self.exited {
            return;
        }
        match (event.name.as_str(), event.source.as_deref(), event.notification_type.as_deref()) {
            // Compaction starts a session in the middle of a turn.
            ("SessionStart", Some("compact"), _) => return,
            ("SessionStart", ..) => self.session_started(now),
            ("UserPromptSubmit", ..) => self.enter(State::Working, None, now),
            ("PermissionRequest", ..) => {
                self.asked_for.clone_from(&event.tool);
                self.enter(
                    State::NeedsYou,
                    event.detail.clone().or_else(|| event.tool.clone()),
                    now,
                );
            }
            ("PostToolUse" | "PostToolUseFailure", ..) => self.tool_ended(event, now),
            ("Notification", _, Some("idle_prompt")) => self.told_idle(now),
            ("Notification", _, Some(kind))
                if kind == "permission_prompt" || kind.starts_with("elicitation_") =>
            {
                let known =
                    self.status.detail.take().filter(|_| self.status.state == State::NeedsYou);
                self.enter(State::NeedsYou, known.or_else(|| event.detail.clone()), now);
            }
            ("Stop", ..) => {
                self.status.turns = self.status.turns.saturating_add(1);
                self.enter(
                    if event.background { State::Background } else { State::Done },
                    None,
                    now,
                );
            }
            ("StopFailure", ..) => {
                self.status.turns = self.status.turns.saturating_add(1);
                let reason = event.error.as_deref().map(in_words);
                self.enter(State::Trouble, reason.or_else(|| event.detail.clone()), now);
            }
            ("SessionEnd", ..) => {
                self.session_ended(now);
                return;
            }
            // SubagentStop, PreToolUse and whatever comes later mean nothing here.
            _ => return,
        }
        self.session = true;
        self.said_goodbye = false;
        self.escaped = None;
        self.last_hook = now;
    }

    /// The title changed. `title` is the whole new title.
    pub fn title(&mut self, title: &str, now: Instant) {
        let before = self.glyph;
        self.glyph = glyph_kind(title);
        if self.glyph != before {
            self.glyph_since = now;
        }
        if self.exited || !self.session || title.is_empty() {
            return;
        }
        let settled =
            before == Glyph::Idle || now.saturating_duration_since(self.last_hook) >= TITLE_LAG;
        match (self.status.state, self.glyph) {
            (State::Ended | State::Working, _) => {}
            (State::Starting, Glyph::Turning) => self.enter(State::Working, None, now),
            (State::Starting, _) => self.enter(State::Done, None, now),
            (_, Glyph::Turning) if settled => self.enter(State::Working, None, now),
            _ => {}
        }
    }

    /// The person pressed Esc. At a question that takes it back, of which Claude Code says nothing.
    pub fn escape(&mut self, now: Instant) {
        if self.status.state == State::NeedsYou {
            self.escaped = Some(now);
        }
    }

    /// The program ended; `asked` when somebody outside of it wanted that.
    pub fn exited(&mut self, exit: Exit, asked: bool, now: Instant) {
        let expected =
            asked || self.said_goodbye || self.program == Program::Other || exit.code == Some(0);
        self.exited = true;
        if expected {
            self.enter(State::Ended, None, now);
            return;
        }
        let reason = match (exit.code, exit.signal) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "ended".to_owned(),
        };
        self.enter(State::Trouble, Some(reason), now);
    }

    /// Time has passed: does what waited for it.
    pub fn tick(&mut self, now: Instant) {
        if self.idle_deadline().is_some_and(|deadline| deadline <= now) {
            self.status.turns = self.status.turns.saturating_add(1);
            self.enter(State::Done, None, now);
        }
    }

    /// The status, if it is to be told now: it changed since it was last told and [`REPORT_INTERVAL`] is over.
    pub fn report(&mut self, now: Instant) -> Option<Status> {
        let due = self.report_deadline()? <= now;
        if !due {
            return None;
        }
        self.reported = Some((self.status.state, self.status.detail.clone(), self.status.turns));
        self.reported_at = Some(now);
        Some(self.status.clone())
    }

    /// When [`tick`](Self::tick) or [`report`](Self::report) has something to do next; may be in the past.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        [self.idle_deadline(), self.report_deadline()].into_iter().flatten().min()
    }

    fn session_started(&mut self, now: Instant) {
        // The hook of a first prompt given on the command line can overtake this one.
        if !matches!(self.status.state, State::Working | State::NeedsYou) {
            self.status.turns = 0;
            self.enter(State::Done, None, now);
        }
    }

    fn session_ended(&mut self, now: Instant) {
        self.session = self.program == Program::Claude;
        self.said_goodbye = true;
        match self.program {
            Program::Claude => self.enter(State::Ended, None, now),
            Program::Other => {
                self.status.turns = 0;
                self.enter(State::Done, None, now);
            }
        }
    }

    fn tool_ended(&mut self, event: &HookEvent, now: Instant) {
        match self.status.state {
            State::Starting | State::Working => self.enter(State::Working, None, now),
            // Another tool that ran beside the question does not answer it.
            State::NeedsYou
                if self.asked_for.is_none()
                    || event.tool.is_none()
                    || self.asked_for == event.tool =>
            {
                self.enter(State::Working, None, now);
            }
            _ => {}
        }
    }

    fn told_idle(&mut self, now: Instant) {
        if matches!(self.status.state, State::Starting | State::Working | State::NeedsYou) {
            self.enter(State::Done, None, now);
        }
    }

    fn enter(&mut self, state: State, detail: Option<String>, now: Instant) {
        if self.status.state != state {
            self.status.state = state;
            self.status.since = now;
            self.escaped = None;
        }
        if state != State::NeedsYou {
            self.asked_for = None;
        }
        self.status.detail = detail;
    }

    /// When work or a question counts as over without a hook, if nothing else happens.
    fn idle_deadline(&self) -> Option<Instant> {
        let start = match self.status.state {
            State::Working if self.glyph == Glyph::Idle => self.glyph_since.max(self.last_hook),
            State::NeedsYou if self.glyph != Glyph::Turning => self.escaped?,
            _ => return None,
        };
        Some(start + IDLE_AFTER)
    }

    fn report_deadline(&self) -> Option<Instant> {
        let Some((state, detail, turns)) = &self.reported else { return Some(self.status.since) };
        let same = *state == self.status.state
            && *detail == self.status.detail
            && *turns == self.status.turns;
        if same {
            return None;
        }
        self.reported_at.map(|at| at + REPORT_INTERVAL)
    }
}

/// The glyph that a title begins with: a character that is neither ASCII nor part of a word, alone before a space.
#[must_use]
pub fn title_glyph(title: &str) -> Option<char> {
    let mut characters = title.chars();
    let first = characters
        .next()
        .filter(|c| !c.is_ascii() && !c.is_alphanumeric() && !c.is_whitespace())?;
    let mut rest = characters.skip_while(|c| matches!(c, '\u{FE0E}' | '\u{FE0F}'));
    matches!(rest.next(), None | Some(' ')).then_some(first)
}

fn glyph_kind(title: &str) -> Glyph {
    match title_glyph(title) {
        None => Glyph::None,
        Some(IDLE_GLYPH) => Glyph::Idle,
        Some(_) => Glyph::Turning,
    }
}

/// Why a turn failed, from Claude Code's own word for it. One that comes later is shown as
/// it is.
fn in_words(error: &str) -> String {
    match error {
        "authentication_failed" => "Claude is not logged in",
        "billing_error" => "the account cannot be billed",
        "rate_limit" => "the account's limit is reached",
        "max_output_tokens" => "the answer became too long",
        "server_error" => "Claude's API does not work right now",
        "invalid_request" | "unknown" => "Claude's API answered with an error",
        other => other,
    }
    .to_owned()
}
