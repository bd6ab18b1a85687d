//! A program on pipes: its output can be piped on, its exit code is passed on.

use std::borrow::Cow;
use std::io::{IsTerminal, Read, Write};

use bollard::container::LogOutput;
use futures_util::StreamExt;
use rcc_sandbox::{ExecPipes, Handed, Host, Program, Session};
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::plain::Plain;

/// INT and TERM, signal(7).
const INTERRUPT: i32 = 2;
const TERMINATE: i32 = 15;

/// Runs it to its end; answers its exit code.
pub async fn run(
    session: &Session,
    program: &Program,
    handed: &Handed,
    host: &Host,
) -> anyhow::Result<u8> {
    let ExecPipes { id, mut output, input } = session.start_piped(program, handed, host).await?;
    // Claude waits for the end of a pipe; a person's terminal never ends.
    let forward = !(matches!(program, Program::Claude { .. }) && std::io::stdin().is_terminal());
    let typing = tokio::spawn(type_in(input, forward));
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut closed = false;
    // A file or another program gets every byte; a terminal only what is harmless.
    let mut on_output = std::io::stdout().is_terminal().then(Plain::default);
    let mut on_errors = std::io::stderr().is_terminal().then(Plain::default);
    loop {
        let piece = tokio::select! {
            piece = output.next() => piece,
            _ = interrupt.recv() => {
                session.signal_piped(&id, INTERRUPT).await?;
                continue;
            }
            _ = terminate.recv() => {
                session.signal_piped(&id, TERMINATE).await?;
                continue;
            }
        };
        let Some(piece) = piece else { break };
        let written = match piece? {
            LogOutput::StdErr { message } => {
                write(std::io::stderr().lock(), &shown(&mut on_errors, &message))
            }
            other => write(std::io::stdout().lock(), &shown(&mut on_output, &other.into_bytes())),
        };
        if written.is_err() && !closed {
            // Whoever read our output is gone: the program must not go on for nobody.
            closed = true;
            session.signal_piped(&id, TERMINATE).await?;
        }
    }
    typing.abort();
    Ok(u8::try_from(session.exit_code(&id).await?).unwrap_or(1))
}

fn shown<'a>(plain: &mut Option<Plain>, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    match plain {
        Some(plain) => Cow::Owned(plain.pass(bytes)),
        None => Cow::Borrowed(bytes),
    }
}

fn write(mut stream: impl Write, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}

/// Hands stdin in and shuts the program's down at the end.
async fn type_in(mut input: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>, forward: bool) {
    if forward {
        let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(4);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            let mut stdin = std::io::stdin().lock();
            while let Ok(count @ 1..) = stdin.read(&mut buffer) {
                if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        while let Some(piece) = pieces.recv().await {
            if input.write_all(&piece).await.is_err() || input.flush().await.is_err() {
                return;
            }
        }
    }
    // A program that has ended does not mind.
    let _ = input.shutdown().await;
}
