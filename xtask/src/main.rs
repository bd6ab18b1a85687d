//! `cargo xtask`: what a developer of rcc runs.

#![allow(clippy::print_stdout, reason = "a command line prints")]

mod bench;
mod child;
mod fuzz;
mod mutate;
mod package;
mod report;
mod run;
mod screenshots;
mod test;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build and check everything that can be checked on this machine; what cannot is named, with the reason
    Test {
        /// Where the result is written, too, as JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Only the tests on a whole computer with its own kernel, in software: ten minutes
        #[arg(long)]
        vm: bool,
        /// All of it, those too, and for hours: a thousand times, ten minutes of fuzzing each, every defence taken away
        #[arg(long, conflicts_with = "vm")]
        long: bool,
    },
    /// Install rcc here and open a project; as root without systemd: play all of it in a lab
    Run(run::Wanted),
    /// Measure what DESIGN promises, in labs; ratios and raw figures
    Bench {
        /// Only these; all without one
        parts: Vec<bench::Part>,
    },
    /// Pictures of every page of the window, in light and dark, at two sizes
    Screenshots {
        /// Where they go
        #[arg(long, value_name = "FOLDER")]
        to: Option<PathBuf>,
        /// Only these; all without one
        pages: Vec<String>,
    },
    #[command(hide = true)]
    Measure { parts: Vec<bench::Part> },
    #[command(hide = true)]
    Client(bench::client::Wanted),
    /// Take one defence away at a time, in a copy, and see a test turn red
    Mutate {
        /// So many copies at once; each takes some gigabytes
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
        jobs: u8,
        /// Only rows with these words; all without one
        rows: Vec<String>,
    },
    /// Search for inputs that break what parses hostile bytes, with libFuzzer
    Fuzz(fuzz::Wanted),
    /// Make a package, in target/package: Debian's when no kind is named
    Package(package::Wanted),
    /// Take back what `run` did
    Uninstall {
        /// Ask nothing
        #[arg(long)]
        yes: bool,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Test { json, vm, long } => {
            let extent = match (vm, long) {
                (_, true) => test::Extent::Long,
                (true, _) => test::Extent::Vm,
                _ => test::Extent::Usual,
            };
            test::run(json.as_deref(), extent)
        }
        Command::Run(wanted) => run::run(&wanted),
        Command::Bench { parts } => bench::run(&parts),
        Command::Measure { parts } => bench::measure(&parts),
        Command::Client(wanted) => bench::client::run(&wanted),
        Command::Mutate { jobs, rows } => mutate::run(&rows, jobs),
        Command::Fuzz(wanted) => fuzz::run(&wanted),
        Command::Package(wanted) => package::run(&wanted),
        Command::Screenshots { to, pages } => screenshots::run(to, &pages),
        Command::Uninstall { yes } => run::uninstall(yes),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
