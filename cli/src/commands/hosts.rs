//! `rcc allow`, `deny` and `log`.

use std::path::PathBuf;

use rcc_sandbox::blocked_log::{self, Record};
use rcc_sandbox::hosts::COMPUTER_FILE;
use rcc_sandbox::levels::parse_host;
use rcc_sandbox::session::{allow as allow_host, deny as deny_host};
use rcc_sandbox::{Code, Engine, Error, Network, Scope, display};

use serde_json::json;

use super::Call;
use crate::arguments::Reach;
use crate::show;

fn scope(call: &Call, reach: &Reach) -> Result<Scope, Error> {
    let narrow = match (reach.session, reach.all, reach.duration) {
        (true, ..) => Some(Scope::Session),
        (_, true, _) => Some(Scope::All),
        (_, _, Some(time)) => Some(Scope::For(time)),
        _ => None,
    };
    match narrow {
        Some(_) if call.project_reach => {
            Err(Error::new(Code::Invalid, "--project and another reach were given at once."))
        }
        Some(scope) => Ok(scope),
        None => Ok(Scope::Project),
    }
}

fn words(scope: Scope) -> String {
    match scope {
        Scope::Session => "until the sandbox ends".into(),
        Scope::For(time) => format!("for {} s", time.as_secs()),
        Scope::Project => "for this project".into(),
        Scope::All => "for all your projects".into(),
    }
}

pub async fn allow(call: &Call, host: &str, reach: &Reach, private: bool) -> anyhow::Result<u8> {
    let entry = parse_host(host, private)?;
    let scope = scope(call, reach)?;
    let project = call.project()?;
    let engine = Engine::connect(&call.host).await?;
    let network = Network::connect().await;
    if network.is_err() && matches!(scope, Scope::Project | Scope::All) {
        show::note(
            "the firewall service does not answer; running sandboxes learn of it when they are connected again.",
        );
    }
    allow_host(&call.host, &engine, network.ok().as_ref(), &project, &entry, scope).await?;
    show::note(&format!("{entry} is allowed {}.", words(scope)));
    Ok(0)
}

pub async fn deny(call: &Call, host: &str, reach: &Reach) -> anyhow::Result<u8> {
    let entry = parse_host(host, false)?;
    let scope = scope(call, reach)?;
    let project = call.project()?;
    let engine = Engine::connect(&call.host).await?;
    let network = Network::connect().await;
    if let Err(error) = &network {
        show::note(&format!("running sandboxes keep it: {error}"));
    }
    let found =
        deny_host(&call.host, &engine, network.as_ref().ok(), &project, &entry, scope).await?;
    let target = display::host(&entry.target().to_string());
    if found {
        show::note(&format!("{target} is taken back {}.", words(scope)));
    } else {
        show::note(&format!(
            "{target} was not allowed by you; if it is reachable, the administrator's list allows it."
        ));
    }
    // Narrowing must not fail silently.
    network.map(|_| 0).map_err(Into::into)
}

pub async fn log(call: &Call, follow: bool) -> anyhow::Result<u8> {
    let json = call.json;
    catch_up(&call.host).await;
    for record in blocked_log::read(&call.host)? {
        print(&record, json);
    }
    if follow {
        let engine = Engine::connect(&call.host).await?;
        let network = Network::connect().await?;
        tokio::select! {
            ended = blocked_log::follow(&call.host, &engine, &network, |record| print(record, json)) => ended?,
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    Ok(0)
}

/// Takes over what was blocked while nothing of rcc ran: the firewall service
/// tells it to whoever watches next. Without engine or service there is nothing.
async fn catch_up(host: &rcc_sandbox::Host) {
    let (Ok(engine), Ok(network)) = (Engine::connect(host).await, Network::connect().await) else {
        return;
    };
    if let Err(error) = blocked_log::catch_up(host, &engine, &network).await {
        show::note(&format!("what was blocked just now may be missing: {error}"));
    }
}

fn print(record: &Record, json: bool) {
    use std::io::Write;
    let line = if json {
        serde_json::to_string(record).unwrap_or_default()
    } else {
        let what = if record.host.is_empty() { &record.address } else { &record.host };
        let port = if record.port == 0 { String::new() } else { format!(":{}", record.port) };
        let times =
            if record.count > 1 { format!(" ({} times)", record.count) } else { String::new() };
        format!(
            "{}  {}  {what}{port} {}  {}{times}",
            record.when(),
            record.path,
            record.protocol,
            record.reason
        )
    };
    // `rcc log -f | head` ends when nobody reads any more.
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}

/// Reads a list without putting it in force.
pub async fn check(call: &Call, file: Option<PathBuf>) -> anyhow::Result<u8> {
    let path = file.unwrap_or_else(|| COMPUTER_FILE.into());
    let document =
        tokio::fs::read(&path).await.map_err(|error| Error::io("read the list", &path, error))?;
    let checked =
        rcc_sandbox::check::check(&display::line(&path.to_string_lossy(), 200), &document)?;
    if call.json {
        let entries =
            checked.entries.iter().map(|(entry, note)| json!({"entry": entry, "note": note}));
        let entries: Vec<_> = entries.collect();
        println!("{:#}", json!({"entries": entries, "defaults": checked.defaults}));
        return Ok(0);
    }
    for (entry, note) in &checked.entries {
        match note {
            Some(note) => println!("{entry}  ({note})"),
            None => println!("{entry}"),
        }
    }
    if checked.entries.is_empty() {
        println!("No host is named.");
    }
    for sentence in &checked.defaults {
        println!("{sentence}");
    }
    Ok(0)
}
