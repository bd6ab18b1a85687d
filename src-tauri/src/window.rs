//! The window itself: shown, hidden, closed, and where it was the last time.

mod place;

use std::path::Path;
use std::time::{Duration, Instant};

use tauri::{AppHandle, Manager, WebviewWindow, Window, WindowEvent};

use crate::app::{Shared, locked};
use crate::wire::{Event, PageWord};
use crate::{desk, dropped, projects, tray};

pub use place::{remember, restore};

/// Who closes the window twice within this time means it.
const MEANT: Duration = Duration::from_secs(10);

fn main(handle: &AppHandle) -> Option<WebviewWindow> {
    handle.get_webview_window("main")
}

/// Brings the window to the front and shows a page of it.
pub fn show(handle: &AppHandle, project: Option<String>, page: PageWord) {
    show_as_it_is(handle);
    handle.state::<Shared>().show(Event::Show { project, page });
}

/// Brings the window to the front.
pub fn show_as_it_is(handle: &AppHandle) {
    if let Some(window) = main(handle) {
        // A desktop may not let a program take the front; it marks it then.
        let _ = window.show();
        let _ = window.unminimize();
        let _ = window.set_focus();
    }
}

/// `rcc-desktop PATH`: that folder; without one, the window as it is.
pub fn started_with(handle: &AppHandle, arguments: &[String], folder: &Path) {
    let Some(path) = arguments.get(1).filter(|path| !path.starts_with('-')) else {
        show_as_it_is(handle);
        return;
    };
    let app = handle.state::<Shared>();
    match projects::add(&app, &folder.join(path)) {
        Ok(project) => {
            app.tell(Event::Projects);
            show(handle, Some(project), PageWord::Terminal);
        }
        Err(error) => {
            show_as_it_is(handle);
            app.show(Event::Refused(error.into()));
        }
    }
}

/// What the desktop does with the window.
pub fn event(window: &Window, event: &WindowEvent) {
    let app = window.state::<Shared>();
    match event {
        WindowEvent::DragDrop(event) => dropped::event(&app, event),
        WindowEvent::Focused(focused) => {
            app.focused(*focused);
            if !focused {
                remember(&app, window);
            }
        }
        WindowEvent::CloseRequested { api, .. } => {
            api.prevent_close();
            remember(&app, window);
            let handle = window.app_handle().clone();
            tauri::async_runtime::spawn(async move { close(&handle).await });
        }
        _ => {}
    }
}

/// Hides where a tray is there to come back from, else quits.
pub async fn close(handle: &AppHandle) {
    let app = handle.state::<Shared>().inner().clone();
    if app.preferences().close_hides && tray::is_shown(&app).await {
        // The first time it is said, where it can still be read; closed then or once
        // more, it hides.
        if app.has_page() && locked(&app.remembered).hidden_once() {
            app.tell(Event::Hides);
        } else if let Some(window) = main(handle) {
            // It stays in sight then, and can be closed again.
            let _ = window.hide();
        }
        return;
    }
    ask_to_quit(handle).await;
}

/// Quits at once when nothing runs; else the page asks what to do with what
/// runs. Whoever wants to quit again meanwhile does not wait for the page.
pub async fn ask_to_quit(handle: &AppHandle) {
    let app = handle.state::<Shared>().inner().clone();
    let running = match app.engine_if_known().await {
        Some(engine) => rcc_sandbox::Session::all(&engine).await.map_or(0, |all| all.len()),
        None => 0,
    };
    let asked = locked(&app.asked_to_quit).replace(Instant::now());
    let meant = asked.is_some_and(|asked| asked.elapsed() < MEANT);
    if running == 0 || meant || !app.has_page() {
        handle.exit(0);
        return;
    }
    show_as_it_is(handle);
    app.tell(Event::Quit { running: u32::try_from(running).unwrap_or(u32::MAX) });
}

/// Ends the app, with or without the sessions.
pub async fn quit(handle: &AppHandle, stop: bool) -> Result<(), rcc_sandbox::Error> {
    let app = handle.state::<Shared>().inner().clone();
    if stop {
        desk::stop_all(&app).await?;
    }
    if let Some(window) = main(handle) {
        remember(&app, &window.as_ref().window());
    }
    handle.exit(0);
    Ok(())
}
