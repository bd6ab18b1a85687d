//! What of files, logins and the computer's session crosses to the page.

use serde::Serialize;

/// A file that was dropped on the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct DroppedFile {
    pub name: String,
    /// Its path in the sandbox; `null` when it is not in the project.
    pub inside: Option<String>,
}

/// The login of all projects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct LoginState {
    /// One is kept; `null`: this computer has no secret store.
    pub kept: Option<bool>,
    /// rcc was started with a login in its environment, which comes first.
    pub by_environment: bool,
}

/// Why programs of a sandbox ended that nobody ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    pub out_of_memory: bool,
    /// What it had, bytes.
    #[cfg_attr(test, ts(type = "number"))]
    pub memory: u64,
    /// What it could have, bytes; `null`: the computer has no more.
    #[cfg_attr(test, ts(type = "number | null"))]
    pub more: Option<u64>,
}
