//! The resolver: names to addresses, for the names that the policy allows.
//!
//! Bytes from a sandbox and from name servers are parsed only in [`child`], a
//! process of its own user with no capabilities, in an empty network namespace,
//! that can neither open files nor make sockets. The helper ([`parent`]) gives it
//! descriptors and believes nothing that it says.

pub mod child;
pub mod dns;
pub(crate) mod hello;
pub(crate) mod hellos;
mod index;
mod looking;
pub(crate) mod packet;
pub mod parent;
pub(crate) mod retry;
mod services;
pub mod wire;
