//! Sessions: running sandboxes. The labels on the containers are the only
//! record; whoever asks sees the same.

mod files;
mod follow;
mod internet;
mod open;
mod programs;
mod rules;
mod usage;
mod verify;
mod walls;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcc_inside::frame::TerminalInfo;

use crate::engine::{Engine, Found, label};
use crate::error::{Code, Error, Result};
use crate::host::Host;
use crate::link::Namespaces;
use crate::lock::Lock;
use crate::network::Network;
use crate::project::Project;
use crate::review;
use crate::terminal::{Client, Watch};

pub use follow::{Edited, Follow};
pub use internet::Reached;
pub use open::{OpenRequest, open};
pub use programs::Program;
pub use rules::{DroppedRule, Scope, allow, deny, refresh};
pub use usage::{Usage, ran_out_of_memory};
pub use verify::{Row, Verdict};
pub use walls::{Label, Walls};

/// Held by who opens a sandbox; in the person's runtime folder.
const OPENINGS_LOCK: &str = "openings.lock";
/// How many seconds a sandbox gets to end its programs.
pub(crate) const STOP_PATIENCE_S: i32 = 5;

/// A running sandbox.
#[derive(Clone)]
pub struct Session {
    engine: Engine,
    found: Found,
    /// A connection to the program inside that nobody uses yet: an exec takes the
    /// engine longer than everything else that an opening needs.
    spare: Arc<Mutex<Option<Client>>>,
    /// False when it ran already.
    pub new: bool,
}

/// What its network is, as engine and helper say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkState {
    /// A link behind the firewall.
    Connected,
    /// A link that was switched off.
    Disconnected,
    /// No link at all.
    Offline,
    /// The helper does not answer; the walls stand in the kernel, but whether
    /// there is a link is not known.
    Unknown,
}

impl NetworkState {
    /// The word on the command line and in the window.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }
}

/// One line of a list of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// The session's name, which is also the container's.
    pub id: String,
    /// The project's id.
    pub project: String,
    /// The project's folder, harmless for display.
    pub path: String,
    /// The image as it was named.
    pub image: String,
    /// Version of Claude Code, or empty.
    pub claude: String,
    /// When it was opened, seconds since 1970.
    pub since: i64,
    /// Its network.
    pub network: NetworkState,
    /// Its terminals; what the sandbox says about itself is a hint.
    pub terminals: Vec<TerminalInfo>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("found", &self.found).finish_non_exhaustive()
    }
}

impl Session {
    fn of(engine: &Engine, found: Found) -> Self {
        Self { engine: engine.clone(), found, spare: Arc::default(), new: false }
    }

    /// The running session of a project.
    ///
    /// # Errors
    /// [`Code::Engine`].
    pub async fn find(engine: &Engine, project: &Project) -> Result<Option<Self>> {
        let found = engine.find(Some(project.id())).await?;
        Ok(found.into_iter().find(|found| found.running).map(|found| Self::of(engine, found)))
    }

    /// The running session of a project, or an error that says what to do.
    ///
    /// # Errors
    /// [`Code::NoSession`], [`Code::Engine`].
    pub async fn of_project(engine: &Engine, project: &Project) -> Result<Self> {
        Self::find(engine, project).await?.ok_or_else(|| {
            Error::new(
                Code::NoSession,
                format!("No sandbox runs for {}.", project.path().display()),
            )
        })
    }

    /// Every running session of this user.
    ///
    /// # Errors
    /// [`Code::Engine`].
    pub async fn all(engine: &Engine) -> Result<Vec<Self>> {
        let mut found = engine.find(None).await?;
        found.sort_by(|a, b| a.created.cmp(&b.created).then(a.id.cmp(&b.id)));
        Ok(found
            .into_iter()
            .filter(|found| found.running)
            .map(|found| Self::of(engine, found))
            .collect())
    }

    /// Removes what is left of sandboxes that ended by themselves. Projects, homes and
    /// images stay.
    ///
    /// # Errors
    /// [`Code::Engine`], [`Code::Io`].
    pub async fn remove_ended(engine: &Engine, host: &Host) -> Result<()> {
        // One that somebody is opening does not run yet.
        let _all = Lock::take(&host.runtime.join(OPENINGS_LOCK)).await?;
        let mut failed = None;
        for found in engine.find(None).await?.iter().filter(|found| !found.running) {
            failed = failed.or(engine.remove(&found.id, 0).await.err());
        }
        failed.map_or(Ok(()), Err)
    }

    /// The session's name.
    pub fn id(&self) -> &str {
        self.label(label::SESSION)
    }

    /// Whether it is the same container: another session of its project has another one.
    pub fn is_same(&self, other: &Self) -> bool {
        self.found.id == other.found.id
    }

    /// The project's id.
    pub fn project_id(&self) -> &str {
        self.label(label::PROJECT)
    }

    /// The image as it was named when the session was opened.
    pub fn image(&self) -> &str {
        self.label(label::IMAGE)
    }

    fn label(&self, name: &str) -> &str {
        self.found.labels.get(name).map_or("", String::as_str)
    }

    /// Everything about it in one value. `network` is `None` when the helper
    /// does not answer.
    pub async fn info(&self, network: Option<&Network>) -> SessionInfo {
        let state = self.network_state(network).await;
        SessionInfo {
            id: self.id().to_string(),
            project: self.project_id().to_string(),
            path: crate::display::line(self.label(label::PATH), 4096),
            image: self.image().to_string(),
            claude: self.label(label::CLAUDE).to_string(),
            since: self.found.created,
            network: state,
            // A sandbox that does not answer is still a session.
            terminals: self.terminals().await.unwrap_or_default(),
        }
    }

    /// What its network is now. Whether there is a link at all the kernel tells;
    /// the rest only the helper.
    pub async fn network_state(&self, network: Option<&Network>) -> NetworkState {
        let Ok(state) = self.engine.state(&self.found.id).await else {
            return NetworkState::Unknown;
        };
        if crate::link::has_none(state.pid) {
            return NetworkState::Offline;
        }
        let Some(network) = network else {
            return NetworkState::Unknown;
        };
        match network.attachment_of(state.pid).await {
            Ok(Some(attachment)) if attachment.connected => NetworkState::Connected,
            Ok(Some(_)) => NetworkState::Disconnected,
            Ok(None) => NetworkState::Offline,
            Err(_) => NetworkState::Unknown,
        }
    }

    /// The helper's record of its link.
    ///
    /// # Errors
    /// [`Code::HelperMissing`], [`Code::HelperRefused`], [`Code::Engine`].
    pub async fn attachment(&self, network: &Network) -> Result<Option<rcc_dbus::AttachmentInfo>> {
        let state = self.engine.state(&self.found.id).await?;
        network.attachment_of(state.pid).await
    }

    /// Switches its network on. An offline session is connected now: the person
    /// asked for it.
    ///
    /// # Errors
    /// [`Code::HelperMissing`], [`Code::HelperRefused`], [`Code::Link`].
    pub async fn connect(
        &self,
        network: &Network,
        project: &Project,
        host: &Host,
    ) -> Result<Vec<DroppedRule>> {
        let pid = self.engine.state(&self.found.id).await?.pid;
        match network.attachment_of(pid).await? {
            Some(attachment) if crate::link::is_configured(pid) => {
                network.set_connected(attachment.id, true).await?;
                return Ok(Vec::new());
            }
            // Broken off between the helper's half of the link and ours: both anew.
            Some(attachment) => network.detach(attachment.id).await?,
            None => {}
        }
        let rules = crate::levels::of_project(project, host)?;
        open::plug_in(&self.namespaces().await?, network, &rules).await
    }

    /// Switches its network off; every flow is cut.
    ///
    /// # Errors
    /// [`Code::HelperMissing`], [`Code::HelperRefused`]; no error when it is offline.
    pub async fn disconnect(&self, network: &Network) -> Result<()> {
        match self.attachment(network).await? {
            Some(attachment) => network.set_connected(attachment.id, false).await,
            None => Ok(()),
        }
    }

    /// States and titles of its terminals as they change.
    ///
    /// # Errors
    /// [`Code::Inside`], [`Code::Engine`].
    pub async fn watch(&self) -> Result<Watch> {
        Watch::begin(&self.engine, &self.found.id).await
    }

    /// Whether it still runs, and if not, in words why.
    ///
    /// # Errors
    /// [`Code::Engine`] when the container is gone altogether.
    pub async fn why_ended(&self) -> Result<Option<String>> {
        let state = self.engine.state(&self.found.id).await?;
        if state.running {
            return Ok(None);
        }
        Ok(Some(if state.out_of_memory {
            "It ran out of memory. Nothing outside was touched.".into()
        } else {
            format!("It ended with code {}.", state.exit_code)
        }))
    }

    /// Ends every program and removes the container. Project, home and image stay.
    /// What is in the folder then is the last of this session's (see [`review`]).
    ///
    /// # Errors
    /// [`Code::Engine`].
    pub async fn stop(&self, host: &Host) -> Result<()> {
        self.engine.remove(&self.found.id, STOP_PATIENCE_S).await?;
        self.engine.forget_images_aside().await;
        // Without it what the person changes from now on is shown in the review, too.
        if let Ok(project) = Project::open(&self.path(), host) {
            let _ = review::end(&project, host, self.label(label::OPENING)).await;
        }
        Ok(())
    }

    /// The namespaces, for whoever tests the walls from outside.
    ///
    /// # Errors
    /// [`Code::Link`].
    pub async fn namespaces(&self) -> Result<Namespaces> {
        Namespaces::of(&self.engine, &self.found.id).await
    }

    /// The project's folder.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(self.label(label::PATH))
    }
}
