//! `rcc`: the command line.
//!
//! Exit codes stand in [`arguments::exit`].

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

use arguments::{Arguments, exit};

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
                    exit::STOPPED
                } else {
                    exit::FAILED
                })
            }
            None => {
                eprintln!("rcc: {error:#}");
                ExitCode::from(exit::FAILED)
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
