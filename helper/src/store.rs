//! systemd's store of descriptors (sd_pid_notify_with_fds(3), `FDSTORE=1`): the DNS
//! sockets of sandboxes outlive this process, so that questions wait in them while
//! the service is started anew, and do not fail.
//!
//! What comes back is checked before it is used: it stands in the gate, is bound to
//! the gateway's address and to the link of just this sandbox. Everything else is
//! closed and taken out of the store.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrIn, UnixAddr, getsockname,
    getsockopt, sendmsg, socket, sockopt,
};
use tracing::warn;

use crate::ioctl;
use crate::netns::{self, NetnsId};
use crate::resolver::parent::Sockets;
use crate::rules::{GATEWAY, link_name};

/// `SD_LISTEN_FDS_START`: the first descriptor that systemd hands over.
const FIRST: RawFd = 3;
/// Where names are asked for.
const PORT: u16 = 53;

/// What systemd kept, until it is taken or thrown away.
#[derive(Default)]
pub struct Store {
    kept: Mutex<HashMap<String, OwnedFd>>,
}

impl Store {
    /// Takes over what was handed to this process. To be called once, first of all.
    pub fn receive() -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        if variable("LISTEN_PID") != std::process::id().to_string() {
            return Self::default();
        }
        let count: RawFd = variable("LISTEN_FDS").parse().unwrap_or(0);
        let names = variable("LISTEN_FDNAMES");
        let (mut kept, mut doubled) = (HashMap::new(), Vec::new());
        for (fd, name) in (FIRST..FIRST.saturating_add(count)).zip(names.split(':')) {
            let fd = crate::fd::own(fd);
            // Not for programs that this one starts.
            if fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_err() {
                continue;
            }
            if kept.insert(name.to_owned(), fd).is_some() {
                doubled.push(name);
            }
        }
        // Which of two is the right one is not guessed.
        for name in doubled {
            kept.remove(name);
            say(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
        }
        Self { kept: Mutex::new(kept) }
    }

    /// The sockets of a sandbox, if they are just what they should be.
    pub fn take(&self, id: u32, gate: NetnsId) -> Option<Sockets> {
        let [udp, tcp] = names(id);
        let mut kept = self.kept.lock().ok()?;
        let (udp, tcp) = (kept.remove(&udp)?, kept.remove(&tcp)?);
        drop(kept);
        let fits = check(&udp, SockType::Datagram, id, gate)
            .and_then(|()| check(&tcp, SockType::Stream, id, gate));
        match fits {
            Ok(()) => Some(Sockets { udp, tcp }),
            Err(why) => {
                warn!(event = "store", attachment = id, why, "a kept socket is not used");
                self.forget(id);
                None
            }
        }
    }

    /// Closes what nobody took, here and in systemd's store.
    pub fn clean(&self) {
        let Ok(mut kept) = self.kept.lock() else { return };
        for (name, _) in kept.drain() {
            // A number of a sandbox that is gone, or nothing of ours.
            say(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
        }
    }

    /// Has systemd keep the sockets of a sandbox.
    pub fn keep(&self, id: u32, sockets: &Sockets) {
        for (name, socket) in names(id).into_iter().zip([&sockets.udp, &sockets.tcp]) {
            // Without FDPOLL systemd would drop one on which an error was reported.
            say(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), Some(socket));
        }
    }

    /// Has systemd close the sockets of a sandbox.
    pub fn forget(&self, id: u32) {
        for name in names(id) {
            say(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
        }
    }
}

fn names(id: u32) -> [String; 2] {
    [format!("udp-{id}"), format!("tcp-{id}")]
}

/// A socket of this type, in the gate, at the gateway's address, of the sandbox's
/// own link.
fn check(fd: &OwnedFd, kind: SockType, id: u32, gate: NetnsId) -> Result<(), &'static str> {
    let no = |_| "it is no socket of the internet's";
    if getsockopt(fd, sockopt::SockType).map_err(no)? != kind {
        return Err("it is of another type");
    }
    let address: SockaddrIn = getsockname(fd.as_raw_fd()).map_err(no)?;
    if SocketAddrV4::from(address) != SocketAddrV4::new(GATEWAY, PORT) {
        return Err("it has another address");
    }
    let listens = getsockopt(fd, sockopt::AcceptConn).map_err(no)?;
    if listens != (kind == SockType::Stream) {
        return Err("it does not listen");
    }
    let namespace = ioctl::socket_namespace(fd).map_err(|_| "its namespace is not known")?;
    if netns::identify(namespace).ok() != Some(gate) {
        return Err("it is not in the gate");
    }
    // The kernel tells the link's present name; a link of an older sandbox has none.
    let link = getsockopt(fd, sockopt::BindToDevice).map_err(|_| "it is bound to no link")?;
    if link.to_string_lossy().trim_end_matches('\0') != link_name(id) {
        return Err("it is of another link");
    }
    Ok(())
}

/// Tells systemd something; a service that it did not start tells nobody.
fn say(text: &str, fd: Option<&OwnedFd>) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&path, text, fd) {
        warn!(%error, "systemd could not be told about a socket; questions may fail during a restart");
    }
}

fn send(path: &std::ffi::OsStr, text: &str, fd: Option<&OwnedFd>) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let address = match path.as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
        _ => UnixAddr::new(path)?,
    };
    let own = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let fds: Vec<RawFd> = fd.iter().map(|fd| fd.as_fd().as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights = if fds.is_empty() { &rights[..0] } else { &rights[..] };
    let text = [IoSlice::new(text.as_bytes())];
    sendmsg(own.as_raw_fd(), &text, rights, MsgFlags::MSG_NOSIGNAL, Some(&address))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn own_namespace() -> NetnsId {
        netns::identify(netns::current().unwrap()).unwrap()
    }

    #[test]
    fn n11_nothing_else_is_taken_for_a_kept_socket() {
        let gate = own_namespace();
        let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let unix: OwnedFd = std::os::unix::net::UnixDatagram::unbound().unwrap().into();
        let loopback: OwnedFd = UdpSocket::bind("127.0.0.1:0").unwrap().into();
        let v6: OwnedFd = UdpSocket::bind("[::]:0").unwrap().into();
        for (fd, kind) in [
            (file, SockType::Datagram),
            (unix, SockType::Datagram),
            (loopback, SockType::Datagram),
            (v6, SockType::Datagram),
        ] {
            assert!(check(&fd, kind, 1, gate).is_err());
        }
        let tcp: OwnedFd = std::net::TcpListener::bind("127.0.0.1:0").unwrap().into();
        assert_eq!(check(&tcp, SockType::Datagram, 1, gate), Err("it is of another type"));
        assert_eq!(check(&tcp, SockType::Stream, 1, gate), Err("it has another address"));
    }

    #[test]
    fn what_was_not_handed_to_this_process_is_not_taken() {
        // The test's own environment names no descriptors for it.
        assert!(Store::receive().take(1, own_namespace()).is_none());
    }
}
