//! Descriptors: taking over received ones, waiting on owned ones, and closing
//! those that were inherited.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use netlink_sys::Socket;
use tokio::io::unix::AsyncFd;

/// Something that owns its descriptor and keeps it as long as it lives.
pub trait Owns: AsRawFd {}
impl Owns for OwnedFd {}
impl Owns for Socket {}

/// A descriptor that the kernel has just made for this process.
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: called on numbers out of SCM_RIGHTS only; nobody else knows them.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Lets the runtime wait for a descriptor.
pub fn watch<T: Owns>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `Owns` is for types whose descriptor is valid, and the same, for as
    // long as they live.
    unsafe { Ok(AsyncFd::register(inner)?) }
}

/// Closes everything but standard input, output and error. For the first moment
/// of a process: descriptors that came over the bus are not marked to be closed
/// when a program is started, and the resolver must not keep a sandbox's
/// namespace, nor keep it alive (N9).
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: nothing of this process owns a descriptor above 2 yet.
    let result = unsafe { nix::libc::close_range(3, nix::libc::c_uint::MAX, 0) };
    nix::errno::Errno::result(result).map(drop).map_err(io::Error::from)
}
