//! What the sandboxes that run say of themselves: their terminals and what
//! Claude does in each. Hints by the agent's side; no wall depends on them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rcc_sandbox::{Exit, Reply, State, TerminalInfo};

use crate::wire::{Activity, StateWord, TabKind, TerminalTab};

/// The name that the sandbox's side gives to Claude's terminals.
pub const CLAUDE: &str = "claude";
/// The same for shells.
const SHELL: &str = "shell";

/// All that are watched, by project.
#[derive(Default)]
pub struct Live(HashMap<String, Sandbox>);

/// One sandbox.
#[derive(Default)]
pub struct Sandbox {
    terminals: BTreeMap<u32, TerminalInfo>,
    /// Ended, and put away by the person.
    closed: BTreeSet<u32>,
}

/// What a reply changed, the lesser first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    #[default]
    Nothing,
    /// What a program does.
    States,
    /// Which terminals there are.
    Tabs,
    /// It tells of a terminal that is not in the list: ask for the list.
    Unknown,
}

/// Changes are told to the page so often at most: a sandbox may say something new a
/// thousand times a second.
const GATHERED: Duration = Duration::from_millis(250);
/// A sandbox is asked for its terminals so often at most: each time costs a process.
const LOOKS: Duration = Duration::from_secs(2);

/// What of one sandbox is to be told. Time is passed in.
#[derive(Debug)]
pub struct Due {
    begun: Instant,
    what: Change,
    unknown: bool,
    told: Option<Instant>,
    looked: Option<Instant>,
}

impl Due {
    pub fn new(begun: Instant) -> Self {
        Self { begun, what: Change::Nothing, unknown: false, told: None, looked: None }
    }

    pub fn add(&mut self, change: Change) {
        match change {
            Change::Unknown => self.unknown = true,
            change => self.what = self.what.max(change),
        }
    }

    /// What is to be told at this moment.
    pub fn take(&mut self, now: Instant) -> Change {
        if self.look_at().is_some_and(|at| at <= now) {
            self.unknown = false;
            self.looked = Some(now);
            return Change::Unknown;
        }
        if self.tell_at().is_none_or(|at| at > now) {
            return Change::Nothing;
        }
        self.told = Some(now);
        std::mem::take(&mut self.what)
    }

    /// When there is more to be told.
    pub fn next(&self) -> Option<Instant> {
        [self.look_at(), self.tell_at()].into_iter().flatten().min()
    }

    fn look_at(&self) -> Option<Instant> {
        self.unknown.then(|| self.looked.map_or(self.begun, |at| at + LOOKS))
    }

    fn tell_at(&self) -> Option<Instant> {
        let is_due = self.what != Change::Nothing;
        is_due.then(|| self.told.map_or(self.begun, |at| at + GATHERED))
    }
}

impl Live {
    /// Begins to know of a project; false when it is known.
    pub fn begin(&mut self, project: &str) -> bool {
        let new = !self.0.contains_key(project);
        if new {
            self.0.insert(project.into(), Sandbox::default());
        }
        new
    }

    pub fn end(&mut self, project: &str) {
        self.0.remove(project);
    }

    pub fn projects(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, project: &str) -> Option<&Sandbox> {
        self.0.get(project)
    }

    pub fn get_mut(&mut self, project: &str) -> Option<&mut Sandbox> {
        self.0.get_mut(project)
    }
}

impl Sandbox {
    pub fn set(&mut self, all: Vec<TerminalInfo>) {
        self.terminals = all.into_iter().map(|info| (info.terminal, info)).collect();
        self.closed.retain(|number| self.terminals.contains_key(number));
    }

    /// Takes one reply in.
    pub fn take(&mut self, reply: Reply) -> Change {
        match reply {
            Reply::Terminals(all) => {
                self.set(all);
                Change::Tabs
            }
            Reply::State { terminal, state, detail, turns, since_unix_s } => {
                let Some(info) = self.terminals.get_mut(&terminal) else { return Change::Unknown };
                (info.state, info.detail, info.turns, info.since_unix_s) =
                    (state, detail, turns, since_unix_s);
                Change::States
            }
            Reply::Exited { terminal, code, signal } => {
                let Some(info) = self.terminals.get_mut(&terminal) else { return Change::Unknown };
                info.alive = false;
                info.exit = Some(Exit { code, signal });
                Change::Tabs
            }
            _ => Change::Nothing,
        }
    }

    /// The person put the tab away.
    pub fn close(&mut self, terminal: u32) {
        self.closed.insert(terminal);
    }

    /// The tabs, by number. A terminal that ended stays until it is put away.
    pub fn tabs(&self) -> Vec<TerminalTab> {
        self.terminals
            .values()
            .filter(|info| !self.closed.contains(&info.terminal))
            .map(|info| TerminalTab {
                number: info.terminal,
                kind: kind(info),
                activity: activity_of(info),
                exit: (!info.alive).then(|| exit_code(info)),
            })
            .collect()
    }

    /// What the Claude does that most needs the person: one that runs comes
    /// before one that ended, the newest first among equals.
    pub fn activity(&self) -> Option<Activity> {
        self.terminals
            .values()
            .rev()
            .filter(|info| !self.closed.contains(&info.terminal))
            .filter_map(|info| Some((info, activity_of(info)?)))
            .min_by_key(|(info, activity)| (!info.alive, need(activity.state)))
            .map(|(_, activity)| activity)
    }

    /// Whether a conversation was begun that could go on.
    pub fn had_a_turn(&self) -> bool {
        self.terminals.values().any(|info| info.name == CLAUDE && info.turns > 0)
    }
}

fn kind(info: &TerminalInfo) -> TabKind {
    match info.name.as_str() {
        CLAUDE => TabKind::Claude,
        SHELL => TabKind::Shell,
        _ => TabKind::Other,
    }
}

/// Claude's terminals have one always, others while Claude Code runs in them.
fn activity_of(info: &TerminalInfo) -> Option<Activity> {
    let busy = matches!(info.state, State::NeedsYou | State::Working | State::Background);
    let says = info.name == CLAUDE || info.alive && (busy || info.turns > 0);
    says.then(|| Activity {
        state: info.state.into(),
        detail: info.detail.clone(),
        turns: info.turns,
        since: info.since_unix_s,
    })
}

/// Smaller is more urgent.
fn need(state: StateWord) -> u8 {
    match state {
        StateWord::NeedsYou => 0,
        StateWord::Trouble => 1,
        StateWord::Working => 2,
        StateWord::Background => 3,
        StateWord::Done => 4,
        StateWord::Starting => 5,
        StateWord::Ended => 6,
    }
}

/// As a shell shows it.
fn exit_code(info: &TerminalInfo) -> i32 {
    info.exit
        .and_then(|exit| exit.code.or(exit.signal.and_then(|signal| signal.checked_add(128))))
        .unwrap_or(0)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn info(terminal: u32, name: &str, state: State) -> TerminalInfo {
        TerminalInfo {
            terminal,
            name: name.into(),
            argv0: String::new(),
            state,
            detail: None,
            turns: 0,
            since_unix_s: 5,
            started_unix_s: 5,
            title: String::new(),
            title_glyph: None,
            cols: 80,
            rows: 24,
            alive: true,
            exit: None,
        }
    }

    fn sandbox(all: Vec<TerminalInfo>) -> Sandbox {
        let mut sandbox = Sandbox::default();
        assert_eq!(sandbox.take(Reply::Terminals(all)), Change::Tabs);
        sandbox
    }

    fn state(terminal: u32, state: State) -> Reply {
        Reply::State { terminal, state, detail: None, turns: 1, since_unix_s: 5 }
    }

    #[test]
    fn t2_a_sandbox_that_says_something_new_without_end_is_told_a_few_times_a_second() {
        let begun = Instant::now();
        let mut due = Due::new(begun);
        let (mut told, mut asked) = (0, 0);
        let all = [Change::States, Change::Tabs, Change::Unknown];
        for (millis, change) in (0..10_000).zip(all.into_iter().cycle()) {
            due.add(change);
            match due.take(begun + Duration::from_millis(millis)) {
                Change::Nothing => {}
                Change::Unknown => asked += 1,
                _ => told += 1,
            }
        }
        assert_eq!((told, asked), (40, 5));
        // The last one is told, too.
        let end = begun + Duration::from_secs(20);
        assert!(due.next().is_some_and(|at| at < end));
        assert_eq!((due.take(end), due.take(end)), (Change::Unknown, Change::Tabs));
        assert_eq!((due.take(end), due.next()), (Change::Nothing, None));
    }

    #[test]
    fn the_claude_that_needs_the_person_is_the_one_shown() {
        let mut sandbox = sandbox(vec![
            info(1, CLAUDE, State::Working),
            info(2, CLAUDE, State::Done),
            info(3, SHELL, State::Done),
        ]);
        assert_eq!(sandbox.activity().unwrap().state, StateWord::Working);
        assert_eq!(sandbox.take(state(2, State::NeedsYou)), Change::States);
        assert_eq!(sandbox.activity().unwrap().state, StateWord::NeedsYou);
        assert!(sandbox.had_a_turn());
        sandbox.take(Reply::Exited { terminal: 2, code: Some(1), signal: None });
        sandbox.take(state(2, State::Trouble));
        // One that runs comes first.
        assert_eq!(sandbox.activity().unwrap().state, StateWord::Working);
        sandbox.take(Reply::Exited { terminal: 1, code: None, signal: Some(9) });
        sandbox.take(state(1, State::Ended));
        assert_eq!(sandbox.activity().unwrap().state, StateWord::Trouble);
        let exits: Vec<_> = sandbox.tabs().iter().map(|tab| tab.exit).collect();
        assert_eq!(exits, [Some(137), Some(1), None]);
    }

    #[test]
    fn a_shell_says_something_only_while_claude_runs_in_it() {
        let mut sandbox = sandbox(vec![info(1, SHELL, State::Done), info(2, "run", State::Done)]);
        assert_eq!(sandbox.activity(), None);
        let kinds: Vec<_> = sandbox.tabs().iter().map(|tab| tab.kind).collect();
        assert_eq!(kinds, [TabKind::Shell, TabKind::Other]);
        sandbox.take(state(1, State::NeedsYou));
        assert_eq!(sandbox.tabs()[0].activity.as_ref().unwrap().state, StateWord::NeedsYou);
        assert!(!sandbox.had_a_turn());
    }

    #[test]
    fn an_unknown_terminal_is_asked_for_and_one_put_away_stays_away() {
        let mut sandbox = sandbox(vec![info(1, CLAUDE, State::Ended)]);
        assert_eq!(sandbox.take(state(7, State::Done)), Change::Unknown);
        sandbox.close(1);
        assert!(sandbox.tabs().is_empty() && sandbox.activity().is_none());
        sandbox.set(vec![info(1, CLAUDE, State::Ended), info(2, CLAUDE, State::Working)]);
        assert_eq!(sandbox.tabs().len(), 1);
    }
}
