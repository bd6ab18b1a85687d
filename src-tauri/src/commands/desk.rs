//! Commands of files that go to a terminal, of the login, and of the computer's
//! own session.

use rcc_sandbox::{Code, Error, Handed, Session, linger as lingering, login as store};
use tauri::{AppHandle, State};

use super::Answer;
use crate::app::{Shared, again, locked};
use crate::wire::{Ending, Event, LoginState, Problem};
use crate::{clipboard, dropped, limits};

/// Copies the files that were dropped last into the project; answers where they
/// are in its sandbox.
#[tauri::command]
pub async fn copy_dropped(app: State<'_, Shared>, project: String) -> Answer<Vec<String>> {
    let app = app.inner().clone();
    let copied = tauri::async_runtime::spawn_blocking(move || dropped::copy(&app, &project)).await;
    copied
        .unwrap_or_else(|e| Err(Error::new(Code::Io, format!("The copy ended: {e}."))))
        .map_err(Problem::from)
}

/// Puts the picture of the clipboard into the sandbox's `/tmp` and answers its
/// path; nothing when there is no picture. The page never sees it.
#[tauri::command]
pub async fn paste_image(
    handle: AppHandle,
    app: State<'_, Shared>,
    project: String,
) -> Answer<Option<String>> {
    // Only a person who looks at this project can mean it.
    if !app.in_sight(&project) {
        return Ok(None);
    }
    let Some(image) = clipboard::image(&handle).await? else { return Ok(None) };
    let engine = app.engine().await?;
    let project = app.project(&project)?;
    let session = Session::of_project(&engine, &project).await?;
    Ok(Some(session.put("clipboard", "png", &image).await?))
}

/// Whether the sandbox ran out of memory, and what more it could have.
#[tauri::command]
pub async fn ending(app: State<'_, Shared>, project: String) -> Answer<Ending> {
    Ok(limits::ending(&app, &project).await?)
}

#[tauri::command]
pub async fn login(app: State<'_, Shared>) -> Answer<LoginState> {
    let kept = store::is_kept().await;
    *locked(&app.login_kept) = kept;
    Ok(LoginState { kept, by_environment: Handed::from_environment().has_login() })
}

/// Keeps a token that the person pasted, for all projects.
#[tauri::command]
pub async fn keep_login(app: State<'_, Shared>, token: String) -> Answer<()> {
    store::keep(&token).await?;
    *locked(&app.login_kept) = Some(true);
    app.tell(Event::Projects);
    Ok(())
}

#[tauri::command]
pub async fn forget_login(app: State<'_, Shared>) -> Answer<()> {
    store::forget().await?;
    *locked(&app.login_kept) = Some(false);
    Ok(())
}

/// This project's login stays its own: it is not asked about again.
#[tauri::command]
pub fn login_stays_here(app: State<'_, Shared>, project: &str) {
    locked(&app.remembered).login_stays(project);
    app.tell(Event::Projects);
}

/// Whether sandboxes outlive the person's last session; `null` where nothing
/// ends them.
#[tauri::command]
pub async fn linger(app: State<'_, Shared>) -> Answer<Option<bool>> {
    let host = app.host().map_err(again)?;
    Ok(lingering::state(host).await)
}

#[tauri::command]
pub async fn set_linger(app: State<'_, Shared>, on: bool) -> Answer<()> {
    let host = app.host().map_err(again)?;
    Ok(lingering::set(host, on).await?)
}
