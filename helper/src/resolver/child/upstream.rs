//! Asking the computer's name servers.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use rcc_policy::Name;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::{Heard, Resolver, read_framed, write_framed};
use crate::resolver::dns::{Upstream, upstream_answer, upstream_query};
use crate::resolver::wire::FromResolver;

/// How long one name server gets, and how many there may be.
const PATIENCE: Duration = Duration::from_millis(1_500);
const SERVERS: u8 = 3;

impl Resolver {
    pub(super) async fn look_up(&self, name: &Name, kind: RecordType) -> Upstream {
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
        &self,
        name: &Name,
        kind: RecordType,
        server: u8,
    ) -> io::Result<Option<Upstream>> {
        let id = random_id()?;
        let query = upstream_query(name, kind, id).ok_or(io::ErrorKind::InvalidInput)?;
        let Some(socket) = self.connect(server, false).await? else { return Ok(None) };
        let socket = UdpSocket::from_std(socket.into())?;
        socket.send(&query).await?;
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

    async fn connect(&self, server: u8, tcp: bool) -> io::Result<Option<OwnedFd>> {
        match self.ask(|request| FromResolver::Connect { request, server, tcp }).await {
            Some(Heard::Upstream(socket)) => Ok(socket),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

fn random_id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u16::from_ne_bytes(bytes))
}
