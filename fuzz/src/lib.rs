//! Fuzz targets: functions that take any bytes, and panic when something does not hold.
//!
//! `tests/corpus.rs` runs each over its folder in `corpus/` and over what a fixed sequence
//! of changes makes of that, in every run of all tests. `cargo xtask fuzz` searches with
//! libFuzzer, guided by what the code does, for as long as one likes; see `libfuzzer/`.
//! What is found goes into the corpus.

mod bus;
mod policy;
mod program;
mod sandbox;

pub mod mutate;

// Of rooms that are programs and no libraries; see `program.rs`, too.
#[path = "../../cli/src/filter.rs"]
mod filter;
#[path = "../../cli/src/plain.rs"]
mod plain;
#[path = "../../cli/src/sequences.rs"]
mod sequences;
use rcc_helper::fuzz as helper;

/// A function, and the name of its corpus.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// A folder in `corpus/`.
    pub name: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 15] = [
    Target { name: "whitelist", run: policy::whitelist },
    Target { name: "edits", run: policy::edits },
    Target { name: "dns_question", run: helper::dns_question },
    Target { name: "dns_answer", run: helper::dns_answer },
    Target { name: "client_hello", run: helper::client_hello },
    Target { name: "hello_packets", run: helper::hello_packets },
    Target { name: "packet", run: helper::packet },
    Target { name: "resolver_channel", run: helper::resolver_channel },
    Target { name: "bus_arguments", run: bus::arguments },
    Target { name: "frames", run: sandbox::frames },
    Target { name: "hook", run: sandbox::hook },
    Target { name: "probes", run: sandbox::probes },
    Target { name: "screen", run: sandbox::screen },
    Target { name: "terminal_filter", run: sandbox::terminal_filter },
    Target { name: "plain_output", run: sandbox::plain_output },
];
