//! What helper and resolver say to each other: JSON in packets of a seqpacket
//! socket, descriptors beside them. Policies can be large, so they travel as a
//! sealed memory file.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use rcc_dbus::Rule;
use serde::{Deserialize, Serialize};

/// Largest packet in bytes. An answer of 32 addresses takes about 2 KB.
pub const MAX_PACKET: usize = 16 * 1024;
/// Most descriptors beside one packet.
const MAX_FDS: usize = 3;

/// From the helper to the resolver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToResolver {
    /// The administrator's entries; a memory file with `Vec<Rule>` comes along.
    Policy {
        /// Any public name is allowed.
        allow_public: bool,
    },
    /// A sandbox: its UDP socket, its TCP listener, and a memory file with the
    /// user's entries come along.
    Attached {
        /// Its number.
        id: u32,
        /// Changes with every change of its rules.
        revision: u64,
        /// False: every name is refused.
        connected: bool,
        /// Any public name is allowed.
        open: bool,
    },
    /// Other rules for a sandbox; a memory file comes along.
    Rules {
        /// Its number.
        id: u32,
        /// The new revision.
        revision: u64,
        /// False: every name is refused.
        connected: bool,
        /// Any public name is allowed.
        open: bool,
    },
    /// The device by which packets of connections come whose hello is to be looked
    /// at, and the socket that hears what servers acknowledge, come along.
    Hellos,
    /// Whose connection it is.
    Whose {
        /// Which request.
        request: u64,
        /// The sandbox, and what tells the connection from others with the same ports;
        /// `None` when there is no such connection.
        found: Option<(u32, u64)>,
    },
    /// What was said of a connection is done.
    Noted {
        /// Which request.
        request: u64,
    },
    /// Addresses or routes of the host changed: a socket that was made before may have an
    /// address that is not the right one any more.
    Rerouted,
    /// The computer's name servers are to be asked something, to see whether they answer.
    Try {
        /// Which request.
        request: u64,
    },
    /// The sandbox is gone.
    Detached {
        /// Its number.
        id: u32,
    },
    /// A connected socket to a name server comes along, unless there is none.
    Upstream {
        /// Which request.
        request: u64,
    },
    /// What of an answer may be given out: it is in the kernel's set now.
    Published {
        /// Which request.
        request: u64,
        /// Empty when nothing may.
        addresses: Vec<IpAddr>,
        /// True when it failed: the client should ask again.
        failed: bool,
    },
}

/// How the computer's name servers took a question, the best of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tried {
    /// None said anything in time.
    Silent,
    /// One says that it cannot look names up.
    Fails,
    /// One answers.
    Answers,
}

/// From the resolver to the helper, which checks all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromResolver {
    /// Wants a socket to a name server.
    Connect {
        /// Comes back in the answer.
        request: u64,
        /// 0 for the first name server, then the next.
        server: u8,
        /// Over TCP.
        tcp: bool,
    },
    /// A name of these entries has these addresses.
    Publish {
        /// Comes back in the answer.
        request: u64,
        /// For which sandbox.
        id: u32,
        /// The revision under which the entries were chosen.
        revision: u64,
        /// Numbers in the administrator's entries.
        administrators: Vec<u32>,
        /// Numbers in the user's entries.
        users: Vec<u32>,
        /// At most [`super::dns::MAX_ADDRESSES`].
        addresses: Vec<IpAddr>,
        /// Seconds.
        ttl: u32,
    },
    /// Wants to know whose connection this is.
    Whose {
        /// Comes back in the answer.
        request: u64,
        /// The gate's port.
        port: u16,
        /// The server.
        server: Ipv4Addr,
    },
    /// The server has the hello of a connection, and it names an allowed server:
    /// the kernel may pass the rest by itself.
    Passed {
        /// Comes back when it is done.
        request: u64,
        /// The gate's port.
        port: u16,
        /// The server.
        server: Ipv4Addr,
        /// As it came with [`ToResolver::Whose`].
        known: u64,
        /// The name in the hello, canonical.
        name: String,
    },
    /// A connection was ended because of its hello.
    Ended {
        /// The gate's port.
        port: u16,
        /// The server.
        server: Ipv4Addr,
        /// The name in the hello; `None` when none could be seen.
        name: Option<String>,
    },
    /// How the name servers took a question. Told to people, and believed in nothing else.
    Tried {
        /// As it came with [`ToResolver::Try`].
        request: u64,
        /// How.
        tried: Tried,
    },
    /// A name was answered, for people to see.
    Answered {
        /// For which sandbox.
        id: u32,
        /// The name, canonical.
        name: String,
        /// At most [`super::dns::MAX_ADDRESSES`].
        addresses: Vec<IpAddr>,
    },
    /// A name was refused.
    Refused {
        /// For which sandbox.
        id: u32,
        /// The name, canonical.
        name: String,
        /// True when it was refused because too much was asked.
        limit: bool,
    },
}

/// Entries as they travel.
pub type Entries = Vec<Rule>;

/// Sends one packet. Fails with `WouldBlock` on a full non-blocking socket.
pub fn send(socket: RawFd, packet: &impl Serialize, fds: &[RawFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(packet)?;
    if bytes.len() > MAX_PACKET {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let control = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &control[..0] } else { &control[..] };
    sendmsg::<()>(socket, &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one packet; `None` when the other side is gone.
pub fn receive<T: for<'de> Deserialize<'de>>(
    socket: RawFd,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = [0; MAX_PACKET];
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message =
        recvmsg::<()>(socket, &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = part {
            fds.extend(received.into_iter().map(crate::fd::own));
        }
    }
    let length = message.bytes;
    if length == 0 {
        return Ok(None);
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Some((serde_json::from_slice(&bytes[..length])?, fds)))
}

/// A sealed memory file with `entries`.
pub fn entries_file(entries: &Entries) -> io::Result<OwnedFd> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::io::{Seek, Write};
    let fd = memfd_create(c"rcc-entries", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(&serde_json::to_vec(entries)?)?;
    file.rewind()?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL))?;
    Ok(file.into())
}

/// Reads such a file.
pub fn read_entries(file: OwnedFd) -> io::Result<Entries> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::from(file).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// The number of a descriptor.
pub fn number(fd: &impl AsRawFd) -> RawFd {
    fd.as_raw_fd()
}
