//! Commands of the network page.

use tauri::State;

use super::Answer;
use crate::app::Shared;
use crate::network;
use crate::wire::{AllowHost, Blocked, NetworkView};

#[tauri::command]
pub async fn network_view(app: State<'_, Shared>, project: String) -> Answer<NetworkView> {
    Ok(network::view(&app, &project).await?)
}

/// Allows a host for as long and as far as the person said.
#[tauri::command]
pub async fn allow_host(app: State<'_, Shared>, request: AllowHost) -> Answer<()> {
    Ok(network::allow(&app, &request).await?)
}

/// Which of these are blocked still, one answer for each.
#[tauri::command]
pub async fn still_blocked(app: State<'_, Shared>, questions: Vec<Blocked>) -> Answer<Vec<bool>> {
    Ok(network::still_blocked(&app, &questions).await?)
}

#[tauri::command]
pub async fn never_ask(
    app: State<'_, Shared>,
    project: String,
    target: String,
    quiet: bool,
) -> Answer<()> {
    Ok(network::never_ask(&app, &project, &target, quiet).await?)
}

/// Open to the public internet for so many seconds; 0 ends it.
#[tauri::command]
pub async fn open_internet(app: State<'_, Shared>, project: String, seconds: u32) -> Answer<()> {
    Ok(network::open_internet(&app, &project, seconds).await?)
}

#[tauri::command]
pub async fn set_network(app: State<'_, Shared>, project: String, connected: bool) -> Answer<()> {
    Ok(network::set_connected(&app, &project, connected).await?)
}
