//! The resolver's process: parses hostile bytes, and has no rights.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use rcc_policy::{Entry, HostPattern, Name, Target};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::timeout;

use super::dns::{Question, Reply, Unusable, Upstream, question, upstream_answer, upstream_query};
use super::hellos::{Flow, Known};
use super::looking::Looking;
use super::wire::{self, FromResolver, ToResolver};
use crate::rules::{allows_tls, answer_may_open};
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
/// How long one name server gets, how many there may be, and how long a TCP
/// client may be silent.
const PATIENCE: Duration = Duration::from_millis(1_500);
const SERVERS: u8 = 3;
const IDLE: Duration = Duration::from_secs(10);
/// Firefox asks for this name; "no such name" keeps it from DNS over HTTPS.
const DOH_CANARY: &str = "use-application-dns.net";

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
        });
        loop {
            let mut ready = resolver.control.readable().await?;
            match resolver.hear() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    })
}

/// Entries of one level, found by name.
#[derive(Default)]
struct Index {
    exact: HashMap<Name, Vec<u32>>,
    below: HashMap<Name, Vec<u32>>,
    /// Names above allowed ones: they exist, with no records of their own.
    above: HashSet<String>,
    /// Entries whose answers may be private.
    private: HashSet<u32>,
    /// Entries that allow TLS.
    tls: HashSet<u32>,
}

impl Index {
    fn new(entries: &[Entry]) -> Self {
        let mut index = Self::default();
        for (number, entry) in entries.iter().enumerate() {
            let Target::Host(pattern) = entry.target() else { continue };
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            match pattern {
                HostPattern::Exact(name) => index.exact.entry(name.clone()).or_default(),
                HostPattern::Below(name) => {
                    index.above.insert(name.as_str().to_owned());
                    index.below.entry(name.clone()).or_default()
                }
            }
            .push(number);
            let mut rest = pattern.base().as_str();
            while let Some((_, parent)) = rest.split_once('.') {
                index.above.insert(parent.to_owned());
                rest = parent;
            }
            if entry.private() {
                index.private.insert(number);
            }
            if allows_tls(entry) {
                index.tls.insert(number);
            }
        }
        index
    }

    fn matching(&self, name: &Name) -> Vec<u32> {
        let mut found = self.exact.get(name).cloned().unwrap_or_default();
        let mut rest = name.as_str();
        while let Some((_, parent)) = rest.split_once('.') {
            if let Ok(parent) = parent.parse::<Name>() {
                found.extend(self.below.get(&parent).into_iter().flatten());
            }
            rest = parent;
        }
        found
    }
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
}

/// What the policy says of a question.
enum Decision {
    Look {
        revision: u64,
        administrators: Vec<u32>,
        users: Vec<u32>,
        private: bool,
    },
    Answer(Reply),
    Refuse {
        limit: bool,
    },
    /// More names by a wildcard than a minute has.
    TooWild,
    Silent,
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
            Ok(()) => timeout(Duration::from_secs(5), heard).await.ok().and_then(Result::ok),
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

    async fn reply(self: &Rc<Self>, id: u32, question: &Question) -> Option<Reply> {
        // A rule that was allowed before this question was asked holds for it:
        // whatever the helper has said is heard first.
        if !self.catch_up() {
            return None;
        }
        // Twice: the rules may change while a name server thinks.
        for _ in 0..2 {
            let (revision, administrators, users, private) = match self.decide(id, question) {
                Decision::Look { revision, administrators, users, private } => {
                    (revision, administrators, users, private)
                }
                Decision::Answer(reply) => return Some(reply),
                Decision::Refuse { limit } => {
                    self.report(id, &question.name, limit).await;
                    return (!limit).then_some(Reply::NoName);
                }
                Decision::TooWild => {
                    self.report(id, &question.name, true).await;
                    return Some(Reply::Failed);
                }
                Decision::Silent => return None,
            };
            self.count(id, 1);
            let found = self.look_up(&question.name).await;
            let reply = match found {
                Upstream::Found(found) => {
                    let ttl = found.ttl;
                    let addresses: Vec<IpAddr> = found
                        .addresses
                        .into_iter()
                        .filter(|address| answer_may_open(*address, private))
                        .collect();
                    if addresses.is_empty() {
                        Some(Reply::NoData)
                    } else if administrators.is_empty() && users.is_empty() {
                        // Open by `allow_public` or for a time: no set decides.
                        Some(Reply::Addresses(only_v4(addresses), ttl))
                    } else {
                        let publish = |request| FromResolver::Publish {
                            request,
                            id,
                            revision,
                            administrators,
                            users,
                            addresses,
                            ttl,
                        };
                        match self.ask(publish).await {
                            Some(Heard::Published(_, true)) => None,
                            Some(Heard::Published(addresses, false)) if addresses.is_empty() => {
                                Some(Reply::NoData)
                            }
                            Some(Heard::Published(addresses, false)) => {
                                Some(Reply::Addresses(only_v4(addresses), ttl))
                            }
                            _ => Some(Reply::Failed),
                        }
                    }
                }
                Upstream::NoData => Some(Reply::NoData),
                Upstream::NoName => Some(Reply::NoName),
                Upstream::Failed | Upstream::Truncated => Some(Reply::Failed),
            };
            self.count(id, -1);
            if let Some(Reply::Addresses(addresses, _)) = &reply {
                let name = question.name.as_str().to_owned();
                let addresses = addresses.iter().copied().map(IpAddr::V4).collect();
                let _ = self.tell(&FromResolver::Answered { id, name, addresses }).await;
            }
            if reply.is_some() {
                return reply;
            }
        }
        Some(Reply::Failed)
    }

    fn count(&self, id: u32, change: isize) {
        if let Some(sandbox) = self.sandboxes.borrow_mut().get_mut(&id) {
            sandbox.waiting = sandbox.waiting.saturating_add_signed(change);
        }
    }

    fn decide(&self, id: u32, question: &Question) -> Decision {
        let mut sandboxes = self.sandboxes.borrow_mut();
        let Some(sandbox) = sandboxes.get_mut(&id) else { return Decision::Silent };
        let name = &question.name;
        if name.as_str() == DOH_CANARY {
            return Decision::Answer(Reply::NoName);
        }
        if !sandbox.may_ask() {
            return Decision::Refuse { limit: true };
        }
        if !sandbox.connected {
            return Decision::Answer(Reply::NoName);
        }
        let policy = self.policy.borrow();
        let administrators = policy.index.matching(name);
        let users = sandbox.users.matching(name);
        let allowed = !administrators.is_empty() || !users.is_empty();
        if !allowed && !policy.allow_public && !sandbox.open {
            let above = |index: &Index| index.above.contains(name.as_str());
            if above(&policy.index) || above(&sandbox.users) {
                // "No such name" would make clients give up on the names below.
                return Decision::Answer(Reply::NoData);
            }
            return Decision::Refuse { limit: false };
        }
        // Addresses of IPv4 and nothing else: a TXT record can carry anything.
        if question.kind != RecordType::A {
            return Decision::Answer(Reply::NoData);
        }
        let public = policy.allow_public || sandbox.open;
        let exact = |index: &Index| index.exact.contains_key(name);
        if !public
            && !exact(&policy.index)
            && !exact(&sandbox.users)
            && !sandbox.may_ask_wildly(name, Instant::now())
        {
            return Decision::TooWild;
        }
        let private = administrators.iter().any(|n| policy.index.private.contains(n))
            || users.iter().any(|n| sandbox.users.private.contains(n));
        Decision::Look { revision: sandbox.revision, administrators, users, private }
    }

    /// The sandbox may reach a TLS server of this name.
    pub(super) fn may_reach(&self, id: u32, name: &Name) -> bool {
        let sandboxes = self.sandboxes.borrow();
        let Some(sandbox) = sandboxes.get(&id) else { return false };
        let policy = self.policy.borrow();
        let by = |index: &Index| index.matching(name).iter().any(|n| index.tls.contains(n));
        sandbox.connected
            && (policy.allow_public || sandbox.open || by(&policy.index) || by(&sandbox.users))
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

    /// Hears everything that was said so far; false when the helper is gone.
    pub(super) fn catch_up(self: &Rc<Self>) -> bool {
        matches!(self.hear(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    async fn report(&self, id: u32, name: &Name, limit: bool) {
        // Programs ask for the names of addresses all the time; nobody can allow those.
        if !name.as_str().ends_with(".arpa") {
            let name = name.as_str().to_owned();
            let _ = self.tell(&FromResolver::Refused { id, name, limit }).await;
        }
    }

    async fn look_up(&self, name: &Name) -> Upstream {
        for server in 0..SERVERS {
            match timeout(PATIENCE, self.look_up_at(name, server)).await {
                Ok(Ok(Some(Upstream::Failed))) | Ok(Err(_)) | Err(_) => {}
                // No such server: all have been asked.
                Ok(Ok(None)) => break,
                Ok(Ok(Some(answer))) => return answer,
            }
        }
        Upstream::Failed
    }

    async fn look_up_at(&self, name: &Name, server: u8) -> io::Result<Option<Upstream>> {
        let id = random_id()?;
        let query = upstream_query(name, id).ok_or(io::ErrorKind::InvalidInput)?;
        let Some(socket) = self.connect(server, false).await? else { return Ok(None) };
        let socket = UdpSocket::from_std(socket.into())?;
        socket.send(&query).await?;
        let mut packet = [0; 4096];
        loop {
            let length = socket.recv(&mut packet).await?;
            match upstream_answer(&packet[..length], name, id) {
                Some(Upstream::Truncated) => break,
                Some(answer) => return Ok(Some(answer)),
                // Somebody guessing: the right answer may still come.
                None => {}
            }
        }
        let Some(socket) = self.connect(server, true).await? else { return Ok(None) };
        let mut stream = TcpStream::from_std(socket.into())?;
        stream.writable().await?;
        write_framed(&mut stream, &query).await?;
        let packet = read_framed(&mut stream).await?;
        Ok(Some(upstream_answer(&packet, name, id).unwrap_or(Upstream::Failed)))
    }

    async fn connect(&self, server: u8, tcp: bool) -> io::Result<Option<OwnedFd>> {
        match self.ask(|request| FromResolver::Connect { request, server, tcp }).await {
            Some(Heard::Upstream(socket)) => Ok(socket),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

fn read_index(file: OwnedFd) -> io::Result<Index> {
    let rules = wire::read_entries(file)?;
    let entries = rules.iter().map(|rule| rule.to_entry().map_err(io::Error::other));
    Ok(Index::new(&entries.collect::<io::Result<Vec<_>>>()?))
}

fn only_v4(addresses: Vec<IpAddr>) -> Vec<Ipv4Addr> {
    let v4 = |address| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    addresses.into_iter().filter_map(v4).collect()
}

fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u16::from_ne_bytes(bytes))
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
    use rcc_policy::Protocol;

    #[test]
    fn the_index_agrees_with_the_policy() {
        let entry = |target: &str| Entry::new(target, &[443], Protocol::Tcp, false).unwrap();
        let entries = [
            entry("a.example.com"),
            entry("*.example.com"),
            entry("*.b.example.com"),
            entry("198.51.100.1"),
        ];
        let index = Index::new(&entries);
        for name in
            ["a.example.com", "x.example.com", "x.b.example.com", "example.com", "other.org"]
        {
            let name: Name = name.parse().unwrap();
            let mut found = index.matching(&name);
            found.sort_unstable();
            let expected: Vec<u32> =
                rcc_policy::match_name(&entries, &name).map(|n| n as u32).collect();
            assert_eq!(found, expected, "{name}");
        }
        assert!(index.above.contains("example.com") && index.above.contains("com"));
        assert!(!index.above.contains("a.example.com"));
    }
}
