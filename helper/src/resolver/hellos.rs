//! Connections to an address that names opened: only the server that the client
//! names first, in its TLS hello, decides whether the connection goes on (N20).
//!
//! The kernel sends the client's packets of such a connection this way until the
//! server has acknowledged a hello whose name is allowed; then it passes them by
//! itself. Packets are held or passed, never changed: the connection stays one
//! between client and server. Pure: packets and time in, things to do out.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rcc_policy::Name;

use super::hello::{self, Hello, MAX_BYTES, Why};
use super::packet::{Tcp, reset};

/// Connections that are looked at, at once: more than four sandboxes may open. When
/// there is no room, the oldest of the sandbox that has most makes some.
const MOST_FLOWS: usize = 8_192;
/// Bytes that are held for all of them, and packets for one.
const MOST_HELD: usize = 8 << 20;
const MOST_PACKETS: usize = 64;
/// A connection on which nothing is heard for so long is forgotten.
const IDLE: Duration = Duration::from_secs(600);
/// How long packets may still come this way after the kernel was told to pass
/// them by itself.
const LINGERS: Duration = Duration::from_secs(30);

/// Names that are thought about at once: as many for each sandbox that asks as for
/// another, and [`LEAST_ASKED`] in any case.
const MOST_ASKED: usize = 1_024;
const LEAST_ASKED: usize = 4;
/// Bytes that a server sends before the client's hello has arrived, at most: numbers
/// beyond are of another connection.
const SERVER_SAYS: u32 = 1 << 20;

/// A connection as it leaves the gate: the gate's port and the server. The port
/// of the server is 443.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Source port behind the gate's address.
    pub port: u16,
    /// The server.
    pub server: Ipv4Addr,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Deed {
    /// Send these packets on, in this order.
    Send(Vec<Vec<u8>>),
    /// Find out whether the sandbox of the flow may reach this server; then call
    /// [`Hellos::decided`] with the same serial.
    Ask(Flow, Serial, Name),
    /// The server has the hello: the kernel may pass the rest by itself. With it what
    /// [`Hellos::decided`] was told of the connection.
    Passed(Flow, Known, Name),
    /// The connection was ended since its name cannot be seen.
    Hidden(Flow, Why),
}

/// Which of the connections that had the same ports one after the other.
pub type Serial = u64;

/// What the kernel knows the connection by: when it began.
pub type Known = u64;

/// Whose connection it is: the gate writes it into the first packet. It decides who must
/// wait and nothing else.
pub type Owner = u16;

/// What one sandbox has of what all share.
#[derive(Default)]
struct Share {
    /// Its connections in the order in which they began, some of them gone.
    order: VecDeque<(Flow, Serial)>,
    flows: usize,
    held: usize,
    asked: usize,
}

impl Share {
    fn is_empty(&self) -> bool {
        self.flows == 0 && self.asked == 0
    }
}

enum Phase {
    /// The hello is not whole.
    Hearing,
    /// It is, and somebody thinks about its name.
    Asking,
    /// It was sent on and is not acknowledged.
    Sent(Known, Name),
    /// It was acknowledged, then.
    Passed(Instant),
}

struct State {
    owner: Owner,
    serial: Serial,
    phase: Phase,
    /// Number of the server's first byte: it has acknowledged our first number, and so
    /// expects just the bytes that are heard here. Nothing is sent on before.
    server: Option<u32>,
    /// End of what was sent on, counted from the first byte.
    sent: usize,
    /// Sequence number of the first byte.
    start: u32,
    /// The bytes so far, without a gap. Each is what the server gets there, or
    /// gets nothing.
    bytes: Vec<u8>,
    /// Packets that wait, as they came.
    held: Vec<Vec<u8>>,
    heard: Instant,
}

impl State {
    fn weight(&self) -> usize {
        self.bytes.len() + self.held.iter().map(Vec::len).sum::<usize>()
    }

    /// Takes the packet's bytes over as far as they join on. False when they
    /// contradict bytes that came before: one of the two would reach the server,
    /// and nobody here knows which.
    fn join(&mut self, tcp: &Tcp<'_>) -> bool {
        let offset = tcp.sequence.wrapping_sub(self.start) as usize;
        if offset > self.bytes.len() {
            return true;
        }
        let known = (self.bytes.len() - offset).min(tcp.payload.len());
        if self.bytes[offset..offset + known] != tcp.payload[..known] {
            return false;
        }
        self.bytes.extend(&tcp.payload[known..]);
        true
    }

    /// Joins what waits until nothing joins any more.
    fn join_held(&mut self) -> bool {
        let held = std::mem::take(&mut self.held);
        let mut consistent = true;
        loop {
            let before = self.bytes.len();
            for packet in &held {
                consistent &= Tcp::read(packet).is_none_or(|tcp| self.join(&tcp));
            }
            if self.bytes.len() == before || !consistent {
                break;
            }
        }
        self.held = held;
        consistent
    }

    fn note_sent(&mut self, tcp: &Tcp<'_>) {
        let offset = tcp.sequence.wrapping_sub(self.start) as usize;
        // A packet that only ends the connection counts one number, too.
        self.sent = self.sent.max(offset.saturating_add(tcp.payload.len()).saturating_add(1));
    }

    /// The packet says nothing else than what was approved.
    fn agrees(&self, tcp: &Tcp<'_>) -> bool {
        let offset = tcp.sequence.wrapping_sub(self.start) as usize;
        // Before the first byte, or far behind the hello.
        if offset >= 1 << 31 {
            return false;
        }
        let known = self.bytes.get(offset..).unwrap_or_default();
        let length = known.len().min(tcp.payload.len());
        known[..length] == tcp.payload[..length]
    }
}

/// See the module.
#[derive(Default)]
pub struct Hellos {
    flows: HashMap<Flow, State>,
    shares: HashMap<Owner, Share>,
    /// Of which the kernel is being told. Until it was, no other connection may begin on
    /// the same ports: it would be the one that is passed.
    passing: HashSet<Flow>,
    held: usize,
    /// Whose the names are that somebody thinks about.
    asked: HashMap<Serial, Owner>,
    last_serial: Serial,
    /// When what is over was last forgotten of all.
    swept: Option<Instant>,
}

impl Hellos {
    /// A packet from a sandbox, with the gate's address as its source.
    pub fn packet(&mut self, packet: &[u8], now: Instant) -> Vec<Deed> {
        let Some(tcp) = Tcp::read(packet) else { return Vec::new() };
        let flow = Flow { port: tcp.source_port, server: tcp.destination };
        if tcp.syn {
            return self.begin(flow, &tcp, packet, now);
        }
        if tcp.reset {
            self.forget(flow);
        }
        if tcp.urgent && !tcp.reset {
            // A server leaves the urgent byte out of the hello that it reads, so it
            // would read another one than we do.
            return self.hide(flow, &tcp, Why::NotTls);
        }
        if tcp.may_be_cut && !tcp.payload.is_empty() && !tcp.reset {
            // Pieces of two packets can be put together to a third one, which nobody read.
            return self.hide(flow, &tcp, Why::NotTls);
        }
        if let Some(state) = self.flows.get(&flow)
            && state.server.is_none()
            && tcp.ack.is_some()
            && !tcp.reset
        {
            // Only who has the server's first packet can go on, and then we have it, too;
            // what comes before is of a time when the ports were another connection's.
            return Vec::new();
        }
        if tcp.payload.is_empty() {
            // Says nothing, so it gives no name away.
            return vec![Deed::Send(vec![packet.to_vec()])];
        }
        let Some(state) = self.flows.get_mut(&flow) else {
            // Of a time that nobody remembers (N11): the client begins anew.
            return vec![Deed::Send(end(&tcp, tcp.sequence))];
        };
        state.heard = now;
        match state.phase {
            Phase::Hearing => self.hear(flow, &tcp, packet),
            Phase::Asking => {
                self.hold(flow, packet);
                Vec::new()
            }
            Phase::Sent(..) | Phase::Passed(_) if state.agrees(&tcp) => {
                state.note_sent(&tcp);
                vec![Deed::Send(vec![packet.to_vec()])]
            }
            Phase::Sent(..) | Phase::Passed(_) => Vec::new(),
        }
    }

    fn begin(&mut self, flow: Flow, tcp: &Tcp<'_>, packet: &[u8], now: Instant) -> Vec<Deed> {
        // Data in the first packet would reach the server before it was looked at.
        if !tcp.payload.is_empty() || tcp.ack.is_some() {
            return Vec::new();
        }
        if self.passing.contains(&flow) {
            // It is said again in a second.
            return Vec::new();
        }
        if tcp.multipath {
            return vec![Deed::Send(end(tcp, tcp.sequence))];
        }
        let start = tcp.sequence.wrapping_add(1);
        // Said again, and not a new connection that would inherit what an old one was
        // allowed.
        let again = self.flows.get(&flow).is_some_and(|state| {
            state.start == start
                && matches!(state.phase, Phase::Hearing)
                && state.bytes.is_empty()
                && state.held.is_empty()
        });
        if !again {
            let owner = tcp.id;
            self.forget(flow);
            self.make_room(owner, now);
            self.last_serial += 1;
            let state = State {
                owner,
                serial: self.last_serial,
                phase: Phase::Hearing,
                server: None,
                sent: 0,
                start,
                bytes: Vec::new(),
                held: Vec::new(),
                heard: now,
            };
            self.flows.insert(flow, state);
            let share = self.shares.entry(owner).or_default();
            share.flows += 1;
            share.order.push_back((flow, self.last_serial));
        }
        vec![Deed::Send(vec![packet.to_vec()])]
    }

    fn hear(&mut self, flow: Flow, tcp: &Tcp<'_>, packet: &[u8]) -> Vec<Deed> {
        let Some(state) = self.flows.get(&flow) else { return Vec::new() };
        let offset = tcp.sequence.wrapping_sub(state.start) as usize;
        if offset.saturating_add(tcp.payload.len()) > MAX_BYTES {
            // Before the first byte, or longer than any hello.
            return self.hide(flow, tcp, Why::NotTls);
        }
        if !self.hold(flow, packet) {
            return Vec::new();
        }
        let Some(state) = self.flows.get_mut(&flow) else { return Vec::new() };
        let before = state.weight();
        let consistent = state.join_held();
        let (more, owner) = (state.weight() - before, state.owner);
        self.held += more;
        let may_ask = self.asked.len() < MOST_ASKED / 2 || {
            // Who asks little is never kept waiting by who asks much.
            let askers = self.shares.values().filter(|share| share.asked > 0).count();
            let own = self.shares.get(&owner).map_or(0, |share| share.asked);
            own < (MOST_ASKED / askers.max(1)).max(LEAST_ASKED)
        };
        let share = self.shares.entry(owner).or_default();
        share.held += more;
        let said = if consistent { hello::read(&state.bytes) } else { Hello::Hides(Why::NotTls) };
        match said {
            Hello::Unfinished => Vec::new(),
            // It is said again.
            Hello::Names(_) if !may_ask => Vec::new(),
            Hello::Names(name) => {
                state.phase = Phase::Asking;
                share.asked += 1;
                self.asked.insert(state.serial, owner);
                vec![Deed::Ask(flow, state.serial, name)]
            }
            Hello::Hides(why) => self.hide(flow, tcp, why),
        }
    }

    fn hide(&mut self, flow: Flow, tcp: &Tcp<'_>, why: Why) -> Vec<Deed> {
        let Some(start) = self.flows.get(&flow).map(|state| state.start) else {
            return vec![Deed::Send(end(tcp, tcp.sequence))];
        };
        let ends = end(tcp, start);
        self.forget(flow);
        vec![Deed::Send(ends), Deed::Hidden(flow, why)]
    }

    /// Keeps a packet until there is an answer; false when there is no room.
    fn hold(&mut self, flow: Flow, packet: &[u8]) -> bool {
        let Some(state) = self.flows.get_mut(&flow) else { return false };
        if state.held.len() >= MOST_PACKETS {
            return false;
        }
        state.held.push(packet.to_vec());
        let owner = state.owner;
        self.held += packet.len();
        self.shares.entry(owner).or_default().held += packet.len();
        while self.held > MOST_HELD && self.forget_oldest(|share| share.held, Some(flow)) {}
        true
    }

    /// The answer to [`Deed::Ask`]: what the kernel knows the connection by, when its
    /// sandbox may reach the server. `None` when the question was about a connection that
    /// is over: its ports may be another's by now.
    pub fn decided(
        &mut self,
        flow: Flow,
        serial: Serial,
        name: Name,
        allowed: Option<Known>,
    ) -> Option<Vec<Deed>> {
        if let Some(owner) = self.asked.remove(&serial) {
            self.share(owner, |share| share.asked = share.asked.saturating_sub(1));
        }
        let state = self.flows.get_mut(&flow)?;
        if !matches!(state.phase, Phase::Asking) || state.serial != serial {
            return None;
        }
        let held = std::mem::take(&mut state.held);
        let (weight, owner) = (held.iter().map(Vec::len).sum(), state.owner);
        self.held = self.held.saturating_sub(weight);
        if let Some(share) = self.shares.get_mut(&owner) {
            share.held = share.held.saturating_sub(weight);
        }
        if let Some(known) = allowed {
            state.phase = Phase::Sent(known, name);
            let mut packets = Vec::new();
            for packet in held {
                // What came while somebody thought may contradict the hello.
                let Some(tcp) = Tcp::read(&packet).filter(|tcp| state.agrees(tcp)) else {
                    continue;
                };
                state.note_sent(&tcp);
                packets.push(packet);
            }
            return Some(vec![Deed::Send(packets)]);
        }
        let start = state.start;
        let ends = held.last().and_then(|packet| Tcp::read(packet).map(|tcp| end(&tcp, start)));
        self.forget(flow);
        Some(vec![Deed::Send(ends.unwrap_or_default())])
    }

    /// The head of a packet of a server's.
    pub fn answered(&mut self, tcp: &Tcp<'_>, now: Instant) -> Option<Deed> {
        let flow = Flow { port: tcp.destination_port, server: tcp.source };
        let state = self.flows.get_mut(&flow)?;
        let number = tcp.ack?;
        if tcp.syn {
            if number == state.start && state.server.is_none() {
                state.server = Some(tcp.sequence.wrapping_add(1));
            }
            return None;
        }
        let Phase::Sent(known, name) = &state.phase else { return None };
        let of_this = tcp.sequence.wrapping_sub(state.server?) < SERVER_SAYS;
        let got = number.wrapping_sub(state.start) as usize;
        // It cannot have what was not sent.
        if !of_this || got < state.bytes.len() || got > state.sent {
            return None;
        }
        let (known, name) = (*known, name.clone());
        state.phase = Phase::Passed(now);
        self.passing.insert(flow);
        Some(Deed::Passed(flow, known, name))
    }

    /// The kernel was told of [`Deed::Passed`].
    pub fn noted(&mut self, flow: Flow) {
        self.passing.remove(&flow);
    }

    fn forget_only(&mut self, flow: Flow, serial: Serial) {
        if self.flows.get(&flow).is_some_and(|state| state.serial == serial) {
            self.forget(flow);
        }
    }

    fn forget(&mut self, flow: Flow) {
        let Some(state) = self.flows.remove(&flow) else { return };
        let weight = state.weight();
        self.held = self.held.saturating_sub(weight);
        self.share(state.owner, |share| {
            share.flows = share.flows.saturating_sub(1);
            share.held = share.held.saturating_sub(weight);
        });
    }

    fn share(&mut self, owner: Owner, change: impl FnOnce(&mut Share)) {
        if let Some(share) = self.shares.get_mut(&owner) {
            change(share);
            if share.is_empty() {
                self.shares.remove(&owner);
            }
        }
    }

    /// Forgets the oldest connection of the sandbox that has most of something, but for
    /// one of them. False when there is none.
    fn forget_oldest(&mut self, of: impl Fn(&Share) -> usize, spared: Option<Flow>) -> bool {
        let most = self.shares.iter().max_by_key(|(_, share)| of(share));
        let Some(owner) = most.map(|(owner, _)| *owner) else { return false };
        let Some(share) = self.shares.get_mut(&owner) else { return false };
        let Some((oldest, serial)) = share.order.pop_front() else { return false };
        if spared != Some(oldest) {
            self.forget_only(oldest, serial);
            return true;
        }
        share.order.push_back((oldest, serial));
        share.order.len() > 1
    }

    /// Forgets what is over of a sandbox, now and then of all, and when there is too much,
    /// of the one that has most.
    fn make_room(&mut self, owner: Owner, now: Instant) {
        self.forget_over(owner, now);
        if self.swept.is_none_or(|then| now.duration_since(then) > LINGERS) {
            self.swept = Some(now);
            // Most that begin nothing any more are gone.
            for owner in self.shares.keys().copied().collect::<Vec<_>>() {
                self.forget_over(owner, now);
            }
        }
        while self.flows.len() >= MOST_FLOWS && self.forget_oldest(|share| share.flows, None) {}
    }

    /// Forgets what is over of a sandbox.
    fn forget_over(&mut self, owner: Owner, now: Instant) {
        let over = |state: &State| match state.phase {
            Phase::Passed(then) => now.duration_since(then) > LINGERS,
            _ => now.duration_since(state.heard) > IDLE,
        };
        let state_of = |hellos: &Self, (flow, serial): (Flow, Serial)| {
            hellos.flows.get(&flow).filter(|state| state.serial == serial).map(over)
        };
        while let Some(oldest) = self.shares.get(&owner).and_then(|share| share.order.front()) {
            let oldest = *oldest;
            if state_of(self, oldest) == Some(false) {
                break;
            }
            if let Some(share) = self.shares.get_mut(&owner) {
                share.order.pop_front();
            }
            self.forget_only(oldest.0, oldest.1);
        }
        if let Some(share) = self.shares.get_mut(&owner)
            && share.order.len() > 2 * share.flows + 64
        {
            let flows = &self.flows;
            let lives = |(flow, serial): &(Flow, Serial)| {
                flows.get(flow).is_some_and(|state| state.serial == *serial)
            };
            share.order.retain(lives);
        }
    }
}

/// Ends a connection on both sides: the client hears it at once, and the server,
/// which expects the byte `next`, keeps nothing open.
fn end(tcp: &Tcp<'_>, next: u32) -> Vec<Vec<u8>> {
    let mut packets = vec![reset(
        (tcp.source, tcp.source_port),
        (tcp.destination, tcp.destination_port),
        next,
        tcp.ack,
    )];
    if let Some(ack) = tcp.ack {
        let length = u32::try_from(tcp.payload.len()).unwrap_or_default();
        packets.push(reset(
            (tcp.destination, tcp.destination_port),
            (tcp.source, tcp.source_port),
            ack,
            Some(tcp.sequence.wrapping_add(length)),
        ));
    }
    packets
}

#[cfg(test)]
mod tests;
