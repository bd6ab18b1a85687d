//! The resolver's process: parses hostile bytes, and has no rights.

mod answers;
mod trying;
mod upstream;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rcc_policy::Name;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::timeout;

use super::dns::{Unusable, question};
use super::hellos::{Flow, Known};
use super::index::Index;
use super::looking::Looking;
use super::wire::{self, FromResolver, ToResolver};
use crate::{privileges, seccomp};

/// Questions a sandbox may ask in a second, and in one burst.
const QUESTIONS_A_SECOND: f64 = 500.0;
const BURST: f64 = 1_000.0;
/// Different names that a sandbox may ask for in a minute by the right of a wildcard:
/// whoever runs the name servers below it reads them (N4).
const WILD_NAMES: usize = 60;
const MINUTE: Duration = Duration::from_secs(60);
/// Questions of one sandbox that may wait for an answer at once.
const WAITING: usize = 256;
/// TCP connections of one sandbox at once.
const CONNECTIONS: usize = 16;
/// How long a TCP client may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// How long the helper may take for an answer: a list of 100,000 networks takes it seconds.
const ANSWERED: Duration = Duration::from_secs(20);

/// Runs until the helper is gone. The socket to it is standard input.
pub fn run() -> io::Result<()> {
    crate::fd::close_inherited()?;
    privileges::drop_all()?;
    let control = nix::unistd::dup(io::stdin())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let control = crate::fd::watch(control)?;
        // From here on nothing can be opened and no socket made.
        seccomp::confine().map_err(io::Error::other)?;
        let resolver = Rc::new(Resolver {
            control,
            policy: RefCell::default(),
            sandboxes: RefCell::default(),
            waiting: RefCell::default(),
            next_request: RefCell::new(0),
            looking: RefCell::default(),
            spare: RefCell::default(),
            lost: Notify::new(),
        });
        loop {
            let mut ready = tokio::select! {
                ready = resolver.control.readable() => ready?,
                () = resolver.lost.notified() => return Err(io::ErrorKind::InvalidData.into()),
            };
            match resolver.hear() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    })
}

struct Sandbox {
    revision: u64,
    connected: bool,
    /// Any public name is allowed.
    open: bool,
    users: Index,
    tasks: Vec<AbortHandle>,
    tokens: f64,
    filled: Instant,
    waiting: usize,
    connections: usize,
    /// Names by a wildcard, and when each was first asked for.
    wild: HashMap<Name, Instant>,
}

impl Sandbox {
    /// Takes a token for a question; false when there is none.
    fn may_ask(&mut self) -> bool {
        let now = Instant::now();
        let fresh = now.duration_since(self.filled).as_secs_f64() * QUESTIONS_A_SECOND;
        self.tokens = (self.tokens + fresh).min(BURST);
        self.filled = now;
        if self.tokens < 1.0 || self.waiting >= WAITING {
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    /// False for a name beyond those that a wildcard allows in a minute.
    fn may_ask_wildly(&mut self, name: &Name, now: Instant) -> bool {
        self.wild.retain(|_, asked| now.duration_since(*asked) < MINUTE);
        if self.wild.contains_key(name) {
            return true;
        }
        let free = self.wild.len() < WILD_NAMES;
        if free {
            self.wild.insert(name.clone(), now);
        }
        free
    }
}

#[derive(Default)]
struct Administrators {
    allow_public: bool,
    index: Index,
}

enum Heard {
    Upstream(Option<OwnedFd>),
    Published(Vec<IpAddr>, bool),
    Whose(Option<(u32, Known)>),
    Noted,
}

pub(super) struct Resolver {
    control: AsyncFd<OwnedFd>,
    policy: RefCell<Administrators>,
    sandboxes: RefCell<HashMap<u32, Sandbox>>,
    waiting: RefCell<HashMap<u64, oneshot::Sender<Heard>>>,
    next_request: RefCell<u64>,
    looking: RefCell<Vec<AbortHandle>>,
    spare: RefCell<upstream::Spare>,
    /// Something that the helper said was lost.
    lost: Notify,
}

impl Resolver {
    /// Reads everything that the helper has said so far.
    fn hear(self: &Rc<Self>) -> io::Result<()> {
        loop {
            let received = wire::receive::<ToResolver>(self.control.as_raw_fd())?;
            let Some((message, fds)) = received else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            self.take(message, fds)?;
        }
    }

    fn take(self: &Rc<Self>, message: ToResolver, fds: Vec<OwnedFd>) -> io::Result<()> {
        let mut fds = fds.into_iter();
        let missing = || io::Error::from(io::ErrorKind::InvalidData);
        match message {
            ToResolver::Policy { allow_public } => {
                let index = read_index(fds.next().ok_or_else(missing)?)?;
                *self.policy.borrow_mut() = Administrators { allow_public, index };
            }
            ToResolver::Attached { id, revision, connected, open } => {
                let udp = fds.next().ok_or_else(missing)?;
                let tcp = fds.next().ok_or_else(missing)?;
                let users = read_index(fds.next().ok_or_else(missing)?)?;
                self.forget(id);
                let udp = Rc::new(UdpSocket::from_std(udp.into())?);
                let tcp = TcpListener::from_std(tcp.into())?;
                let tasks = vec![
                    spawn_local(self.clone().serve_udp(id, udp)).abort_handle(),
                    spawn_local(self.clone().serve_tcp(id, tcp)).abort_handle(),
                ];
                let sandbox = Sandbox {
                    revision,
                    connected,
                    open,
                    users,
                    tasks,
                    tokens: BURST,
                    filled: Instant::now(),
                    waiting: 0,
                    connections: 0,
                    wild: HashMap::new(),
                };
                self.sandboxes.borrow_mut().insert(id, sandbox);
            }
            ToResolver::Rules { id, revision, connected, open } => {
                let users = read_index(fds.next().ok_or_else(missing)?)?;
                if let Some(sandbox) = self.sandboxes.borrow_mut().get_mut(&id) {
                    sandbox.revision = revision;
                    sandbox.connected = connected;
                    sandbox.open = open;
                    sandbox.users = users;
                }
            }
            ToResolver::Hellos => {
                let device = fds.next().ok_or_else(missing)?;
                let acks = fds.next().ok_or_else(missing)?;
                let looking = Looking::start(self.clone(), device, acks)?;
                for old in self.looking.replace(looking) {
                    old.abort();
                }
            }
            ToResolver::Whose { request, found } => {
                self.hand_over(request, Heard::Whose(found));
            }
            ToResolver::Noted { request } => self.hand_over(request, Heard::Noted),
            ToResolver::Rerouted => self.spare.borrow_mut().forget(),
            ToResolver::Try { request } => drop(spawn_local(self.clone().try_servers(request))),
            ToResolver::Detached { id } => self.forget(id),
            ToResolver::Upstream { request } => {
                self.hand_over(request, Heard::Upstream(fds.next()));
            }
            ToResolver::Published { request, addresses, failed } => {
                self.hand_over(request, Heard::Published(addresses, failed));
            }
        }
        Ok(())
    }

    fn forget(&self, id: u32) {
        if let Some(sandbox) = self.sandboxes.borrow_mut().remove(&id) {
            sandbox.tasks.iter().for_each(AbortHandle::abort);
        }
    }

    fn hand_over(&self, request: u64, heard: Heard) {
        if let Some(waiting) = self.waiting.borrow_mut().remove(&request) {
            let _ = waiting.send(heard);
        }
    }

    pub(super) async fn tell(&self, message: &FromResolver) -> io::Result<()> {
        loop {
            match wire::send(self.control.as_raw_fd(), message, &[]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.control.writable().await?.clear_ready();
                }
                result => return result,
            }
        }
    }

    /// Tells the helper something and waits for what it says to that.
    async fn ask(&self, message: impl FnOnce(u64) -> FromResolver) -> Option<Heard> {
        let request = {
            let mut next = self.next_request.borrow_mut();
            *next += 1;
            *next
        };
        let (answer, heard) = oneshot::channel();
        self.waiting.borrow_mut().insert(request, answer);
        let heard = match self.tell(&message(request)).await {
            Ok(()) => timeout(ANSWERED, heard).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        self.waiting.borrow_mut().remove(&request);
        heard
    }

    async fn serve_udp(self: Rc<Self>, id: u32, socket: Rc<UdpSocket>) {
        let mut packet = [0; 1025];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut packet).await else {
                // An ICMP error of an earlier answer; the socket itself is fine.
                tokio::task::yield_now().await;
                continue;
            };
            let question = match question(&packet[..length]) {
                Ok(question) => question,
                Err(Unusable::Silent) => continue,
                Err(Unusable::Reply(bytes)) => {
                    let _ = socket.send_to(&bytes, from).await;
                    continue;
                }
            };
            let (resolver, socket) = (self.clone(), socket.clone());
            spawn_local(async move {
                if let Some(reply) = resolver.reply(id, &question).await {
                    let _ = socket.send_to(&question.answer(&reply, true), from).await;
                }
            });
        }
    }

    async fn serve_tcp(self: Rc<Self>, id: u32, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let free = match self.sandboxes.borrow_mut().get_mut(&id) {
                Some(sandbox) if sandbox.connections < CONNECTIONS => {
                    sandbox.connections += 1;
                    true
                }
                _ => false,
            };
            if !free {
                continue;
            }
            let resolver = self.clone();
            spawn_local(async move {
                let _ = resolver.serve_connection(id, stream).await;
                if let Some(sandbox) = resolver.sandboxes.borrow_mut().get_mut(&id) {
                    sandbox.connections = sandbox.connections.saturating_sub(1);
                }
            });
        }
    }

    async fn serve_connection(self: &Rc<Self>, id: u32, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let packet = timeout(IDLE, read_framed(&mut stream)).await??;
            let bytes = match question(&packet) {
                Ok(question) => match self.reply(id, &question).await {
                    Some(reply) => question.answer(&reply, false),
                    None => return Ok(()),
                },
                Err(Unusable::Reply(bytes)) => bytes,
                Err(Unusable::Silent) => return Ok(()),
            };
            timeout(IDLE, write_framed(&mut stream, &bytes)).await??;
        }
    }

    /// The sandbox may reach a TLS server of this name.
    pub(super) fn may_reach(&self, id: u32, name: &Name) -> bool {
        let sandboxes = self.sandboxes.borrow();
        let Some(sandbox) = sandboxes.get(&id) else { return false };
        let policy = self.policy.borrow();
        sandbox.connected
            && (policy.allow_public
                || sandbox.open
                || policy.index.allows_tls(name)
                || sandbox.users.allows_tls(name))
    }

    /// Whose connection it is that leaves the gate by this port, and which one.
    pub(super) async fn whose(&self, port: u16, server: Ipv4Addr) -> Option<(u32, Known)> {
        match self.ask(|request| FromResolver::Whose { request, port, server }).await {
            Some(Heard::Whose(found)) => found,
            _ => None,
        }
    }

    /// Tells the helper that a connection may be passed; false when it does not say that
    /// it is done.
    pub(super) async fn passed(&self, flow: Flow, known: Known, name: &Name) -> bool {
        let Flow { port, server } = flow;
        let name = name.as_str().to_owned();
        let passed = |request| FromResolver::Passed { request, port, server, known, name };
        matches!(self.ask(passed).await, Some(Heard::Noted))
    }

    /// Hears everything that was said so far; false when the helper is gone, or said what
    /// cannot be taken. That is lost to this process: it ends, and the next one is told all.
    pub(super) fn catch_up(self: &Rc<Self>) -> bool {
        match self.hear() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            _ => {
                self.lost.notify_one();
                false
            }
        }
    }
}

fn read_index(file: OwnedFd) -> io::Result<Index> {
    let rules = wire::read_entries(file)?;
    let entries = rules.iter().map(|rule| rule.to_entry().map_err(io::Error::other));
    Ok(Index::new(&entries.collect::<io::Result<Vec<_>>>()?))
}

async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut packet = vec![0; usize::from(length)];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

async fn write_framed(stream: &mut TcpStream, packet: &[u8]) -> io::Result<()> {
    let length = u16::try_from(packet.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(packet.len() + 2);
    bytes.extend(length.to_be_bytes());
    bytes.extend(packet);
    stream.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n17_a_sandbox_asks_so_many_questions_a_second() {
        let mut sandbox = Sandbox {
            revision: 0,
            connected: true,
            open: false,
            users: Index::default(),
            tasks: Vec::new(),
            tokens: BURST,
            filled: Instant::now(),
            waiting: 0,
            connections: 0,
            wild: HashMap::new(),
        };
        let asked = |sandbox: &mut Sandbox| (0..10_000).filter(|_| sandbox.may_ask()).count();
        // Counting takes time, too.
        let first = asked(&mut sandbox);
        assert!((1_000..1_400).contains(&first), "{first}");
        sandbox.filled -= Duration::from_secs(1);
        let second = asked(&mut sandbox);
        assert!((500..900).contains(&second), "{second}");
        // However long it was silent, and never beyond what waits for answers.
        sandbox.filled -= Duration::from_secs(3_600);
        assert!((1_000..1_400).contains(&asked(&mut sandbox)));
        sandbox.tokens = BURST;
        sandbox.waiting = WAITING;
        assert_eq!(asked(&mut sandbox), 0);
    }
}
