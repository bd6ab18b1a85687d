//! A person at the bus: a process with that uid, told what to do over its
//! standard input, one JSON line for each call.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rcc_dbus::{Attachment, AttachmentInfo, Check, Reached, Rule, RuleDropped};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::lab::Lab;

/// What a person may be told to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// A network namespace in a user namespace of their own, with a process in it.
    MakeNamespace,
    /// Ends the process of a namespace.
    EndNamespace(u32),
    /// `Attach` with the namespace of a process.
    Attach(u32, Vec<Rule>),
    /// Keeps a descriptor of the namespace of a process.
    Hold(u32),
    /// `Attach` with that descriptor.
    AttachHeld(u32),
    /// Closes it.
    LetGo(u32),
    /// `Attach` with the namespace of a process, by so many at once, and by each so often.
    /// Answers the codes of the refusals.
    Flood(u32, usize, usize),
    /// `Attach` with whatever stands at a path.
    AttachFile(String),
    /// See the contract.
    SetRules(u32, Vec<Rule>, u32),
    /// See the contract.
    SetConnected(u32, bool),
    /// See the contract.
    OpenInternet(u32, u32),
    /// See the contract.
    Reached(u32),
    /// See the contract.
    Detach(u32),
    /// See the contract.
    List(bool),
    /// See the contract; signals come as events from then on.
    Watch,
    /// See the contract.
    Unwatch,
    /// See the contract.
    GetPolicy,
    /// See the contract.
    Diagnose,
    /// See the contract.
    ReplacePolicy(String, String),
    /// See the contract.
    Refresh,
    /// See the contract.
    Setup(Vec<String>),
    /// See the contract.
    Version,
    /// Tries to own a name on the bus.
    Own(String),
    /// Answers polkit's prompts of this session from now on: as this user, with
    /// this password, or by closing the prompt.
    AnswerPrompts(String, Option<String>),
    /// The prompts that there were: action and message.
    Prompts,
}

/// What a person says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// The call worked.
    Done(Value),
    /// It was refused: code and text.
    Refused(String, String),
    /// A signal came.
    Event(Watched),
}

/// A signal of the helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Watched {
    /// See the contract.
    Blocked {
        id: u32,
        host: String,
        address: String,
        port: u16,
        protocol: String,
        reason: String,
        count: u32,
    },
    /// See the contract.
    Detached { id: u32, reason: String },
    /// See the contract.
    PolicyChanged { version: String },
}

/// See the module.
pub struct Actor {
    process: Child,
    input: ChildStdin,
    said: mpsc::Receiver<Said>,
    events: Vec<Watched>,
}

impl Actor {
    pub(crate) fn start(uid: u32) -> anyhow::Result<Self> {
        let mut command = Command::new(Lab::program("rcc-actor"));
        Self::from_command(command.env_clear().uid(uid).gid(uid).current_dir("/"))
    }

    /// One that this command starts.
    pub(crate) fn from_command(command: &mut Command) -> anyhow::Result<Self> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.take().context("no input")?;
        let output = process.stdout.take().context("no output")?;
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(message) = serde_json::from_str(&line) else { return };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Ok(Self { process, input, said, events: Vec::new() })
    }

    /// Makes a call and waits for nothing.
    pub fn send(&mut self, call: &Call) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.input, call)?;
        self.input.write_all(b"\n")?;
        Ok(self.input.flush()?)
    }

    /// Makes a call; the error's text starts with the code.
    pub fn call<T: DeserializeOwned>(&mut self, call: &Call) -> anyhow::Result<T> {
        self.send(call)?;
        self.answer()
    }

    /// The answer to a call that was sent.
    pub fn answer<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        loop {
            match self.said.recv_timeout(Duration::from_secs(30)).context("no answer")? {
                Said::Done(value) => return Ok(serde_json::from_value(value)?),
                Said::Refused(code, text) => bail!("{code}: {text}"),
                Said::Event(event) => self.events.push(event),
            }
        }
    }

    /// A namespace of this person; answers the process that lives in it.
    pub fn make_namespace(&mut self) -> anyhow::Result<u32> {
        self.call(&Call::MakeNamespace)
    }

    /// Ends it.
    pub fn end_namespace(&mut self, pid: u32) -> anyhow::Result<()> {
        self.call(&Call::EndNamespace(pid))
    }

    /// See the contract.
    pub fn attach(&mut self, pid: u32, rules: &[Rule]) -> anyhow::Result<Attachment> {
        self.call(&Call::Attach(pid, rules.to_vec()))
    }

    /// See the contract.
    pub fn set_rules(
        &mut self,
        id: u32,
        rules: &[Rule],
        expires_in: u32,
    ) -> anyhow::Result<Vec<RuleDropped>> {
        self.call(&Call::SetRules(id, rules.to_vec(), expires_in))
    }

    /// See the contract.
    pub fn set_connected(&mut self, id: u32, connected: bool) -> anyhow::Result<()> {
        self.call(&Call::SetConnected(id, connected))
    }

    /// See the contract.
    pub fn open_internet(&mut self, id: u32, seconds: u32) -> anyhow::Result<()> {
        self.call(&Call::OpenInternet(id, seconds))
    }

    /// See the contract.
    pub fn reached(&mut self, id: u32) -> anyhow::Result<Vec<Reached>> {
        self.call(&Call::Reached(id))
    }

    /// See the contract.
    pub fn detach(&mut self, id: u32) -> anyhow::Result<()> {
        self.call(&Call::Detach(id))
    }

    /// See the contract.
    pub fn list(&mut self) -> anyhow::Result<Vec<AttachmentInfo>> {
        self.call(&Call::List(false))
    }

    /// See the contract.
    pub fn diagnose(&mut self) -> anyhow::Result<Vec<Check>> {
        self.call(&Call::Diagnose)
    }

    /// Answers polkit's prompts from now on; without a password by closing them.
    pub fn answer_prompts(&mut self, user: &str, password: Option<&str>) -> anyhow::Result<()> {
        self.call(&Call::AnswerPrompts(user.to_owned(), password.map(str::to_owned)))
    }

    /// The prompts that there were: action and message.
    pub fn prompts(&mut self) -> anyhow::Result<Vec<(String, String)>> {
        self.call(&Call::Prompts)
    }

    /// Waits for a signal that fits, at most twenty seconds.
    pub fn event(&mut self, fits: impl Fn(&Watched) -> bool) -> anyhow::Result<Watched> {
        self.event_within(Duration::from_secs(20), fits)
    }

    /// No signal that fits comes within three seconds.
    pub fn silent(&mut self, fits: impl Fn(&Watched) -> bool) -> bool {
        self.event_within(Duration::from_secs(3), fits).is_err()
    }

    fn event_within(
        &mut self,
        time: Duration,
        fits: impl Fn(&Watched) -> bool,
    ) -> anyhow::Result<Watched> {
        let end = Instant::now() + time;
        loop {
            if let Some(at) = self.events.iter().position(&fits) {
                return Ok(self.events.remove(at));
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(Said::Event(event)) => self.events.push(event),
                Ok(other) => bail!("unexpected {other:?}"),
                Err(_) => bail!("no such event; there were {:?}", self.events),
            }
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
