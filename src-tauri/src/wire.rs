//! What crosses to the page. `ui/src/lib/backend/wire.ts` is generated from
//! here by the test at the end; codes and words cross, texts decide nothing.

mod desk;
pub mod hosts;
mod network;
mod project;
mod review;
mod settings;
mod setup;

use rcc_sandbox::{Code, Error, NetworkState, Step};
use serde::{Deserialize, Serialize};

pub use desk::{DroppedFile, Ending, LoginState};
pub use hosts::{FieldProblem, HostFields, HostLine, HostsChange, HostsDocument, HostsLevel};
pub use network::{AllowHost, AllowScope, Blocked, NetworkLine, NetworkView, Outcome};
pub use project::{Layer, LimitDefaults, PackageOffer, ProjectSettings, Resources};
pub use review::{ReviewLine, ReviewView, WhatWord};
pub use settings::WindowSettings;
pub use setup::{About, SetupId, SetupLine, Tried, Wall, WallId, WallState};

/// The first thing the page asks.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    pub version: String,
    /// Driven by a test: the page then offers `window.__rccTerminalText()`.
    pub automation: bool,
    /// Set when nothing can be opened at all.
    pub problem: Option<Problem>,
    pub settings: WindowSettings,
    /// Something of the first run is missing: show it.
    pub setup: bool,
}

/// An error in the one form. Everything in it is text to show, but `code`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `RCC-E…`, stable.
    pub code: String,
    /// What could not be done.
    pub title: String,
    /// Why.
    pub why: String,
    /// What to do.
    pub hint: String,
    /// Folded at first.
    pub detail: Option<String>,
}

/// A folder of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Project {
    /// 16 hexadecimal digits.
    pub id: String,
    pub name: String,
    /// The folder, `~` for the home.
    pub path: String,
    /// False when the folder is gone.
    pub exists: bool,
    /// When it was last opened here, seconds since 1970.
    #[cfg_attr(test, ts(type = "number | null"))]
    pub opened: Option<u64>,
    pub session: Option<Session>,
    /// Hosts blocked since its network page was looked at.
    pub blocked: u32,
    /// A conversation is kept that could go on.
    pub resumable: bool,
    /// Files that this computer would run, which changed and were not looked at.
    pub changed: u32,
    /// The same of files that are part of a build.
    pub changed_build: u32,
    /// Its login could be one for all projects: ask once.
    pub offer_login: bool,
}

/// A running sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Session {
    pub network: NetworkWord,
    /// Until when it is open to the whole internet, seconds since 1970.
    #[cfg_attr(test, ts(type = "number | null"))]
    pub open_until: Option<u64>,
    pub image: String,
    /// Of its Claude that most needs the person; a hint by the agent's side.
    pub activity: Option<Activity>,
    pub terminals: Vec<TerminalTab>,
}

/// A terminal of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct TerminalTab {
    /// The sandbox's own, from 1.
    pub number: u32,
    pub kind: TabKind,
    /// While Claude Code runs in it.
    pub activity: Option<Activity>,
    /// Set once the program ended.
    pub exit: Option<i32>,
}

/// What runs in a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum TabKind {
    Claude,
    Shell,
    Other,
}

/// What Claude is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    pub state: StateWord,
    /// The question, tool or reason.
    pub detail: Option<String>,
    /// Turns that are over; `done` with 0 awaits the first prompt.
    pub turns: u32,
    /// When the state began, seconds since 1970.
    #[cfg_attr(test, ts(type = "number"))]
    pub since: u64,
}

/// [`NetworkState`] as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum NetworkWord {
    Connected,
    Disconnected,
    Offline,
    Unknown,
}

/// [`rcc_sandbox::State`] as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum StateWord {
    Starting,
    Working,
    NeedsYou,
    Done,
    Background,
    Trouble,
    Ended,
}

/// What to open.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct OpenSandbox {
    /// A project of the list.
    pub project: String,
    /// Never connect.
    pub offline: bool,
    pub start: Start,
    /// Which one to show; none is Claude's.
    pub terminal: Option<u32>,
    pub columns: u16,
    pub rows: u16,
}

/// What the person wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum Start {
    /// The terminal that is named, else the Claude that runs, else a new one.
    Show,
    /// A new Claude.
    New,
    /// A new Claude that goes on with the last conversation.
    Resume,
    /// A new shell.
    Shell,
    /// Claude's own way to a token for all projects.
    Login,
}

/// What is there when everything was opened.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Opened {
    /// The window's own number of the terminal.
    pub terminal: u32,
    /// The sandbox's own number of it.
    pub tab: u32,
    pub session: Session,
}

/// While something is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Progress {
    Begun {
        step: StepWord,
    },
    /// Bytes; `total` may be an estimate.
    Amount {
        step: StepWord,
        #[cfg_attr(test, ts(type = "number"))]
        done: u64,
        #[cfg_attr(test, ts(type = "number | null"))]
        total: Option<u64>,
    },
    Doing {
        step: StepWord,
        text: String,
    },
    Done {
        step: StepWord,
        #[cfg_attr(test, ts(type = "number"))]
        ms: u64,
    },
    Failed {
        step: StepWord,
    },
    /// A sentence to be seen once.
    Note {
        text: String,
    },
}

/// [`Step`] as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum StepWord {
    CheckFolder,
    Engine,
    Image,
    Claude,
    StartSandbox,
    ConnectNetwork,
    StartProgram,
}

/// What happens without being asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Event {
    /// The list or a session in it changed: ask for the list.
    Projects,
    /// Claude of a project does something else now.
    Activity { project: String, activity: Option<Activity>, terminals: Vec<TerminalTab> },
    /// A host was blocked of which the person wants to hear.
    Blocked(Blocked),
    /// The network page of a project changed: ask again.
    Network { project: String },
    /// Something changed in the review of a project: ask again.
    Review { project: String },
    /// A list changed elsewhere: `computer`, `allProjects` or a project's id.
    Hosts { level: String },
    /// From the tray, a notification or `rcc-desktop PATH`: show this page.
    Show {
        project: Option<String>,
        #[cfg_attr(test, ts(type = "PageWord"))]
        page: PageWord,
    },
    /// The person wants to quit while so many sessions run: ask what to do.
    Quit { running: u32 },
    /// The window is to be hidden for the first time: say once that rcc stays in the tray.
    Hides,
    /// Other settings hold now.
    Settings { settings: WindowSettings },
    /// Whether the desktop wants high contrast.
    Contrast { high: bool },
    /// Something is held over the window.
    Dragging { over: bool, files: bool },
    /// A folder was dropped and is in the list now.
    Dropped { project: String },
    /// Files were dropped: for the terminal in sight.
    Files { files: Vec<DroppedFile> },
    /// What was dropped cannot be opened.
    Refused(Problem),
}

/// A page that is shown from outside. The page itself knows more of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PageWord {
    Terminal,
    Network,
    Hosts,
}

/// The first byte of each message on a terminal's channel; the rest are bytes
/// for the screen, or for [`Chunk::Ended`] the exit code in decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Chunk {
    Output = 0,
    /// Redraws everything.
    Screen = 1,
    Ended = 2,
    Lost = 3,
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let hint = if error.hint() == error.code().hint() {
            hint_in_window(error.code())
        } else {
            error.hint()
        };
        Self {
            code: error.code().as_str().into(),
            title: error.title().into(),
            why: error.body().into(),
            hint: hint.into(),
            detail: error.detail().map(Into::into).filter(|detail: &String| !detail.is_empty()),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

/// Where the general hint speaks of the command line, the window's own words.
fn hint_in_window(code: Code) -> &'static str {
    match code {
        Code::HelperMissing => "Start offline, or install rcc's firewall service and try again.",
        Code::HelperRefused => "Start offline, or ask the administrator.",
        Code::Link => "Start offline, or try again.",
        Code::Offline => "Stop the session and open it again to connect it.",
        Code::NoSession => "Open the folder in a sandbox first.",
        Code::Inside => {
            "Stop the session and open it again; the project and the conversation are kept."
        }
        Code::Review => "Look again at what changed.",
        other => other.hint(),
    }
}

impl From<NetworkState> for NetworkWord {
    fn from(state: NetworkState) -> Self {
        match state {
            NetworkState::Connected => Self::Connected,
            NetworkState::Disconnected => Self::Disconnected,
            NetworkState::Offline => Self::Offline,
            NetworkState::Unknown => Self::Unknown,
        }
    }
}

impl From<rcc_sandbox::State> for StateWord {
    fn from(state: rcc_sandbox::State) -> Self {
        use rcc_sandbox::State;
        match state {
            State::Starting => Self::Starting,
            State::Working => Self::Working,
            State::NeedsYou => Self::NeedsYou,
            State::Done => Self::Done,
            State::Background => Self::Background,
            State::Trouble => Self::Trouble,
            State::Ended => Self::Ended,
        }
    }
}

impl From<Step> for StepWord {
    fn from(step: Step) -> Self {
        match step {
            Step::CheckFolder => Self::CheckFolder,
            Step::Engine => Self::Engine,
            Step::Image => Self::Image,
            Step::Claude => Self::Claude,
            Step::StartSandbox => Self::StartSandbox,
            Step::ConnectNetwork => Self::ConnectNetwork,
            Step::StartProgram => Self::StartProgram,
        }
    }
}

impl From<rcc_sandbox::Progress> for Progress {
    fn from(progress: rcc_sandbox::Progress) -> Self {
        use rcc_sandbox::Progress as P;
        match progress {
            P::Begun(step) => Self::Begun { step: step.into() },
            P::Amount { step, done, total } => Self::Amount { step: step.into(), done, total },
            P::Doing(step, text) => Self::Doing { step: step.into(), text },
            P::Done(step, time) => Self::Done {
                step: step.into(),
                ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            },
            P::Failed(step) => Self::Failed { step: step.into() },
            P::Note(text) => Self::Note { text },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ts_rs::{Config, TS};

    const GENERATED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ui/src/lib/backend/wire.ts");

    fn typescript() -> String {
        let config = Config::default();
        let types = [
            Hello::decl(&config),
            Problem::decl(&config),
            Project::decl(&config),
            Session::decl(&config),
            TerminalTab::decl(&config),
            TabKind::decl(&config),
            Activity::decl(&config),
            NetworkWord::decl(&config),
            StateWord::decl(&config),
            OpenSandbox::decl(&config),
            Start::decl(&config),
            Opened::decl(&config),
            Progress::decl(&config),
            StepWord::decl(&config),
            Event::decl(&config),
            "type PageWord = \"terminal\" | \"network\" | \"hosts\" | \"settings\" | \"setup\" | \"projects\";".into(),
            Blocked::decl(&config),
            AllowHost::decl(&config),
            AllowScope::decl(&config),
            NetworkView::decl(&config),
            NetworkLine::decl(&config),
            Outcome::decl(&config),
            ReviewView::decl(&config),
            ReviewLine::decl(&config),
            WhatWord::decl(&config),
            HostsLevel::decl(&config),
            HostsDocument::decl(&config),
            HostLine::decl(&config),
            hosts::ProtocolWord::decl(&config),
            hosts::MayAdd::decl(&config),
            hosts::Preset::decl(&config),
            HostsChange::decl(&config),
            HostFields::decl(&config),
            FieldProblem::decl(&config),
            hosts::FieldWord::decl(&config),
            DroppedFile::decl(&config),
            LoginState::decl(&config),
            Ending::decl(&config),
            Resources::decl(&config),
            Layer::decl(&config),
            ProjectSettings::decl(&config),
            PackageOffer::decl(&config),
            LimitDefaults::decl(&config),
            SetupLine::decl(&config),
            SetupId::decl(&config),
            setup::SetupState::decl(&config),
            About::decl(&config),
            Wall::decl(&config),
            WallId::decl(&config),
            WallState::decl(&config),
            Tried::decl(&config),
            setup::VerdictWord::decl(&config),
            WindowSettings::decl(&config),
            settings::ThemeWord::decl(&config),
            settings::ContrastWord::decl(&config),
        ];
        let commands: Vec<String> =
            crate::commands::NAMES.iter().map(|name| format!("  | {name:?}")).collect();
        let chunks = [
            ("Output", Chunk::Output),
            ("Screen", Chunk::Screen),
            ("Ended", Chunk::Ended),
            ("Lost", Chunk::Lost),
        ]
        .map(|(name, chunk)| format!("  {name}: {},", chunk as u8));
        let text = format!(
            "// Generated from src-tauri/src/wire.rs by `RCC_WRITE=1 cargo test -p rcc-desktop wire`.\n\n\
             {}\n\n/** The first byte of a message on a terminal's channel. */\n\
             export const Chunk = {{\n{}\n}} as const;\n\n\
             /** The commands that the window answers. */\nexport type Command =\n{};\n",
            types.map(|decl| format!("export {decl}")).join("\n\n"),
            chunks.join("\n"),
            commands.join("\n"),
        );
        text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    #[test]
    fn the_pages_types_are_these() {
        let expected = typescript();
        if std::env::var_os("RCC_WRITE").is_some() {
            std::fs::write(GENERATED, &expected).unwrap();
        }
        let there = std::fs::read_to_string(GENERATED).unwrap_or_default();
        assert!(
            there == expected,
            "{GENERATED} is old: run `RCC_WRITE=1 cargo test -p rcc-desktop wire`"
        );
    }

    #[test]
    fn no_hint_in_the_window_speaks_of_the_command_line() {
        for code in Code::ALL {
            let problem = Problem::from(Error::new(*code, "Why."));
            for word in ["--", "`rcc "] {
                let speaks = problem.hint.contains(word);
                // What doctor and the engine's own tools say has no page yet.
                let known = matches!(
                    code,
                    Code::Engine | Code::SandboxStart | Code::NoSubordinateIds | Code::ImageTool
                );
                assert!(!speaks || known, "{code:?}: {}", problem.hint);
            }
        }
    }

    #[test]
    fn a_better_hint_stays() {
        let error = Error::new(Code::HelperMissing, "Why.").hint_is("Do that.");
        assert_eq!(Problem::from(error).hint, "Do that.");
    }
}
