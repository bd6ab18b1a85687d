//! What the helper tells while sessions run: blocked hosts, lost links.

use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use rcc_dbus::BlockedReason;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinSet;

use crate::error::{Code, Error, Result};
use crate::network::Network;

/// A thing that was refused, cleaned for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The attachment; [`crate::session::Session::attachment`] tells whose.
    pub attachment: u32,
    /// The name, printable ASCII; empty when only an address is known.
    pub host: String,
    /// The address, or empty when only a name was asked.
    pub address: String,
    /// 0 when only a name was asked.
    pub port: u16,
    /// `tcp`, `udp` or another word.
    pub protocol: String,
    /// Why; `None` for a reason that this release does not know.
    pub reason: Option<BlockedReason>,
    /// How often since the last time it was told.
    pub count: u32,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkEvent {
    /// Something was refused.
    Blocked(Blocked),
    /// A link is gone.
    Detached {
        /// Which.
        attachment: u32,
        /// A sentence.
        reason: String,
    },
    /// The administrator's list changed: rules may hold that did not, or the
    /// other way round.
    PolicyChanged,
}

/// Each time that the administrator's list changed, for as long as somebody of
/// this connection watches: this alone does not keep the helper from resting.
///
/// # Errors
/// [`Code::HelperMissing`].
pub async fn policy_changes(network: &Network) -> Result<impl Stream<Item = ()> + use<>> {
    let changes = network.helper().receive_policy_changed().await;
    Ok(changes.map_err(|e| crate::network::explain(&e.into()))?.map(|_| ()))
}

/// How long a signal that has arrived may take to be taken up. Every session waits
/// for it at its end.
const TAKEN_UP: Duration = Duration::from_millis(5);

/// Events that may wait to be asked for; what comes beside that is lost.
const WAITING: usize = 4_096;

/// The events of this user's own attachments.
pub struct Events {
    events: mpsc::Receiver<NetworkEvent>,
    /// Ends with this.
    _taking: JoinSet<()>,
}

impl Events {
    /// Begins to listen, then asks the helper to tell this connection.
    ///
    /// # Errors
    /// [`Code::HelperMissing`], [`Code::HelperRefused`].
    pub async fn watch(network: &Network) -> Result<Self> {
        let helper = network.helper();
        let failed = |e: zbus::Error| crate::network::explain(&e.into());
        let (tell, events) = mpsc::channel(WAITING);
        let mut taking = JoinSet::new();
        let blocked = helper.receive_blocked().await.map_err(failed)?.filter_map(async |signal| {
            let arguments = signal.args().ok()?;
            Some(NetworkEvent::Blocked(Blocked {
                attachment: arguments.id,
                host: crate::display::host(arguments.host),
                address: crate::display::host(arguments.address),
                port: arguments.port,
                protocol: crate::display::line(arguments.protocol, 10),
                reason: BlockedReason::from_wire(arguments.reason),
                count: arguments.count,
            }))
        });
        taking.spawn(take(blocked, tell.clone()));
        let detached =
            helper.receive_detached().await.map_err(failed)?.filter_map(async |signal| {
                let arguments = signal.args().ok()?;
                Some(NetworkEvent::Detached {
                    attachment: arguments.id,
                    reason: crate::display::line(arguments.reason, 200),
                })
            });
        taking.spawn(take(detached, tell.clone()));
        let changed = helper
            .receive_policy_changed()
            .await
            .map_err(failed)?
            .map(|_| NetworkEvent::PolicyChanged);
        taking.spawn(take(changed, tell));
        helper.watch().await.map_err(failed)?;
        Ok(Self { events, _taking: taking })
    }

    /// The next event.
    ///
    /// # Errors
    /// [`Code::HelperMissing`] when the bus is gone.
    pub async fn next(&mut self) -> Result<NetworkEvent> {
        self.events.recv().await.ok_or_else(|| {
            Error::new(Code::HelperMissing, "The connection to the system bus ended.")
        })
    }

    /// Ends it, and answers what was told until then. What is refused later waits
    /// at the helper for the next who watches.
    ///
    /// # Errors
    /// As [`Events::watch`].
    pub async fn end(mut self, network: &Network) -> Result<Vec<NetworkEvent>> {
        let failed = |e: zbus::Error| crate::network::explain(&e.into());
        network.helper().unwatch().await.map_err(failed)?;
        // The helper's answer came after them: they are here.
        let mut rest = Vec::new();
        while let Ok(Some(event)) = tokio::time::timeout(TAKEN_UP, self.events.recv()).await {
            rest.push(event);
        }
        Ok(rest)
    }
}

/// Takes events up at once, whatever is done about them: a connection whose signals
/// wait (64 of them, zbus) reads nothing more, and a call that somebody makes because
/// of an event would never be answered. An agent makes as many as it likes (N17).
async fn take(stream: impl Stream<Item = NetworkEvent>, tell: mpsc::Sender<NetworkEvent>) {
    let mut stream = pin!(stream);
    while let Some(event) = stream.next().await {
        if let Err(TrySendError::Closed(_)) = tell.try_send(event) {
            return;
        }
    }
}
