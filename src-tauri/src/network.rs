//! The network page of a project: what was blocked, what to allow, on and off.

use std::collections::HashMap;
use std::time::Duration;

use rcc_sandbox::blocked_log::{self, Record};
use rcc_sandbox::{Code, Error, Scope, Session, Settings, hosts, levels, session};

use crate::app::{App, Shared, again, locked, now};
use crate::projects;
use crate::seen;
use crate::wire::{AllowHost, AllowScope, Blocked, Event, NetworkView, NetworkWord};

/// Changes of a view are told at most twice a second.
const GATHERED: Duration = Duration::from_millis(500);

/// *10 Minutes*.
const A_WHILE: Duration = Duration::from_secs(600);

/// What the page shows; the person has looked then.
pub async fn view(app: &App, id: &str) -> Result<NetworkView, Error> {
    let host = app.host().map_err(again)?;
    let project = app.project(id)?;
    let quiet = Settings::load(&project, host)?.never_ask;
    load(app);
    let engine = app.engine_if_known().await;
    let network = projects::network(app).await;
    let session = match &engine {
        Some(engine) => Session::find(engine, &project).await?,
        None => None,
    };
    let (state, left) = match &session {
        Some(session) => {
            let (state, left) = session.openness(network.as_ref()).await;
            (state.into(), left)
        }
        None => (NetworkWord::Offline, None),
    };
    let reached = match (&session, &network) {
        // What was blocked is shown also when the service does not tell the rest.
        (Some(session), Some(network)) => session.reached(network).await.unwrap_or_default(),
        _ => Vec::new(),
    };
    let allowed = hosts::in_force(host, engine.as_ref(), network.as_ref(), &project).await?;
    let mut seen = locked(&app.seen);
    let (lines, more) = seen.lines(id, &quiet, seen::reached(&reached), |line| {
        // What was allowed since is no question any more.
        let private = line.reason.as_deref() == Some("private");
        let answered = private || line.reason.as_deref() == Some("not-allowed");
        !answered || !hosts::allows(&allowed, &line.target, line.port, &line.protocol, private)
    });
    if seen.look(id) {
        app.tell(Event::Projects);
    }
    Ok(NetworkView { state, open_until: left.map(ends), lines, more })
}

/// Which of these are blocked still: what was allowed since, anywhere, is no question
/// any more.
pub async fn still_blocked(app: &App, questions: &[Blocked]) -> Result<Vec<bool>, Error> {
    let host = app.host().map_err(again)?;
    let engine = app.engine_if_known().await;
    let network = projects::network_if_sessions(app).await;
    let mut lists = HashMap::new();
    let mut answers = Vec::new();
    for question in questions {
        let id = &question.project;
        if !lists.contains_key(id) {
            let project = app.project(id)?;
            let list = hosts::in_force(host, engine.as_ref(), network.as_ref(), &project).await?;
            lists.insert(id.clone(), list);
        }
        let Blocked { target, port, protocol, .. } = question;
        let allowed = lists.get(id).is_some_and(|list| {
            hosts::allows(list, target, *port, protocol, question.is_private())
        });
        answers.push(!allowed);
    }
    Ok(answers)
}

/// Takes the log in before anything is added to it.
pub fn load(app: &App) {
    if let Ok(host) = app.host() {
        locked(&app.seen).load(|| blocked_log::read(host).unwrap_or_default());
    }
}

/// Something was blocked just now.
pub fn blocked(app: &Shared, record: &Record) {
    let Some(target) = seen::target(record) else { return };
    let quiet = is_quiet(app, &record.project, target);
    let tell = {
        let mut seen = locked(&app.seen);
        seen.blocked(record, quiet);
        seen.note(&record.project)
    };
    if tell {
        tell_soon(app);
    }
    if !quiet {
        app.tell(Event::Blocked(Blocked {
            project: record.project.clone(),
            target: target.into(),
            port: record.port,
            protocol: record.protocol.clone(),
            reason: record.reason.clone(),
        }));
    }
}

fn is_quiet(app: &App, project: &str, target: &str) -> bool {
    let (Ok(host), Ok(project)) = (app.host(), app.project(project)) else { return false };
    Settings::load(&project, host)
        .is_ok_and(|settings| settings.never_ask.iter().any(|quiet| quiet == target))
}

fn tell_soon(app: &Shared) {
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        tokio::time::sleep(GATHERED).await;
        let changed = locked(&app.seen).noted();
        for project in changed {
            app.tell(Event::Network { project });
        }
        app.tell(Event::Projects);
    });
}

fn changed(app: &Shared, project: &str) {
    if locked(&app.seen).note(project) {
        tell_soon(app);
    }
}

/// Hears no more of a host, or of it again. It stays blocked.
pub async fn never_ask(app: &Shared, id: &str, target: &str, quiet: bool) -> Result<(), Error> {
    /// More than anybody clicks away.
    const MOST: usize = 1_000;
    let host = app.host().map_err(again)?;
    let project = app.project(id)?;
    // It came from here, but what is kept in a file is looked at anyway.
    let target = rcc_sandbox::display::host(target);
    Settings::update(&project, host, |settings| {
        settings.never_ask.retain(|known| known != &target);
        if quiet {
            settings.never_ask.push(target);
            let surplus = settings.never_ask.len().saturating_sub(MOST);
            settings.never_ask.drain(..surplus);
        }
    })
    .await?;
    changed(app, id);
    Ok(())
}

/// The time at which so much is over, seconds since 1970.
pub fn ends(left: Duration) -> u64 {
    now().saturating_add(left.as_secs())
}

/// Opens the sandbox to the public internet for so many seconds; 0 ends it.
pub async fn open_internet(app: &Shared, id: &str, seconds: u32) -> Result<(), Error> {
    let project = app.project(id)?;
    let engine = app.engine().await?;
    let network = app.network().await?;
    let session = Session::of_project(&engine, &project).await?;
    session.open_internet(&network, Duration::from_secs(seconds.into())).await?;
    changed(app, id);
    app.tell(Event::Projects);
    Ok(())
}

pub async fn set_connected(app: &Shared, id: &str, connected: bool) -> Result<(), Error> {
    let host = app.host().map_err(again)?;
    let project = app.project(id)?;
    let engine = app.engine().await?;
    let network = app.network().await?;
    let session = Session::of_project(&engine, &project).await?;
    if connected {
        session.connect(&network, &project, host).await?;
    } else {
        session.disconnect(&network).await?;
    }
    changed(app, id);
    Ok(())
}

/// Allows a host for as long and as far as the person said.
pub async fn allow(app: &Shared, request: &AllowHost) -> Result<(), Error> {
    let host = app.host().map_err(again)?;
    let project = app.project(&request.project)?;
    let entry = levels::parse_host(&spec(request), request.private)?;
    let scope = match request.scope {
        AllowScope::TenMinutes => Scope::For(A_WHILE),
        AllowScope::Session => Scope::Session,
        AllowScope::Project => Scope::Project,
        AllowScope::AllProjects => Scope::All,
    };
    let engine = app.engine().await?;
    let network = app.network().await;
    if let (Err(error), AllowScope::TenMinutes | AllowScope::Session) = (&network, request.scope) {
        return Err(Error::new(Code::HelperMissing, error.body()));
    }
    let network = network.ok();
    session::allow(host, &engine, network.as_ref(), &project, &entry, scope).await?;
    changed(app, &request.project);
    Ok(())
}

/// As a person would type it.
fn spec(request: &AllowHost) -> String {
    // Only the name was asked for: the web's port.
    let port = if request.port == 0 { 443 } else { request.port };
    let protocol = if request.protocol == "udp" { "/udp" } else { "" };
    if request.target.contains(':') {
        format!("[{}]:{port}{protocol}", request.target)
    } else {
        format!("{}:{port}{protocol}", request.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_host_is_written_as_a_person_would() {
        let written = |target: &str, port, protocol: &str| {
            let request = AllowHost {
                project: String::new(),
                target: target.into(),
                port,
                protocol: protocol.into(),
                private: false,
                scope: AllowScope::Project,
            };
            levels::parse_host(&spec(&request), false).unwrap().to_string()
        };
        assert_eq!(written("example.org", 0, "tcp"), "example.org tcp/443");
        assert_eq!(written("2600::1", 53, "udp"), "2600::1 udp/53");
        assert_eq!(written("203.0.114.9", 8443, "tcp"), "203.0.114.9 tcp/8443");
    }
}
