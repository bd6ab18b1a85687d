//! The window of rcc: a page in a web view, and commands over `rcc_sandbox`.

mod app;
mod appearance;
mod clipboard;
mod commands;
mod desk;
mod dropped;
mod hosts;
mod layers;
mod limits;
mod live;
mod network;
mod notify;
mod opening;
mod projects;
mod remembered;
mod review;
mod screen;
mod seen;
mod setup;
mod tray;
mod watching;
mod window;
mod wire;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use gtk::glib;
use rcc_sandbox::Host;
use tauri::Manager;

use crate::app::{App, Shared};

/// The one id of the application (PRODUCT 3); also in `tauri.conf.json`.
const APPLICATION: &str = "dev.rcc.Desktop";

fn main() -> ExitCode {
    // First of all, while there is one thread: this process may be the one that
    // sets up a sandbox's link.
    rcc_sandbox::link::run_if_asked();
    // What Wayland and X11 know the window by, as the desktop file is named.
    glib::set_prgname(Some(APPLICATION));
    glib::set_application_name("rcc");
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rcc-desktop: the window cannot be shown: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> tauri::Result<()> {
    let shared: Shared = Arc::new(App::new(Host::detect()));
    tauri::Builder::default()
        // First: a second start ends here and shows the window that is there.
        .plugin(tauri_plugin_single_instance::init(|app, arguments, folder| {
            window::started_with(app, &arguments, Path::new(&folder));
        }))
        .plugin(tauri_plugin_dialog::init())
        .manage(shared)
        .invoke_handler(commands::handler())
        .setup(|app| {
            appearance::follow_desktop(app.handle());
            let shared = app.state::<Shared>().inner().clone();
            if let Some(main) = app.get_webview_window("main") {
                window::restore(&shared, &main);
            }
            let arguments: Vec<String> =
                std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
            if arguments.len() > 1 {
                window::started_with(app.handle(), &arguments, &std::env::current_dir()?);
            }
            tauri::async_runtime::spawn(hosts::follow(shared.clone()));
            tauri::async_runtime::spawn(tray::run(app.handle().clone(), shared.clone()));
            tauri::async_runtime::spawn(notify::run(app.handle().clone(), shared));
            Ok(())
        })
        .on_window_event(window::event)
        .run(tauri::generate_context!())
}
