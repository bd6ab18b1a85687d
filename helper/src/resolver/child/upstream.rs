//! Asking the computer's name servers.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use rcc_policy::Name;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::{Heard, Resolver, read_framed, write_framed};
use crate::resolver::dns::{Upstream, upstream_answer, upstream_query};
use crate::resolver::wire::FromResolver;

/// How long one name server gets, and how many there may be.
const PATIENCE: Duration = Duration::from_millis(1_500);
pub(super) const SERVERS: u8 = 3;
/// Questions come in bursts: within one, a socket is made ahead. It is used once, as
/// every other, and not when it is older: the name servers may be others by then.
const BURST: Duration = Duration::from_secs(2);

/// A socket to the first name server that nobody uses yet.
#[derive(Default)]
pub(super) struct Spare {
    socket: Option<(Instant, OwnedFd)>,
    /// When the last question was sent.
    sent: Option<Instant>,
}

impl Spare {
    fn take(&mut self, now: Instant) -> Option<OwnedFd> {
        self.socket.take().filter(|(made, _)| now.duration_since(*made) < BURST).map(|one| one.1)
    }

    pub(super) fn forget(&mut self) {
        self.socket = None;
    }

    /// Notes that a question was sent; says whether the next is likely to come soon
    /// and has no socket yet.
    fn is_wanted(&mut self, now: Instant) -> bool {
        let before = self.sent.replace(now);
        self.socket.is_none() && before.is_some_and(|before| now.duration_since(before) < BURST)
    }
}

impl Resolver {
    pub(super) async fn look_up(self: &Rc<Self>, name: &Name, kind: RecordType) -> Upstream {
        for server in 0..SERVERS {
            match timeout(PATIENCE, self.look_up_at(name, kind, server)).await {
                Ok(Ok(Some(Upstream::Failed))) | Ok(Err(_)) | Err(_) => {}
                // No such server: all have been asked.
                Ok(Ok(None)) => break,
                Ok(Ok(Some(answer))) => return answer,
            }
        }
        Upstream::Failed
    }

    async fn look_up_at(
        self: &Rc<Self>,
        name: &Name,
        kind: RecordType,
        server: u8,
    ) -> io::Result<Option<Upstream>> {
        let id = random_id()?;
        let query = upstream_query(name, kind, id).ok_or(io::ErrorKind::InvalidInput)?;
        let ahead = if server == 0 { self.spare.borrow_mut().take(Instant::now()) } else { None };
        let socket = match ahead {
            Some(socket) => Some(socket),
            None => self.connect(server, false).await?,
        };
        let Some(socket) = socket else { return Ok(None) };
        let socket = UdpSocket::from_std(socket.into())?;
        socket.send(&query).await?;
        if server == 0 && self.spare.borrow_mut().is_wanted(Instant::now()) {
            spawn_local(self.clone().make_spare());
        }
        let mut packet = [0; 4096];
        loop {
            let length = socket.recv(&mut packet).await?;
            match upstream_answer(&packet[..length], name, kind, id) {
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
        Ok(Some(upstream_answer(&packet, name, kind, id).unwrap_or(Upstream::Failed)))
    }

    async fn make_spare(self: Rc<Self>) {
        if let Ok(Some(socket)) = self.connect(0, false).await {
            self.spare.borrow_mut().socket = Some((Instant::now(), socket));
        }
    }

    pub(super) async fn connect(&self, server: u8, tcp: bool) -> io::Result<Option<OwnedFd>> {
        match self.ask(|request| FromResolver::Connect { request, server, tcp }).await {
            Some(Heard::Upstream(socket)) => Ok(socket),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

pub(super) fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u16::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_made_ahead_within_a_burst_alone_and_used_once_while_it_is_fresh() {
        let made = || std::fs::File::open("/dev/null").unwrap().into();
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut spare = Spare::default();
        assert!(!spare.is_wanted(at(0.0)), "one question alone");
        assert!(!spare.is_wanted(at(2.5)), "another one, much later");
        assert!(spare.is_wanted(at(2.6)));
        spare.socket = Some((at(2.7), made()));
        assert!(!spare.is_wanted(at(2.8)), "there is one");
        assert!(spare.take(at(4.6)).is_some());
        assert!(spare.take(at(4.6)).is_none(), "once");
        spare.socket = Some((at(5.0), made()));
        assert!(spare.take(at(7.0)).is_none(), "too old");
        assert!(spare.socket.is_none(), "and gone");
    }
}
