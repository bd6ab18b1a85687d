//! Where a sandbox went, and opening it to the public internet for a time. The
//! firewall service counts and keeps the time.

use std::time::Duration;

use super::{NetworkState, Session};
use crate::error::{Code, Error, Result};
use crate::network::Network;

/// One place that a sandbox went to, cleaned for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The name that it asked for, printable ASCII; empty when it asked for none.
    pub host: String,
    /// The address.
    pub address: String,
    /// Destination port.
    pub port: u16,
    /// `tcp`, `udp` or another word.
    pub protocol: String,
    /// New connections; fewer than there were when there were very many at once.
    pub count: u32,
    /// When the last one began, seconds since 1970.
    pub last: u64,
}

impl Session {
    /// What its network is now, and for how long it stays open to the public
    /// internet, if it is.
    pub async fn openness(&self, network: Option<&Network>) -> (NetworkState, Option<Duration>) {
        let state = self.network_state(network).await;
        if state != NetworkState::Connected {
            return (state, None);
        }
        let Some(network) = network else { return (state, None) };
        let left = match self.attachment(network).await {
            Ok(Some(attachment)) => attachment.open_for,
            _ => 0,
        };
        (state, (left > 0).then(|| Duration::from_secs(left.into())))
    }

    /// Opens it to the public internet for so long, at most an hour; private
    /// ranges stay closed. A time of 0 ends it and cuts what only it allowed.
    ///
    /// # Errors
    /// [`Code::Offline`], [`Code::HelperMissing`], [`Code::HelperRefused`] where the
    /// administrator lets users add nothing, [`Code::Invalid`].
    pub async fn open_internet(&self, network: &Network, time: Duration) -> Result<()> {
        let seconds = u32::try_from(time.as_secs())
            .ok()
            .filter(|seconds| *seconds <= rcc_dbus::MAX_OPEN)
            .ok_or_else(|| {
                Error::new(Code::Invalid, "A sandbox can be open for an hour at most.")
            })?;
        match self.attachment(network).await? {
            Some(attachment) => network.open_internet(attachment.id, seconds).await,
            None if seconds == 0 => Ok(()),
            None => Err(Error::new(Code::Offline, "It has no network that could be opened.")),
        }
    }

    /// Where it went since it was connected, the latest first; nothing when it is
    /// offline.
    ///
    /// # Errors
    /// [`Code::HelperMissing`], [`Code::HelperRefused`], [`Code::Engine`].
    pub async fn reached(&self, network: &Network) -> Result<Vec<Reached>> {
        let Some(attachment) = self.attachment(network).await? else { return Ok(Vec::new()) };
        let all = network.reached(attachment.id).await?;
        Ok(all.into_iter().map(cleaned).collect())
    }
}

fn cleaned(reached: rcc_dbus::Reached) -> Reached {
    Reached {
        host: crate::display::host(&reached.host),
        address: crate::display::host(&reached.address),
        port: reached.port,
        protocol: crate::display::line(&reached.protocol, 10),
        count: reached.count,
        last: reached.last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n17_a_name_that_was_reached_is_harmless_to_show() {
        let shown = cleaned(rcc_dbus::Reached {
            host: "a\x1b[2J.ex\u{430}mple".into(),
            address: "192.0.2.1".into(),
            port: 443,
            protocol: "tcp\n".into(),
            count: 2,
            last: 5,
        });
        assert_eq!(shown.host, "a[2J.ex\\u{430}mple");
        assert_eq!(shown.protocol, "tcp ");
    }
}
