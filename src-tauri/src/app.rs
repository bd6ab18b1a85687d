//! What the window holds: connections, running openings, terminals.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rcc_sandbox::{
    Cancel, Code, Engine, Error, Handed, Host, Network, Preferences, Project, Settings,
    TerminalInput,
};
use tauri::ipc::Channel;
use tokio::sync::broadcast;

use crate::limits::Looks;
use crate::live::{Live, Sandbox};
use crate::remembered::{Folder, Remembered};
use crate::seen::Seen;
use crate::wire::{Event, SetupId};

/// Events that may wait for the tray and for notifications.
const EVENTS: usize = 256;

/// Cheap to clone.
pub type Shared = Arc<App>;

pub struct App {
    host: Result<Host, Error>,
    pub remembered: Mutex<Remembered>,
    /// What is being opened, by project.
    pub openings: Mutex<HashMap<String, Cancel>>,
    pub terminals: Mutex<Terminals>,
    /// What the sessions that are watched do.
    pub live: Mutex<Live>,
    /// What they were not let through to.
    pub seen: Mutex<Seen>,
    engine: tokio::sync::Mutex<Option<Engine>>,
    network: tokio::sync::Mutex<Option<Network>>,
    /// What the last look at each project's guarded files found.
    pub reviewed: Mutex<HashMap<String, crate::review::Seen>>,
    /// Projects that wait for a look.
    pub to_review: Mutex<crate::review::Queue>,
    /// Somebody looks at them every second.
    pub reviewing: AtomicBool,
    /// Somebody listens for blocked hosts.
    pub listening: AtomicBool,
    /// What of the first run is being done.
    pub mending: Mutex<HashMap<SetupId, Cancel>>,
    /// The last looks at what each sandbox computes.
    pub looks: Mutex<Looks>,
    /// Somebody shows the tray.
    pub tray_online: Arc<AtomicBool>,
    /// Files that were dropped on the window last.
    pub dropped: Mutex<Vec<PathBuf>>,
    /// A login for all projects is kept; none while that is not known.
    pub login_kept: Mutex<Option<bool>>,
    /// The last change of a list of hosts.
    pub undo: Mutex<Option<crate::hosts::Undo>>,
    /// When the page was asked to ask what to do with what runs.
    pub asked_to_quit: Mutex<Option<Instant>>,
    /// What the person looks at.
    sight: Mutex<Sight>,
    page: Mutex<Option<Channel<Event>>>,
    /// What to show as soon as there is a page.
    first: Mutex<Vec<Event>>,
    events: broadcast::Sender<News>,
}

/// What tray and notifications hear.
#[derive(Debug, Clone)]
pub enum News {
    /// Told to the page, too.
    Told(Event),
    /// The person has this project before them now.
    LooksAt(String),
}

/// Whether the person looks at the window, and at which project in it.
#[derive(Default)]
struct Sight {
    focused: bool,
    project: Option<String>,
}

/// The terminals that the page shows, by the window's own number.
#[derive(Default)]
pub struct Terminals {
    last: u32,
    inputs: HashMap<u32, TerminalInput>,
}

impl App {
    pub fn new(host: Result<Host, Error>) -> Self {
        let state = host.as_ref().map_or_else(|_| PathBuf::new(), |host| host.state.clone());
        Self {
            host,
            remembered: Mutex::new(Remembered::load(&state)),
            openings: Mutex::default(),
            terminals: Mutex::default(),
            live: Mutex::default(),
            seen: Mutex::default(),
            engine: tokio::sync::Mutex::default(),
            network: tokio::sync::Mutex::default(),
            reviewed: Mutex::default(),
            to_review: Mutex::default(),
            reviewing: AtomicBool::default(),
            listening: AtomicBool::default(),
            mending: Mutex::default(),
            looks: Mutex::default(),
            tray_online: Arc::default(),
            dropped: Mutex::default(),
            login_kept: Mutex::default(),
            undo: Mutex::default(),
            asked_to_quit: Mutex::default(),
            sight: Mutex::default(),
            page: Mutex::default(),
            first: Mutex::default(),
            events: broadcast::channel(EVENTS).0,
        }
    }

    /// This computer, or why nothing can be opened on it.
    pub fn host(&self) -> Result<&Host, &Error> {
        self.host.as_ref()
    }

    /// What the person chose; the defaults while it cannot be read.
    pub fn preferences(&self) -> Preferences {
        self.host().ok().and_then(|host| Preferences::load(host).ok()).unwrap_or_default()
    }

    /// The engine; started when it does not run.
    pub async fn engine(&self) -> Result<Engine, Error> {
        let mut engine = self.engine.lock().await;
        if let Some(engine) = engine.as_ref() {
            return Ok(engine.clone());
        }
        let host = self.host().map_err(again)?;
        let connected = Engine::connect(host).await?;
        *engine = Some(connected.clone());
        Ok(connected)
    }

    /// The engine if something asked for it before.
    pub async fn engine_if_known(&self) -> Option<Engine> {
        self.engine.lock().await.clone()
    }

    /// It did not answer: the next who asks connects anew.
    pub async fn forget_engine(&self) {
        *self.engine.lock().await = None;
    }

    /// The firewall service.
    pub async fn network(&self) -> Result<Network, Error> {
        let mut network = self.network.lock().await;
        if let Some(known) = network.as_ref() {
            // It may have been restarted by an update since.
            if known.version().await.is_ok() {
                return Ok(known.clone());
            }
            *network = None;
        }
        let connected = Network::connect().await?;
        *network = Some(connected.clone());
        Ok(connected)
    }

    /// The firewall service if something asked for it before.
    pub async fn network_if_known(&self) -> Option<Network> {
        self.network.lock().await.clone()
    }

    /// A folder of the list, checked as it is now.
    pub fn project(&self, id: &str) -> Result<Project, Error> {
        let host = self.host().map_err(again)?;
        let remembered = locked(&self.remembered).path(id).map(PathBuf::from);
        if let Some(path) = remembered {
            return Project::open(&path, host);
        }
        Settings::all(host)?
            .iter()
            .filter_map(|settings| Project::open(settings.path.as_ref(), host).ok())
            .find(|project| project.id() == id)
            .ok_or_else(|| Error::new(Code::FolderMissing, "It is not in the list any more."))
    }

    /// Where events go from now on.
    pub fn tell_page(&self, channel: Channel<Event>) {
        for event in locked(&self.first).drain(..) {
            let _ = channel.send(event);
        }
        *locked(&self.page) = Some(channel);
    }

    pub fn has_page(&self) -> bool {
        locked(&self.page).is_some()
    }

    /// As [`App::tell`]; a page that is not there yet gets it when it is.
    pub fn show(&self, event: Event) {
        if self.has_page() {
            self.tell(event);
        } else {
            locked(&self.first).push(event);
        }
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<News> {
        self.events.subscribe()
    }

    /// The window got or lost the keyboard.
    pub fn focused(&self, focused: bool) {
        locked(&self.sight).focused = focused;
        self.tell_sight();
    }

    /// The page shows this project now.
    pub fn looks_at(&self, project: Option<&str>) {
        locked(&self.sight).project = project.map(Into::into);
        self.tell_sight();
    }

    fn tell_sight(&self) {
        let sight = locked(&self.sight);
        if let (true, Some(project)) = (sight.focused, &sight.project) {
            // Nobody may listen.
            let _ = self.events.send(News::LooksAt(project.clone()));
        }
    }

    /// Whether the person has the project before them.
    pub fn in_sight(&self, project: &str) -> bool {
        let sight = locked(&self.sight);
        sight.focused && sight.project.as_deref() == Some(project)
    }

    /// The project that the page shows.
    pub fn project_in_sight(&self) -> Option<String> {
        locked(&self.sight).project.clone()
    }

    /// Whether Claude is logged in there, and that login could be one for all
    /// projects: the person was not asked yet, and there is a place to keep it.
    pub fn offers_login(&self, folder: &Folder) -> bool {
        let turn = locked(&self.live).get(&folder.id).is_some_and(Sandbox::had_a_turn);
        turn && !folder.login_stays
            && *locked(&self.login_kept) == Some(false)
            && !Handed::from_environment().has_login()
    }

    pub fn tell(&self, event: Event) {
        // Nobody but the page may listen.
        let _ = self.events.send(News::Told(event.clone()));
        if let Some(page) = locked(&self.page).as_ref() {
            // A page that is gone asks for everything when it comes again.
            let _ = page.send(event);
        }
    }
}

impl Terminals {
    pub fn add(&mut self, input: TerminalInput) -> u32 {
        self.last += 1;
        self.inputs.insert(self.last, input);
        self.last
    }

    pub fn get(&self, number: u32) -> Option<TerminalInput> {
        self.inputs.get(&number).cloned()
    }

    /// Detaches; the program goes on.
    pub fn remove(&mut self, number: u32) {
        self.inputs.remove(&number);
    }

    pub fn clear(&mut self) {
        self.inputs.clear();
    }
}

/// [`Error`] holds text only but is not `Clone`.
pub fn again(error: &Error) -> Error {
    let copy = Error::new(error.code(), error.body()).title_is(error.title()).hint_is(error.hint());
    match error.detail() {
        Some(detail) => copy.with_detail(detail),
        None => copy,
    }
}

/// Nothing that is held in these can be left half changed by a panic.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
