//! Starting a program on a terminal of its own.
//!
//! Making a session and taking a controlling terminal must happen in the new process. The safe way to do that is to
//! start this very program there, in its `exec` mode, which does it and then turns into the program that was asked for.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::sys::signal::SigSet;
use rustix::fs::Access;
use rustix::process::Pid;
use rustix::pty::OpenptFlags;
use rustix::termios::{InputModes, OptionalActions, Winsize};

use super::screen::Size;

/// The mode of this program that [`launch`] uses.
pub const EXEC_MODE: &str = "exec";

/// Where a program is looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What is to be started.
pub struct Start {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: String,
}

/// A program on its terminal.
pub struct Launched {
    /// Our side of the terminal; does not block.
    pub master: OwnedFd,
    /// The program, which leads a session and a process group of this number.
    pub pid: Pid,
}

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("there is no program {0} that may be executed in this sandbox")]
    NotFound(String),
    #[error("there is no directory {0} in this sandbox")]
    NoDirectory(String),
    #[error("a terminal cannot be made: {0}")]
    Terminal(#[source] io::Error),
    #[error("{program} cannot be started: {source}")]
    Start { program: String, source: io::Error },
}

/// Starts a program on a new terminal.
pub fn launch(start: &Start, terminal: u32, size: Size) -> Result<Launched, LaunchError> {
    let name = start.argv.first().map_or("", String::as_str);
    if !Path::new(&start.cwd).is_dir() {
        return Err(LaunchError::NoDirectory(start.cwd.clone()));
    }
    let program = find(name, start).ok_or_else(|| LaunchError::NotFound(name.to_owned()))?;
    let (master, slave) =
        open_terminal(size).map_err(|error| LaunchError::Terminal(error.into()))?;

    let failed = |source| LaunchError::Start { program: name.to_owned(), source };
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(EXEC_MODE)
        .arg(&program)
        .args(&start.argv)
        .current_dir(&start.cwd)
        .env_clear()
        .env("TERM", "xterm-256color")
        .env("COLORTERM", "truecolor")
        .envs(start.env.iter().map(|(key, value)| (key, value)))
        .env(rcc_inside::TERMINAL_VARIABLE, terminal.to_string())
        .stdin(Stdio::from(slave.try_clone().map_err(failed)?))
        .stdout(Stdio::from(slave.try_clone().map_err(failed)?))
        .stderr(Stdio::from(slave));
    // The child is reaped with all others, so the handle is not needed.
    let child = command.spawn().map_err(failed)?;
    Ok(Launched { master, pid: Pid::from_child(&child) })
}

/// Becomes the program: the `exec` mode. `arguments` are the file and then its whole argument vector.
pub fn exec(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(program), Some(name)) = (arguments.next(), arguments.next()) else {
        return ExitCode::from(2);
    };
    let prepared = rustix::process::setsid()
        .and_then(|_| rustix::process::ioctl_tiocsctty(std::io::stdin()))
        .map_err(io::Error::from)
        // PID 1 blocks the signals that it reads from a descriptor, and a blocked signal stays blocked over fork and exec.
        .and_then(|()| Ok(SigSet::empty().thread_set_mask()?));
    let error = match prepared {
        // `exec` puts back the one handler that the runtime changed, SIGPIPE's.
        Ok(()) => Command::new(&program).arg0(&name).args(arguments).exec(),
        Err(error) => error,
    };
    eprintln!("rcc: {} cannot be started: {error}", Path::new(&program).display());
    // The codes of a shell: not found, and found but not executable.
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
}

fn open_terminal(size: Size) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    // By the descriptor and not by its name, which the agent might have mounted something over.
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    let mut modes = rustix::termios::tcgetattr(&slave)?;
    // So that the kernel's line editing deletes whole characters.
    modes.input_modes |= InputModes::IUTF8;
    rustix::termios::tcsetattr(&slave, OptionalActions::Now, &modes)?;
    set_size(&master, size)?;
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok((master, slave))
}

/// Tells the kernel the size, which sends SIGWINCH when it changed.
pub fn set_size(master: &OwnedFd, size: Size) -> rustix::io::Result<()> {
    let size =
        Winsize { ws_row: size.rows.get(), ws_col: size.cols.get(), ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(master, size)
}

/// Looks a program up as execvp(3) would in the new process, so that its absence can be told instead of shown.
fn find(name: &str, start: &Start) -> Option<PathBuf> {
    let executable = |path: PathBuf| {
        (path.is_file() && rustix::fs::access(&path, Access::EXEC_OK).is_ok()).then_some(path)
    };
    let cwd = Path::new(&start.cwd);
    if name.contains('/') {
        return executable(cwd.join(name));
    }
    let path = start
        .env
        .iter()
        .rev()
        .find(|(key, _)| key == "PATH")
        .map_or(DEFAULT_PATH, |(_, value)| value);
    std::env::split_paths(OsStr::new(path))
        .find_map(|folder| executable(cwd.join(folder).join(name)))
}
