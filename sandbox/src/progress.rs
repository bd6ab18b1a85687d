//! What happens while a session is opened, for whoever shows it.

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use tokio_util::sync::CancellationToken as Cancel;

use crate::error::{Error, Result};

/// The steps, in the order in which they begin (Image and Claude side by side).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Folder, its settings and guarded files.
    CheckFolder,
    /// Find or start Podman.
    Engine,
    /// Find or build the image.
    Image,
    /// Find or fetch Claude Code.
    Claude,
    /// Make and start the container.
    StartSandbox,
    /// Plug in the link.
    ConnectNetwork,
    /// Start the program on a terminal.
    StartProgram,
}

impl Step {
    /// All of them.
    pub const ALL: [Step; 7] = [
        Self::CheckFolder,
        Self::Engine,
        Self::Image,
        Self::Claude,
        Self::StartSandbox,
        Self::ConnectNetwork,
        Self::StartProgram,
    ];

    /// As the person reads it.
    pub fn title(self) -> &'static str {
        match self {
            Self::CheckFolder => "Check folder",
            Self::Engine => "Engine",
            Self::Image => "Image",
            Self::Claude => "Claude Code",
            Self::StartSandbox => "Start sandbox",
            Self::ConnectNetwork => "Connect network",
            Self::StartProgram => "Start program",
        }
    }

    /// A stable word for programs.
    pub fn key(self) -> &'static str {
        match self {
            Self::CheckFolder => "check-folder",
            Self::Engine => "engine",
            Self::Image => "image",
            Self::Claude => "claude",
            Self::StartSandbox => "start-sandbox",
            Self::ConnectNetwork => "connect-network",
            Self::StartProgram => "start-program",
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A step began.
    Begun(Step),
    /// A step that moves bytes; `total` may be an estimate or unknown.
    Amount {
        /// Which step.
        step: Step,
        /// Bytes so far.
        done: u64,
        /// Bytes in all.
        total: Option<u64>,
    },
    /// What a long step does now, in a few words.
    Doing(Step, String),
    /// A step ended well, after so long.
    Done(Step, Duration),
    /// A step failed; the error comes as the result of the call.
    Failed(Step),
    /// A sentence that the person should see once.
    Note(String),
}

/// Where progress goes. Called from any thread; must not block.
#[derive(Clone)]
pub struct Reporter(Arc<dyn Fn(Progress) + Send + Sync>);

impl Reporter {
    /// Reports to a function.
    pub fn new(report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Arc::new(report))
    }

    /// Reports to nobody.
    pub fn silent() -> Self {
        Self::new(|_| ())
    }

    /// Reports one thing.
    pub fn report(&self, progress: Progress) {
        (self.0)(progress);
    }

    /// Reports beginning and end of `work` as `step`.
    ///
    /// # Errors
    /// What `work` answers.
    pub async fn step<T>(&self, step: Step, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = Instant::now();
        self.report(Progress::Begun(step));
        let result = work.await;
        self.report(match &result {
            Ok(_) => Progress::Done(step, begun.elapsed()),
            Err(_) => Progress::Failed(step),
        });
        result
    }
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reporter")
    }
}

/// `work`, or [`Error::cancelled`] as soon as the person says stop. For work that
/// may be dropped anywhere.
pub(crate) async fn or_cancelled<T>(
    cancel: &Cancel,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::cancelled()),
        result = work => result,
    }
}
