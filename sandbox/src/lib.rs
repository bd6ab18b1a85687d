//! The user's side of rcc: engines, image, mounts, sessions, terminals.
//!
//! Everything is asynchronous, may be used from any thread, and prints nothing.
//! A program that opens sessions calls [`link::run_if_asked`] first thing in
//! `main`, then [`Host::detect`], and from there on:
//!
//! ```no_run
//! # async fn example() -> rcc_sandbox::Result<()> {
//! use rcc_sandbox::{Cancel, Handed, Host, OpenRequest, Program, Reporter, Size, session};
//!
//! let host = Host::detect()?;
//! let request = OpenRequest {
//!     folder: "/home/ann/web-shop".into(),
//!     image: None,
//!     offline: false,
//!     claude: true,
//!     piped: false,
//!     handed: Handed::from_environment(),
//! };
//! let session = session::open(&host, &request, &Reporter::silent(), &Cancel::new()).await?;
//! let claude = Program::Claude { arguments: vec![], act_without_asking: true };
//! let terminal = session.start(&claude, Size::default(), &request.handed, &host).await?;
//! let (input, mut output) = terminal.split();
//! # Ok(()) }
//! ```

pub mod belongings;
pub mod blocked_log;
pub mod check;
pub mod claude;
pub mod display;
pub mod doctor;
pub mod engine;
pub mod error;
pub mod events;
pub mod guard;
pub mod home;
pub mod host;
pub mod hosts;
pub mod image;
pub mod levels;
pub mod linger;
pub mod link;
pub mod login;
pub mod network;
pub mod offers;
pub mod preferences;
pub mod progress;
pub mod project;
pub mod registries;
pub mod review;
pub mod secrets;
pub mod selinux;
pub mod session;
pub mod settings;
pub mod setup;
pub mod terminal;

mod lock;
mod programs;
#[cfg(test)]
mod testing;

pub use engine::{Engine, ExecPipes};
pub use error::{Code, Error, Result};
pub use events::{Blocked, Events, NetworkEvent};
pub use host::Host;
pub use image::ImageChoice;
pub use network::Network;
pub use preferences::Preferences;
pub use progress::{Cancel, Progress, Reporter, Step};
pub use project::Project;
pub use registries::Registries;
pub use secrets::Handed;
pub use session::{NetworkState, OpenRequest, Program, Scope, Session, SessionInfo};
pub use settings::Settings;
pub use terminal::{Ended, Size, Terminal, TerminalEvent, TerminalInput, TerminalOutput, Watch};

/// The number of the protocol that this release speaks with the firewall service.
pub use rcc_dbus::PROTOCOL;

/// What the sandbox says about itself, for faces that show it.
pub use rcc_inside::frame::{Exit, HookEvent, Reply, TerminalInfo};
pub use rcc_inside::state::State;
