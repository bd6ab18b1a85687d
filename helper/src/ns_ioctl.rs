//! The ioctls of ioctl_ns(2), and their like for sockets, which no safe crate offers.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

// linux/nsfs.h: _IO(0xb7, n).
const NS_GET_USERNS: u64 = 0xb701;
const NS_GET_NSTYPE: u64 = 0xb703;
const NS_GET_OWNER_UID: u64 = 0xb704;
// linux/sockios.h.
const SIOCGSKNS: u64 = 0x894c;

mod raw {
    nix::ioctl_none_bad!(get_userns, super::NS_GET_USERNS);
    nix::ioctl_none_bad!(get_nstype, super::NS_GET_NSTYPE);
    nix::ioctl_none_bad!(get_socket_namespace, super::SIOCGSKNS);
    nix::ioctl_read_bad!(get_owner_uid, super::NS_GET_OWNER_UID, nix::libc::uid_t);
}

/// The `CLONE_NEW…` number of what kind of namespace this is. Fails with
/// `ENOTTY` for anything that is not one.
pub fn kind(namespace: impl AsFd) -> Result<i32, Errno> {
    // SAFETY: takes no argument and returns a number; the descriptor is open.
    unsafe { raw::get_nstype(namespace.as_fd().as_raw_fd()) }
}

/// The user namespace that owns `namespace`.
pub fn user_namespace(namespace: impl AsFd) -> Result<OwnedFd, Errno> {
    // SAFETY: takes no argument; on success the kernel made a descriptor that
    // nobody else holds.
    unsafe {
        let fd = raw::get_userns(namespace.as_fd().as_raw_fd())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// The network namespace that a socket belongs to.
pub fn socket_namespace(socket: impl AsFd) -> Result<OwnedFd, Errno> {
    // SAFETY: takes no argument; on success the kernel made a descriptor that
    // nobody else holds.
    unsafe {
        let fd = raw::get_socket_namespace(socket.as_fd().as_raw_fd())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Who made this user namespace, as a uid of the helper's own user namespace.
pub fn owner_uid(user_namespace: impl AsFd) -> Result<u32, Errno> {
    let mut uid = u32::MAX;
    // SAFETY: the kernel writes one uid_t into the place that the pointer names.
    unsafe { raw::get_owner_uid(user_namespace.as_fd().as_raw_fd(), &raw mut uid)? };
    Ok(uid)
}
