//! One connection to `inside`, over the stdio of an exec. Everything that comes
//! out of it is the agent's to write.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error as ApiError;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use rcc_inside::frame::{Decoder, INITIAL_CREDIT, PROTOCOL_VERSION, Reply, Request};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{Ended, TerminalEvent};
use crate::engine::Engine;
use crate::error::{Code, Error, Result};

/// Longest wait for the answer to a request.
const PATIENCE: Duration = Duration::from_secs(15);

type Output = Pin<Box<dyn Stream<Item = std::result::Result<LogOutput, ApiError>> + Send>>;

pub(crate) struct Client {
    input: Pin<Box<dyn AsyncWrite + Send>>,
    incoming: Incoming,
}

/// The half that reads.
struct Incoming {
    output: Output,
    decoder: Decoder,
    waiting: VecDeque<Reply>,
    /// What it wrote to stderr, for an error message.
    complaint: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(engine: &Engine, container: &str) -> Result<Self> {
        let argv = [rcc_inside::PROGRAM.to_string(), "client".to_string()];
        let pipes = engine.exec(container, &argv, &[], None).await?;
        let incoming = Incoming {
            output: pipes.output,
            decoder: Decoder::new(),
            waiting: VecDeque::new(),
            complaint: Vec::new(),
        };
        let mut client = Self { input: pipes.input, incoming };
        let hello = Request::Hello { version: PROTOCOL_VERSION };
        client
            .ask(&hello, |reply| match reply {
                Reply::Welcome { version } if version == PROTOCOL_VERSION => Some(Ok(())),
                _ => {
                    Some(Err(Error::new(Code::Inside, "It was started by another release of rcc.")
                        .hint_is("Stop the session with `rcc stop` and start it again.")))
                }
            })
            .await?;
        Ok(client)
    }

    /// Sends a request and waits for the reply that `pick` takes; others are
    /// passed over. All of it is bounded in time, as what is inside may talk
    /// without end and say nothing.
    pub(crate) async fn ask<T>(
        &mut self,
        request: &Request,
        mut pick: impl FnMut(Reply) -> Option<Result<T>>,
    ) -> Result<T> {
        let asked = async {
            self.send(request).await?;
            loop {
                let Some(reply) = self.incoming.next().await else {
                    let words = String::from_utf8_lossy(&self.incoming.complaint);
                    let ended =
                        Error::new(Code::Inside, "The program inside ended its connection.");
                    return Err(ended.with_detail(crate::display::line(&words, 300)));
                };
                if let Some(answer) = pick(reply) {
                    return answer;
                }
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
            Err(Error::new(Code::Inside, "The program inside did not answer within 15 seconds."))
        })
    }

    pub(crate) async fn send(&mut self, request: &Request) -> Result<()> {
        let bytes = request
            .encode()
            .map_err(|e| Error::new(Code::Invalid, format!("Too much for one request: {e}.")))?;
        let written = async {
            self.input.write_all(&bytes).await?;
            self.input.flush().await
        };
        written.await.map_err(|e| Error::new(Code::Inside, format!("Its connection broke: {e}.")))
    }

    /// Carries requests and events of an attached terminal until it ends or
    /// nobody looks any more.
    pub(super) async fn carry(
        self,
        terminal: u32,
        first: TerminalEvent,
        mut requests: mpsc::Receiver<Request>,
        events: mpsc::Sender<TerminalEvent>,
    ) {
        let Self { mut input, mut incoming } = self;
        let allowed = Mutex::new(Allowed::default());
        let typing = async {
            while let Some(request) = requests.recv().await {
                let Ok(bytes) = request.encode() else { continue };
                if let Ok(mut allowed) = allowed.lock() {
                    allowed.asked(&request);
                }
                if input.write_all(&bytes).await.is_err() || input.flush().await.is_err() {
                    break;
                }
            }
            // Nobody can type any more, but somebody may still look.
            std::future::pending::<()>().await;
        };
        let showing = async {
            if events.send(first).await.is_err() {
                return;
            }
            loop {
                let reply = incoming.next().await;
                let reply =
                    reply.filter(|reply| allowed.lock().is_ok_and(|mut left| left.takes(reply)));
                let event = match reply {
                    Some(Reply::Screen(bytes)) => TerminalEvent::Screen(bytes.into()),
                    Some(Reply::Output(bytes)) => TerminalEvent::Output(bytes.into()),
                    Some(Reply::Exited { terminal: ended, code, signal }) if ended == terminal => {
                        TerminalEvent::Ended(Ended { code, signal })
                    }
                    Some(_) => continue,
                    None => TerminalEvent::Lost,
                };
                let last = matches!(event, TerminalEvent::Ended(_) | TerminalEvent::Lost);
                if events.send(event).await.is_err() || last {
                    return;
                }
            }
        };
        tokio::select! {
            // What was granted counts before what came by it.
            biased;
            () = typing => {}
            () = showing => {}
            () = events.closed() => {}
        }
    }
}

/// What a sandbox may send to a terminal before somebody has dealt with it. The program
/// inside keeps to it by itself, unless the agent put another in its place: then all that
/// it sends would pile up behind a window that draws more slowly.
#[derive(Debug)]
struct Allowed {
    output: u64,
    screens: u64,
}

/// Screens that may come after one request: each one can bring one, with its history.
const SCREENS: u64 = 32 << 20;

impl Default for Allowed {
    fn default() -> Self {
        Self { output: INITIAL_CREDIT.into(), screens: SCREENS }
    }
}

impl Allowed {
    fn asked(&mut self, request: &Request) {
        self.screens = SCREENS;
        if let Request::Credit { bytes } = request {
            self.output = self.output.saturating_add(u64::from(*bytes));
        }
    }

    /// False for more than was granted.
    fn takes(&mut self, reply: &Reply) -> bool {
        let (left, bytes) = match reply {
            Reply::Output(bytes) => (&mut self.output, bytes),
            Reply::Screen(bytes) => (&mut self.screens, bytes),
            _ => return true,
        };
        match left.checked_sub(bytes.len() as u64) {
            Some(rest) => *left = rest,
            None => return false,
        }
        true
    }
}

impl Incoming {
    /// The next reply; `None` at the end, or when the stream is out of step.
    async fn next(&mut self) -> Option<Reply> {
        loop {
            if let Some(reply) = self.waiting.pop_front() {
                return Some(reply);
            }
            if self.decoder.is_failed() {
                return None;
            }
            match self.output.next().await? {
                Ok(LogOutput::StdOut { message }) => self.take(&message),
                Ok(LogOutput::StdErr { message }) => {
                    let room = 4096_usize.saturating_sub(self.complaint.len());
                    self.complaint.extend_from_slice(&message[..message.len().min(room)]);
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    fn take(&mut self, bytes: &Bytes) {
        for frame in self.decoder.push(bytes) {
            let Ok(frame) = frame else { break };
            // A newer sandbox may know more kinds: passed over.
            if let Ok(reply) = Reply::decode(&frame) {
                self.waiting.push_back(reply);
            }
        }
    }
}

/// States, titles and ends of all terminals of one sandbox: hints by the agent's
/// side, cleaned for display.
pub struct Watch {
    client: Client,
}

impl Watch {
    pub(crate) async fn begin(engine: &Engine, container: &str) -> Result<Self> {
        let mut client = Client::connect(engine, container).await?;
        client.send(&Request::Subscribe).await?;
        Ok(Self { client })
    }

    /// The next: `Terminals` first, then `State`, `Title`, `Event` and
    /// `Exited`. `None` when the sandbox ended.
    pub async fn next(&mut self) -> Option<Reply> {
        self.client.incoming.next().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection to something inside that sends what it likes.
    fn client(replies: Vec<Reply>) -> Client {
        let bytes: Vec<Bytes> =
            replies.iter().map(|reply| reply.encode().unwrap().into()).collect();
        let pieces = bytes.into_iter().map(|message| Ok(LogOutput::StdOut { message }));
        let output = futures_util::stream::iter(pieces).chain(futures_util::stream::pending());
        let incoming = Incoming {
            output: Box::pin(output),
            decoder: Decoder::new(),
            waiting: VecDeque::new(),
            complaint: Vec::new(),
        };
        Client { input: Box::pin(tokio::io::sink()), incoming }
    }

    /// Bytes that arrive until it is over.
    async fn carried(replies: Vec<Reply>, granted: &[u32]) -> usize {
        let (requests, waiting) = mpsc::channel(64);
        let (events, mut output) = mpsc::channel(64);
        for bytes in granted {
            requests.send(Request::Credit { bytes: *bytes }).await.unwrap();
        }
        let first = TerminalEvent::Screen(Bytes::new());
        tokio::spawn(client(replies).carry(1, first, waiting, events));
        let mut bytes = 0;
        while let Ok(Some(event)) =
            tokio::time::timeout(Duration::from_secs(1), output.recv()).await
        {
            match event {
                TerminalEvent::Output(piece) | TerminalEvent::Screen(piece) => bytes += piece.len(),
                TerminalEvent::Lost => return bytes,
                TerminalEvent::Ended(_) => panic!("it did not end"),
            }
        }
        bytes
    }

    #[tokio::test]
    async fn t2_a_sandbox_that_sends_more_than_was_granted_is_let_go() {
        const PIECE: usize = 64 << 10;
        let initial = INITIAL_CREDIT as usize;
        let output = || vec![Reply::Output(vec![b'x'; PIECE]); 1_000];
        assert_eq!(carried(output(), &[]).await, initial);
        let more = u32::try_from(3 * PIECE).unwrap();
        assert_eq!(carried(output(), &[more]).await, initial + 3 * PIECE);
        let screens = vec![Reply::Screen(vec![b'x'; PIECE]); 1_000];
        assert_eq!(carried(screens, &[]).await, usize::try_from(SCREENS).unwrap());
    }
}
