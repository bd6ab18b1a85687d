//! `rcc ls`.

use std::time::{SystemTime, UNIX_EPOCH};

use rcc_sandbox::{Engine, Network, Session, SessionInfo, State, TerminalInfo};
use serde_json::{Value, json};

use super::Call;

pub async fn ls(call: &Call) -> anyhow::Result<u8> {
    let engine = Engine::connect(&call.host).await?;
    let network = Network::connect().await.ok();
    let sessions = Session::all(&engine).await?;
    let mut infos = Vec::new();
    for session in &sessions {
        infos.push(session.info(network.as_ref()).await);
    }
    if call.json {
        println!("{:#}", Value::Array(infos.iter().map(session_json).collect()));
    } else if infos.is_empty() {
        println!("No sandboxes run.");
    } else {
        infos.iter().for_each(print);
    }
    Ok(0)
}

fn print(info: &SessionInfo) {
    println!("{}  {}  {}  {}", info.path, info.image, info.network.word(), age(info.since));
    for terminal in &info.terminals {
        let detail =
            terminal.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
        println!("  {:>3}  {:<8} {}{detail}", terminal.terminal, terminal.name, state(terminal));
    }
}

fn state(terminal: &TerminalInfo) -> &'static str {
    match terminal.state {
        _ if !terminal.alive => "ended",
        // Only Claude says what it does.
        _ if terminal.name != "claude" => "running",
        State::Starting => "starting",
        State::Working => "working",
        State::NeedsYou => "needs you",
        State::Done => "finished",
        State::Background => "working in the background",
        State::Trouble => "trouble",
        State::Ended => "ended",
    }
}

pub(super) fn age(since: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let seconds = now.saturating_sub(u64::try_from(since).unwrap_or(0));
    match seconds {
        0..60 => "just now".into(),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn session_json(info: &SessionInfo) -> Value {
    json!({
        "id": info.id,
        "project": info.project,
        "path": info.path,
        "image": info.image,
        "claude": info.claude,
        "since": info.since,
        "network": info.network.word(),
        "terminals": info.terminals.iter().map(|terminal| json!({
            "terminal": terminal.terminal,
            "name": terminal.name,
            "state": state(terminal),
            "detail": terminal.detail,
            "alive": terminal.alive,
            "exit": terminal.exit.map(|exit| json!({"code": exit.code, "signal": exit.signal})),
        })).collect::<Vec<_>>(),
    })
}
