//! Open in Sandbox: the session, then Claude on a terminal.

use rcc_sandbox::{
    Cancel, Code, Error, Handed, OpenRequest, Program, Reporter, Session, Settings, Size, Step,
    Terminal, session,
};
use tauri::ipc::Channel;

use crate::app::{Shared, locked, now};
use crate::screen::{self, Screen};
use crate::wire::{OpenSandbox, Opened, Progress, Start};
use crate::{projects, watching};

/// Opens what was asked for and begins to send its screen.
pub async fn open(
    app: &Shared,
    request: OpenSandbox,
    progress: Channel<Progress>,
    screen: Screen,
) -> Result<Opened, Error> {
    let cancel = Cancel::new();
    let begun = Begun::begin(app, &request.project, &cancel)?;
    let report = Reporter::new(move |step| {
        // A page that is gone needs no progress.
        let _ = progress.send(step.into());
    });
    let (session, terminal) = start(app, &request, &report, &cancel).await?;
    drop(begun);

    locked(&app.remembered).opened(&request.project, now());
    let network = projects::network(app).await;
    let shown = projects::session(app, &session, network.as_ref()).await;
    let (input, output) = terminal.split();
    let number = locked(&app.terminals).add(input);
    tauri::async_runtime::spawn(screen::carry(app.clone(), number, output, screen));
    tauri::async_runtime::spawn(watching::begin(app.clone()));
    Ok(Opened { terminal: number, session: shown })
}

async fn start(
    app: &Shared,
    request: &OpenSandbox,
    report: &Reporter,
    cancel: &Cancel,
) -> Result<(Session, Terminal), Error> {
    let host = app.host().map_err(|error| Error::new(error.code(), error.body()))?;
    let project = app.project(&request.project)?;
    let handed = Handed::from_environment();
    let wanted = OpenRequest {
        folder: project.path().into(),
        image: None,
        offline: request.offline,
        piped: false,
        claude: true,
        handed: handed.clone(),
    };
    let session = session::open(host, &wanted, report, cancel).await?;
    let size = Size { columns: request.columns, rows: request.rows };
    let starting = async {
        if request.start == Start::Show
            && let Some(terminal) = running_claude(&session).await?
        {
            return session.attach(terminal, size).await;
        }
        let settings = Settings::load(&project, host)?;
        let arguments = match request.start {
            Start::Resume => vec!["--continue".into()],
            Start::Show | Start::New => Vec::new(),
        };
        let claude = Program::Claude { arguments, act_without_asking: settings.act_without_asking };
        session.start(&claude, size, &handed, host).await
    };
    let terminal = report
        .step(Step::StartProgram, async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Err(Error::cancelled()),
                terminal = starting => terminal,
            }
        })
        .await;
    if terminal.is_err() && session.new {
        // What was made for this opening goes with it; the first error is the one to tell.
        let _ = session.stop().await;
    }
    Ok((session, terminal?))
}

async fn running_claude(session: &Session) -> Result<Option<u32>, Error> {
    let terminals = session.terminals().await?;
    Ok(terminals
        .iter()
        .rev()
        .find(|info| info.alive && info.name == "claude")
        .map(|info| info.terminal))
}

/// The note that a project is being opened; gone with its end.
struct Begun<'a> {
    app: &'a Shared,
    project: String,
}

impl<'a> Begun<'a> {
    fn begin(app: &'a Shared, project: &str, cancel: &Cancel) -> Result<Self, Error> {
        let mut openings = locked(&app.openings);
        if openings.contains_key(project) {
            return Err(Error::new(Code::Invalid, "This folder is being opened already."));
        }
        openings.insert(project.into(), cancel.clone());
        Ok(Self { app, project: project.into() })
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        locked(&self.app.openings).remove(&self.project);
    }
}
