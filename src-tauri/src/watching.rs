//! What happens by itself: Claude's states in running sessions, blocked hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use rcc_sandbox::blocked_log::{self, Record};
use rcc_sandbox::{Reply, Session, TerminalInfo};

use crate::app::{Shared, locked};
use crate::wire::{Activity, Blocked, Event};

/// The name that the sandbox's side gives to Claude's terminals.
const CLAUDE: &str = "claude";

/// Wait before the firewall service is asked again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks for sessions that run and watches each that is not watched yet.
/// Called at the start, when the window gets the focus, and after an opening.
pub async fn begin(app: Shared) {
    let Ok(engine) = app.engine().await else { return };
    let Ok(sessions) = Session::all(&engine).await else {
        app.forget_engine().await;
        return;
    };
    for session in sessions {
        let id = session.project_id().to_string();
        let new = {
            let mut live = locked(&app.live);
            let new = !live.contains_key(&id);
            if new {
                live.insert(id, None);
            }
            // The first session that is seen begins to listen for blocked hosts.
            new.then_some(live.len() == 1)
        };
        let Some(first) = new else { continue };
        tauri::async_runtime::spawn(states(app.clone(), session));
        if first {
            tauri::async_runtime::spawn(blocked(app.clone()));
        }
    }
    app.tell(Event::Projects);
}

async fn states(app: Shared, session: Session) {
    let project = session.project_id().to_string();
    if let Ok(mut watch) = session.watch().await {
        let mut terminals = BTreeMap::new();
        while let Some(reply) = watch.next().await {
            if !take(&mut terminals, reply) {
                continue;
            }
            let activity = activity(&terminals);
            if let Some(known) = locked(&app.live).get_mut(&project) {
                known.clone_from(&activity);
            }
            app.tell(Event::Activity { project: project.clone(), activity });
        }
    }
    locked(&app.live).remove(&project);
    app.tell(Event::Projects);
}

/// Takes one reply in; answers whether a state may have changed.
fn take(terminals: &mut BTreeMap<u32, TerminalInfo>, reply: Reply) -> bool {
    match reply {
        Reply::Terminals(all) => {
            *terminals = all.into_iter().map(|info| (info.terminal, info)).collect();
            true
        }
        Reply::State { terminal, state, detail, turns, since_unix_s } => {
            // A terminal that began after the list: only Claude's have a life of turns.
            let Some(info) = terminals.get_mut(&terminal) else {
                terminals.insert(
                    terminal,
                    TerminalInfo {
                        terminal,
                        name: CLAUDE.into(),
                        argv0: String::new(),
                        state,
                        detail,
                        turns,
                        since_unix_s,
                        started_unix_s: since_unix_s,
                        title: String::new(),
                        title_glyph: None,
                        cols: 0,
                        rows: 0,
                        alive: true,
                        exit: None,
                    },
                );
                return true;
            };
            (info.state, info.detail, info.turns, info.since_unix_s) =
                (state, detail, turns, since_unix_s);
            true
        }
        Reply::Exited { terminal, .. } => {
            if let Some(info) = terminals.get_mut(&terminal) {
                info.alive = false;
            }
            true
        }
        _ => false,
    }
}

/// The newest Claude that runs, else the newest that ended.
fn activity(terminals: &BTreeMap<u32, TerminalInfo>) -> Option<Activity> {
    let claudes = || terminals.values().rev().filter(|info| info.name == CLAUDE);
    let info = claudes().find(|info| info.alive).or_else(|| claudes().next())?;
    Some(Activity {
        state: info.state.into(),
        detail: info.detail.clone(),
        turns: info.turns,
        since: info.since_unix_s,
    })
}

/// Tells of blocked hosts for as long as a session runs.
async fn blocked(app: Shared) {
    while !locked(&app.live).is_empty() {
        if let (Ok(host), Ok(engine), Ok(network)) =
            (app.host(), app.engine().await, app.network().await)
        {
            let tell = |record: &Record| {
                if let Some(blocked) = shown(record) {
                    app.tell(Event::Blocked(blocked));
                }
            };
            tokio::select! {
                _ = blocked_log::follow(host, &engine, &network, tell) => {}
                () = none_runs(&app) => {}
            }
        }
        tokio::time::sleep(PATIENCE).await;
    }
}

async fn none_runs(app: &Shared) {
    while !locked(&app.live).is_empty() {
        tokio::time::sleep(PATIENCE).await;
    }
}

fn shown(record: &Record) -> Option<Blocked> {
    let target = if record.host.is_empty() { &record.address } else { &record.host };
    if record.project.is_empty() || target.is_empty() {
        return None;
    }
    Some(Blocked {
        project: record.project.clone(),
        target: target.clone(),
        port: record.port,
        protocol: record.protocol.clone(),
        reason: record.reason.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::StateWord;
    use rcc_sandbox::State;

    fn state(terminal: u32, state: State) -> Reply {
        Reply::State { terminal, state, detail: None, turns: 0, since_unix_s: 5 }
    }

    #[test]
    fn the_claude_that_runs_is_the_one_shown() {
        let mut terminals = BTreeMap::new();
        assert!(take(&mut terminals, state(1, State::Working)));
        assert!(take(&mut terminals, state(2, State::Trouble)));
        assert!(take(&mut terminals, Reply::Exited { terminal: 2, code: Some(1), signal: None }));
        assert_eq!(activity(&terminals).unwrap().state, StateWord::Working);
        take(&mut terminals, Reply::Exited { terminal: 1, code: Some(0), signal: None });
        assert_eq!(activity(&terminals).unwrap().state, StateWord::Trouble);
    }

    #[test]
    fn a_record_without_a_project_or_a_name_is_not_shown() {
        let mut record = Record {
            time: 0,
            project: "p".into(),
            path: String::new(),
            host: String::new(),
            address: "192.0.2.1".into(),
            port: 0,
            protocol: "tcp".into(),
            reason: "not-allowed".into(),
            count: 1,
        };
        assert_eq!(shown(&record).unwrap().target, "192.0.2.1");
        record.address.clear();
        assert_eq!(shown(&record), None);
    }
}
