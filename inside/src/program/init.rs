//! PID 1 of a sandbox.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::server::Server;
use super::{descriptors, filter};

/// Why PID 1 cannot work.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("the filter of system calls is not rcc's: {0}")]
    Filter(#[source] io::Error),
    #[error("signals cannot be taken over: {0}")]
    Signals(#[source] nix::Error),
    #[error("orphans cannot be adopted: {0}")]
    Orphans(#[source] io::Error),
    #[error("the socket @{name} cannot be opened: {source}")]
    Socket { name: String, source: io::Error },
    #[error("waiting failed: {0}")]
    Wait(#[source] io::Error),
}

/// Holds the sandbox's terminals until SIGTERM.
pub fn run(socket: &str) -> Result<(), InitError> {
    descriptors::close_on_exec();
    // A crash must not write the agent's memory, with its token, into the project.
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Core,
        rustix::process::Rlimit { current: Some(0), maximum: Some(0) },
    );
    limit_fault_messages();
    // Whatever is not PID 1 (a test) is in no sandbox, and gets its orphans only when it asks for them.
    if rustix::process::getpid().is_init() {
        filter::confirm().map_err(InitError::Filter)?;
    } else {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|error| InitError::Orphans(error.into()))?;
    }
    // A hangup means nothing here and must not end the sandbox.
    let taken: SigSet =
        [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    taken.thread_block().map_err(InitError::Signals)?;
    let signals = SignalFd::with_flags(&taken, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(InitError::Signals)?;
    let listener =
        listen(socket).map_err(|source| InitError::Socket { name: socket.to_owned(), source })?;
    Server::new(listener, signals).run().map_err(InitError::Wait)
}

fn listen(name: &str) -> io::Result<UnixListener> {
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Faults in the terminal model are survived. What the agent can cause at will must not fill the container's log.
fn limit_fault_messages() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static LEFT: AtomicU32 = AtomicU32::new(10);
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |fault| {
        if LEFT
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
        {
            print(fault);
        }
    }));
}
