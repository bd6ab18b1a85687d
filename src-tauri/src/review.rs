//! What changed of the files that this computer would run, and what the person
//! says about it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rcc_sandbox::{Error, Project, Session, review};

use crate::app::{App, Shared, again, locked};
use crate::wire::{Event, ReviewLine, ReviewView, WhatWord};

/// How soon a change is noticed while a sandbox runs.
const EVERY: Duration = Duration::from_secs(1);
/// Looks take at most so small a part of the time.
const SHARE: u32 = 20;

/// What the last look at a project found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    ids: Vec<String>,
    /// Would run without being asked to.
    pub alarming: u32,
    /// Part of a build.
    pub built: u32,
}

/// What is known of a project. When nothing is, a look begins: a list does not wait for it.
pub fn seen(app: &Shared, id: &str) -> Seen {
    let known = locked(&app.reviewed).get(id).cloned();
    known.unwrap_or_else(|| {
        look_later(app, id);
        Seen::default()
    })
}

/// Looks at a project when those that wait are done, one after the other, and tells the
/// page what is new.
pub fn look_later(app: &Shared, id: &str) {
    let is_first = {
        let mut waiting = locked(&app.to_review);
        waiting.insert(id.into()) && waiting.len() == 1
    };
    if !is_first {
        return;
    }
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        loop {
            let Some(id) = locked(&app.to_review).first().cloned() else { return };
            // What cannot be looked at is told when the person opens the page.
            let _ = look(&app, &id).await;
            locked(&app.to_review).remove(&id);
        }
    });
}

/// Looks and keeps what was found; says so when it is other than before.
async fn look(app: &App, id: &str) -> Result<Seen, Error> {
    let host = app.host().map_err(again)?;
    let found = review::look(&app.project(id)?, host).await?;
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let seen = Seen {
        alarming: count(found.alarming()),
        built: count(found.changes.len() - found.alarming()),
        ids: found.changes.into_iter().map(|change| change.id).collect(),
    };
    let before = locked(&app.reviewed).insert(id.into(), seen.clone());
    if before.unwrap_or_default() != seen {
        app.tell(Event::Review { project: id.into() });
        app.tell(Event::Projects);
    }
    Ok(seen)
}

/// Looks at every project whose sandbox runs, for as long as one does.
pub async fn watch(app: Shared) {
    if app.reviewing.swap(true, Ordering::AcqRel) {
        return;
    }
    loop {
        let running = locked(&app.live).projects();
        if running.is_empty() {
            app.reviewing.store(false, Ordering::Release);
            return;
        }
        let begun = Instant::now();
        // One that takes long keeps none of the others waiting.
        join_all(running.iter().map(|id| look(&app, id))).await;
        tokio::time::sleep(EVERY.max(begun.elapsed() * SHARE)).await;
    }
}

/// Everything that the page shows.
pub async fn view(app: &App, id: &str) -> Result<ReviewView, Error> {
    let host = app.host().map_err(again)?;
    let found = review::look(&app.project(id)?, host).await?;
    let changes = found.changes.into_iter().map(|change| ReviewLine {
        id: change.id,
        path: change.path,
        what: match change.what {
            review::What::New => WhatWord::New,
            review::What::Changed => WhatWord::Changed,
            review::What::Removed => WhatWord::Removed,
        },
        runs_by_itself: change.runs_by_itself,
        why: change.why,
        can_put_back: change.can_put_back,
    });
    Ok(ReviewView { changes: changes.collect(), notes: found.notes, can_undo: found.can_undo })
}

/// `-`, `+`, a space or `…`, and the line; none where there is nothing to show.
pub async fn diff(app: &App, id: &str, change: &str) -> Result<Option<Vec<String>>, Error> {
    let host = app.host().map_err(again)?;
    let lines = review::diff(&app.project(id)?, host, change).await?;
    let written = |line: &review::DiffLine| match line {
        review::DiffLine::Same(text) => format!(" {text}"),
        review::DiffLine::Old(text) => format!("-{text}"),
        review::DiffLine::New(text) => format!("+{text}"),
        review::DiffLine::Gap => "…".into(),
        review::DiffLine::More(left) => format!("… {left} more lines changed that are not shown"),
    };
    Ok(lines.map(|lines| lines.iter().map(written).collect()))
}

/// Whether a sandbox may be writing the files; yes where nobody can say.
async fn may_run(app: &App, project: &Project) -> bool {
    let Ok(engine) = app.engine().await else { return true };
    Session::find(&engine, project).await.map_or(true, |found| found.is_some())
}

/// What the page asks for.
#[derive(Debug, Clone, Copy)]
pub enum Choice {
    Keep,
    PutBack,
    Undo,
}

/// `ids` are those that the person saw: what changed since then is not meant.
pub async fn choose(app: &App, id: &str, choice: Choice, ids: &[String]) -> Result<(), Error> {
    let host = app.host().map_err(again)?;
    let project: Project = app.project(id)?;
    let done = match choice {
        Choice::Keep => review::keep(&project, host, ids, may_run(app, &project).await).await,
        Choice::PutBack => review::put_back(&project, host, ids).await,
        Choice::Undo => review::undo(&project, host).await,
    };
    // Also after an error: a part may have been done.
    look(app, id).await?;
    done
}
