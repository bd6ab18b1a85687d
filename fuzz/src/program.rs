//! The screen of the program inside, which is no library.

#![allow(dead_code, reason = "not all of it is tried")]

#[path = "../../inside/src/program/boundary.rs"]
mod boundary;
#[path = "../../inside/src/program/screen.rs"]
pub mod screen;
