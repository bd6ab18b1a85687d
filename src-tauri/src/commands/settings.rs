//! Commands of the settings.

use rcc_sandbox::{Preferences, blocked_log};
use tauri::State;

use super::Answer;
use crate::app::Shared;
use crate::wire::{Event, Problem, WindowSettings};

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
