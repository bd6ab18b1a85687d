//! The commands.

mod hosts;
mod layers;
mod list;
mod review;
mod setup;
mod uninstall;
mod update;
mod verify;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcc_sandbox::{
    Code, Engine, Error, Handed, Host, Network, Program, Project, Session, Settings, State,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::arguments::{Arguments, Command, OnOff, Opening, PolicyCommand};
use crate::follow::Following;
use crate::{open, piped, raw, show, tty};

/// Everything that a command may need to know.
pub struct Call {
    host: Host,
    folder: PathBuf,
    json: bool,
    /// `--project` without a path.
    project_reach: bool,
}

impl Call {
    fn project(&self) -> rcc_sandbox::Result<Project> {
        Project::open(&self.folder, &self.host)
    }

    /// The running session of the folder.
    async fn session(&self) -> rcc_sandbox::Result<(Engine, Project, Session)> {
        let project = self.project()?;
        let engine = Engine::connect(&self.host).await?;
        let session = Session::of_project(&engine, &project).await?;
        Ok((engine, project, session))
    }
}

/// Runs a command; answers the exit code.
pub async fn run(arguments: Arguments) -> anyhow::Result<u8> {
    let call = Call {
        host: Host::detect()?,
        project_reach: arguments.project == Some(None),
        folder: match arguments.project {
            Some(Some(path)) => path,
            _ => std::env::current_dir()?,
        },
        json: arguments.json,
    };
    match arguments.command {
        Command::Init(opening) => setup::init(&call, &opening).await,
        Command::Claude { opening, ask, arguments } => {
            claude(&call, &opening, ask, arguments).await
        }
        Command::Shell(opening) => start(&call, &opening, Program::Shell).await,
        Command::Run { opening, command } => {
            start(&call, &opening, Program::Command(command)).await
        }
        Command::Ls => list::ls(&call).await,
        Command::Attach { terminal } => attach(&call, terminal).await,
        Command::Stop { folder, all } => stop(&call, folder.as_deref(), all).await,
        Command::Allow { host, reach, private } => {
            hosts::allow(&call, &host, &reach, private).await
        }
        Command::Deny { host, reach } => hosts::deny(&call, &host, &reach).await,
        Command::Log { follow } => hosts::log(&call, follow).await,
        Command::Net { state } => net(&call, state).await,
        Command::Doctor { report } => setup::doctor(&call, report).await,
        Command::Setup { steps } => setup::setup(&steps).await,
        Command::Policy(PolicyCommand::Check { file }) => hosts::check(&call, file).await,
        Command::Review { command, diff } => review::review(&call, command, diff).await,
        Command::Layers { command } => layers::layers(&call, command).await,
        Command::Update { what, check: true } => update::look(&call, what).await,
        Command::Update { what, check: false } => update::update(&call, what).await,
        // It is asked for by name, so that nobody takes it for the package's removal.
        Command::Uninstall { mine: _, yes } => uninstall::uninstall(&call, yes).await,
        Command::Verify => verify::verify(&call).await,
    }
}

async fn claude(
    call: &Call,
    opening: &Opening,
    ask: bool,
    arguments: Vec<String>,
) -> anyhow::Result<u8> {
    let settings = Settings::load(&call.project()?, &call.host)?;
    let act_without_asking = settings.act_without_asking && !ask;
    start(call, opening, Program::Claude { arguments, act_without_asking }).await
}

/// Opens the session and runs a program in it: on a terminal if this is one,
/// else on pipes.
async fn start(call: &Call, opening: &Opening, program: Program) -> anyhow::Result<u8> {
    let handed = Handed::from_environment();
    let claude = matches!(program, Program::Claude { .. });
    let piped = !raw::is_interactive();
    // Before the lists are read for the opening: no edit is lost between the two.
    let following = Following::begin(&call.host).await;
    let session = open::open(
        &call.host,
        call.folder.clone(),
        opening,
        open::Follows { claude, piped },
        &handed,
        call.json,
    )
    .await?;
    if !session.new
        && !opening.offline
        && session.network_state(None).await == rcc_sandbox::NetworkState::Offline
    {
        show::note("this sandbox was started offline; `rcc net on` connects it.");
    }
    let recording = Recording::start(call.host.clone());
    // Of a new one it is known.
    let killed = if session.new { 0 } else { killed_for_memory(&session).await };
    let result = if piped {
        let json = call.json;
        let _following = following.say(move |edit| edit.print(json));
        piped::run(&session, &program, &handed, &call.host).await
    } else {
        let terminal = session.start(&program, raw::size(), &handed, &call.host).await?;
        tty::show(&session, terminal, following).await
    };
    recording.end().await;
    if killed_for_memory(&session).await > killed {
        note_memory(call, &session).await;
    }
    if let Ok(project) = call.project() {
        review::remind(call, &project).await;
    }
    result
}

/// Programs of the sandbox that the kernel ended because its memory was full.
async fn killed_for_memory(session: &Session) -> u64 {
    session.usage().await.ok().and_then(|usage| usage.killed_for_memory).unwrap_or(0)
}

async fn note_memory(call: &Call, session: &Session) {
    let limit = session.usage().await.ok().and_then(|usage| usage.memory_limit);
    let limit = limit.map(|limit| format!(" ({} MiB)", limit >> 20)).unwrap_or_default();
    let mut text = format!(
        "the sandbox ran out of memory{limit}, and a program in it was ended. Nothing outside was touched."
    );
    if let Ok(project) = call.project() {
        let file = Settings::file(&project, &call.host);
        text += &format!(
            " To give it more: `memory-mib` in {}, or the project's settings in the window; then `rcc stop`.",
            file.display()
        );
    }
    show::note(&text);
}

/// Keeps the log of blocked hosts while a face of this user is there. It is a
/// convenience: a session goes on without it.
struct Recording {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Recording {
    fn start(host: Host) -> Self {
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(async move {
            let (Ok(network), Ok(engine)) =
                (Network::connect().await, Engine::connect(&host).await)
            else {
                return;
            };
            let ended = async { drop(ended.await) };
            let _ = rcc_sandbox::blocked_log::record(&host, &engine, &network, ended).await;
        });
        Self { end, task }
    }

    /// What was blocked at the very end is written down, too.
    async fn end(self) {
        /// A service that does not answer must not keep a person waiting.
        const PATIENCE: Duration = Duration::from_secs(2);
        let _ = self.end.send(());
        let _ = tokio::time::timeout(PATIENCE, self.task).await;
    }
}

async fn attach(call: &Call, terminal: Option<u32>) -> anyhow::Result<u8> {
    let (_, _, session) = call.session().await?;
    if !raw::is_interactive() {
        return Err(rcc_sandbox::Error::new(
            rcc_sandbox::Code::Terminal,
            "Standard input and output are not a terminal.",
        )
        .hint_is(
            "Run `rcc attach` in a terminal, or `rcc run -- CMD` for output that can be piped.",
        )
        .into());
    }
    let number = match terminal {
        Some(number) => number,
        None => newest(&session).await?,
    };
    let following = Following::begin(&call.host).await;
    let terminal = session.attach(number, raw::size()).await?;
    tty::show(&session, terminal, following).await
}

/// Who waits for the person comes first, then the newest that runs.
async fn newest(session: &Session) -> rcc_sandbox::Result<u32> {
    let terminals = session.terminals().await?;
    let alive = || terminals.iter().filter(|terminal| terminal.alive);
    alive()
        .find(|terminal| terminal.state == State::NeedsYou)
        .or_else(|| alive().max_by_key(|terminal| terminal.terminal))
        .map(|terminal| terminal.terminal)
        .ok_or_else(|| {
            rcc_sandbox::Error::new(rcc_sandbox::Code::Terminal, "No program runs in the sandbox.")
                .hint_is("`rcc claude` or `rcc shell` starts one.")
        })
}

async fn stop(call: &Call, folder: Option<&Path>, all: bool) -> anyhow::Result<u8> {
    let sessions = match folder {
        Some(folder) => vec![named(call, folder).await?],
        None if all => Session::all(&Engine::connect(&call.host).await?).await?,
        None => vec![call.session().await?.2],
    };
    // One that cannot be stopped keeps no other running.
    let mut failed = None;
    for session in &sessions {
        if let Err(error) = session.stop(&call.host).await {
            failed = failed.or(Some(error));
            continue;
        }
        show::note(&format!("{} is stopped; project and conversation are kept.", session.id()));
        if let Ok(project) = Project::open(&session.path(), &call.host) {
            review::remind(call, &project).await;
        }
    }
    if sessions.is_empty() {
        show::note("no sandbox runs.");
    }
    if all {
        // Containers that ended by themselves.
        let engine = Engine::connect(&call.host).await?;
        failed = failed.or(Session::remove_ended(&engine, &call.host).await.err());
    }
    failed.map_or(Ok(0), |error| Err(error.into()))
}

/// The session that was opened in a folder of this name, whatever is there now.
async fn named(call: &Call, folder: &Path) -> anyhow::Result<Session> {
    let wanted = folder.canonicalize().or_else(|_| std::path::absolute(folder));
    let wanted = wanted.unwrap_or_else(|_| folder.into());
    let all = Session::all(&Engine::connect(&call.host).await?).await?;
    Ok(all.into_iter().find(|session| session.path() == wanted).ok_or_else(|| {
        let shown = rcc_sandbox::display::line(&wanted.to_string_lossy(), 200);
        Error::new(Code::NoSession, format!("No sandbox was opened in {shown}."))
            .hint_is("`rcc ls` lists those that run, with their folders.")
    })?)
}

async fn net(call: &Call, state: OnOff) -> anyhow::Result<u8> {
    let (_, project, session) = call.session().await?;
    let network = Network::connect().await?;
    match state {
        OnOff::Off => {
            session.disconnect(&network).await?;
            show::note("the network is off; every connection is cut.");
        }
        OnOff::On => {
            for dropped in session.connect(&network, &project, &call.host).await? {
                show::note(&dropped.to_string());
            }
            show::note("the network is on.");
        }
    }
    Ok(0)
}
