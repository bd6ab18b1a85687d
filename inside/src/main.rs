//! `inside`: PID 1 of a sandbox, the host's way in, and Claude Code's hook, in one static program.

use std::io::Write as _;
use std::process::ExitCode;

mod program;

use program::{client, hook, init, launch, probe};

const USAGE: &str = "usage: inside init | client | hook | probe MILLISECONDS | --version";

/// Before the mode, for tests: another name for the abstract socket, so that several can run side by side.
const SOCKET_OPTION: &str = "--socket";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let mut socket = rcc_inside::SOCKET_NAME.to_owned();
    let mut mode = arguments.next();
    if mode.as_deref().is_some_and(|mode| mode == SOCKET_OPTION) {
        let Some(name) = arguments.next().and_then(|name| name.into_string().ok()) else {
            return misused();
        };
        socket = name;
        mode = arguments.next();
    }
    let result = match mode.as_deref().and_then(|mode| mode.to_str()) {
        Some("init") => init::run(&socket).map_err(|error| error.to_string()),
        Some("client") => {
            client::run(&socket).map_err(|error| format!("the sandbox cannot be reached: {error}"))
        }
        Some("hook") => {
            hook::run(socket);
            Ok(())
        }
        Some("probe") => probe::run(arguments.next()).map_err(|error| error.to_string()),
        Some(probe::ALONE_MODE) => probe::run_alone().map_err(|error| error.to_string()),
        Some(launch::EXEC_MODE) => return launch::exec(arguments),
        Some("--version") => version().map_err(|error| error.to_string()),
        _ => return misused(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("inside: {message}");
            ExitCode::FAILURE
        }
    }
}

fn version() -> std::io::Result<()> {
    writeln!(std::io::stdout(), "inside {}", env!("CARGO_PKG_VERSION"))
}

fn misused() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
