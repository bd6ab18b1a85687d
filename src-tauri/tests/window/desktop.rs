//! A desktop's services: a portal, as far as it tells of light and dark, and a panel
//! that shows what is in the tray.

use std::path::Path;

use tokio::runtime::Runtime;
use zbus::object_server::SignalEmitter;
use zbus::zvariant::Value;

/// Values of `color-scheme` (XDG desktop portal, Settings).
pub const DARK: u32 = 1;
pub const LIGHT: u32 = 2;

const PATH: &str = "/org/freedesktop/portal/desktop";

struct Settings(u32);

#[zbus::interface(name = "org.freedesktop.portal.Settings")]
impl Settings {
    /// A variant in a variant, as the real one answers.
    fn read(&self, namespace: &str, key: &str) -> zbus::fdo::Result<Value<'static>> {
        if (namespace, key) == ("org.freedesktop.appearance", "color-scheme") {
            Ok(Value::Value(Box::new(Value::U32(self.0))))
        } else {
            Err(zbus::fdo::Error::Failed("Requested setting not found".into()))
        }
    }

    #[zbus(signal)]
    async fn setting_changed(
        emitter: &SignalEmitter<'_>,
        namespace: &str,
        key: &str,
        value: Value<'_>,
    ) -> zbus::Result<()>;
}

struct Watcher;

#[zbus::interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    fn register_status_notifier_item(&self, _service: &str) {}

    #[zbus(property)]
    fn is_status_notifier_host_registered(&self) -> bool {
        true
    }
}

pub struct Desktop {
    runtime: Runtime,
    bus: zbus::Connection,
}

impl Desktop {
    /// On the bus whose address stands in a file.
    pub fn start(bus: &Path, scheme: u32) -> Self {
        let runtime = Runtime::new().unwrap();
        let address = std::fs::read_to_string(bus).unwrap();
        let bus = runtime.block_on(async {
            zbus::connection::Builder::address(address.as_str())
                .unwrap()
                .serve_at(PATH, Settings(scheme))
                .unwrap()
                .name("org.freedesktop.portal.Desktop")
                .unwrap()
                .build()
                .await
                .unwrap()
        });
        Self { runtime, bus }
    }

    /// A panel comes that shows the tray.
    pub fn show_tray(&self) {
        self.runtime.block_on(async {
            self.bus.object_server().at("/StatusNotifierWatcher", Watcher).await.unwrap();
            self.bus.request_name("org.kde.StatusNotifierWatcher").await.unwrap();
        });
    }

    pub fn prefers(&self, scheme: u32) {
        self.runtime.block_on(async {
            let settings = self.bus.object_server().interface::<_, Settings>(PATH).await.unwrap();
            settings.get_mut().await.0 = scheme;
            let (namespace, key) = ("org.freedesktop.appearance", "color-scheme");
            let emitter = settings.signal_emitter();
            Settings::setting_changed(emitter, namespace, key, scheme.into()).await.unwrap();
        });
    }
}
