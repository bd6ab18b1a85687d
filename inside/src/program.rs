//! The program half of `inside`: what talks to the kernel.

pub mod client;
pub mod hook;
pub mod init;
pub mod launch;

mod boundary;
mod connection;
mod descriptors;
mod screen;
mod server;
mod terminal;
