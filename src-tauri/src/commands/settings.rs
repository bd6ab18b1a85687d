//! Commands of the settings, the limits and the first run.

use rcc_sandbox::{Preferences, blocked_log};
use tauri::State;
use tauri::ipc::Channel;

use super::Answer;
use crate::app::Shared;
use crate::wire::{
    About, Event, Layer, Problem, Progress, ProjectSettings, Resources, SetupId, SetupLine, Tried,
    Wall, WindowSettings,
};
use crate::{layers, limits, setup as first_run};

#[tauri::command]
pub fn settings(app: State<'_, Shared>) -> WindowSettings {
    app.preferences().into()
}

#[tauri::command]
pub fn save_settings(app: State<'_, Shared>, settings: WindowSettings) -> Answer<()> {
    let host = app.host().map_err(Problem::from)?;
    let chosen = Preferences::from(settings.clone());
    chosen.save(host)?;
    // What is not to be kept any more goes now.
    blocked_log::tidy(host)?;
    app.tell(Event::Settings { settings });
    Ok(())
}

#[tauri::command]
pub async fn resources(app: State<'_, Shared>, project: String) -> Answer<Resources> {
    Ok(limits::resources(&app, &project).await?)
}

#[tauri::command]
pub async fn project_settings(app: State<'_, Shared>, project: String) -> Answer<ProjectSettings> {
    Ok(limits::settings(&app, &project).await?)
}

#[tauri::command]
pub async fn save_project_settings(
    app: State<'_, Shared>,
    project: String,
    settings: ProjectSettings,
) -> Answer<()> {
    Ok(limits::save(&app, &project, settings).await?)
}

#[tauri::command]
pub async fn layers(app: State<'_, Shared>) -> Answer<Vec<Layer>> {
    Ok(layers::layers(&app).await?)
}

/// Answers those that are left.
#[tauri::command]
pub async fn remove_layer(app: State<'_, Shared>, name: String) -> Answer<Vec<Layer>> {
    Ok(layers::remove(&app, &name).await?)
}

#[tauri::command]
pub async fn setup(app: State<'_, Shared>) -> Answer<Vec<SetupLine>> {
    Ok(first_run::lines(&app).await?)
}

#[tauri::command]
pub async fn mend(
    app: State<'_, Shared>,
    id: SetupId,
    progress: Channel<Progress>,
) -> Answer<Vec<SetupLine>> {
    Ok(first_run::mend(&app, id, progress).await?)
}

/// Brings what is there up to date; what came of it is the last note.
#[tauri::command]
pub async fn renew(
    app: State<'_, Shared>,
    id: SetupId,
    progress: Channel<Progress>,
) -> Answer<Vec<SetupLine>> {
    Ok(first_run::renew(&app, id, progress).await?)
}

#[tauri::command]
pub fn cancel_mend(app: State<'_, Shared>, id: SetupId) {
    first_run::cancel(&app, id);
}

#[tauri::command]
pub async fn about(app: State<'_, Shared>) -> Answer<About> {
    Ok(first_run::about(&app).await)
}

#[tauri::command]
pub async fn walls(app: State<'_, Shared>, project: String) -> Answer<Vec<Wall>> {
    Ok(first_run::walls(&app, &project).await?)
}

/// Tries the ways out of the sandbox; a few seconds.
#[tauri::command]
pub async fn verify(app: State<'_, Shared>, project: String) -> Answer<Vec<Tried>> {
    Ok(first_run::verify(&app, &project).await?)
}
