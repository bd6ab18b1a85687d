//! The whitelist: parse, check, decide, presets. Pure: no I/O, no clock.
//!
//! A policy has one administrator's file, which bounds everything
//! ([`Policy`]), and lists of [`Entry`] that a user adds for their own
//! projects ([`UserRules`]). [`merge`] puts them together within the bounds;
//! [`decide`] is the specification of what the gate does with an address.

mod decide;
mod document;
mod edit;
mod entry;
mod interface;
mod levels;
mod name;
mod presets;
mod ranges;
mod spec;

pub use decide::{Answer, Flow, Verdict, decide, match_name};
pub use document::{
    Defaults, MAX_DOCUMENT, MayAttach, Policy, PolicyError, UserRules, UsersMayAdd,
};
pub use edit::{EditError, add_entry, comments, remove_entry, replace_entry};
pub use entry::{Entry, EntryError, Protocol, Reach, Target};
pub use interface::{Interface, InterfaceError};
pub use levels::{Dropped, merge};
pub use name::{HostPattern, Name, NameError};
pub use presets::Preset;
pub use ranges::{NEVER, PRIVATE, Range, classify};
pub use spec::parse_spec;
