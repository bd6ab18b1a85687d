//! What the page may ask for. Each is thin; nothing else is open to it.

use std::path::PathBuf;

use rcc_sandbox::{Error, Host, Session, Size};
use tauri::ipc::{Channel, InvokeBody, Request};
use tauri::{AppHandle, State};
use tauri_plugin_dialog::DialogExt;

use crate::app::{Shared, again, locked};
use crate::screen::Screen;
use crate::wire::{Event, Hello, OpenSandbox, Opened, Problem, Progress, Project};
use crate::{clipboard, opening, projects, setup, watching, window};

mod desk;
mod hosts;
#[cfg(test)]
mod names;
mod network;
mod review;
mod settings;
#[cfg(test)]
pub use names::NAMES;

type Answer<T> = Result<T, Problem>;

/// Answers every command of `commands/names.rs`, which the build reads too.
pub fn handler() -> impl Fn(tauri::ipc::Invoke) -> bool + Send + Sync + 'static {
    tauri::generate_handler![
        hello,
        list_projects,
        look_again,
        show_title,
        choose_folder,
        forget_project,
        open_sandbox,
        cancel_opening,
        stop_session,
        network::network_view,
        network::allow_host,
        network::still_blocked,
        network::never_ask,
        close_window,
        network::set_network,
        network::open_internet,
        review::review_view,
        review::review_diff,
        review::review_keep,
        review::review_put_back,
        review::review_undo,
        hosts::hosts,
        hosts::change_hosts,
        hosts::check_host,
        settings::settings,
        settings::save_settings,
        settings::resources,
        settings::project_settings,
        settings::save_project_settings,
        settings::layers,
        settings::remove_layer,
        settings::setup,
        settings::mend,
        settings::renew,
        settings::cancel_mend,
        settings::about,
        settings::walls,
        settings::verify,
        terminal_write,
        terminal_resize,
        terminal_credit,
        terminal_close,
        end_terminal,
        quit,
        desk::copy_dropped,
        desk::paste_image,
        desk::ending,
        desk::login,
        desk::keep_login,
        desk::forget_login,
        desk::login_stays_here,
        desk::linger,
        desk::set_linger,
        copy_text,
        open_link,
    ]
}

/// The page is there. What an earlier page showed is let go.
#[tauri::command]
pub async fn hello(app: State<'_, Shared>, events: Channel<Event>) -> Answer<Hello> {
    locked(&app.terminals).clear();
    app.tell_page(events);
    let shared = app.inner().clone();
    tauri::async_runtime::spawn(async move {
        // Asked once; from then on rcc itself changes it, or the settings look again.
        let kept = rcc_sandbox::login::is_kept().await;
        *locked(&shared.login_kept) = kept;
        watching::begin(shared.clone()).await;
        watching::conversations(shared).await;
    });
    Ok(Hello {
        version: env!("CARGO_PKG_VERSION").into(),
        automation: std::env::var_os("TAURI_WEBVIEW_AUTOMATION").is_some_and(|set| set == "true"),
        problem: app.host().err().map(Problem::from),
        settings: app.preferences().into(),
        setup: setup::is_needed(&app).await,
    })
}

#[tauri::command]
pub async fn list_projects(app: State<'_, Shared>) -> Answer<Vec<Project>> {
    Ok(projects::list(&app).await?)
}

/// Looks for sessions that were opened or ended elsewhere.
#[tauri::command]
pub async fn look_again(app: State<'_, Shared>) -> Answer<()> {
    watching::begin(app.inner().clone()).await;
    Ok(())
}

/// Closes the window as its own button does: the person has read what that means.
#[tauri::command]
pub async fn close_window(handle: AppHandle) -> Answer<()> {
    window::close(&handle).await;
    Ok(())
}

/// The window's title says which project is in sight; never what a program
/// inside calls itself.
#[tauri::command]
pub fn show_title(
    window: tauri::Window,
    app: State<'_, Shared>,
    project: Option<&str>,
) -> Answer<()> {
    app.looks_at(project);
    let name = project.and_then(|id| app.project(id).ok()).map(|project| project.name());
    let title = name.map_or_else(|| "rcc".to_string(), |name| format!("{name} – rcc"));
    window.set_title(&title).map_err(|error| cannot("The title could not be set.", &error))
}

/// Lets the person choose a folder and puts it into the list; the project's id,
/// or nothing when the person changed their mind.
#[tauri::command]
pub async fn choose_folder(
    window: tauri::Window,
    app: State<'_, Shared>,
) -> Answer<Option<String>> {
    let host = app.host().map_err(Problem::from)?;
    let Some(path) = ask_for_folder(&window, host).await else { return Ok(None) };
    Ok(Some(projects::add(&app, &path)?))
}

async fn ask_for_folder(window: &tauri::Window, host: &Host) -> Option<PathBuf> {
    // A file dialog is out of a test's reach: debug builds take the answer from here.
    #[cfg(debug_assertions)]
    if let Some(path) = std::env::var_os("RCC_TEST_PICK_FOLDER") {
        return Some(path.into());
    }
    let (answer, chosen) = tokio::sync::oneshot::channel();
    window
        .dialog()
        .file()
        .set_parent(window)
        .set_title("Open Folder")
        .set_directory(&host.home)
        .pick_folder(move |path| {
            // Nobody waits any more when the page was loaded anew.
            let _ = answer.send(path);
        });
    chosen.await.ok().flatten()?.into_path().ok()
}

/// Takes a folder out of the list; the folder itself is not touched.
#[tauri::command]
pub fn forget_project(app: State<'_, Shared>, project: &str) {
    let known = app.project(project).ok();
    let mut remembered = locked(&app.remembered);
    if let Some(known) = known {
        remembered.add(known.id(), known.path());
    }
    remembered.hide(project);
}

#[tauri::command]
pub async fn open_sandbox(
    app: State<'_, Shared>,
    request: OpenSandbox,
    progress: Channel<Progress>,
    screen: Screen,
) -> Answer<Opened> {
    Ok(opening::open(&app, request, progress, screen).await?)
}

/// What was made is undone; `open_sandbox` then answers `RCC-E002`.
#[tauri::command]
pub fn cancel_opening(app: State<'_, Shared>, project: &str) {
    if let Some(cancel) = locked(&app.openings).get(project) {
        cancel.cancel();
    }
}

#[tauri::command]
pub async fn stop_session(app: State<'_, Shared>, project: String) -> Answer<()> {
    let host = app.host().map_err(again)?;
    let engine = app.engine().await?;
    // The folder may be gone: the session is found by the id alone.
    let sessions = Session::all(&engine).await?;
    for session in sessions.iter().filter(|session| session.project_id() == project) {
        session.stop(host).await?;
    }
    Ok(())
}

/// Types the raw bytes of the request's body; the header `terminal` says where.
#[tauri::command]
pub async fn terminal_write(app: State<'_, Shared>, request: Request<'_>) -> Answer<()> {
    let number = request
        .headers()
        .get("terminal")
        .and_then(|number| number.to_str().ok()?.parse().ok())
        .unwrap_or_default();
    let InvokeBody::Raw(bytes) = request.body() else { return Ok(()) };
    let Some(input) = locked(&app.terminals).get(number) else { return Ok(()) };
    Ok(input.write(bytes).await?)
}

#[tauri::command]
pub async fn terminal_resize(
    app: State<'_, Shared>,
    terminal: u32,
    columns: u16,
    rows: u16,
) -> Answer<()> {
    let Some(input) = locked(&app.terminals).get(terminal) else { return Ok(()) };
    Ok(input.resize(Size { columns, rows }).await?)
}

/// So many bytes of output were drawn.
#[tauri::command]
pub async fn terminal_credit(app: State<'_, Shared>, terminal: u32, bytes: u32) -> Answer<()> {
    let Some(input) = locked(&app.terminals).get(terminal) else { return Ok(()) };
    Ok(input.credit(bytes).await?)
}

/// Looks away; the program goes on.
#[tauri::command]
pub fn terminal_close(app: State<'_, Shared>, terminal: u32) {
    locked(&app.terminals).remove(terminal);
}

/// Ends the program of a tab, or puts away a tab whose program ended.
#[tauri::command]
pub async fn end_terminal(app: State<'_, Shared>, project: String, tab: u32) -> Answer<()> {
    let engine = app.engine().await?;
    let sessions = Session::all(&engine).await?;
    let Some(session) = sessions.iter().find(|session| session.project_id() == project) else {
        return Ok(());
    };
    session.hang_up(tab).await?;
    if let Some(sandbox) = locked(&app.live).get_mut(&project) {
        sandbox.close(tab);
    }
    watching::look(&app, session).await;
    Ok(())
}

/// Ends the app, with or without the sessions.
#[tauri::command]
pub async fn quit(handle: AppHandle, stop: bool) -> Answer<()> {
    Ok(window::quit(&handle, stop).await?)
}

/// Puts text on the clipboard. There is no command that reads it to the page.
#[tauri::command]
pub fn copy_text(handle: AppHandle, text: String) -> Answer<()> {
    if text.len() > clipboard::MAX {
        return Err(Problem::from(Error::new(
            rcc_sandbox::Code::Invalid,
            "The text is longer than 1 MiB.",
        )));
    }
    clipboard::copy(&handle, text).map_err(|error| cannot("The text could not be copied.", &error))
}

/// Opens a link of the web in the person's browser; anything else is refused.
#[tauri::command]
pub fn open_link(url: &str) -> Answer<()> {
    if !is_web_link(url) {
        return Err(Problem::from(Error::new(
            rcc_sandbox::Code::Invalid,
            "Only links that begin with http:// or https:// are opened.",
        )));
    }
    tauri_plugin_opener::open_url(url, None::<&str>)
        .map_err(|error| cannot("The link could not be opened.", &error))
}

/// The page checks this as well; here it counts (THREATS T1).
fn is_web_link(url: &str) -> bool {
    let Ok(parsed) = tauri::Url::parse(url) else { return false };
    matches!(parsed.scheme(), "http" | "https")
        && parsed.host().is_some()
        && url.len() <= 8192
        && url.chars().all(|c| !c.is_control() && !c.is_whitespace())
}

fn cannot(title: &str, error: &impl std::fmt::Display) -> Problem {
    let error = Error::new(rcc_sandbox::Code::Io, format!("The desktop says: {error}."));
    Problem::from(error.title_is(title))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_of_the_web_are_opened() {
        for good in ["https://example.org/a?b=c#d", "http://127.0.0.1:3000/"] {
            assert!(is_web_link(good), "{good}");
        }
        let bad = [
            "file:///etc/passwd",
            "javascript:alert(1)",
            "data:text/html,x",
            "https://",
            "x",
            "",
            "https://a b/",
            "https://example.org/\u{7}",
            "HTTPS ://x",
            "ssh://example.org",
            "-https://example.org",
        ];
        for bad in bad {
            assert!(!is_web_link(bad), "{bad}");
        }
    }

    /// A command that is not in the capability could not be called; one that is
    /// there and not here would be a hole in waiting.
    #[test]
    fn the_capability_names_exactly_the_commands() {
        let text = include_str!("../capabilities/main.json");
        let capability: serde_json::Value = serde_json::from_str(text).unwrap();
        let allowed: Vec<&str> = capability["permissions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p.as_str().unwrap())
            .collect();
        let expected: Vec<String> =
            NAMES.iter().map(|name| format!("allow-{}", name.replace('_', "-"))).collect();
        assert_eq!(allowed, expected);
        assert_eq!(capability["windows"], serde_json::json!(["main"]));
        let handled = [
            include_str!("commands.rs"),
            include_str!("commands/desk.rs"),
            include_str!("commands/hosts.rs"),
            include_str!("commands/network.rs"),
            include_str!("commands/review.rs"),
            include_str!("commands/settings.rs"),
        ]
        .concat();
        for name in NAMES {
            assert!(handled.contains(&format!("fn {name}(")), "{name}");
        }
        assert_eq!(handled.matches(concat!("#[tauri::", "command]")).count(), NAMES.len());
    }

    #[test]
    fn the_page_may_run_nothing_that_is_not_its_own() {
        let text = include_str!("../tauri.conf.json");
        let config: serde_json::Value = serde_json::from_str(text).unwrap();
        let policy = &config["app"]["security"]["csp"];
        assert_eq!(policy["default-src"], "'none'");
        assert_eq!(policy["script-src"], "'self'");
        assert!(!policy.to_string().contains("unsafe"));
        assert_eq!(config["app"]["withGlobalTauri"], false);
    }
}
