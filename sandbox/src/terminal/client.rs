//! One connection to `inside`, over the stdio of an exec. Everything that comes
//! out of it is the agent's to write.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error as ApiError;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use rcc_inside::frame::{Decoder, PROTOCOL_VERSION, Reply, Request};
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
        let typing = async {
            while let Some(request) = requests.recv().await {
                let Ok(bytes) = request.encode() else { continue };
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
                let event = match incoming.next().await {
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
            () = typing => {}
            () = showing => {}
            () = events.closed() => {}
        }
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
