//! Notifications: when Claude needs the person, when a host was blocked.

mod decide;
mod desktop;

use std::collections::HashSet;
use std::time::Instant;

use rcc_sandbox::Error;
use tauri::AppHandle;
use tokio::sync::broadcast::error::RecvError;

use self::decide::{About, Answer, Notes, Step};
use self::desktop::{Desktop, Said};
use crate::app::{News, Shared, again, locked};
use crate::wire::{Activity, AllowHost, AllowScope, Event, PageWord, StateWord};
use crate::{network, window};

/// Tells for as long as the app runs.
pub async fn run(handle: AppHandle, app: Shared) {
    let mut events = app.events();
    let mut desktop = Desktop::new();
    let mut notes = Notes::default();
    loop {
        let steps = tokio::select! {
            event = events.recv() => match event {
                Ok(event) => decide(&app, &mut notes, event).await,
                // Whatever was missed is in the window.
                Err(RecvError::Lagged(_)) => Vec::new(),
                Err(RecvError::Closed) => return,
            },
            said = desktop.said() => match said {
                Some(said) => heard(&handle, &app, &mut notes, said),
                None => return,
            },
        };
        for step in steps {
            desktop.perform(step).await;
        }
    }
}

async fn decide(app: &Shared, notes: &mut Notes, news: News) -> Vec<Step> {
    let event = match news {
        News::Told(event) => event,
        News::LooksAt(project) => return notes.looked_at(&project),
    };
    match event {
        Event::Activity { project, activity, .. } => match question(activity) {
            Some(question) => {
                let quiet = app.in_sight(&project) || !app.preferences().notify_needs_you;
                notes.needs_you(
                    &project,
                    &name(app, &project),
                    question.as_deref(),
                    quiet,
                    Instant::now(),
                )
            }
            None => notes.goes_on(&project),
        },
        Event::Blocked(blocked) => {
            // What nobody can allow is no question.
            let quiet = !blocked.can_be_allowed()
                || app.in_sight(&blocked.project)
                || !app.preferences().notify_blocked;
            let name = name(app, &blocked.project);
            notes.blocked(&blocked, &name, quiet, Instant::now())
        }
        Event::Projects => over(app, notes),
        Event::Hosts { .. } | Event::Network { .. } => answered(app, notes).await,
        _ => Vec::new(),
    }
}

/// What Claude asks, when it asks.
#[expect(clippy::option_option, reason = "it may need the person without a question")]
fn question(activity: Option<Activity>) -> Option<Option<String>> {
    activity.filter(|now| now.state == StateWord::NeedsYou).map(|now| now.detail)
}

/// Sessions that are gone ask nothing any more.
fn over(app: &Shared, notes: &mut Notes) -> Vec<Step> {
    let projects: HashSet<String> =
        notes.open().into_iter().map(|about| about.project().to_string()).collect();
    let live = locked(&app.live);
    let gone = projects.into_iter().filter(|project| live.get(project).is_none());
    gone.flat_map(|project| notes.ended(&project)).collect()
}

/// Withdraws hosts that are allowed by now, here or by the command line.
async fn answered(app: &Shared, notes: &mut Notes) -> Vec<Step> {
    let mut steps = Vec::new();
    for about in notes.open() {
        let About::Blocked(blocked) = &about else { continue };
        let still = network::still_blocked(app, std::slice::from_ref(blocked)).await;
        if still.is_ok_and(|still| still == [false]) {
            steps.extend(notes.answered(&about));
        }
    }
    steps
}

fn heard(handle: &AppHandle, app: &Shared, notes: &mut Notes, said: Said) -> Vec<Step> {
    let (about, answer) = match said {
        Said::Closed(about) => {
            notes.closed(&about);
            return Vec::new();
        }
        Said::Answered(about, answer) => (about, answer),
    };
    let project = about.project().to_string();
    match (&about, answer) {
        (_, Answer::NotNow) => {}
        (About::Blocked(blocked), Answer::Allow) => {
            let request = AllowHost {
                project,
                target: blocked.target.clone(),
                port: blocked.port,
                protocol: blocked.protocol.clone(),
                private: blocked.is_private(),
                scope: AllowScope::Project,
            };
            tauri::async_runtime::spawn(allow(handle.clone(), app.clone(), request));
        }
        (About::NeedsYou { .. }, _) => window::show(handle, Some(project), PageWord::Terminal),
        _ => window::show(handle, Some(project), PageWord::Network),
    }
    notes.answered(&about)
}

async fn allow(handle: AppHandle, app: Shared, request: AllowHost) {
    if let Err(error) = network::allow(&app, &request).await {
        window::show(&handle, Some(request.project), PageWord::Network);
        app.tell(Event::Refused(error.into()));
    }
}

fn name(app: &Shared, project: &str) -> String {
    let known = || -> Result<String, Error> {
        app.host().map_err(again)?;
        Ok(app.project(project)?.name())
    };
    known().unwrap_or_else(|_| "A project".into())
}
