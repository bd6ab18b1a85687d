//! Rootless Podman through its API.

mod api;
mod container;
pub(crate) mod filter;
mod import;
mod info;
mod service;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::{ClientVersion, Docker};

use crate::error::{Code, Error, Result};
use crate::host::Host;

pub(crate) use api::{ContainerState, ImageFacts, KeptImage, name_end};
pub use api::{ExecPipes, Found};
pub(crate) use container::is_plain;
pub use container::{ContainerSpec, FileLabel, HOME, MountSpec, WORKSPACE, label};
pub use info::{EngineInfo, Limits, LimitsWanted};
pub(crate) use service::tail;

/// The oldest release that rcc was tried with.
pub const OLDEST_PODMAN: (u32, u32) = (4, 3);

/// A revision of the API that Podman 4.3 and every later one speaks.
const API: ClientVersion = ClientVersion { major_version: 1, minor_version: 41 };

/// Longest time for one call that does not move an image.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest time for the engine to take an image in.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(1800);

/// A connection to the engine of this user. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    socket: PathBuf,
    info: Arc<EngineInfo>,
}

impl Engine {
    /// Connects to the user's Podman socket, else to a service that rcc started
    /// before, else starts one. The service outlives the caller.
    ///
    /// # Errors
    /// [`Code::EngineMissing`], [`Code::EngineUnreachable`],
    /// [`Code::EngineTooOld`], [`Code::EngineRootful`],
    /// [`Code::NoSubordinateIds`], [`Code::Cgroups`].
    pub async fn connect(host: &Host) -> Result<Self> {
        let socket = service::socket(host).await?;
        let info = info::of(&socket, &host.runtime.join("engine.json")).await?;
        info.check(&host.user)?;
        let docker = client(&socket, CALL_TIMEOUT)?;
        Ok(Self { docker, socket, info: Arc::new(info) })
    }

    /// What the engine says about itself and the computer.
    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// The socket in use.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// A second connection with the patience that an image needs.
    pub(crate) fn patient(&self) -> Result<Docker> {
        client(&self.socket, IMPORT_TIMEOUT)
    }
}

fn client(socket: &Path, timeout: Duration) -> Result<Docker> {
    let path = socket.to_str().ok_or_else(|| {
        Error::new(Code::Environment, format!("The path {} is not text.", socket.display()))
    })?;
    Docker::connect_with_unix(path, timeout.as_secs(), &API).map_err(|e| {
        Error::new(Code::EngineUnreachable, format!("The socket {path} cannot be used: {e}."))
    })
}
