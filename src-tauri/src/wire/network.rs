//! What of the network crosses to the page.

use serde::{Deserialize, Serialize};

use super::NetworkWord;

/// A host that was blocked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Blocked {
    pub project: String,
    /// Name, or the address when there is no name; harmless to show.
    pub target: String,
    /// 0 when only the name was asked.
    pub port: u16,
    /// `tcp`, `udp` or another word.
    pub protocol: String,
    /// `not-allowed`, `private`, `never`, `limit`, `disconnected`, or a word
    /// that this release does not know.
    pub reason: String,
}

impl Blocked {
    /// It is the kind of address that keeps it blocked: a rule must say so.
    pub fn is_private(&self) -> bool {
        self.reason == "private"
    }

    /// Whether a rule of a person could open it.
    pub fn can_be_allowed(&self) -> bool {
        matches!(self.reason.as_str(), "not-allowed" | "private")
            && matches!(self.protocol.as_str(), "" | "tcp" | "udp")
    }
}

/// A host to allow.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct AllowHost {
    pub project: String,
    /// As [`Blocked::target`].
    pub target: String,
    pub port: u16,
    pub protocol: String,
    /// It may resolve into private ranges.
    pub private: bool,
    pub scope: AllowScope,
}

/// How far it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum AllowScope {
    TenMinutes,
    Session,
    Project,
    AllProjects,
}

/// What a project reached and did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct NetworkView {
    pub state: NetworkWord,
    /// Until when it is open to the whole internet, seconds since 1970.
    #[cfg_attr(test, ts(type = "number | null"))]
    pub open_until: Option<u64>,
    /// The newest first.
    pub lines: Vec<NetworkLine>,
    /// Lines that are left off.
    pub more: u32,
}

/// One host and port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct NetworkLine {
    pub target: String,
    pub address: Option<String>,
    /// 0 when only the name was asked.
    pub port: u16,
    pub protocol: String,
    pub outcome: Outcome,
    /// As [`Blocked::reason`].
    pub reason: Option<String>,
    pub count: u32,
    /// Seconds since 1970.
    #[cfg_attr(test, ts(type = "number"))]
    pub last: u64,
    /// The person said: never ask again.
    pub quiet: bool,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Reached,
    Blocked,
}
