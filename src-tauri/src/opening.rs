//! Open in Sandbox: the session, then Claude on a terminal.

use rcc_sandbox::claude::PROGRAM_INSIDE;
use rcc_sandbox::{
    Cancel, Code, Error, Handed, OpenRequest, Program, Reporter, Session, Settings, Size, Step,
    Terminal, session,
};
use tauri::ipc::Channel;

use crate::app::{Shared, locked, now};
use crate::live::CLAUDE;
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
    let tab = terminal.number();
    let (input, output) = terminal.split();
    let number = locked(&app.terminals).add(input);
    tauri::async_runtime::spawn(screen::carry(app.clone(), number, output, screen));
    watching::begin(app.clone()).await;
    // The new terminal is in the list that is answered.
    watching::look(app, &session).await;
    let network = projects::network(app).await;
    let shown = projects::session(app, &session, network.as_ref()).await;
    Ok(Opened { terminal: number, tab, session: shown })
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
            && let Some(terminal) = to_show(&session, request.terminal).await?
        {
            return session.attach(terminal, size).await;
        }
        let claude = |arguments| -> Result<Program, Error> {
            let settings = Settings::load(&project, host)?;
            Ok(Program::Claude { arguments, act_without_asking: settings.act_without_asking })
        };
        let program = match request.start {
            Start::Shell => Program::Shell,
            Start::Login => Program::Command(vec![PROGRAM_INSIDE.into(), "setup-token".into()]),
            Start::Resume => claude(vec!["--continue".into()])?,
            Start::Show | Start::New => claude(Vec::new())?,
        };
        session.start(&program, size, &handed, host).await
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
        let _ = session.stop(host).await;
    }
    Ok((session, terminal?))
}

/// The terminal that was asked for, else the newest Claude that runs.
async fn to_show(session: &Session, wanted: Option<u32>) -> Result<Option<u32>, Error> {
    // A new sandbox has none of the terminals that an earlier one had.
    if wanted.is_some() && !session.new {
        return Ok(wanted);
    }
    let terminals = session.terminals().await?;
    Ok(terminals
        .iter()
        .rev()
        .find(|info| info.alive && info.name == CLAUDE)
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
