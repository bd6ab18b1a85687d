//! Connections to an address that names opened: only the server that the client
//! names first, in its TLS hello, decides whether the connection goes on (N20).
//!
//! The kernel sends the client's packets of such a connection this way until the
//! server has taken a hello whose name is allowed; then it passes them by itself. A
//! server may want another hello before (RFC 8446 4.1.4), so what stands behind the
//! first one waits until the server has said something; the second one must have the
//! same name. Packets are held or passed, never changed, but that a packet may end
//! where the hello ends: the connection stays one between client and server. Pure:
//! packets and time in, things to do out.

mod connection;

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rcc_policy::Name;

use self::connection::{Phase, State};
use super::hello::{self, Hello, MAX_BYTES, Why};
use super::packet::{Tcp, reset};
use super::retry::{Answer, FirstWords};

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
            Phase::Sent(..) => self.wait(flow, &tcp, packet),
            Phase::Again(..) if state.goes_beyond(&tcp) => self.hear(flow, &tcp, packet),
            Phase::Again(..) | Phase::SentAgain(..) | Phase::Passed(_) => {
                send(state.pass_on(&tcp, packet).into_iter().collect())
            }
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
        let again = self.flows.get_mut(&flow).filter(|state| {
            state.start == start
                && matches!(state.phase, Phase::Hearing)
                && state.bytes.is_empty()
                && state.held.is_empty()
        });
        if let Some(state) = again {
            // The server may have forgotten the first one, with what it said on it.
            state.words = FirstWords::default();
        } else {
            let owner = tcp.id;
            self.forget(flow);
            self.make_room(owner, now);
            self.last_serial += 1;
            self.flows.insert(flow, State::new(owner, self.last_serial, start, now));
            let share = self.shares.entry(owner).or_default();
            share.flows += 1;
            share.order.push_back((flow, self.last_serial));
        }
        vec![Deed::Send(vec![packet.to_vec()])]
    }

    fn hear(&mut self, flow: Flow, tcp: &Tcp<'_>, packet: &[u8]) -> Vec<Deed> {
        let Some(state) = self.flows.get(&flow) else { return Vec::new() };
        let end = state.offset(tcp).saturating_add(tcp.payload.len());
        if end > state.approved + MAX_BYTES {
            // Before the first byte, or longer than any hello.
            return self.hide(flow, tcp, Why::NotTls);
        }
        if !self.hold(flow, packet) {
            return Vec::new();
        }
        self.read(flow, tcp)
    }

    /// Reads what has come of a hello, of which `tcp` is a packet.
    fn read(&mut self, flow: Flow, tcp: &Tcp<'_>) -> Vec<Deed> {
        let Some(state) = self.flows.get_mut(&flow) else { return Vec::new() };
        let before = state.weight();
        let consistent = state.join_held();
        let (after, owner) = (state.weight(), state.owner);
        let again = match &state.phase {
            Phase::Again(known, name) => Some((*known, name.clone())),
            _ => None,
        };
        let said = match &again {
            _ if !consistent => Hello::Hides(Why::NotTls),
            Some(_) => hello::read_again(&state.bytes[state.approved..]),
            None => hello::read(&state.bytes),
        };
        self.settle(owner, before, after);
        match (said, again) {
            (Hello::Unfinished, _) => Vec::new(),
            (Hello::Hides(why), _) => self.hide(flow, tcp, why),
            (Hello::Names(name, end), None) => self.ask(flow, name, end),
            (Hello::Names(name, end), Some((known, first))) if name == first => {
                self.send_again(flow, Phase::SentAgain(known, name), end)
            }
            // RFC 8446 4.1.2: it is the first one but for its keys.
            (Hello::Names(..), Some(_)) => self.hide(flow, tcp, Why::NotTls),
        }
    }

    /// The hello that ends there names this server.
    fn ask(&mut self, flow: Flow, name: Name, end: usize) -> Vec<Deed> {
        let Some(state) = self.flows.get_mut(&flow) else { return Vec::new() };
        let owner = state.owner;
        let may_ask = self.asked.len() < MOST_ASKED / 2 || {
            // Who asks little is never kept waiting by who asks much.
            let askers = self.shares.values().filter(|share| share.asked > 0).count();
            let own = self.shares.get(&owner).map_or(0, |share| share.asked);
            own < (MOST_ASKED / askers.max(1)).max(LEAST_ASKED)
        };
        if !may_ask {
            // It is said again.
            return Vec::new();
        }
        let (serial, before) = (state.serial, state.weight());
        state.phase = Phase::Asking;
        state.bytes.truncate(end);
        let after = state.weight();
        self.settle(owner, before, after);
        self.shares.entry(owner).or_default().asked += 1;
        self.asked.insert(serial, owner);
        vec![Deed::Ask(flow, serial, name)]
    }

    /// Sends the second hello on, and what comes behind it: there is no third one.
    fn send_again(&mut self, flow: Flow, phase: Phase, end: usize) -> Vec<Deed> {
        let Some(state) = self.flows.get_mut(&flow) else { return Vec::new() };
        state.phase = phase;
        let before = state.weight();
        state.bytes.truncate(state.approved + end);
        state.approved = usize::MAX;
        self.release(flow, before)
    }

    /// Sends on what is held and may go, of a connection that weighed so much.
    fn release(&mut self, flow: Flow, before: usize) -> Vec<Deed> {
        let Some(state) = self.flows.get_mut(&flow) else { return Vec::new() };
        let packets = state.release();
        let (after, owner) = (state.weight(), state.owner);
        self.settle(owner, before, after);
        send(packets)
    }

    /// A packet of a connection whose server has not answered to the hello yet.
    fn wait(&mut self, flow: Flow, tcp: &Tcp<'_>, packet: &[u8]) -> Vec<Deed> {
        let Some(state) = self.flows.get_mut(&flow) else { return Vec::new() };
        let deeds = send(state.pass_on(tcp, packet).into_iter().collect());
        if !state.goes_beyond(tcp) || !state.agrees(tcp) {
            return deeds;
        }
        match state.words.read() {
            Answer::Strange => return self.hide(flow, tcp, Why::NotTls),
            // A server says nothing twice that its client has, so nobody will hear it
            // here any more. The first time it may still be on its way.
            Answer::Unfinished if state.missed_words(tcp) && state.holds(tcp) => {
                return vec![Deed::Send(self.cut_off(flow, tcp))];
            }
            _ => {}
        }
        self.hold(flow, packet);
        deeds
    }

    fn hide(&mut self, flow: Flow, tcp: &Tcp<'_>, why: Why) -> Vec<Deed> {
        if !self.flows.contains_key(&flow) {
            return vec![Deed::Send(end(tcp, tcp.sequence))];
        }
        vec![Deed::Send(self.cut_off(flow, tcp)), Deed::Hidden(flow, why)]
    }

    /// Forgets a connection, and what ends it on both sides.
    fn cut_off(&mut self, flow: Flow, tcp: &Tcp<'_>) -> Vec<Vec<u8>> {
        let next = self.flows.get(&flow).map_or(tcp.sequence, State::next);
        self.forget(flow);
        end(tcp, next)
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
        if let Some(known) = allowed {
            state.phase = Phase::Sent(known, name);
            state.approved = state.bytes.len();
            let before = state.weight();
            return Some(self.release(flow, before));
        }
        let last = state.held.last().cloned().unwrap_or_default();
        match Tcp::read(&last) {
            Some(tcp) => Some(vec![Deed::Send(self.cut_off(flow, &tcp))]),
            None => {
                self.forget(flow);
                Some(Vec::new())
            }
        }
    }

    /// The head of a packet of a server's, with its first bytes.
    pub fn answered(&mut self, tcp: &Tcp<'_>, now: Instant) -> Vec<Deed> {
        let flow = Flow { port: tcp.destination_port, server: tcp.source };
        let Some(state) = self.flows.get_mut(&flow) else { return Vec::new() };
        let Some(number) = tcp.ack else { return Vec::new() };
        if tcp.syn {
            if number == state.start && state.server.is_none() {
                state.server = Some(tcp.sequence.wrapping_add(1));
            }
            return Vec::new();
        }
        let Some(server) = state.server else { return Vec::new() };
        let at = tcp.sequence.wrapping_sub(server);
        let got = number.wrapping_sub(state.start) as usize;
        // Of another connection; or it has what was not sent.
        if at >= SERVER_SAYS || got > state.sent || tcp.reset {
            return Vec::new();
        }
        state.words.note(at as usize, tcp.payload);
        if got < state.bytes.len() {
            return Vec::new();
        }
        match (&state.phase, state.words.read()) {
            (Phase::Sent(known, name), Answer::Taken) | (Phase::SentAgain(known, name), _) => {
                let (known, name) = (*known, name.clone());
                self.pass(flow, known, name, now)
            }
            (Phase::Sent(known, name), Answer::Again) => {
                state.phase = Phase::Again(*known, name.clone());
                // It may be here already.
                let last = state.held.last().cloned().unwrap_or_default();
                Tcp::read(&last).map_or_else(Vec::new, |tcp| self.read(flow, &tcp))
            }
            _ => Vec::new(),
        }
    }

    fn pass(&mut self, flow: Flow, known: Known, name: Name, now: Instant) -> Vec<Deed> {
        let Some(state) = self.flows.get_mut(&flow) else { return Vec::new() };
        state.phase = Phase::Passed(now);
        state.approved = usize::MAX;
        let before = state.weight();
        self.passing.insert(flow);
        let mut deeds = vec![Deed::Passed(flow, known, name)];
        deeds.extend(self.release(flow, before));
        deeds
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

    /// A connection of this sandbox has another weight.
    fn settle(&mut self, owner: Owner, before: usize, after: usize) {
        let moved = |held: usize| (held + after).saturating_sub(before);
        self.held = moved(self.held);
        self.share(owner, |share| share.held = moved(share.held));
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

/// Sends these on, if there are any.
fn send(packets: Vec<Vec<u8>>) -> Vec<Deed> {
    if packets.is_empty() { Vec::new() } else { vec![Deed::Send(packets)] }
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
