//! Commands of the review.

use tauri::State;

use super::Answer;
use crate::app::Shared;
use crate::review::{self, Choice};
use crate::wire::ReviewView;

#[tauri::command]
pub async fn review_view(app: State<'_, Shared>, project: String) -> Answer<ReviewView> {
    Ok(review::view(&app, &project).await?)
}

/// The lines of one change.
#[tauri::command]
pub async fn review_diff(
    app: State<'_, Shared>,
    project: String,
    change: String,
) -> Answer<Option<Vec<String>>> {
    Ok(review::diff(&app, &project, &change).await?)
}

#[tauri::command]
pub async fn review_keep(
    app: State<'_, Shared>,
    project: String,
    changes: Vec<String>,
) -> Answer<()> {
    Ok(review::choose(&app, &project, Choice::Keep, &changes).await?)
}

#[tauri::command]
pub async fn review_put_back(
    app: State<'_, Shared>,
    project: String,
    changes: Vec<String>,
) -> Answer<()> {
    Ok(review::choose(&app, &project, Choice::PutBack, &changes).await?)
}

#[tauri::command]
pub async fn review_undo(app: State<'_, Shared>, project: String) -> Answer<()> {
    Ok(review::choose(&app, &project, Choice::Undo, &[]).await?)
}
