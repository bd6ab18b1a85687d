//! Descriptors: taking over received ones, and waiting on owned ones.
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
