//! The desktop's clipboard: written to, and never read to the page or to a program.
//! A picture goes from it into a sandbox when the person pastes it there.

use gtk::gdk;
use rcc_sandbox::{Code, Error};
use tauri::AppHandle;
use tokio::sync::oneshot;

/// The largest picture, in bytes of PNG.
const LARGEST: usize = 32 << 20;

/// The longest text that goes there, in bytes (PRODUCT 2.6).
pub const MAX: usize = 1 << 20;

/// Copies text. GTK belongs to the main thread.
pub fn copy(app: &AppHandle, text: String) -> tauri::Result<()> {
    app.run_on_main_thread(move || {
        gtk::Clipboard::get(&gdk::SELECTION_CLIPBOARD).set_text(&text);
    })
}

/// The picture on the clipboard as PNG; none when there is text, or nothing.
pub async fn image(app: &AppHandle) -> Result<Option<Vec<u8>>, Error> {
    let (tell, told) = oneshot::channel();
    let failed = |why: &dyn std::fmt::Display| {
        Error::new(Code::Io, format!("The desktop says: {why}."))
            .title_is("The picture could not be pasted.")
    };
    app.run_on_main_thread(move || {
        gtk::Clipboard::get(&gdk::SELECTION_CLIPBOARD).request_image(move |_, picture| {
            // A callback of GTK's may come twice only by mistake; nobody waits then.
            let png = picture.map(|picture| picture.save_to_bufferv("png", &[]));
            let _ = tell.send(png);
        });
    })
    .map_err(|error| failed(&error))?;
    match told.await {
        Ok(Some(Ok(png))) if png.len() > LARGEST => Err(failed(&"it is larger than 32 MB")),
        Ok(Some(Ok(png))) => Ok(Some(png)),
        Ok(Some(Err(error))) => Err(failed(&error)),
        Ok(None) | Err(_) => Ok(None),
    }
}
