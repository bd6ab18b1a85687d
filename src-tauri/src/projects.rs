//! The list: folders that were opened here, projects with settings, sessions
//! that run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcc_sandbox::{Engine, Error, Host, Network, Session, Settings, display};

use crate::app::{App, Shared, again, locked};
use crate::remembered::Folder;
use crate::{review, wire};

/// It answers in milliseconds, or is being started; then the next list has it.
const NETWORK_PATIENCE: Duration = Duration::from_secs(2);

/// The list as it is now. Sessions are in it once the engine is known; see
/// [`crate::watching::begin`].
pub async fn list(app: &Shared) -> Result<Vec<wire::Project>, Error> {
    let Ok(host) = app.host() else { return Ok(Vec::new()) };
    let mut sessions = match app.engine_if_known().await {
        Some(engine) => running(app, &engine).await,
        None => HashMap::new(),
    };
    let mut list = Vec::new();
    let remembered = locked(&app.remembered).folders().to_vec();
    for folder in &remembered {
        let session = sessions.remove(&folder.id).map(|(_, session)| session);
        if folder.hidden && session.is_none() {
            continue;
        }
        list.push(entry(app, host, folder, session));
    }
    for settings in Settings::all(host)? {
        let Ok(project) = rcc_sandbox::Project::open(settings.path.as_ref(), host) else {
            continue;
        };
        if remembered.iter().all(|folder| folder.id != project.id()) {
            let session = sessions.remove(project.id()).map(|(_, session)| session);
            let folder = Folder::new(project.id(), project.path());
            list.push(entry(app, host, &folder, session));
        }
    }
    // Opened by the command line in a folder that the window never saw.
    for (id, (path, session)) in sessions {
        locked(&app.remembered).add(&id, &path);
        list.push(entry(app, host, &Folder::new(&id, &path), Some(session)));
    }
    Ok(list)
}

/// Puts a folder into the list and answers its project's id.
pub fn add(app: &App, path: &Path) -> Result<String, Error> {
    let host = app.host().map_err(again)?;
    let project = rcc_sandbox::Project::open(path, host)?;
    locked(&app.remembered).add(project.id(), project.path());
    Ok(project.id().into())
}

/// One session as the page sees it.
pub async fn session(app: &Shared, session: &Session, network: Option<&Network>) -> wire::Session {
    let (network, left) = session.openness(network).await;
    let live = locked(&app.live);
    let known = live.get(session.project_id());
    wire::Session {
        network: network.into(),
        open_until: left.map(crate::network::ends),
        image: session.image().to_string(),
        activity: known.and_then(|sandbox| sandbox.activity()),
        terminals: known.map(|sandbox| sandbox.tabs()).unwrap_or_default(),
    }
}

async fn running(app: &Shared, engine: &Engine) -> HashMap<String, (PathBuf, wire::Session)> {
    let all = match Session::all(engine).await {
        Ok(all) => all,
        Err(_) => {
            app.forget_engine().await;
            return HashMap::new();
        }
    };
    // Without a session nobody needs the firewall service: do not wake it.
    let network = if all.is_empty() { None } else { network(app).await };
    let mut running = HashMap::new();
    for found in all {
        let shown = session(app, &found, network.as_ref()).await;
        running.insert(found.project_id().to_string(), (found.path(), shown));
    }
    running
}

/// The firewall service, if it answers soon: a list must not wait for it.
pub async fn network(app: &App) -> Option<Network> {
    tokio::time::timeout(NETWORK_PATIENCE, app.network()).await.ok()?.ok()
}

/// The same while a session runs; without one nobody needs the service.
pub async fn network_if_sessions(app: &App) -> Option<Network> {
    let runs = !locked(&app.live).is_empty();
    if runs { network(app).await } else { None }
}

fn entry(
    app: &Shared,
    host: &Host,
    folder: &Folder,
    session: Option<wire::Session>,
) -> wire::Project {
    let reviewed = review::seen(app, &folder.id);
    let path = folder.path.as_path();
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    wire::Project {
        id: folder.id.clone(),
        name: display::line(&name, 80),
        path: shown(host, path),
        exists: path.is_dir(),
        opened: folder.opened,
        session,
        blocked: locked(&app.seen).unseen(&folder.id),
        resumable: folder.conversation,
        changed: reviewed.alarming,
        changed_build: reviewed.built,
        offer_login: app.offers_login(folder),
    }
}

pub fn shown(host: &Host, path: &Path) -> String {
    let text = match path.strip_prefix(&host.home) {
        Ok(below) if !host.home.as_os_str().is_empty() => Path::new("~").join(below),
        _ => path.into(),
    };
    display::line(&text.to_string_lossy(), 4096)
}
