//! Light or dark, and how much contrast, as the desktop says it. WebKitGTK and the
//! title bar follow GTK's setting, and GTK 3 does not ask the portal itself.

use futures_util::StreamExt;
use gtk::prelude::GtkSettingsExt;
use tauri::{AppHandle, Manager};
use zbus::zvariant::{OwnedValue, Value};

use crate::app::Shared;
use crate::wire::Event;

const NAMESPACE: &str = "org.freedesktop.appearance";

/// `1`: the person prefers dark (XDG desktop portal, Settings).
const SCHEME: &str = "color-scheme";

/// `1`: the person wants high contrast.
const CONTRAST: &str = "contrast";

#[zbus::proxy(
    interface = "org.freedesktop.portal.Settings",
    default_service = "org.freedesktop.portal.Desktop",
    default_path = "/org/freedesktop/portal/desktop"
)]
trait Portal {
    /// Superseded by `ReadOne`, which Debian 12's portal does not have yet.
    fn read(&self, namespace: &str, key: &str) -> zbus::Result<OwnedValue>;

    #[zbus(signal)]
    fn setting_changed(&self, namespace: &str, key: &str, value: OwnedValue) -> zbus::Result<()>;
}

/// Follows it for as long as the app runs; as long as no portal tells, GTK's own theme stays.
pub fn follow_desktop(app: &AppHandle) {
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        // Nothing depends on it: a desktop without a portal is an ordinary one.
        let _ = follow(&app).await;
    });
}

async fn follow(app: &AppHandle) -> zbus::Result<()> {
    let bus = zbus::Connection::session().await?;
    let portal = PortalProxy::new(&bus).await?;
    let mut changes = portal.receive_setting_changed().await?;
    // One that comes later is heard all the same.
    for key in [SCHEME, CONTRAST] {
        if let Ok(value) = portal.read(NAMESPACE, key).await {
            apply(app, key, &value);
        }
    }
    while let Some(change) = changes.next().await {
        if let Ok(change) = change.args()
            && change.namespace == NAMESPACE
        {
            apply(app, change.key, &change.value);
        }
    }
    Ok(())
}

fn apply(app: &AppHandle, key: &str, value: &OwnedValue) {
    let Some(wanted) = number(value).map(|number| number == 1) else { return };
    match key {
        // GTK belongs to the main thread; the app may be ending.
        SCHEME => drop(app.run_on_main_thread(move || {
            if let Some(settings) = gtk::Settings::default() {
                settings.set_gtk_application_prefer_dark_theme(wanted);
            }
        })),
        CONTRAST => app.state::<Shared>().show(Event::Contrast { high: wanted }),
        _ => {}
    }
}

/// `Read` answers a variant in a variant, the signal a plain one.
fn number(value: &Value<'_>) -> Option<u32> {
    match value {
        Value::U32(number) => Some(*number),
        Value::Value(inner) => number(inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_answer_are_read() {
        assert_eq!(number(&Value::U32(1)), Some(1));
        assert_eq!(number(&Value::Value(Box::new(Value::U32(2)))), Some(2));
        assert_eq!(number(&Value::from("dark")), None);
    }
}
