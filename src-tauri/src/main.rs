//! The window of rcc: a page in a web view, and commands over `rcc_sandbox`.

mod app;
mod appearance;
mod clipboard;
mod commands;
mod hosts;
mod live;
mod network;
mod opening;
mod projects;
mod remembered;
mod screen;
mod seen;
mod watching;
mod wire;

use std::process::ExitCode;
use std::sync::Arc;

use gtk::glib;
use rcc_sandbox::Host;
use tauri::{Manager, WindowEvent};

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
        .plugin(tauri_plugin_dialog::init())
        .manage(shared)
        .invoke_handler(commands::handler())
        .setup(|app| {
            appearance::follow_desktop(app.handle());
            let shared = app.state::<Shared>().inner().clone();
            tauri::async_runtime::spawn(hosts::follow(shared));
            Ok(())
        })
        .on_window_event(|window, event| {
            if let WindowEvent::DragDrop(event) = event {
                projects::dragged(&window.state::<Shared>(), event);
            }
        })
        .run(tauri::generate_context!())
}
