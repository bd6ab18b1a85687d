//! `rcc`: the command line.
//!
//! # Exit codes
//! The program's own for `claude`, `shell`, `run` and `attach` (128 and the
//! signal when a signal ended it). rcc itself: 0 done, 1 `doctor` or `verify` found
//! something bad, 2 wrong usage, 3 `verify` could not finish, 125 an error with a code
//! `RCC-E…`, 130 stopped by Ctrl-C.

#![allow(clippy::print_stdout, reason = "a command line prints")]

mod arguments;
mod commands;
mod filter;
mod follow;
mod notice;
mod open;
mod piped;
mod plain;
mod raw;
mod sequences;
mod show;
mod tty;

use std::process::ExitCode;

use clap::Parser;

use arguments::Arguments;

/// rcc's own failure, as with other programs that start programs.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    // First of all, while there is one thread: this process may be the one that
    // sets up a sandbox's link.
    rcc_sandbox::link::run_if_asked();
    let arguments = Arguments::parse();
    let json = arguments.json;
    match run(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => match error.downcast_ref::<rcc_sandbox::Error>() {
            Some(error) => {
                show::error(error, json);
                ExitCode::from(if error.code() == rcc_sandbox::Code::Cancelled {
                    130
                } else {
                    FAILED
                })
            }
            None => {
                eprintln!("rcc: {error:#}");
                ExitCode::from(FAILED)
            }
        },
    }
}

fn run(arguments: Arguments) -> anyhow::Result<u8> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(commands::run(arguments));
    // A thread that waits for a key on stdin must not hold the end up.
    runtime.shutdown_background();
    result
}
