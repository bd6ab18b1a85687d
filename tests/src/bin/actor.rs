//! The process of [`rcc_tests::Actor`].

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader as Lines, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use rcc_dbus::{Helper1Proxy, HelperError};
use rcc_tests::Watched;
use rcc_tests::protocol::{Call, Said};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut namespaces = Namespaces::default();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut helper = None;
    let mut agent = None;
    while let Some(line) = lines.next_line().await? {
        let said = match act(serde_json::from_str(&line)?, &mut namespaces, &mut helper, &mut agent)
            .await
        {
            Ok(value) => Said::Done(value),
            Err(error) => {
                let code = error.code().map_or("none", rcc_dbus::Code::as_str);
                Said::Refused(code.to_owned(), error.to_string())
            }
        };
        say(&said).await?;
    }
    Ok(())
}

async fn say(said: &Said) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    let mut out = tokio::io::stdout();
    out.write_all(&line).await?;
    Ok(out.flush().await?)
}

type Answer = Result<Value, HelperError>;

fn local(error: impl std::fmt::Display) -> HelperError {
    HelperError::Bus(error.to_string())
}

/// Processes that live in namespaces, and descriptors of namespaces by the number of the
/// process that lived in them.
#[derive(Default)]
struct Namespaces {
    lived_in: HashMap<u32, Child>,
    held: HashMap<u32, File>,
}

async fn act(
    call: Call,
    namespaces: &mut Namespaces,
    helper: &mut Option<Helper1Proxy<'static>>,
    agent: &mut Option<Agent>,
) -> Answer {
    match call {
        Call::MakeNamespace => return make_namespace(&mut namespaces.lived_in),
        Call::EndNamespace(pid) => {
            if let Some(mut child) = namespaces.lived_in.remove(&pid) {
                child.kill().and_then(|()| child.wait()).map_err(local)?;
            }
            return Ok(Value::Null);
        }
        Call::Hold(pid) => {
            let file = File::open(format!("/proc/{pid}/ns/net")).map_err(local)?;
            namespaces.held.insert(pid, file);
            return Ok(Value::Null);
        }
        Call::LetGo(pid) => {
            namespaces.held.remove(&pid);
            return Ok(Value::Null);
        }
        _ => {}
    }
    if helper.is_none() {
        *helper = Some(rcc_dbus::connect().await?);
    }
    let Some(helper) = helper.as_ref() else { return Err(local("no bus")) };
    Ok(match call {
        Call::AnswerPrompts(user, password) => {
            let own = Agent::register(helper.inner().connection(), user, password);
            *agent = Some(own.await.map_err(local)?);
            Value::Null
        }
        Call::Prompts => {
            let asked = agent.as_ref().map(|agent| agent.asked.lock().map(|asked| asked.clone()));
            json!(asked.transpose().map_err(local)?.unwrap_or_default())
        }
        Call::Attach(pid, rules) => {
            let file = File::open(format!("/proc/{pid}/ns/net")).map_err(local)?;
            json!(helper.attach(file.as_fd().into(), rules).await?)
        }
        Call::AttachHeld(pid) => {
            let file = namespaces.held.get(&pid).ok_or_else(|| local("it is not held"))?;
            json!(helper.attach(file.as_fd().into(), Vec::new()).await?)
        }
        Call::Flood(pid, at_once, each) => json!(flood(helper, pid, at_once, each).await?),
        Call::AttachFile(path) => {
            let file = File::open(path).map_err(local)?;
            let fd: BorrowedFd<'_> = file.as_fd();
            json!(helper.attach(fd.into(), Vec::new()).await?)
        }
        Call::SetRules(id, rules, expires) => json!(helper.set_rules(id, rules, expires).await?),
        Call::SetConnected(id, on) => json!(helper.set_connected(id, on).await?),
        Call::OpenInternet(id, seconds) => json!(helper.open_internet(id, seconds).await?),
        Call::Reached(id) => json!(helper.reached(id).await?),
        Call::Detach(id) => json!(helper.detach(id).await?),
        Call::List(others) => json!(helper.list(others).await?),
        Call::GetPolicy => json!(helper.get_policy().await?),
        Call::Diagnose => json!(helper.diagnose().await?),
        Call::ReplacePolicy(document, version) => {
            json!(helper.replace_policy(&document, &version).await?)
        }
        Call::Setup(steps) => {
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            json!(helper.setup(&steps).await?)
        }
        Call::Refresh => json!(helper.refresh().await?),
        Call::Version => json!(helper.version().await?),
        Call::Own(name) => {
            helper.inner().connection().request_name(name).await?;
            Value::Null
        }
        Call::Unwatch => {
            helper.unwatch().await?;
            Value::Null
        }
        Call::Watch => {
            watch(helper.clone()).await?;
            Value::Null
        }
        Call::MakeNamespace | Call::EndNamespace(_) | Call::Hold(_) | Call::LetGo(_) => Value::Null,
    })
}

async fn flood(
    helper: &Helper1Proxy<'static>,
    pid: u32,
    at_once: usize,
    each: usize,
) -> Result<Vec<String>, HelperError> {
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..at_once {
        let file = File::open(format!("/proc/{pid}/ns/net")).map_err(local)?;
        let helper = helper.clone();
        callers.spawn(async move {
            let mut codes = Vec::new();
            for _ in 0..each {
                if let Err(error) = helper.attach(file.as_fd().into(), Vec::new()).await {
                    let error = HelperError::from(error);
                    codes.push(error.code().map_or("none", rcc_dbus::Code::as_str).to_owned());
                }
            }
            codes
        });
    }
    Ok(callers.join_all().await.concat())
}

/// A process in fresh user and network namespaces. It waits until it is ended.
fn make_namespace(namespaces: &mut HashMap<u32, Child>) -> Answer {
    let child = Command::new("unshare")
        // It ends with this process, also when this process is killed.
        .args(["-U", "-n", "setpriv", "--pdeathsig", "KILL", "sleep", "3600"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(local)?;
    let pid = child.id();
    namespaces.insert(pid, child);
    let own = std::fs::read_link("/proc/self/ns/net").map_err(local)?;
    for _ in 0..15_000 {
        if std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|theirs| theirs != own) {
            return Ok(json!(pid));
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Err(local("no namespace"))
}

async fn watch(helper: Helper1Proxy<'static>) -> Result<(), HelperError> {
    let mut blocked = helper.receive_blocked().await?;
    let mut detached = helper.receive_detached().await?;
    let mut changed = helper.receive_policy_changed().await?;
    helper.watch().await?;
    tokio::spawn(async move {
        loop {
            let event = tokio::select! {
                Some(signal) = blocked.next() => match signal.args() {
                    Ok(args) => Watched::Blocked {
                        id: args.id,
                        host: args.host.to_owned(),
                        address: args.address.to_owned(),
                        port: args.port,
                        protocol: args.protocol.to_owned(),
                        reason: args.reason.to_owned(),
                        count: args.count,
                    },
                    Err(_) => continue,
                },
                Some(signal) = detached.next() => match signal.args() {
                    Ok(args) => Watched::Detached { id: args.id, reason: args.reason.to_owned() },
                    Err(_) => continue,
                },
                Some(signal) = changed.next() => match signal.args() {
                    Ok(args) => Watched::PolicyChanged { version: args.version.to_owned() },
                    Err(_) => continue,
                },
                else => return,
            };
            if say(&Said::Event(event)).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// What stands where a desktop has its window for passwords.
struct Agent {
    asked: Asked,
    again: tokio::task::AbortHandle,
}

type Asked = Arc<Mutex<Vec<(String, String)>>>;
type Identity = (String, HashMap<String, zbus::zvariant::OwnedValue>);

const POLKIT: &str = "org.freedesktop.PolicyKit1";
const AGENT: &str = "/dev/rcc/test/Agent";
/// Setuid root; asks PAM and tells polkit.
const AGENT_HELPER: &str = "/usr/lib/polkit-1/polkit-agent-helper-1";

impl Agent {
    async fn register(
        connection: &zbus::Connection,
        user: String,
        password: Option<String>,
    ) -> anyhow::Result<Self> {
        let asked = Asked::default();
        let window = Window { user, password, asked: asked.clone() };
        // A second registration changes the answer.
        connection.object_server().remove::<Window, _>(AGENT).await.ok();
        let first = connection.object_server().at(AGENT, window).await?;
        anyhow::ensure!(first, "the agent is there already");
        introduce(connection).await?;
        let bus = zbus::fdo::DBusProxy::new(connection).await?;
        let mut leaves = bus.receive_name_owner_changed_with_args(&[(0, POLKIT)]).await?;
        let connection = connection.clone();
        let again = tokio::spawn(async move {
            while let Some(change) = leaves.next().await {
                if change.args().is_ok_and(|change| change.new_owner.is_none()) {
                    let _ = introduce(&connection).await;
                }
            }
        });
        Ok(Self { asked, again: again.abort_handle() })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.again.abort();
    }
}

/// Tells polkit of the agent. It forgets its agents when it starts anew, which it did here
/// now and then for reasons of its own; a desktop's agents come back then, too.
async fn introduce(connection: &zbus::Connection) -> anyhow::Result<()> {
    let session = std::env::var("XDG_SESSION_ID")?;
    let details = HashMap::from([("session-id", zbus::zvariant::Value::from(session))]);
    let registered = connection
        .call_method(
            Some(POLKIT),
            "/org/freedesktop/PolicyKit1/Authority",
            Some("org.freedesktop.PolicyKit1.Authority"),
            "RegisterAuthenticationAgent",
            &(("unix-session", details), "C", AGENT),
        )
        .await;
    match registered {
        Err(error) if error.to_string().contains("already exists") => Ok(()),
        other => {
            other?;
            Ok(())
        }
    }
}

struct Window {
    user: String,
    password: Option<String>,
    asked: Asked,
}

#[zbus::interface(name = "org.freedesktop.PolicyKit1.AuthenticationAgent")]
impl Window {
    async fn begin_authentication(
        &self,
        action: String,
        message: String,
        _icon: String,
        _details: HashMap<String, String>,
        cookie: String,
        _identities: Vec<Identity>,
    ) -> zbus::fdo::Result<()> {
        if let Ok(mut asked) = self.asked.lock() {
            asked.push((action, message));
        }
        let Some(password) = self.password.clone() else {
            return Err(zbus::fdo::Error::AuthFailed("closed".into()));
        };
        // A person who went for coffee.
        if password == "wait" {
            std::future::pending::<()>().await;
        }
        let user = self.user.clone();
        let said = tokio::task::spawn_blocking(move || ask_pam(&user, &password, &cookie)).await;
        said.map_err(|error| zbus::fdo::Error::Failed(error.to_string()))?
            .map_err(|error| zbus::fdo::Error::Failed(error.to_string()))
    }

    fn cancel_authentication(&self, _cookie: String) {}
}

/// polkit hears from the helper itself whether the password was right.
fn ask_pam(user: &str, password: &str, cookie: &str) -> std::io::Result<()> {
    let mut helper = Command::new(AGENT_HELPER)
        .arg(user)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (Some(mut input), Some(output)) = (helper.stdin.take(), helper.stdout.take()) else {
        return Err(std::io::ErrorKind::BrokenPipe.into());
    };
    writeln!(input, "{cookie}")?;
    for line in Lines::new(output).lines() {
        let line = line?;
        if line.starts_with("PAM_PROMPT_ECHO_OFF") {
            writeln!(input, "{password}")?;
        } else if line.starts_with("SUCCESS") || line.starts_with("FAILURE") {
            break;
        }
    }
    drop(input);
    helper.wait().map(drop)
}
