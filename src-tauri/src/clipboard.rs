//! The desktop's clipboard: written to, never read by the page's wish.

use gtk::gdk;
use tauri::AppHandle;

/// The longest text that goes there, in bytes (PRODUCT 2.6).
pub const MAX: usize = 1 << 20;

/// Copies text. GTK belongs to the main thread.
pub fn copy(app: &AppHandle, text: String) -> tauri::Result<()> {
    app.run_on_main_thread(move || {
        gtk::Clipboard::get(&gdk::SELECTION_CLIPBOARD).set_text(&text);
    })
}
