//! Programs in a sandbox: on a terminal that outlives who looks at it, or on pipes.

use std::time::Duration;

use futures_util::StreamExt;
use rcc_inside::frame::{Reply, Request, TerminalInfo};
use tokio::io::AsyncWriteExt;

use super::Session;
use crate::claude::PROGRAM_INSIDE;
use crate::engine::{ExecPipes, WORKSPACE, label};
use crate::error::{Code, Error, Result};
use crate::host::Host;
use crate::login;
use crate::preferences::Preferences;
use crate::project::Project;
use crate::registries::Registries;
use crate::secrets::Handed;
use crate::settings::Settings;
use crate::terminal::{Client, Size, Start, Terminal, environment};

/// signal(7).
const HANG_UP: i32 = 1;
/// See [`HANG_UP`].
const KILL: i32 = 9;
/// How often and how far apart a program that was hung up is looked at: 3 s.
const HANG_UP_LOOKS: u32 = 15;
/// See [`HANG_UP_LOOKS`].
const HANG_UP_WAIT: Duration = Duration::from_millis(200);

/// Longest time for a file to be taken.
const PUT_PATIENCE: Duration = Duration::from_secs(30);

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

impl Session {
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
        let put = tokio::time::timeout(PUT_PATIENCE, self.put_slowly(stem, ending, bytes));
        put.await.unwrap_or_else(|_| {
            Err(Error::new(Code::Engine, "The sandbox did not take the file within 30 seconds."))
        })
    }

    /// What runs in there may take nothing, and say nothing, for ever.
    async fn put_slowly(&self, stem: &str, ending: &str, bytes: &[u8]) -> Result<String> {
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

    async fn client(&self) -> Result<Client> {
        let spare = self.spare.lock().ok().and_then(|mut spare| spare.take());
        match spare {
            Some(client) => Ok(client),
            None => Client::connect(&self.engine, &self.found.id).await,
        }
    }

    pub(super) fn keep(&self, client: Client) {
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
