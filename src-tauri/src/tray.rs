//! The tray: a StatusNotifierItem with the menu of what runs.

pub mod icon;
pub mod menu;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ksni::TrayMethods;
use ksni::menu::{MenuItem, StandardItem, SubMenu};
use tauri::AppHandle;
use tokio::sync::broadcast::error::RecvError;

use self::menu::{Action, Entry, Line, Shape};
use crate::app::{App, News, Shared, now};
use crate::wire::Event;
use crate::{desk, projects};

/// Changes are shown at most so often.
const GATHERED: Duration = Duration::from_millis(700);

/// Memory is looked at so often while something runs.
const LOOK: Duration = Duration::from_secs(60);

/// What the host of the tray asks for.
pub struct Tray {
    lines: Vec<Line>,
    /// Somebody shows it.
    online: Arc<AtomicBool>,
    act: Box<dyn Fn(Action) + Send + Sync>,
}

impl Tray {
    fn new(online: Arc<AtomicBool>, act: impl Fn(Action) + Send + Sync + 'static) -> Self {
        online.store(true, Ordering::Relaxed);
        Self { lines: Vec::new(), online, act: Box::new(act) }
    }

    fn item(entry: Entry) -> MenuItem<Self> {
        match entry {
            Entry::Separator => MenuItem::Separator,
            Entry::Word(label) => StandardItem {
                label: menu::escaped(&label),
                enabled: false,
                ..StandardItem::default()
            }
            .into(),
            Entry::Do { label, action, enabled } => StandardItem {
                label: menu::escaped(&label),
                enabled,
                activate: Box::new(move |tray: &mut Self| (tray.act)(action.clone())),
                ..StandardItem::default()
            }
            .into(),
            Entry::Sub { label, entries } => SubMenu {
                label: menu::escaped(&label),
                submenu: entries.into_iter().map(Self::item).collect(),
                ..SubMenu::default()
            }
            .into(),
        }
    }
}

impl ksni::Tray for Tray {
    fn id(&self) -> String {
        crate::APPLICATION.into()
    }

    fn title(&self) -> String {
        "rcc".into()
    }

    fn status(&self) -> ksni::Status {
        match menu::shape(&self.lines) {
            Shape::NeedsYou | Shape::Trouble => ksni::Status::NeedsAttention,
            Shape::Idle | Shape::Running => ksni::Status::Active,
        }
    }

    fn icon_pixmap(&self) -> Vec<ksni::Icon> {
        icon::icons(menu::shape(&self.lines))
    }

    fn attention_icon_pixmap(&self) -> Vec<ksni::Icon> {
        self.icon_pixmap()
    }

    fn tool_tip(&self) -> ksni::ToolTip {
        ksni::ToolTip {
            title: "rcc".into(),
            description: menu::tooltip(&self.lines),
            ..ksni::ToolTip::default()
        }
    }

    fn activate(&mut self, _x: i32, _y: i32) {
        let urgent = menu::urgent(&self.lines).map(str::to_string);
        (self.act)(urgent.map_or(Action::ShowWindow, Action::Show));
    }

    fn menu(&self) -> Vec<MenuItem<Self>> {
        menu::menu(&self.lines, now()).into_iter().map(Self::item).collect()
    }

    /// Ages go on while nothing happens: the menu is made anew when it is opened.
    fn menu_about_to_show(&mut self) {}

    fn watcher_online(&self) {
        self.online.store(true, Ordering::Relaxed);
    }

    fn watcher_offline(&self, _reason: ksni::OfflineReason) -> bool {
        self.online.store(false, Ordering::Relaxed);
        true
    }
}

/// Shows the tray for as long as the app runs. Without a session bus there is none.
pub async fn run(handle: AppHandle, app: Shared) {
    let mut events = app.events();
    let act = move |action| desk::act(&handle, action);
    let tray = Tray::new(app.tray_online.clone(), act);
    // A panel may begin after the app.
    let Ok(tray) = tray.assume_sni_available(true).spawn().await else {
        app.tray_online.store(false, Ordering::Relaxed);
        return;
    };
    loop {
        let lines = running(&app).await;
        let some = !lines.is_empty();
        if tray.update(|tray| tray.lines = lines).await.is_none() {
            app.tray_online.store(false, Ordering::Relaxed);
            return;
        }
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = tokio::time::sleep(LOOK), if some => break,
            };
            match event {
                Ok(News::Told(Event::Activity { .. } | Event::Projects))
                | Err(RecvError::Lagged(_)) => {
                    break;
                }
                Ok(_) => {}
                Err(RecvError::Closed) => return,
            }
        }
        tokio::time::sleep(GATHERED).await;
        events = events.resubscribe();
    }
}

/// What runs, as the menu shows it.
async fn running(app: &Shared) -> Vec<Line> {
    let list = projects::list(app).await.unwrap_or_default();
    let memory = memory(app).await;
    list.into_iter()
        .filter_map(|project| {
            let session = project.session?;
            Some(Line {
                memory: memory.iter().find(|(id, _)| *id == project.id).map(|(_, bytes)| *bytes),
                project: project.id,
                name: project.name,
                activity: session.activity,
                network: session.network,
            })
        })
        .collect()
}

async fn memory(app: &App) -> Vec<(String, u64)> {
    let Some(engine) = app.engine_if_known().await else { return Vec::new() };
    let mut memory = Vec::new();
    for session in rcc_sandbox::Session::all(&engine).await.unwrap_or_default() {
        if let Ok(usage) = session.usage().await
            && let Some(bytes) = usage.memory
        {
            memory.push((session.project_id().to_string(), bytes));
        }
    }
    memory
}

/// Whether hiding the window leaves something to click on: a watcher that says
/// that a host shows its items.
pub async fn is_shown(app: &App) -> bool {
    app.tray_online.load(Ordering::Relaxed) && host_registered().await.unwrap_or(false)
}

async fn host_registered() -> zbus::Result<bool> {
    let bus = zbus::Connection::session().await?;
    let name = "org.kde.StatusNotifierWatcher";
    let watcher = zbus::Proxy::new(&bus, name, "/StatusNotifierWatcher", name).await?;
    watcher.get_property("IsStatusNotifierHostRegistered").await
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tokio::sync::mpsc;
    use zbus::zvariant::{OwnedValue, Value};

    use super::menu::tests::line;
    use super::*;
    use crate::wire::StateWord;
    use rcc_test_aids::on_a_bus;

    struct Watcher(mpsc::UnboundedSender<String>);

    #[zbus::interface(name = "org.kde.StatusNotifierWatcher")]
    impl Watcher {
        fn register_status_notifier_item(&self, service: &str) {
            let _ = self.0.send(service.into());
        }

        #[zbus(property)]
        fn is_status_notifier_host_registered(&self) -> bool {
            true
        }
    }

    type Layout = (i32, HashMap<String, OwnedValue>, Vec<OwnedValue>);

    /// Number and label of each item, from top to bottom.
    fn flat(layout: &Layout, into: &mut Vec<(i32, String)>) {
        if let Some(label) = layout.1.get("label") {
            into.push((layout.0, label.downcast_ref::<String>().unwrap()));
        }
        for child in &layout.2 {
            flat(&child.try_clone().unwrap().try_into().unwrap(), into);
        }
    }

    async fn items(menu: &zbus::Proxy<'_>) -> Vec<(i32, String)> {
        let nothing: Vec<String> = Vec::new();
        let (_revision, layout): (u32, Layout) =
            menu.call("GetLayout", &(0_i32, -1_i32, nothing)).await.unwrap();
        let mut all = Vec::new();
        flat(&layout, &mut all);
        all
    }

    async fn click(menu: &zbus::Proxy<'_>, label: &str) {
        let id = items(menu).await.into_iter().find(|(_, own)| own == label);
        let id = id.unwrap_or_else(|| panic!("no {label}")).0;
        let _: () = menu.call("Event", &(id, "clicked", Value::from(0), 0_u32)).await.unwrap();
    }

    #[test]
    fn a_host_reads_the_menu_and_clicks_it() {
        on_a_bus("tray::tests::on_the_bus");
    }

    /// Run by the test above, with a session bus of its own.
    #[tokio::test]
    #[ignore = "needs a bus of its own"]
    async fn on_the_bus() {
        let online = Arc::new(AtomicBool::new(false));
        let (acts, mut acted) = mpsc::unbounded_channel();
        let act = move |action| drop(acts.send(action));
        // The app is there before the panel.
        let tray = Tray::new(online.clone(), act);
        let tray = tray.assume_sni_available(true).spawn().await.unwrap();
        assert!(!online.load(Ordering::Relaxed));

        let (tell, mut registered) = mpsc::unbounded_channel();
        let bus = zbus::connection::Builder::session()
            .unwrap()
            .serve_at("/StatusNotifierWatcher", Watcher(tell))
            .unwrap()
            .name("org.kde.StatusNotifierWatcher")
            .unwrap()
            .build()
            .await
            .unwrap();
        let item = registered.recv().await.unwrap();
        assert!(online.load(Ordering::Relaxed));
        assert!(host_registered().await.unwrap());

        let menu = zbus::Proxy::new(&bus, item.clone(), "/MenuBar", "com.canonical.dbusmenu")
            .await
            .unwrap();
        let labels = |items: Vec<(i32, String)>| -> Vec<String> {
            items.into_iter().map(|(_, label)| label).collect()
        };
        assert_eq!(labels(items(&menu).await)[0], "No sessions running");
        let lines = vec![line("my_shop", StateWord::NeedsYou, Some("Which one?"))];
        tray.update(|tray| tray.lines = lines).await.unwrap();
        assert_eq!(labels(items(&menu).await)[0], "my__shop — needs you: “Which one?”");
        click(&menu, "Stop Session").await;
        assert_eq!(acted.recv().await.unwrap(), Action::Stop("id-my_shop".into()));
        click(&menu, "Quit rcc").await;
        assert_eq!(acted.recv().await.unwrap(), Action::Quit);

        let name = "org.kde.StatusNotifierItem";
        let item = zbus::Proxy::new(&bus, item, "/StatusNotifierItem", name).await.unwrap();
        let _: () = item.call("Activate", &(0_i32, 0_i32)).await.unwrap();
        assert_eq!(acted.recv().await.unwrap(), Action::Show("id-my_shop".into()));
        let status: String = item.get_property("Status").await.unwrap();
        assert_eq!(status, "NeedsAttention");

        // The panel goes.
        bus.release_name("org.kde.StatusNotifierWatcher").await.unwrap();
        for _ in 0..100 {
            if !online.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nobody shows it, and it does not know");
    }
}
