//! Commands of the lists of allowed hosts.

use tauri::State;

use super::Answer;
use crate::app::Shared;
use crate::hosts as lists;
use crate::wire::{FieldProblem, HostFields, HostsChange, HostsDocument, HostsLevel};

#[tauri::command]
pub async fn hosts(app: State<'_, Shared>, level: HostsLevel) -> Answer<HostsDocument> {
    Ok(lists::read(&app, &level).await?)
}

/// Refused with `RCC-E506` when the list is not the one of `version` any more.
#[tauri::command]
pub async fn change_hosts(
    app: State<'_, Shared>,
    level: HostsLevel,
    version: String,
    change: HostsChange,
) -> Answer<HostsDocument> {
    Ok(lists::change(&app, &level, &version, change).await?)
}

/// The mistake in the form, while it is typed.
#[tauri::command]
pub async fn check_host(
    app: State<'_, Shared>,
    level: HostsLevel,
    fields: HostFields,
) -> Answer<Option<FieldProblem>> {
    Ok(lists::check(&app, &level, fields).await?)
}
