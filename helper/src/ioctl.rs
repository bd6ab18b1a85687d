//! The ioctls of ioctl_ns(2), their like for sockets, and those of tun devices, which no safe crate offers.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

// linux/nsfs.h: _IO(0xb7, n).
const NS_GET_USERNS: u64 = 0xb701;
const NS_GET_NSTYPE: u64 = 0xb703;
const NS_GET_OWNER_UID: u64 = 0xb704;

// linux/sockios.h.
const SIOCGSKNS: u64 = 0x894c;
// linux/if_tun.h: _IOW('T', 202, int) and 203.
const TUNSETIFF: u64 = 0x4004_54ca;
const TUNSETPERSIST: u64 = 0x4004_54cb;

mod raw {
    nix::ioctl_none_bad!(get_userns, super::NS_GET_USERNS);
    nix::ioctl_none_bad!(get_nstype, super::NS_GET_NSTYPE);
    nix::ioctl_read_bad!(get_owner_uid, super::NS_GET_OWNER_UID, nix::libc::uid_t);
    nix::ioctl_none_bad!(get_socket_namespace, super::SIOCGSKNS);
    nix::ioctl_write_ptr_bad!(set_interface, super::TUNSETIFF, nix::libc::ifreq);
    nix::ioctl_write_int_bad!(set_persistent, super::TUNSETPERSIST);
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

/// Makes the tun device `name` in the namespace of the calling thread, or takes
/// hold of the one that is there; `device` is an open `/dev/net/tun`. Packets come
/// without any header of the device's, and it stays when nobody holds it.
pub fn tun(device: impl AsFd, name: &str) -> Result<(), Errno> {
    let fd = device.as_fd().as_raw_fd();
    // SAFETY: all zeroes is a valid `ifreq`: it is numbers and pointers for the kernel.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte less, so that a zero stays at the end.
    let most = request.ifr_name.len() - 1;
    if name.len() > most {
        return Err(Errno::ENAMETOOLONG);
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    let flags = libc::IFF_TUN | libc::IFF_NO_PI;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads and writes one `ifreq`, which lives until then; the
    // second call takes a number.
    unsafe {
        raw::set_interface(fd, &raw const request)?;
        raw::set_persistent(fd, 1)?;
    }
    Ok(())
}
