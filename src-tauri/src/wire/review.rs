//! What of the review crosses to the page.

use serde::Serialize;

/// What changed of the files that this computer would run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct ReviewView {
    pub changes: Vec<ReviewLine>,
    /// Sentences about what could not be compared.
    pub notes: Vec<String>,
    /// Something was put back that can be undone.
    pub can_undo: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct ReviewLine {
    /// Of this very change: another content has another.
    pub id: String,
    pub path: String,
    pub what: WhatWord,
    /// Without being asked to; else it is part of a build, or a link.
    pub runs_by_itself: bool,
    /// A link out of the project, and no more.
    pub leads_out: bool,
    /// Who would run it, and when.
    pub why: String,
    pub can_put_back: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum WhatWord {
    New,
    Changed,
    Removed,
}
