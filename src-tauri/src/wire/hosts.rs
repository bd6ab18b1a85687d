//! What of the lists of allowed hosts crosses to the page.

use rcc_sandbox::hosts::{self, Field, Fields, Mistake, UsersMayAdd};
use serde::{Deserialize, Serialize};

/// Which list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "level", rename_all = "camelCase")]
pub enum HostsLevel {
    Computer,
    AllProjects,
    Project { project: String },
}

/// A list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct HostsDocument {
    /// Of the very bytes that were read.
    pub version: String,
    /// The file, `~` for the home.
    pub path: String,
    pub hosts: Vec<HostLine>,
    pub editable: bool,
    /// A change asks for the administrator's password.
    pub prompts: bool,
    /// This and the rest: of `computer` only.
    pub users_may_add: Option<MayAdd>,
    pub allow_public: Option<bool>,
    pub block_private: Option<bool>,
    /// The preset that the list is equal to.
    pub preset: Option<Preset>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct HostLine {
    pub target: String,
    pub ports: Vec<u16>,
    pub protocol: ProtocolWord,
    pub private: bool,
    pub comment: Option<String>,
    /// A wildcard: names below it can carry data out.
    pub tunnel: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(rename = "Protocol"))]
#[serde(rename_all = "camelCase")]
pub enum ProtocolWord {
    Tcp,
    Udp,
}

/// What people may add for their own projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(rename = "UsersMayAdd"))]
#[serde(rename_all = "camelCase")]
pub enum MayAdd {
    None,
    Public,
    Private,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum Preset {
    Open,
    Balanced,
    Locked,
}

/// One edit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum HostsChange {
    Add {
        host: HostFields,
    },
    Replace {
        old: HostFields,
        host: HostFields,
    },
    Remove {
        host: HostFields,
    },
    Preset {
        preset: Preset,
    },
    /// The list as it was before the last change from here; refused as changed meanwhile
    /// when somebody wrote it since.
    Undo,
}

/// An entry as it stands in the form.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct HostFields {
    pub target: String,
    /// As typed: `443` or `80, 443`.
    pub ports: String,
    pub protocol: ProtocolWord,
    pub private: bool,
}

/// A mistake in the form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct FieldProblem {
    pub field: FieldWord,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum FieldWord {
    Target,
    Ports,
    Private,
}

impl From<HostFields> for Fields {
    fn from(fields: HostFields) -> Self {
        let protocol = match fields.protocol {
            ProtocolWord::Tcp => "tcp",
            ProtocolWord::Udp => "udp",
        };
        Self {
            target: fields.target,
            ports: fields.ports,
            protocol: protocol.into(),
            private: fields.private,
        }
    }
}

impl From<Mistake> for FieldProblem {
    fn from(mistake: Mistake) -> Self {
        let field = match mistake.field {
            Field::Target => FieldWord::Target,
            Field::Ports => FieldWord::Ports,
            Field::Private => FieldWord::Private,
        };
        Self { field, message: mistake.message }
    }
}

impl From<hosts::Protocol> for ProtocolWord {
    fn from(protocol: hosts::Protocol) -> Self {
        match protocol {
            hosts::Protocol::Tcp => Self::Tcp,
            hosts::Protocol::Udp => Self::Udp,
        }
    }
}

impl From<UsersMayAdd> for MayAdd {
    fn from(may: UsersMayAdd) -> Self {
        match may {
            UsersMayAdd::None => Self::None,
            UsersMayAdd::Public => Self::Public,
            UsersMayAdd::Private => Self::Private,
        }
    }
}

impl From<hosts::Preset> for Preset {
    fn from(preset: hosts::Preset) -> Self {
        match preset {
            hosts::Preset::Open => Self::Open,
            hosts::Preset::Balanced => Self::Balanced,
            hosts::Preset::Locked => Self::Locked,
        }
    }
}

impl From<Preset> for hosts::Preset {
    fn from(preset: Preset) -> Self {
        match preset {
            Preset::Open => Self::Open,
            Preset::Balanced => Self::Balanced,
            Preset::Locked => Self::Locked,
        }
    }
}
