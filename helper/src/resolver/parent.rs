//! The helper's side of the resolver: starts it, gives it sockets, and starts it
//! again when it ends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, socketpair,
    sockopt,
};
use nix::unistd::User;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::wire::{self, FromResolver, ToResolver, Tried};
use crate::layout::{RESOLVER_MARK, RESOLVER_USER};
use crate::netns::Room;

/// How long name servers get to answer a question that is asked to see whether they do.
pub const TRYING: Duration = Duration::from_secs(1);
/// How long the resolver may leave a message unread before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(1);

/// The channel to the resolver's process, as long as there is one.
#[derive(Default)]
pub struct Channel {
    socket: Mutex<Option<Arc<AsyncFd<OwnedFd>>>>,
    /// Keeps messages in the order in which they were said.
    order: tokio::sync::Mutex<()>,
    /// Who waits to hear whether name servers answer, and the number of the request.
    trying: Mutex<(u64, Option<oneshot::Sender<Tried>>)>,
}

impl Channel {
    fn socket(&self) -> Option<Arc<AsyncFd<OwnedFd>>> {
        self.socket.lock().ok()?.clone()
    }

    /// True while a resolver runs.
    pub fn is_there(&self) -> bool {
        self.socket().is_some()
    }

    /// Uses another socket, or none.
    pub fn set(&self, fresh: Option<Arc<AsyncFd<OwnedFd>>>) {
        if let Ok(mut socket) = self.socket.lock() {
            *socket = fresh;
        }
    }

    /// Says something. Without a resolver nothing is said: a new one is told
    /// everything when it starts. A resolver that does not listen is given up.
    pub async fn tell(&self, message: &ToResolver, fds: &[RawFd]) {
        let Some(socket) = self.socket() else { return };
        self.tell_one(&socket, message, fds).await;
    }

    /// Has the computer's name servers asked something; `None` when nobody can say how it
    /// went. Whoever asked before and still waits hears nothing.
    pub async fn try_servers(&self) -> Option<Tried> {
        let (done, tried) = oneshot::channel();
        let request = {
            let mut trying = self.trying.lock().ok()?;
            trying.0 += 1;
            trying.1 = Some(done);
            trying.0
        };
        let ask = async {
            self.tell(&ToResolver::Try { request }, &[]).await;
            tried.await.ok()
        };
        tokio::time::timeout(TRYING, ask).await.ok().flatten()
    }

    /// The resolver says how it went.
    pub fn tried(&self, request: u64, tried: Tried) {
        if let Ok(mut trying) = self.trying.lock()
            && trying.0 == request
            && let Some(done) = trying.1.take()
        {
            let _ = done.send(tried);
        }
    }

    /// Says something to the process behind `socket`, and to no later one: what it
    /// asked under its numbers is nobody else's. Waiting for one's turn counts: a
    /// process that reads slowly must not hold up those who wait (they hold locks).
    pub async fn tell_one(
        &self,
        socket: &Arc<AsyncFd<OwnedFd>>,
        message: &ToResolver,
        fds: &[RawFd],
    ) {
        let sent = tokio::time::timeout(PATIENCE, async {
            let _turn = self.order.lock().await;
            loop {
                match wire::send(socket.as_raw_fd(), message, fds) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        socket.writable().await?.clear_ready();
                    }
                    result => return result,
                }
            }
        });
        if !matches!(sent.await, Ok(Ok(()))) {
            if self.socket().is_some_and(|own| Arc::ptr_eq(&own, socket)) {
                self.set(None);
            }
            let how = nix::sys::socket::Shutdown::Both;
            let _ = nix::sys::socket::shutdown(socket.as_raw_fd(), how);
        }
    }
}

/// Waits for the next thing that the resolver says; `None` when it is gone.
pub async fn listen(socket: &AsyncFd<OwnedFd>) -> Option<FromResolver> {
    loop {
        let mut ready = socket.readable().await.ok()?;
        match wire::receive(socket.as_raw_fd()) {
            Ok(Some((message, _))) => return Some(message),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Starts the process from a thread in an empty network namespace, so that it
/// lives there.
pub async fn start(empty: &Room) -> io::Result<(Child, Arc<AsyncFd<OwnedFd>>)> {
    let user = User::from_name(RESOLVER_USER)?.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("there is no user {RESOLVER_USER}"))
    })?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (own, others) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    let spawn = move || {
        Command::new("/proc/self/exe")
            .arg("resolver")
            .env_clear()
            .current_dir("/")
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .stdin(Stdio::from(others))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
    };
    let child = empty.run(spawn).await.map_err(io::Error::other)??;
    Ok((child, Arc::new(crate::fd::watch(own)?)))
}

/// A connected, non-blocking socket on the host to the `server`th name server;
/// `None` when there are fewer.
pub fn upstream(server: u8, tcp: bool) -> io::Result<Option<OwnedFd>> {
    let servers = servers()?;
    let Some(address) = servers.get(usize::from(server)) else { return Ok(None) };
    let target = SockaddrStorage::from(SocketAddr::new(*address, 53));
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = if tcp { SockType::Stream } else { SockType::Datagram };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, kind, flags, None)?;
    setsockopt(&fd, sockopt::Mark, &RESOLVER_MARK)?;
    match connect(fd.as_raw_fd(), &target) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => Ok(Some(fd)),
        Err(errno) => Err(errno.into()),
    }
}

/// The computer's name servers.
pub fn servers() -> io::Result<Vec<IpAddr>> {
    Ok(name_servers(&std::fs::read_to_string("/etc/resolv.conf")?))
}

/// The `nameserver` lines of resolv.conf(5), in order. Where systemd-resolved
/// runs its stub stands there, so split DNS of VPNs works.
fn name_servers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect()
}

/// At most so many a second; more in a burst.
pub struct Bucket {
    tokens: f64,
    rate: f64,
    burst: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: f64, burst: f64) -> Self {
        Self { tokens: burst, rate, burst, filled: Instant::now() }
    }

    /// Takes one; false when there is none.
    pub fn take(&mut self) -> bool {
        let now = Instant::now();
        let fresh = now.duration_since(self.filled).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + fresh).min(self.burst);
        self.filled = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }

    /// Takes more for something that was dearer than one, also what is not there yet.
    pub fn charge(&mut self, more: f64) {
        self.tokens = (self.tokens - more).max(-self.burst);
    }
}

/// A sandbox's DNS sockets in the gate, held here so that questions wait in them
/// while the resolver starts anew.
#[derive(Debug)]
pub struct Sockets {
    /// For questions over UDP.
    pub udp: OwnedFd,
    /// For questions over TCP.
    pub tcp: OwnedFd,
}

impl Sockets {
    /// Makes them, in the namespace of the calling thread, for one link. The link
    /// and not the source address says whose question it is.
    pub fn new(link: &str) -> io::Result<Self> {
        use nix::sys::socket::{Backlog, SockaddrIn, bind, listen};
        let (a, b, c, d) = crate::rules::GATEWAY.octets().into();
        let address = SockaddrIn::new(a, b, c, d, 53);
        let make = |kind| -> io::Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Inet, kind, flags, None)?;
            setsockopt(&fd, sockopt::BindToDevice, &link.into())?;
            setsockopt(&fd, sockopt::ReuseAddr, &true)?;
            bind(fd.as_fd().as_raw_fd(), &address)?;
            Ok(fd)
        };
        let (udp, tcp) = (make(SockType::Datagram)?, make(SockType::Stream)?);
        listen(&tcp, Backlog::new(64)?)?;
        Ok(Self { udp, tcp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_in_order() {
        let text =
            "# x\nnameserver 127.0.0.53\nsearch a\n nameserver  2001:db8::1 \nnameserver x\n";
        let expected: [IpAddr; 2] = [[127, 0, 0, 53].into(), "2001:db8::1".parse().unwrap()];
        assert_eq!(name_servers(text), expected);
    }
}
