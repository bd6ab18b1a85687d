//! The contract between the root helper and everyone else: names, wire types,
//! errors and a client. The helper implements exactly this, and
//! `dbus/dev.rcc.Helper1.xml` describes it for other languages.
//!
//! The contract carries ids that the helper issued, enums, addresses, names,
//! ports and file descriptors; never a path, a command, a rule text or a pid.

mod error;
mod proxy;
mod wire;

pub use error::{Code, HelperError};
pub use proxy::{Helper1Proxy, connect};
pub use wire::{
    Attachment, AttachmentInfo, BlockedReason, Check, Reached, Rule, RuleDropped, SetupStep,
    StandingRule,
};

/// The well-known name that the helper owns on the system bus.
pub const BUS_NAME: &str = "dev.rcc.Helper1";
/// The one object that the helper exports.
pub const OBJECT_PATH: &str = "/dev/rcc/Helper1";
/// The one interface on that object.
pub const INTERFACE: &str = "dev.rcc.Helper1";
/// Number of the protocol; helper and clients of different releases work
/// together as long as it is equal.
pub const PROTOCOL: u32 = 1;

/// Rules that one call may carry. The helper refuses more, so that a caller
/// cannot make it hold much memory (THREATS H3).
pub const MAX_RULES_PER_CALL: usize = 2_000;
/// Ports that one rule may name.
pub const MAX_PORTS_PER_RULE: usize = 64;
/// Longest time that a timed rule may live, in seconds: one day.
pub const MAX_EXPIRY: u32 = 24 * 60 * 60;

/// Longest time that `OpenInternet` opens for, in seconds: one hour.
pub const MAX_OPEN: u32 = 60 * 60;

/// The polkit actions of `polkit/dev.rcc.helper.policy`.
pub mod action {
    /// Plug a network link into a sandbox of one's own.
    pub const ATTACH: &str = "dev.rcc.helper.attach";
    /// Change or end one's own attachments.
    pub const CONTROL_OWN: &str = "dev.rcc.helper.control-own";
    /// See, change or end another user's attachments.
    pub const CONTROL_OTHERS: &str = "dev.rcc.helper.control-others";
    /// Read one's own status and the policy in force.
    pub const STATUS: &str = "dev.rcc.helper.status";
    /// Take allowed hosts out of the administrator's file.
    pub const EDIT_POLICY_NARROW: &str = "dev.rcc.helper.edit-policy-narrow";
    /// Put allowed hosts into the administrator's file.
    pub const EDIT_POLICY_WIDEN: &str = "dev.rcc.helper.edit-policy-widen";
    /// Have the administrator's list read again, and the firewall's rules put right.
    pub const REFRESH: &str = "dev.rcc.helper.refresh";
    /// Change what starts at boot, and other firewalls of the computer.
    pub const SETUP: &str = "dev.rcc.helper.setup";
    /// Every action, in the order of the polkit file.
    pub const ALL: [&str; 8] = [
        ATTACH,
        CONTROL_OWN,
        CONTROL_OTHERS,
        STATUS,
        EDIT_POLICY_NARROW,
        EDIT_POLICY_WIDEN,
        REFRESH,
        SETUP,
    ];
}
