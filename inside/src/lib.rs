//! The library half of `inside`: what the program inside a sandbox and the host agree on.
//!
//! `inside` is one static program, mounted read-only at [`PROGRAM`] in each sandbox. It is the container's PID 1, holds
//! its terminals and hears Claude Code's hooks. The host talks to it over the stdio of an exec, in the frames of
//! [`frame`]. It runs with the agent's user id and the agent may replace what it says: every byte that comes out of it
//! is a hint, decides no wall, and is bounded and cleaned by the decoding functions here.
//!
//! Everything in this library is pure: no I/O, and time is passed in.

pub mod filter;
pub mod frame;
pub mod hooks;
pub mod probes;
pub mod state;
pub mod text;

/// Where the program is mounted in a sandbox.
pub const PROGRAM: &str = "/run/rcc/inside";

/// The environment variable that names the terminal a program was started in.
pub const TERMINAL_VARIABLE: &str = "RCC_TERMINAL";

/// The name of the abstract socket of PID 1, without the leading NUL byte.
///
/// Abstract names belong to a network namespace, so each sandbox has its own and no file can be put in its place.
pub const SOCKET_NAME: &str = "rcc-inside";
