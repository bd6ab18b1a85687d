//! Whether the computer's name servers answer, for `Diagnose`.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::Resolver;
use super::upstream::{SERVERS, random_id};
use crate::resolver::parent::TRYING;
use crate::resolver::wire::{FromResolver, Tried};

/// A little less than the helper waits.
const PATIENCE: Duration = TRYING.saturating_sub(Duration::from_millis(100));

/// The name servers of the root: every resolver knows them, and the question says nothing
/// about anybody. Class IN, type NS, RFC 1035 section 4.1.
const QUESTION: [u8; 5] = [0, 0, 2, 0, 1];

impl Resolver {
    /// Asks all of them at once, and tells how the best of them took it.
    pub(super) async fn try_servers(self: Rc<Self>, request: u64) {
        let asked = (0..SERVERS).map(|server| {
            let resolver = self.clone();
            tokio::task::spawn_local(async move {
                timeout(PATIENCE, resolver.try_one(server)).await.ok().and_then(Result::ok)
            })
        });
        let mut best = Tried::Silent;
        for one in asked.collect::<Vec<_>>() {
            best = best.max(one.await.ok().flatten().unwrap_or(Tried::Silent));
        }
        let _ = self.tell(&FromResolver::Tried { request, tried: best }).await;
    }

    async fn try_one(&self, server: u8) -> io::Result<Tried> {
        let Some(socket) = self.connect(server, false).await? else { return Ok(Tried::Silent) };
        let socket = UdpSocket::from_std(socket.into())?;
        let id = random_id()?;
        socket.send(&query(id)).await?;
        let mut packet = [0; 4096];
        loop {
            let length = socket.recv(&mut packet).await?;
            // What is no answer to this: the right one may still come.
            if let Some(tried) = read(&packet[..length], id) {
                return Ok(tried);
            }
        }
    }
}

/// One question, recursion desired.
fn query(id: u16) -> Vec<u8> {
    let mut packet = id.to_be_bytes().to_vec();
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    packet.extend(QUESTION);
    packet
}

/// How a server took it; `None` when this is no answer to the question.
fn read(packet: &[u8], id: u16) -> Option<Tried> {
    const RESPONSE: u8 = 0x80;
    const OPCODE: u8 = 0x78;
    const SERVFAIL: u8 = 2;
    let (head, rest) = packet.split_at_checked(12)?;
    let ours = head[..2] == id.to_be_bytes()
        && head[2] & (RESPONSE | OPCODE) == RESPONSE
        && head[4..6] == [0, 1]
        && rest.starts_with(&QUESTION);
    // A server that refuses just this question is there, too.
    ours.then(|| if head[3] & 0x0f == SERVFAIL { Tried::Fails } else { Tried::Answers })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(flags: [u8; 2]) -> Vec<u8> {
        let mut packet = query(7);
        packet[2..4].copy_from_slice(&flags);
        packet
    }

    #[test]
    fn a_server_that_cannot_look_up_is_told_from_one_that_answers() {
        for (code, tried) in [(0, Tried::Answers), (2, Tried::Fails), (3, Tried::Answers)] {
            assert_eq!(read(&answer([0x81, 0x80 | code]), 7), Some(tried), "{code}");
        }
        assert!(Tried::Silent < Tried::Fails && Tried::Fails < Tried::Answers, "the best counts");
    }

    #[test]
    fn what_is_no_answer_to_the_question_is_none() {
        let right = answer([0x81, 0x80]);
        assert_eq!(read(&right, 8), None, "somebody guesses");
        assert_eq!(read(&query(7), 7), None, "the question itself");
        assert_eq!(read(&answer([0xa9, 0x80]), 7), None, "another kind of message");
        for length in 0..right.len() {
            assert_eq!(read(&right[..length], 7), None, "{length}");
        }
        let mut other = right;
        other[14] = 1;
        assert_eq!(read(&other, 7), None, "another question");
    }
}
