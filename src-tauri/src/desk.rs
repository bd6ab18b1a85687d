//! What the tray and notifications do: the same as the page, without it.

use rcc_sandbox::{Code, Error, Handed, Program, Session, Size};
use tauri::{AppHandle, Manager};
use tauri_plugin_dialog::{DialogExt, MessageDialogButtons, MessageDialogKind};

use crate::app::{Shared, again};
use crate::tray::menu::Action;
use crate::wire::{Event, PageWord};
use crate::{network, projects, watching, window};

/// Does it in the background; what fails is shown.
pub fn act(handle: &AppHandle, action: Action) {
    let handle = handle.clone();
    tauri::async_runtime::spawn(async move {
        let app = handle.state::<Shared>().inner().clone();
        if let Err(error) = perform(&handle, &app, action).await {
            say(&handle, &error);
        }
    });
}

async fn perform(handle: &AppHandle, app: &Shared, action: Action) -> Result<(), Error> {
    match action {
        Action::Show(project) => window::show(handle, Some(project), PageWord::Terminal),
        Action::ShowWindow => window::show_as_it_is(handle),
        Action::AllowedHosts => window::show(handle, None, PageWord::Hosts),
        Action::Quit => window::ask_to_quit(handle).await,
        Action::OpenFolder => open_folder(handle, app).await?,
        Action::NewShell(project) => {
            new_shell(app, &project).await?;
            window::show(handle, Some(project), PageWord::Terminal);
        }
        Action::SetNetwork(project, connected) => {
            network::set_connected(app, &project, connected).await?;
            app.tell(Event::Projects);
        }
        Action::DisconnectAll => disconnect_all(app).await?,
        Action::Stop(project) => {
            let host = app.host().map_err(again)?;
            for session in sessions(app).await? {
                if session.project_id() == project {
                    session.stop(host).await?;
                }
            }
            app.tell(Event::Projects);
        }
        Action::StopAll => {
            if sure(handle).await {
                stop_all(app).await?;
                app.tell(Event::Projects);
            }
        }
    }
    Ok(())
}

async fn sessions(app: &Shared) -> Result<Vec<Session>, Error> {
    Session::all(&app.engine().await?).await
}

/// Ends every session; the first error is told after all were tried.
pub async fn stop_all(app: &Shared) -> Result<(), Error> {
    let host = app.host().map_err(again)?;
    let sessions = sessions(app).await?;
    let stops = sessions.iter().map(|session| session.stop(host));
    let stopped = futures_util::future::join_all(stops).await;
    stopped.into_iter().collect()
}

async fn disconnect_all(app: &Shared) -> Result<(), Error> {
    let network = app.network().await?;
    let mut first = Ok(());
    for session in sessions(app).await? {
        // One that fails must not keep the others connected.
        first = first.and(session.disconnect(&network).await);
    }
    app.tell(Event::Projects);
    first
}

async fn new_shell(app: &Shared, project: &str) -> Result<(), Error> {
    let host = app.host().map_err(again)?;
    let session = sessions(app).await?.into_iter().find(|one| one.project_id() == project);
    let session =
        session.ok_or_else(|| Error::new(Code::NoSession, "The session ended meanwhile."))?;
    session.start(&Program::Shell, Size::default(), &Handed::from_environment(), host).await?;
    watching::look(app, &session).await;
    Ok(())
}

async fn open_folder(handle: &AppHandle, app: &Shared) -> Result<(), Error> {
    let host = app.host().map_err(again)?;
    let (answer, chosen) = tokio::sync::oneshot::channel();
    handle.dialog().file().set_title("Open Folder").set_directory(&host.home).pick_folder(
        move |path| {
            // The app may be ending.
            let _ = answer.send(path);
        },
    );
    let Some(path) = chosen.await.ok().flatten().and_then(|path| path.into_path().ok()) else {
        return Ok(());
    };
    let project = projects::add(app, &path)?;
    window::show(handle, Some(project), PageWord::Terminal);
    Ok(())
}

async fn sure(handle: &AppHandle) -> bool {
    let (answer, said) = tokio::sync::oneshot::channel();
    handle
        .dialog()
        .message("Programs in them end. Projects and conversations are kept.")
        .title("Stop all sessions?")
        .buttons(MessageDialogButtons::OkCancelCustom("Stop All".into(), "Cancel".into()))
        .show(move |yes| {
            // The app may be ending.
            let _ = answer.send(yes);
        });
    said.await.unwrap_or(false)
}

/// An error of something that the page did not ask for.
fn say(handle: &AppHandle, error: &Error) {
    let problem = crate::wire::Problem::from(error);
    handle
        .dialog()
        .message(format!("{}\n\n{} ({})", problem.why, problem.hint, problem.code))
        .title(problem.title)
        .kind(MessageDialogKind::Error)
        .show(|_| {});
}
