//! What changed of the files that this computer would run, and what the person
//! says about it.

use std::collections::BTreeSet;
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
    /// Part of a build, or links out of the project.
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

/// Projects that wait to be looked at.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: BTreeSet<String>,
    /// Somebody takes them out.
    is_worked_off: bool,
}

impl Queue {
    /// Whether somebody has to begin to take them out.
    fn add(&mut self, id: &str) -> bool {
        self.waiting.insert(id.into());
        !std::mem::replace(&mut self.is_worked_off, true)
    }

    /// Out of the queue before it is looked at: what changes during the look, as by a
    /// session's last program, is another one's to see.
    fn next(&mut self) -> Option<String> {
        let id = self.waiting.pop_first();
        self.is_worked_off = id.is_some();
        id
    }
}

/// Looks at a project when those that wait are done, one after the other, and tells the
/// page what is new.
pub fn look_later(app: &Shared, id: &str) {
    if !locked(&app.to_review).add(id) {
        return;
    }
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        loop {
            let Some(id) = locked(&app.to_review).next() else { return };
            // What cannot be looked at is told when the person opens the page.
            let _ = look(&app, &id).await;
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
        leads_out: change.leads_out,
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
        review::DiffLine::Executable(true) => "… it can be executed now".into(),
        review::DiffLine::Executable(false) => "… it cannot be executed any more".into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_that_is_being_looked_at_waits_for_another_look() {
        let mut queue = Queue::default();
        assert!(queue.add("one"));
        assert_eq!(queue.next().as_deref(), Some("one"));
        // Its sandbox ends meanwhile.
        assert!(!queue.add("one"), "two would look at the same time");
        assert!(!queue.add("one"));
        assert_eq!(queue.next().as_deref(), Some("one"));
        assert_eq!(queue.next(), None);
        assert!(queue.add("one"));
    }
}
