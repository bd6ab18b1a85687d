//! A sandbox's terminal on the person's terminal.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcc_sandbox::{Code, Error, Session, Terminal, TerminalEvent, TerminalInput};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::filter::Filter;
use crate::follow::{Following, Word};
use crate::notice;
use crate::raw::{Raw, size};

/// Ctrl-], as a plain terminal sends it and as one with key encodings does.
const PREFIX: [&[u8]; 2] = [b"\x1d", b"\x1b[93;5u"];

/// How it went.
enum Outcome {
    Ended(i32),
    Detached,
    Lost,
}

/// Shows the terminal until its program ends or the person detaches; answers
/// the exit code. What there is to say of edited lists is shown over its last row.
pub async fn show(
    session: &Session,
    terminal: Terminal,
    following: Following,
) -> anyhow::Result<u8> {
    let number = terminal.number();
    let mut raw = Raw::begin()?;
    let (say, words) = mpsc::unbounded_channel();
    let followed = following.say(move |word| drop(say.send(word)));
    let mut filter = Filter::default();
    let outcome = carry(terminal, words, &mut filter).await;
    drop(followed);
    raw.undo = filter.undo();
    raw.broken_off = !matches!(outcome, Ok(Outcome::Ended(0)));
    drop(raw);
    match outcome? {
        Outcome::Ended(code) => Ok(u8::try_from(code).unwrap_or(1)),
        Outcome::Detached => {
            eprintln!("\nrcc: detached; `rcc attach {number}` shows it again.");
            Ok(0)
        }
        Outcome::Lost => {
            let why = match session.why_ended().await {
                Ok(Some(why)) => why,
                Ok(None) => {
                    "The connection to it broke; it still runs. `rcc attach` shows it again.".into()
                }
                Err(_) => "It was stopped.".into(),
            };
            Err(Error::new(Code::Inside, why).title_is("The sandbox's terminal is gone.").into())
        }
    }
}

async fn carry(
    terminal: Terminal,
    mut words: mpsc::UnboundedReceiver<Word>,
    filter: &mut Filter,
) -> anyhow::Result<Outcome> {
    let (input, mut output) = terminal.split();
    let mut keys = keys();
    let mut resized = signal(SignalKind::window_change())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut detach = Detach::default();
    let typing = Typing::begin(input);
    let mut noticed = Noticed::default();
    loop {
        tokio::select! {
            event = output.next() => match event {
                Some(TerminalEvent::Screen(bytes)) => write(&filter.pass(&bytes))?,
                Some(TerminalEvent::Output(bytes)) => {
                    write(&filter.pass(&bytes))?;
                    typing.credit(bytes.len());
                }
                Some(TerminalEvent::Ended(ended)) => return Ok(Outcome::Ended(ended.exit_code())),
                Some(TerminalEvent::Lost) | None => return Ok(Outcome::Lost),
            },
            typed = keys.recv() => {
                let Some(typed) = typed else { return Ok(Outcome::Detached) };
                match detach.decide(&typed) {
                    None => return Ok(Outcome::Detached),
                    Some(bytes) => {
                        if !typing.keys(bytes) {
                            // It takes no more: said by a bell, as terminals do.
                            write(b"\x07")?;
                        }
                    }
                }
            }
            Some(word) = words.recv() => noticed.show(&word)?,
            () = noticed.read() => {
                noticed.until = None;
                typing.redraw();
            }
            _ = resized.recv() => typing.resize(),
            _ = hangup.recv() => return Ok(Outcome::Detached),
            _ = terminate.recv() => return Ok(Outcome::Detached),
        }
    }
}

/// A line that lies over the screen.
#[derive(Default)]
struct Noticed {
    until: Option<Instant>,
}

impl Noticed {
    fn show(&mut self, word: &Word) -> std::io::Result<()> {
        self.until = Some(Instant::now() + notice::SHOWN);
        write(notice::draw(&word.line(), size()).as_bytes())
    }

    /// Waits until it was there long enough.
    async fn read(&self) {
        match self.until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Noticed {
    fn drop(&mut self) {
        if self.until.is_some() {
            let _ = write(notice::wipe(size()).as_bytes());
        }
    }
}

/// Most bytes that wait to be typed.
const MOST_WAITING: usize = 1 << 20;

/// What goes to the sandbox, sent by a task of its own: when nobody takes it
/// there, the person can still detach.
struct Typing {
    requests: mpsc::UnboundedSender<Request>,
    waiting: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

enum Request {
    Keys(Vec<u8>),
    Credit(usize),
    Resize,
    Redraw,
}

impl Typing {
    fn begin(input: TerminalInput) -> Self {
        // Bounded all the same: keys by `waiting`, credit by the output that came.
        let (requests, mut asked) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = waiting.clone();
        let task = tokio::spawn(async move {
            while let Some(request) = asked.recv().await {
                // A terminal that is gone says so by its output.
                let _ = match request {
                    Request::Keys(bytes) => {
                        let sent = input.write(&bytes).await;
                        left.fetch_sub(bytes.len(), Ordering::Relaxed);
                        sent
                    }
                    Request::Credit(bytes) => {
                        input.credit(u32::try_from(bytes).unwrap_or(u32::MAX)).await
                    }
                    Request::Resize => input.resize(size()).await,
                    Request::Redraw => input.redraw(size()).await,
                };
            }
        });
        Self { requests, waiting, task }
    }

    /// False when too much waits already.
    fn keys(&self, bytes: Vec<u8>) -> bool {
        if bytes.is_empty() {
            return true;
        }
        if self.waiting.load(Ordering::Relaxed) + bytes.len() > MOST_WAITING {
            return false;
        }
        self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        self.requests.send(Request::Keys(bytes)).is_ok()
    }

    fn credit(&self, bytes: usize) {
        let _ = self.requests.send(Request::Credit(bytes));
    }

    fn resize(&self) {
        let _ = self.requests.send(Request::Resize);
    }

    fn redraw(&self) {
        let _ = self.requests.send(Request::Redraw);
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for Ctrl-] and then d; everything else is typed.
#[derive(Default)]
struct Detach {
    prefix: Option<Vec<u8>>,
}

impl Detach {
    /// What is to be typed; `None` to detach.
    fn decide(&mut self, typed: &[u8]) -> Option<Vec<u8>> {
        match self.prefix.take() {
            Some(_) if typed == b"d" => None,
            // Twice: once for the program.
            Some(prefix) if typed == prefix => Some(prefix),
            Some(mut prefix) => {
                prefix.extend_from_slice(typed);
                Some(prefix)
            }
            None => {
                match PREFIX.iter().find_map(|prefix| Some((prefix, typed.strip_prefix(*prefix)?)))
                {
                    Some((prefix, b"")) => {
                        self.prefix = Some(prefix.to_vec());
                        Some(Vec::new())
                    }
                    // Typed fast, both came at once.
                    Some((_, b"d")) => None,
                    _ => Some(typed.to_vec()),
                }
            }
        }
    }
}

fn write(bytes: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Keys from a thread of its own: a read of a terminal cannot be broken off.
fn keys() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let mut stdin = std::io::stdin().lock();
        while let Ok(count @ 1..) = stdin.read(&mut buffer) {
            if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_prefix_and_d_detach() {
        for prefix in PREFIX {
            let mut detach = Detach::default();
            assert_eq!(detach.decide(b"d").unwrap(), b"d");
            assert_eq!(detach.decide(prefix).unwrap(), b"");
            assert_eq!(detach.decide(b"x").unwrap(), [prefix, b"x"].concat());
            assert_eq!(detach.decide(prefix).unwrap(), b"");
            assert_eq!(detach.decide(prefix).unwrap(), prefix);
            assert_eq!(detach.decide(prefix).unwrap(), b"");
            assert_eq!(detach.decide(b"d"), None);
            assert_eq!(detach.decide(&[prefix, b"d"].concat()), None);
            let pasted = [prefix, b"do not"].concat();
            assert_eq!(detach.decide(&pasted).unwrap(), pasted);
        }
    }
}
