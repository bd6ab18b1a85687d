//! What happens by itself: what Claude does in running sessions, blocked hosts.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rcc_sandbox::Session;
use rcc_sandbox::blocked_log::{self, Record};

use crate::app::{Shared, locked};
use crate::live::{Change, Due};
use crate::wire::Event;
use crate::{network, review};

/// Wait before the firewall service, or a sandbox that broke off, is asked again.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Wait before the engine is asked again whether a sandbox ended.
const MOMENT: Duration = Duration::from_millis(300);

/// Looks for sessions that run, and at what changed elsewhere; watches each that is not watched yet.
/// Called at the start, when the window gets the focus, and after an opening.
pub async fn begin(app: Shared) {
    // A person may have looked at changes on the command line meanwhile.
    let known: Vec<String> = locked(&app.reviewed).keys().cloned().collect();
    known.iter().for_each(|id| review::look_later(&app, id));
    let Ok(engine) = app.engine().await else { return };
    let Ok(sessions) = Session::all(&engine).await else {
        app.forget_engine().await;
        return;
    };
    for session in sessions {
        if !locked(&app.live).begin(session.project_id()) {
            continue;
        }
        tauri::async_runtime::spawn(states(app.clone(), session));
        tauri::async_runtime::spawn(review::watch(app.clone()));
        tauri::async_runtime::spawn(blocked(app.clone()));
    }
    app.tell(Event::Projects);
}

/// Finds conversations that could go on, also of sandboxes that the window never saw.
pub async fn conversations(app: Shared) {
    let (Ok(host), Ok(engine)) = (app.host(), app.engine().await) else { return };
    let mut folders: Vec<_> = locked(&app.remembered)
        .folders()
        .iter()
        .map(|folder| (folder.id.clone(), folder.path.clone(), folder.conversation))
        .collect();
    for settings in rcc_sandbox::Settings::all(host).unwrap_or_default() {
        if let Ok(project) = rcc_sandbox::Project::open(settings.path.as_ref(), host)
            && folders.iter().all(|(id, ..)| id != project.id())
        {
            folders.push((project.id().into(), project.path().into(), false));
        }
    }
    let mut found = false;
    for (id, path, known) in folders {
        if !known && rcc_sandbox::home::keeps_conversation(&engine, &id).await {
            let mut remembered = locked(&app.remembered);
            remembered.keep(&id, &path);
            remembered.conversation(&id);
            found = true;
        }
    }
    if found {
        app.tell(Event::Projects);
    }
}

/// Watches one sandbox until the engine says that it ended.
async fn states(app: Shared, mut session: Session) {
    let project = session.project_id().to_string();
    loop {
        let again = Instant::now() + PATIENCE;
        hear(&app, &session).await;
        // What was gathered last.
        changed(&app, &project);
        app.tell(Event::Projects);
        match still_runs(&app, &session, again).await {
            Some(running) => session = running,
            None => break,
        }
    }
    locked(&app.live).end(&project);
    review::look_later(&app, &project);
    // It may have run without the window before.
    tauri::async_runtime::spawn(conversations(app.clone()));
    app.tell(Event::Projects);
    app.tell(Event::Review { project });
}

/// The session that runs for this project, once it is time to hear it again; none when it
/// ended. The connection is the agent's to break: whether the window goes on to look at
/// what is changed and blocked must not depend on it.
async fn still_runs(app: &Shared, session: &Session, again: Instant) -> Option<Session> {
    loop {
        let all = match app.engine().await {
            Ok(engine) => Session::all(&engine).await,
            Err(error) => Err(error),
        };
        match all {
            Ok(all) => {
                let of_project = |one: &Session| one.project_id() == session.project_id();
                let found = all.into_iter().find(of_project)?;
                if !found.is_same(session) || Instant::now() >= again {
                    return Some(found);
                }
            }
            // Nobody knows: as long as that is so it counts as running.
            Err(_) => {
                app.forget_engine().await;
                tokio::time::sleep(PATIENCE).await;
            }
        }
        tokio::time::sleep(MOMENT).await;
    }
}

/// Takes in what a sandbox says of itself, as long as it says something.
async fn hear(app: &Shared, session: &Session) {
    let project = session.project_id();
    let Ok(mut watch) = session.watch().await else { return };
    let mut due = Due::new(Instant::now());
    loop {
        let later = async {
            match due.next() {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let reply = tokio::select! {
            reply = watch.next() => Some(reply),
            () = later => None,
        };
        match reply {
            Some(Some(reply)) => match locked(&app.live).get_mut(project) {
                Some(sandbox) => due.add(sandbox.take(reply)),
                None => return,
            },
            Some(None) => return,
            None => {}
        }
        match due.take(Instant::now()) {
            Change::Nothing => {}
            Change::States => changed(app, project),
            Change::Tabs => {
                changed(app, project);
                app.tell(Event::Projects);
            }
            Change::Unknown => look(app, session).await,
        }
    }
}

/// Asks a sandbox for its terminals and tells what is there.
pub async fn look(app: &Shared, session: &Session) {
    // A sandbox that does not answer tells when it does again.
    let Ok(terminals) = session.terminals().await else { return };
    let project = session.project_id();
    {
        let mut live = locked(&app.live);
        let Some(sandbox) = live.get_mut(project) else { return };
        sandbox.set(terminals);
    }
    changed(app, project);
    app.tell(Event::Projects);
}

fn changed(app: &Shared, project: &str) {
    let (activity, terminals, turn) = match locked(&app.live).get(project) {
        Some(sandbox) => (sandbox.activity(), sandbox.tabs(), sandbox.had_a_turn()),
        None => return,
    };
    if turn {
        locked(&app.remembered).conversation(project);
    }
    app.tell(Event::Activity { project: project.into(), activity, terminals });
}

/// Tells of blocked hosts for as long as a session runs; one at a time does.
async fn blocked(app: Shared) {
    while !locked(&app.live).is_empty() && !app.listening.swap(true, Ordering::AcqRel) {
        listen(&app).await;
        // A session that began meanwhile is looked for once more.
        app.listening.store(false, Ordering::Release);
    }
}

async fn listen(app: &Shared) {
    while !locked(&app.live).is_empty() {
        if let (Ok(host), Ok(engine), Ok(firewall)) =
            (app.host(), app.engine().await, app.network().await)
        {
            network::load(app);
            let tell = |record: &Record| network::blocked(app, record);
            tokio::select! {
                _ = blocked_log::follow(host, &engine, &firewall, tell) => {}
                () = none_runs(app) => {}
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
