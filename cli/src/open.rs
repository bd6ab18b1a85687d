//! Opening a sandbox from the command line.

use std::path::PathBuf;

use rcc_sandbox::{Cancel, Handed, Host, ImageChoice, OpenRequest, Session, session};

use crate::arguments::Opening;
use crate::show::Lines;

/// What is started in the sandbox then.
#[derive(Debug, Clone, Copy)]
pub struct Follows {
    /// Claude Code must be in it.
    pub claude: bool,
    /// A program on pipes instead of a terminal.
    pub piped: bool,
}

/// Opens the project's session, or finds the one that runs. Ctrl-C undoes what
/// was begun.
pub async fn open(
    host: &Host,
    folder: PathBuf,
    opening: &Opening,
    follows: Follows,
    handed: &Handed,
    json: bool,
) -> anyhow::Result<Session> {
    let request = OpenRequest {
        folder,
        image: opening.image.as_deref().map(ImageChoice::parse).transpose()?,
        offline: opening.offline,
        claude: follows.claude,
        piped: follows.piped,
        handed: handed.clone(),
    };
    let cancel = Cancel::new();
    let stop = stop_on_interrupt(&cancel);
    let (lines, report) = Lines::begin(json);
    let opened = session::open(host, &request, &report, &cancel).await;
    drop(lines);
    stop.abort();
    let session = opened?;
    if !session.new
        && let Some(image) = &request.image
        && session.image() != image.to_string()
    {
        crate::show::note(&format!(
            "the sandbox runs already, with the image {}.",
            session.image()
        ));
    }
    Ok(session)
}

/// Ctrl-C, TERM and a closed window say stop; whatever runs then tidies up.
pub fn stop_on_interrupt(cancel: &Cancel) -> tokio::task::JoinHandle<()> {
    let cancel = cancel.clone();
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut terminate), Ok(mut hangup)) =
            (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
        else {
            return;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        cancel.cancel();
    })
}
