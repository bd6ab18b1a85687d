//! The first run, the versions, and the walls.

use std::path::PathBuf;
use std::time::Duration;

use rcc_sandbox::hosts::{self, Which};
use rcc_sandbox::setup::{self, Standing};
use rcc_sandbox::{
    Cancel, Code, Error, ImageChoice, NetworkState, Reporter, Session, Settings, claude, image,
};
use tauri::ipc::Channel;

use crate::app::{App, Shared, again, locked};
use crate::projects;
use crate::wire::{About, Progress, SetupId, SetupLine, Tried, Wall, WallId, WallState};

/// The page does not wait longer for the answer whether setup is needed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether something is missing without which nothing goes. Once nothing was,
/// nobody is asked again: later the opening itself says what is missing.
pub async fn is_needed(app: &App) -> bool {
    let Ok(host) = app.host() else { return false };
    let done: PathBuf = host.state.join("set-up");
    if done.exists() {
        return false;
    }
    let Ok(lines) = tokio::time::timeout(PATIENCE, setup::look(host)).await else { return true };
    let missing = lines.iter().any(|line| line.standing == Standing::Missing);
    if !missing {
        // It is looked at once more when this fails.
        let _ = std::fs::create_dir_all(&host.state).and_then(|()| std::fs::write(done, ""));
    }
    missing
}

pub async fn lines(app: &App) -> Result<Vec<SetupLine>, Error> {
    let host = app.host().map_err(again)?;
    Ok(setup::look(host).await.into_iter().map(Into::into).collect())
}

/// Does what a line's button says; answers all lines as they are then.
pub async fn mend(
    app: &Shared,
    id: SetupId,
    progress: Channel<Progress>,
) -> Result<Vec<SetupLine>, Error> {
    let host = app.host().map_err(again)?;
    let cancel = Cancel::new();
    let begun = Begun::begin(app, id, &cancel)?;
    setup::mend(host, id.into(), &reporter(progress), &cancel).await?;
    drop(begun);
    lines(app).await
}

/// Brings what is there up to date, and notes what came of it.
pub async fn renew(
    app: &Shared,
    id: SetupId,
    progress: Channel<Progress>,
) -> Result<Vec<SetupLine>, Error> {
    let host = app.host().map_err(again)?;
    let cancel = Cancel::new();
    let begun = Begun::begin(app, id, &cancel)?;
    let report = reporter(progress);
    let words = setup::renew(host, id.into(), &report, &cancel).await?;
    report.report(rcc_sandbox::Progress::Note(words));
    drop(begun);
    lines(app).await
}

fn reporter(progress: Channel<Progress>) -> Reporter {
    Reporter::new(move |step| {
        // A page that is gone needs no progress.
        let _ = progress.send(step.into());
    })
}

/// What was begun is undone; [`mend`] or [`renew`] then answers `RCC-E002`.
pub fn cancel(app: &App, id: SetupId) {
    if let Some(cancel) = locked(&app.mending).get(&id) {
        cancel.cancel();
    }
}

/// The note that a thing is being mended; gone with its end.
struct Begun<'a> {
    app: &'a App,
    id: SetupId,
}

impl<'a> Begun<'a> {
    fn begin(app: &'a App, id: SetupId, cancel: &Cancel) -> Result<Self, Error> {
        let mut mending = locked(&app.mending);
        if mending.contains_key(&id) {
            return Err(Error::new(Code::Invalid, "This is being done already."));
        }
        mending.insert(id, cancel.clone());
        Ok(Self { app, id })
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        locked(&self.app.mending).remove(&self.id);
    }
}

pub async fn about(app: &App) -> About {
    let (engine, network) = tokio::join!(app.engine(), projects::network(app));
    let engine = engine.ok();
    let helper = match &network {
        Some(network) => network.version().await.ok().map(|(_, release)| release),
        None => None,
    };
    let image = match &engine {
        Some(engine) => image::find(engine, &ImageChoice::Dev, &[]).await.ok().flatten(),
        None => None,
    };
    About {
        version: env!("CARGO_PKG_VERSION").into(),
        protocol: rcc_sandbox::PROTOCOL,
        helper: helper.map(|release| rcc_sandbox::display::line(&release, 40)),
        engine: engine.map(|engine| format!("Podman {}", engine.info().version())),
        claude: app.host().ok().and_then(claude::find).and_then(|claude| claude.version),
        image,
    }
}

/// The four walls of a project's sandbox, as kernel and firewall service say it.
pub async fn walls(app: &App, id: &str) -> Result<Vec<Wall>, Error> {
    let host = app.host().map_err(again)?;
    let project = app.project(id)?;
    let engine = app.engine().await?;
    let session = Session::of_project(&engine, &project).await?;
    let live = session.walls().await?;
    let network = projects::network(app).await;
    let (state, left) = session.openness(network.as_ref()).await;
    let open = match &network {
        Some(network) => hosts::read(host, Which::Computer, Some(network))
            .await
            .ok()
            .and_then(|list| list.bounds)
            .is_some_and(|bounds| bounds.allow_public),
        None => false,
    };
    // Of this sandbox, whatever one that is opened now would get.
    let usage = session.usage().await.unwrap_or_default();
    let limits = engine.info().limits(&Settings::load(&project, host)?.limits());
    let layers = engine.info().hardening().join(", ");
    Ok(vec![
        files(live.own_view),
        network_wall(state, open, left.is_some()),
        memory(usage.memory_limit, limits.note),
        calls(live.no_privileges, live.filter, layers),
    ])
}

/// Tries every way out of a project's sandbox.
pub async fn verify(app: &App, id: &str) -> Result<Vec<Tried>, Error> {
    let host = app.host().map_err(again)?;
    let project = app.project(id)?;
    let engine = app.engine().await?;
    let session = Session::of_project(&engine, &project).await?;
    let network = projects::network(app).await;
    let rows = session.verify(&project, host, network.as_ref()).await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

fn files(own_view: bool) -> Wall {
    Wall {
        id: WallId::Files,
        state: if own_view { WallState::Holds } else { WallState::Open },
        title: "Files".into(),
        sentence: if own_view {
            "Claude can change this folder and nothing else.".into()
        } else {
            "The sandbox is not apart from this computer's files. Stop the session.".into()
        },
        layer: "Rootless Podman, user and mount namespaces, one writable folder".into(),
    }
}

fn network_wall(state: NetworkState, open: bool, for_a_time: bool) -> Wall {
    let (state, sentence, layer) = match state {
        NetworkState::Connected if for_a_time => (
            WallState::Open,
            "Every public host can be reached until you close it.",
            "Firewall in a network namespace of its own",
        ),
        NetworkState::Connected if open => (
            WallState::Open,
            "The list of this computer lets it reach the whole public internet.",
            "Firewall in a network namespace of its own",
        ),
        NetworkState::Connected => (
            WallState::Holds,
            "Only allowed hosts can be reached.",
            "Firewall in a network namespace of its own",
        ),
        NetworkState::Disconnected => (
            WallState::Holds,
            "The network is switched off.",
            "Firewall in a network namespace of its own",
        ),
        NetworkState::Offline => (WallState::Holds, "There is no network at all.", "No link"),
        NetworkState::Unknown => (
            WallState::Notes,
            "The firewall service does not answer; what it set up stands in the kernel.",
            "Firewall in a network namespace of its own",
        ),
    };
    Wall {
        id: WallId::Network,
        state,
        title: "Network".into(),
        sentence: sentence.into(),
        layer: layer.into(),
    }
}

fn memory(limit: Option<u64>, note: Option<String>) -> Wall {
    let held = limit.is_some();
    let sentence = match limit {
        Some(bytes) => {
            let gigabytes = bytes as f64 / f64::from(1 << 30);
            format!("It can take up to {gigabytes:.1} GB of memory.")
        }
        None => note.unwrap_or_else(|| "The kernel holds no limit for this sandbox.".into()),
    };
    Wall {
        id: WallId::Memory,
        state: if held { WallState::Holds } else { WallState::Notes },
        title: "Memory and processor".into(),
        sentence,
        layer: if held { "Control groups, version 2" } else { "None here" }.into(),
    }
}

fn calls(no_privileges: bool, filter: bool, layers: String) -> Wall {
    let (state, sentence) = match (no_privileges, filter) {
        (true, true) => {
            (WallState::Holds, "No capabilities, no new privileges, a list of allowed calls.")
        }
        (true, false) => {
            (WallState::Open, "No filter of system calls is in force. Stop the session.")
        }
        (false, _) => (WallState::Open, "Programs in it could gain privileges. Stop the session."),
    };
    Wall {
        id: WallId::Calls,
        state,
        title: "System calls".into(),
        sentence: sentence.into(),
        layer: layers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_that_is_not_confirmed_is_open() {
        assert_eq!(files(false).state, WallState::Open);
        assert_eq!(calls(true, false, String::new()).state, WallState::Open);
        assert_eq!(calls(false, true, String::new()).state, WallState::Open);
        assert_eq!(calls(true, true, String::new()).state, WallState::Holds);
        assert_eq!(network_wall(NetworkState::Connected, true, false).state, WallState::Open);
        assert_eq!(network_wall(NetworkState::Connected, false, false).state, WallState::Holds);
        assert_eq!(network_wall(NetworkState::Connected, false, true).state, WallState::Open);
        // Open to the internet or not: without a link it is not.
        assert_eq!(network_wall(NetworkState::Offline, true, false).state, WallState::Holds);
        assert_eq!(network_wall(NetworkState::Unknown, false, false).state, WallState::Notes);
        assert_eq!(memory(None, Some("No.".into())).state, WallState::Notes);
        let held = memory(Some(3 << 29), Some("Another sandbox would get none.".into()));
        assert!(held.state == WallState::Holds && held.sentence.contains("1.5 GB"), "{held:?}");
    }
}
