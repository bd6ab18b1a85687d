//! Sessions: running sandboxes. The labels on the containers are the only
//! record; whoever asks sees the same.

mod files;
mod follow;
mod internet;
mod open;
mod rules;
mod usage;
mod verify;
mod walls;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use rcc_inside::frame::{Reply, Request, TerminalInfo};
use tokio::io::AsyncWriteExt;

use crate::claude::PROGRAM_INSIDE;
use crate::engine::{Engine, ExecPipes, Found, WORKSPACE, label};
use crate::error::{Code, Error, Result};
use crate::host::Host;
use crate::link::Namespaces;
use crate::login;
use crate::network::Network;
use crate::preferences::Preferences;
use crate::project::Project;
use crate::registries::Registries;
use crate::review;
use crate::secrets::Handed;
use crate::settings::Settings;
use crate::terminal::{Client, Size, Start, Terminal, Watch, environment};

pub use follow::{Edited, Follow};
pub use internet::Reached;
pub use open::{OpenRequest, open};
pub use rules::{DroppedRule, Scope, allow, deny, refresh, resync};
pub use usage::{Usage, ran_out_of_memory};
pub use verify::{Row, Verdict};
pub use walls::Walls;

/// How many seconds a sandbox gets to end its programs.
const STOP_PATIENCE_S: i32 = 5;

/// signal(7).
const HANG_UP: i32 = 1;
/// See [`HANG_UP`].
const KILL: i32 = 9;
/// How often and how far apart a program that was hung up is looked at: 3 s.
const HANG_UP_LOOKS: u32 = 15;
/// See [`HANG_UP_LOOKS`].
const HANG_UP_WAIT: Duration = Duration::from_millis(200);

/// A running sandbox.
#[derive(Clone)]
pub struct Session {
    engine: Engine,
    found: Found,
    /// A connection to the program inside that nobody uses yet: an exec takes the
    /// engine longer than everything else that an opening needs.
    spare: Arc<Mutex<Option<Client>>>,
    /// False when it ran already.
    pub new: bool,
}

/// What its network is, as engine and helper say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkState {
    /// A link behind the firewall.
    Connected,
    /// A link that was switched off.
    Disconnected,
    /// No link at all.
    Offline,
    /// The helper does not answer; the walls stand in the kernel, but whether
    /// there is a link is not known.
    Unknown,
}

impl NetworkState {
    /// The word on the command line and in the window.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }
}

/// One line of a list of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// The session's name, which is also the container's.
    pub id: String,
    /// The project's id.
    pub project: String,
    /// The project's folder, harmless for display.
    pub path: String,
    /// The image as it was named.
    pub image: String,
    /// Version of Claude Code, or empty.
    pub claude: String,
    /// When it was opened, seconds since 1970.
    pub since: i64,
    /// Its network.
    pub network: NetworkState,
    /// Its terminals; what the sandbox says about itself is a hint.
    pub terminals: Vec<TerminalInfo>,
}

/// What to start on a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Claude Code with these arguments.
    Claude {
        /// As on its own command line.
        arguments: Vec<String>,
        /// `--dangerously-skip-permissions`.
        act_without_asking: bool,
    },
    /// The image's best shell.
    Shell,
    /// Any program; looked up in the sandbox's `PATH`.
    Command(Vec<String>),
}

impl Program {
    /// Program and arguments inside.
    pub fn argv(&self) -> Vec<String> {
        let words =
            |words: &[&str]| words.iter().map(|word| (*word).to_string()).collect::<Vec<_>>();
        match self {
            Self::Claude { arguments, act_without_asking } => {
                let mut argv = vec![PROGRAM_INSIDE.to_string()];
                if *act_without_asking && !chooses_itself(arguments) {
                    argv.push("--dangerously-skip-permissions".into());
                }
                argv.extend(arguments.iter().cloned());
                argv
            }
            Self::Shell => words(&[
                "/bin/sh",
                "-c",
                "if command -v bash >/dev/null 2>&1; then exec bash; fi; exec sh",
            ]),
            Self::Command(argv) => argv.clone(),
        }
    }

    /// The name of its terminal; `claude` makes its states follow Claude's hooks.
    fn name(&self) -> &'static str {
        match self {
            Self::Claude { .. } => "claude",
            Self::Shell => "shell",
            Self::Command(_) => "run",
        }
    }
}

/// Commands of Claude Code's that are no conversation, and a choice already made.
fn chooses_itself(arguments: &[String]) -> bool {
    const COMMANDS: [&str; 10] = [
        "agents",
        "auth",
        "config",
        "doctor",
        "install",
        "mcp",
        "plugin",
        "setup-token",
        "update",
        "upgrade",
    ];
    let made = |word: &String| {
        word.starts_with("--permission-mode") || word == "--dangerously-skip-permissions"
    };
    arguments.first().is_some_and(|first| COMMANDS.contains(&first.as_str()))
        || arguments.iter().take_while(|word| *word != "--").any(made)
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("found", &self.found).finish_non_exhaustive()
    }
}

impl Session {
    fn of(engine: &Engine, found: Found) -> Self {
        Self { engine: engine.clone(), found, spare: Arc::default(), new: false }
    }

    /// The running session of a project.
    ///
    /// # Errors
    /// [`Code::Engine`].
    pub async fn find(engine: &Engine, project: &Project) -> Result<Option<Self>> {
        let found = engine.find(Some(project.id())).await?;
        Ok(found.into_iter().find(|found| found.running).map(|found| Self::of(engine, found)))
    }

    /// The running session of a project, or an error that says what to do.
    ///
    /// # Errors
    /// [`Code::NoSession`], [`Code::Engine`].
    pub async fn of_project(engine: &Engine, project: &Project) -> Result<Self> {
        Self::find(engine, project).await?.ok_or_else(|| {
            Error::new(
                Code::NoSession,
                format!("No sandbox runs for {}.", project.path().display()),
            )
        })
    }

    /// Every running session of this user.
    ///
    /// # Errors
    /// [`Code::Engine`].
    pub async fn all(engine: &Engine) -> Result<Vec<Self>> {
        let mut found = engine.find(None).await?;
        found.sort_by(|a, b| a.created.cmp(&b.created).then(a.id.cmp(&b.id)));
        Ok(found
            .into_iter()
            .filter(|found| found.running)
            .map(|found| Self::of(engine, found))
            .collect())
    }

    /// The session's name.
    pub fn id(&self) -> &str {
        self.label(label::SESSION)
    }

    /// The project's id.
    pub fn project_id(&self) -> &str {
        self.label(label::PROJECT)
    }

    /// The image as it was named when the session was opened.
    pub fn image(&self) -> &str {
        self.label(label::IMAGE)
    }

    fn label(&self, name: &str) -> &str {
        self.found.labels.get(name).map_or("", String::as_str)
    }

    /// Everything about it in one value. `network` is `None` when the helper
    /// does not answer.
    pub async fn info(&self, network: Option<&Network>) -> SessionInfo {
        let state = self.network_state(network).await;
        SessionInfo {
            id: self.id().to_string(),
            project: self.project_id().to_string(),
            path: crate::display::line(self.label(label::PATH), 4096),
            image: self.image().to_string(),
            claude: self.label(label::CLAUDE).to_string(),
            since: self.found.created,
            network: state,
            // A sandbox that does not answer is still a session.
            terminals: self.terminals().await.unwrap_or_default(),
        }
    }

    /// What its network is now. Whether there is a link at all the kernel tells;
    /// the rest only the helper.
    pub async fn network_state(&self, network: Option<&Network>) -> NetworkState {
        let Ok(state) = self.engine.state(&self.found.id).await else {
            return NetworkState::Unknown;
        };
        if crate::link::has_none(state.pid) {
            return NetworkState::Offline;
        }
        let Some(network) = network else {
            return NetworkState::Unknown;
        };
        match network.attachment_of(state.pid).await {
            Ok(Some(attachment)) if attachment.connected => NetworkState::Connected,
            Ok(Some(_)) => NetworkState::Disconnected,
            Ok(None) => NetworkState::Offline,
            Err(_) => NetworkState::Unknown,
        }
    }

    /// The helper's record of its link.
    ///
    /// # Errors
    /// [`Code::HelperMissing`], [`Code::HelperRefused`], [`Code::Engine`].
    pub async fn attachment(&self, network: &Network) -> Result<Option<rcc_dbus::AttachmentInfo>> {
        let state = self.engine.state(&self.found.id).await?;
        network.attachment_of(state.pid).await
    }

    /// Switches its network on. An offline session is connected now: the person
    /// asked for it.
    ///
    /// # Errors
    /// [`Code::HelperMissing`], [`Code::HelperRefused`], [`Code::Link`].
    pub async fn connect(
        &self,
        network: &Network,
        project: &Project,
        host: &Host,
    ) -> Result<Vec<DroppedRule>> {
        let pid = self.engine.state(&self.found.id).await?.pid;
        match network.attachment_of(pid).await? {
            Some(attachment) if crate::link::is_configured(pid) => {
                network.set_connected(attachment.id, true).await?;
                return Ok(Vec::new());
            }
            // Broken off between the helper's half of the link and ours: both anew.
            Some(attachment) => network.detach(attachment.id).await?,
            None => {}
        }
        let rules = crate::levels::of_project(project, host)?;
        open::plug_in(&self.namespaces().await?, network, &rules).await
    }

    /// Switches its network off; every flow is cut.
    ///
    /// # Errors
    /// [`Code::HelperMissing`], [`Code::HelperRefused`]; no error when it is offline.
    pub async fn disconnect(&self, network: &Network) -> Result<()> {
        match self.attachment(network).await? {
            Some(attachment) => network.set_connected(attachment.id, false).await,
            None => Ok(()),
        }
    }

    /// Starts a program on a new terminal and attaches to it.
    ///
    /// # Errors
    /// [`Code::Terminal`], [`Code::Inside`], [`Code::Engine`].
    pub async fn start(
        &self,
        program: &Program,
        size: Size,
        handed: &Handed,
        host: &Host,
    ) -> Result<Terminal> {
        self.check(program)?;
        let start = Start {
            argv: program.argv(),
            env: self.environment(program, handed, host).await?,
            cwd: WORKSPACE.into(),
            name: program.name().into(),
        };
        Terminal::start(self.client().await?, start, size).await
    }

    /// Starts a program on pipes, for output that another program reads.
    ///
    /// # Errors
    /// As [`Session::start`].
    pub async fn start_piped(
        &self,
        program: &Program,
        handed: &Handed,
        host: &Host,
    ) -> Result<ExecPipes> {
        self.check(program)?;
        let mut environment = self.environment(program, handed, host).await?;
        environment.retain(|(name, _)| name != "TERM" && name != "COLORTERM");
        self.engine.exec(&self.found.id, &program.argv(), &environment, Some(WORKSPACE)).await
    }

    /// Exit code of a program on pipes after its output ended.
    ///
    /// # Errors
    /// [`Code::Engine`].
    pub async fn exit_code(&self, exec: &str) -> Result<i32> {
        // The engine learns of the end a moment after the streams do.
        for _ in 0..100 {
            if let Some(code) = self.engine.exec_exit_code(exec).await? {
                return Ok(i32::try_from(code).unwrap_or(1));
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Err(Error::new(Code::Engine, "The engine does not say how the program ended."))
    }

    /// Sends INT or TERM to a program on pipes.
    ///
    /// # Errors
    /// [`Code::Engine`].
    pub async fn signal_piped(&self, exec: &str, signal: i32) -> Result<()> {
        self.engine.exec_signal(&self.found.id, exec, signal).await
    }

    /// Puts a new file into the sandbox's `/tmp`, readable by the agent; answers
    /// its path there. Nothing that is there already is written.
    ///
    /// # Errors
    /// [`Code::Engine`] when it could not be written.
    pub async fn put(&self, stem: &str, ending: &str, bytes: &[u8]) -> Result<String> {
        // The shell makes a file only where there is none (POSIX, `set -C`).
        const SCRIPT: &str = "set -C; umask 077; n=1; \
            while [ -e \"/tmp/$1-$n.$2\" ] || [ -L \"/tmp/$1-$n.$2\" ]; do n=$((n+1)); done; \
            cat > \"/tmp/$1-$n.$2\" && printf %s \"/tmp/$1-$n.$2\"";
        let argv = ["/bin/sh", "-c", SCRIPT, "sh", stem, ending].map(String::from);
        let path = [("PATH".to_string(), crate::terminal::PATH.to_string())];
        let mut pipes = self.engine.exec(&self.found.id, &argv, &path, Some("/")).await?;
        let failed =
            |why: &str| Error::new(Code::Engine, format!("The file was not taken: {why}."));
        let write = async {
            pipes.input.write_all(bytes).await?;
            pipes.input.shutdown().await
        };
        write.await.map_err(|e| failed(&e.to_string()))?;
        let mut said = Vec::new();
        while let Some(Ok(piece)) = pipes.output.next().await {
            said.extend_from_slice(&piece.into_bytes());
            said.truncate(1000);
        }
        let said = crate::display::line(&String::from_utf8_lossy(&said), 200);
        // What comes from inside is looked at before anybody types it.
        let number = said
            .strip_prefix(&format!("/tmp/{stem}-"))
            .and_then(|rest| rest.strip_suffix(&format!(".{ending}")));
        let plain = number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        match self.exit_code(&pipes.id).await? {
            0 if plain => Ok(said),
            code => {
                Err(failed(&format!("the sandbox's shell ended with {code} and said “{said}”")))
            }
        }
    }

    /// Attaches to a terminal that is there.
    ///
    /// # Errors
    /// [`Code::Terminal`], [`Code::Inside`], [`Code::Engine`].
    pub async fn attach(&self, terminal: u32, size: Size) -> Result<Terminal> {
        Terminal::attach(self.client().await?, terminal, size).await
    }

    /// Its terminals, living and ended.
    ///
    /// # Errors
    /// [`Code::Inside`], [`Code::Engine`].
    pub async fn terminals(&self) -> Result<Vec<TerminalInfo>> {
        let mut client = self.client().await?;
        let listed = client
            .ask(&Request::List, |reply| match reply {
                Reply::Terminals(terminals) => Some(Ok(terminals)),
                _ => None,
            })
            .await?;
        self.keep(client);
        Ok(listed)
    }

    /// Hangs the program of a terminal up as if its window were closed, and ends
    /// it when that does not. One that ended already is no error.
    ///
    /// # Errors
    /// [`Code::Inside`], [`Code::Engine`].
    pub async fn hang_up(&self, terminal: u32) -> Result<()> {
        let mut client = self.client().await?;
        client.send(&Request::Signal { terminal, signal: HANG_UP }).await?;
        for _ in 0..HANG_UP_LOOKS {
            let alive = client
                .ask(&Request::List, |reply| match reply {
                    Reply::Terminals(all) => {
                        Some(Ok(all.iter().any(|one| one.terminal == terminal && one.alive)))
                    }
                    _ => None,
                })
                .await?;
            if !alive {
                return Ok(());
            }
            tokio::time::sleep(HANG_UP_WAIT).await;
        }
        client.send(&Request::Signal { terminal, signal: KILL }).await
    }

    /// States and titles of its terminals as they change.
    ///
    /// # Errors
    /// [`Code::Inside`], [`Code::Engine`].
    pub async fn watch(&self) -> Result<Watch> {
        Watch::begin(&self.engine, &self.found.id).await
    }

    /// Whether it still runs, and if not, in words why.
    ///
    /// # Errors
    /// [`Code::Engine`] when the container is gone altogether.
    pub async fn why_ended(&self) -> Result<Option<String>> {
        let state = self.engine.state(&self.found.id).await?;
        if state.running {
            return Ok(None);
        }
        Ok(Some(if state.out_of_memory {
            "It ran out of memory. Nothing outside was touched.".into()
        } else {
            format!("It ended with code {}.", state.exit_code)
        }))
    }

    /// Ends every program and removes the container. Project, home and image stay.
    /// What is in the folder then is the last of this session's (see [`review`]).
    ///
    /// # Errors
    /// [`Code::Engine`].
    pub async fn stop(&self, host: &Host) -> Result<()> {
        self.engine.remove(&self.found.id, STOP_PATIENCE_S).await?;
        // Without it what the person changes from now on is shown in the review, too.
        if let Ok(project) = Project::open(&self.path(), host) {
            let _ = review::end(&project, host).await;
        }
        Ok(())
    }

    async fn client(&self) -> Result<Client> {
        let spare = self.spare.lock().ok().and_then(|mut spare| spare.take());
        match spare {
            Some(client) => Ok(client),
            None => Client::connect(&self.engine, &self.found.id).await,
        }
    }

    fn keep(&self, client: Client) {
        if let Ok(mut spare) = self.spare.lock() {
            *spare = Some(client);
        }
    }

    fn check(&self, program: &Program) -> Result<()> {
        match program {
            Program::Claude { .. } if self.label(label::CLAUDE).is_empty() => Err(Error::new(
                Code::Terminal,
                "This sandbox was started for a shell only and has no Claude Code in it.",
            )
            .hint_is("Stop it with `rcc stop` and start `rcc claude`.")),
            Program::Command(argv) if argv.first().is_none_or(String::is_empty) => {
                Err(Error::new(Code::Invalid, "There is no program to start."))
            }
            _ => Ok(()),
        }
    }

    async fn environment(
        &self,
        program: &Program,
        handed: &Handed,
        host: &Host,
    ) -> Result<Vec<(String, String)>> {
        let image = self.engine.environment(&self.found.id).await?;
        let registries = Registries::known(host)?.unwrap_or_default();
        let preferences = Preferences::load(host)?;
        let mut handed = handed.clone();
        if self.takes_the_login(program, &handed, host)
            && let Some(token) = login::token().await
        {
            handed.set(login::VARIABLE, &token);
        }
        Ok(environment(&image, &host.user, &registries, &preferences, &handed))
    }

    /// Whether a program gets the login of all projects: Claude, and a shell in
    /// which it may be started; not where the environment or the project has one.
    fn takes_the_login(&self, program: &Program, handed: &Handed, host: &Host) -> bool {
        let talks = matches!(program, Program::Claude { .. } | Program::Shell);
        // What cannot be read does not hand anything in.
        let shares = || {
            let project = Project::open(&self.path(), host)?;
            Settings::load(&project, host).map(|settings| !settings.own_login)
        };
        talks && !handed.has_login() && shares().unwrap_or(false)
    }

    /// The namespaces, for whoever tests the walls from outside.
    ///
    /// # Errors
    /// [`Code::Link`].
    pub async fn namespaces(&self) -> Result<Namespaces> {
        Namespaces::of(&self.engine, &self.found.id).await
    }

    /// The project's folder.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(self.label(label::PATH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claude(arguments: &[&str]) -> Vec<String> {
        let arguments = arguments.iter().map(|word| (*word).to_string()).collect();
        Program::Claude { arguments, act_without_asking: true }.argv()
    }

    #[test]
    fn claude_acts_without_asking_unless_told_otherwise() {
        assert_eq!(claude(&["-p", "hi"])[1..], ["--dangerously-skip-permissions", "-p", "hi"]);
        assert_eq!(claude(&["--permission-mode", "plan"])[1..], ["--permission-mode", "plan"]);
        assert_eq!(claude(&["mcp", "list"])[1..], ["mcp", "list"]);
        let asking = Program::Claude { arguments: vec![], act_without_asking: false };
        assert_eq!(asking.argv(), [PROGRAM_INSIDE]);
        // After `--` it is text for Claude.
        assert_eq!(claude(&["--", "--permission-mode"])[1], "--dangerously-skip-permissions");
    }
}
