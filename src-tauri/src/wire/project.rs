//! What of a project's limits and settings crosses to the page.

use serde::{Deserialize, Serialize};

/// What a sandbox uses now. `null`: this computer cannot tell.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Bytes.
    #[cfg_attr(test, ts(type = "number | null"))]
    pub memory: Option<u64>,
    /// Bytes.
    #[cfg_attr(test, ts(type = "number | null"))]
    pub memory_limit: Option<u64>,
    /// Cores in use.
    pub cpu: Option<f64>,
    pub cores: Option<f64>,
    pub processes: Option<u32>,
    pub process_limit: Option<u32>,
    /// The limits are held.
    pub enforced: bool,
    /// Why not, in words.
    pub why: Option<String>,
}

/// A layer of projects' own packages that the engine keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    pub name: String,
    /// What it takes, bytes.
    #[cfg_attr(test, ts(type = "number"))]
    pub size: u64,
    /// When a sandbox was opened with it last, seconds since 1970.
    #[cfg_attr(test, ts(type = "number | null"))]
    pub used: Option<u64>,
    /// Folders of the projects that ask for its packages, `~` for the home.
    pub projects: Vec<String>,
}

/// A person's settings for one project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct ProjectSettings {
    /// Claude acts without asking.
    pub act_alone: bool,
    /// The login of all projects is not handed in here.
    pub own_login: bool,
    /// Programs inside may make namespaces of their own.
    pub user_namespaces: bool,
    /// `dev`, `small`, or a name that the engine knows.
    pub image: String,
    /// Bytes; `null` is the default, as for the next two.
    #[cfg_attr(test, ts(type = "number | null"))]
    pub memory: Option<u64>,
    pub cores: Option<u32>,
    pub processes: Option<u32>,
    /// What the built image has besides.
    pub packages: Vec<String>,
    pub offered: Vec<PackageOffer>,
    pub defaults: LimitDefaults,
    /// Changes count for the next session.
    pub running: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct PackageOffer {
    pub packages: Vec<String>,
    /// The file that suggests them.
    pub because: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct LimitDefaults {
    /// Bytes.
    #[cfg_attr(test, ts(type = "number"))]
    pub memory: u64,
    pub cores: u32,
    pub processes: u32,
}
