//! The program half of `inside`: what talks to the kernel.

pub mod client;
pub mod filter;
pub mod hook;
pub mod init;
pub mod launch;
pub mod probe;

mod boundary;
mod connection;
mod descriptors;
mod screen;
mod server;
mod terminal;
