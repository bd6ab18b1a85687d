//! The lab: namespaces that play sandbox, gate, host, LAN and internet, a bus
//! and polkit of its own, and people who use them. Each [`Lab`] belongs to the
//! thread that started it; the machine's own namespaces, rules, users and bus
//! stay as they are.

mod actor;
mod containers;
pub mod hello;
mod internet;
mod lab;
mod machine;
pub mod played_api;
mod vm;
mod window;

pub use actor::{Actor, Watched};
pub use containers::{CACHE, Ended, Workshop, cache};
pub use hickory_proto::rr;
pub use internet::{DnsServer, Echo, Zone, ask, records};
pub use lab::{
    ANN, BOB, Lab, Options, Sandbox, Skip, built, in_namespace, links, skip, wait_for, world, zone,
};
pub use machine::{MACHINES, Machine, Release, SHARED, Seat, people};
pub use vm::{Said, Security, Vm};
pub use window::Window;

/// What [`Actor`] and its process say to each other.
pub mod protocol {
    pub use crate::actor::{Call, Said};
}
