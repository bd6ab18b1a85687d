//! One connection whose hello is looked at.

use std::time::Instant;

use rcc_policy::Name;

use super::{Known, Owner, SERVER_SAYS, Serial};
use crate::resolver::packet::{self, Tcp};
use crate::resolver::retry::FirstWords;

pub(super) enum Phase {
    /// The hello is not whole.
    Hearing,
    /// It is, and somebody thinks about its name.
    Asking,
    /// It was sent on. The server has not acknowledged it, or not answered to it.
    Sent(Known, Name),
    /// The server wants another one, with the same name, and that is not whole.
    Again(Known, Name),
    /// That one was sent on and is not acknowledged.
    SentAgain(Known, Name),
    /// The server has the last one, since then.
    Passed(Instant),
}

pub(super) struct State {
    pub owner: Owner,
    pub serial: Serial,
    pub phase: Phase,
    /// Number of the server's first byte: it has acknowledged our first number, and so
    /// expects just the bytes that are heard here. Nothing is sent on before.
    pub server: Option<u32>,
    /// What the server said first.
    pub words: FirstWords,
    /// End of what was sent on, counted from the first byte.
    pub sent: usize,
    /// Sequence number of the first byte.
    pub start: u32,
    /// Bytes before this one may go to the server.
    pub approved: usize,
    /// The bytes so far, without a gap. Each is what the server gets there, or
    /// gets nothing.
    pub bytes: Vec<u8>,
    /// Packets that wait, as they came.
    pub held: Vec<Vec<u8>>,
    pub heard: Instant,
}

impl State {
    pub fn new(owner: Owner, serial: Serial, start: u32, now: Instant) -> Self {
        Self {
            owner,
            serial,
            phase: Phase::Hearing,
            server: None,
            words: FirstWords::default(),
            sent: 0,
            start,
            approved: 0,
            bytes: Vec::new(),
            held: Vec::new(),
            heard: now,
        }
    }

    pub fn weight(&self) -> usize {
        self.bytes.len() + self.held.iter().map(Vec::len).sum::<usize>()
    }

    /// Where the packet's bytes stand; those before the first one are far behind.
    pub fn offset(&self, tcp: &Tcp<'_>) -> usize {
        tcp.sequence.wrapping_sub(self.start) as usize
    }

    /// The number that the server expects next, when it has what may go to it.
    pub fn next(&self) -> u32 {
        let approved = self.approved.min(self.bytes.len());
        self.start.wrapping_add(u32::try_from(approved).unwrap_or_default())
    }

    /// Takes the packet's bytes over as far as they join on. False when they
    /// contradict bytes that came before: one of the two would reach the server,
    /// and nobody here knows which.
    fn join(&mut self, tcp: &Tcp<'_>) -> bool {
        let offset = self.offset(tcp);
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
    pub fn join_held(&mut self) -> bool {
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

    /// The packet says nothing else than what was heard.
    pub fn agrees(&self, tcp: &Tcp<'_>) -> bool {
        let offset = self.offset(tcp);
        // Before the first byte, or far behind the hello.
        if offset >= 1 << 31 {
            return false;
        }
        let known = self.bytes.get(offset..).unwrap_or_default();
        let length = known.len().min(tcp.payload.len());
        known[..length] == tcp.payload[..length]
    }

    /// The packet has bytes that may not go to the server yet.
    pub fn goes_beyond(&self, tcp: &Tcp<'_>) -> bool {
        self.offset(tcp).saturating_add(tcp.payload.len()) > self.approved
    }

    /// What of a packet may go to the server: all of it, its beginning, or nothing.
    pub fn pass_on(&mut self, tcp: &Tcp<'_>, packet: &[u8]) -> Option<Vec<u8>> {
        let offset = self.offset(tcp);
        let length = tcp.payload.len().min(self.approved.saturating_sub(offset));
        if length == 0 || !self.agrees(tcp) {
            return None;
        }
        // A packet that only ends the connection counts one number, too.
        self.sent = self.sent.max(offset.saturating_add(length).saturating_add(1));
        if length == tcp.payload.len() {
            return Some(packet.to_vec());
        }
        packet::cut(packet, length)
    }

    /// Takes out of what waits what may go to the server. What came while somebody
    /// thought may contradict the hello.
    pub fn release(&mut self) -> Vec<Vec<u8>> {
        let mut go = Vec::new();
        for packet in std::mem::take(&mut self.held) {
            let Some(tcp) = Tcp::read(&packet).filter(|tcp| self.agrees(tcp)) else { continue };
            go.extend(self.pass_on(&tcp, &packet));
            if self.goes_beyond(&tcp) {
                self.held.push(packet);
            }
        }
        go
    }

    /// Such a packet waits already: it was sent again.
    pub fn holds(&self, tcp: &Tcp<'_>) -> bool {
        let same = |held: &Tcp<'_>| held.sequence == tcp.sequence;
        self.held.iter().any(|packet| Tcp::read(packet).as_ref().is_some_and(same))
    }

    /// The client has more of the server's first words than were heard here.
    pub fn missed_words(&self, tcp: &Tcp<'_>) -> bool {
        let (Some(ack), Some(server)) = (tcp.ack, self.server) else { return false };
        let has = ack.wrapping_sub(server);
        has < SERVER_SAYS && has as usize > self.words.heard()
    }
}
