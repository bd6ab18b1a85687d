//! What of the first run, the versions and the walls crosses to the page.

use rcc_sandbox::session::{Row, Verdict};
use rcc_sandbox::setup::{Line, Part, Standing};
use serde::{Deserialize, Serialize};

/// One thing that is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct SetupLine {
    pub id: SetupId,
    pub title: String,
    pub state: SetupState,
    pub why: String,
    /// What a click does.
    pub button: Option<String>,
    /// What a person can run where rcc cannot.
    pub command: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum SetupId {
    Engine,
    Ids,
    Firewall,
    Image,
    Claude,
    Preset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum SetupState {
    Good,
    Missing,
    Optional,
}

/// The versions of what works together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct About {
    pub version: String,
    pub protocol: u32,
    pub helper: Option<String>,
    pub engine: Option<String>,
    pub claude: Option<String>,
    pub image: Option<String>,
}

/// One of the four walls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Wall {
    pub id: WallId,
    pub state: WallState,
    pub title: String,
    pub sentence: String,
    /// What holds it here.
    pub layer: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum WallId {
    Files,
    Network,
    Memory,
    Calls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum WallState {
    Holds,
    Notes,
    Open,
}

impl From<Line> for SetupLine {
    fn from(line: Line) -> Self {
        Self {
            id: match line.part {
                Part::Engine => SetupId::Engine,
                Part::Ids => SetupId::Ids,
                Part::Firewall => SetupId::Firewall,
                Part::Image => SetupId::Image,
                Part::Claude => SetupId::Claude,
                Part::Preset => SetupId::Preset,
            },
            title: line.part.title().into(),
            state: match line.standing {
                Standing::Good => SetupState::Good,
                Standing::Missing => SetupState::Missing,
                Standing::Optional => SetupState::Optional,
            },
            why: line.why,
            button: line.doing.map(Into::into),
            command: line.command,
        }
    }
}

impl From<SetupId> for Part {
    fn from(id: SetupId) -> Self {
        match id {
            SetupId::Engine => Self::Engine,
            SetupId::Ids => Self::Ids,
            SetupId::Firewall => Self::Firewall,
            SetupId::Image => Self::Image,
            SetupId::Claude => Self::Claude,
            SetupId::Preset => Self::Preset,
        }
    }
}

/// A way out that was tried, from inside the sandbox or as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// As in docs/threat-model.md.
    pub id: String,
    /// What must hold.
    pub what: String,
    pub tried: String,
    /// What was seen, or why nothing was tried.
    pub seen: String,
    pub verdict: VerdictWord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum VerdictWord {
    Holds,
    Open,
    NotTried,
    /// There was no time for it.
    Unfinished,
}

impl From<Row> for Tried {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            what: row.what.into(),
            tried: row.tried,
            seen: row.seen,
            verdict: match row.verdict {
                Verdict::Holds => VerdictWord::Holds,
                Verdict::Open => VerdictWord::Open,
                Verdict::NotTried => VerdictWord::NotTried,
                Verdict::Unfinished => VerdictWord::Unfinished,
            },
        }
    }
}
