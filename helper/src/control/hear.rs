//! What the resolver and the kernel say.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use rcc_dbus::{Code, HelperError, Rule};
use rcc_policy::{Name, Policy};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::{Blocked, Control, Event, State, failed};
use crate::attachments::Attachment;
use crate::clock::now;
use crate::host;
use crate::netlink::{Removed, Rtnl};
use crate::resolver::dns::MAX_ADDRESSES;
use crate::resolver::wire::{self, ToResolver};
use crate::rules;
use crate::uplink::{self, Uplink};

/// The entries of an administrator's list, as the resolver reads them.
pub(super) fn entries_of(policy: &Policy) -> Result<OwnedFd, HelperError> {
    wire::entries_file(&policy.entries.iter().map(Rule::from).collect::<Vec<_>>()).map_err(failed)
}

impl Control {
    /// Tells a new resolver everything.
    pub async fn brief_resolver(&self) -> Result<(), HelperError> {
        let state = self.state.lock().await;
        let policy = &state.policy.policy;
        self.brief_policy(policy, &entries_of(policy)?).await;
        for (id, one) in &state.attachments.all {
            if let Some(sockets) = state.sockets.get(id) {
                self.introduce(&state, *id, one.revision, sockets).await?;
            }
        }
        Ok(())
    }

    /// Tells the resolver the administrator's list, whose entries are in `file`.
    pub(super) async fn brief_policy(&self, policy: &Policy, file: &OwnedFd) {
        let message = ToResolver::Policy { allow_public: policy.defaults.allow_public };
        self.resolver.tell(&message, &[wire::number(file)]).await;
    }

    /// Counts something refused; [`Control::flush`] tells of it. `link` is that of
    /// the packet, for packets.
    pub async fn refused(&self, mut what: Blocked, link: Option<u32>) {
        let mut state = self.state.lock().await;
        let one = match link {
            Some(link) => state.attachments.by_link(link),
            None => state.attachments.all.get(&what.id),
        };
        let Some(one) = one else { return };
        what.id = one.id;
        if what.host.is_empty() {
            what.host = self.name_behind(one, &what.address);
        }
        if state.blocked.count(what, 1) {
            self.refusals.notify_one();
        }
    }

    /// The resolver answered a name with these addresses, for whoever looks at it.
    pub fn answered(&self, id: u32, name: &Name, addresses: &[IpAddr]) {
        let v4 = |address: &IpAddr| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        };
        let addresses: Vec<_> = addresses.iter().take(MAX_ADDRESSES).filter_map(v4).collect();
        if let Ok(mut seen) = self.seen.lock() {
            seen.answered(id, name, &addresses);
        }
    }

    /// A flow was let through that came in on `link`.
    pub async fn reached(&self, link: u32, address: Ipv4Addr, port: u16, protocol: &str) {
        let id = self.state.lock().await.attachments.by_link(link).map(|one| one.id);
        if let (Some(id), Ok(mut seen)) = (id, self.seen.lock()) {
            seen.reached(id, address, port, protocol);
        }
    }

    /// See `Reached` of the contract.
    pub fn reached_by(&self, id: u32) -> Vec<rcc_dbus::Reached> {
        self.seen.lock().map(|seen| seen.list(id)).unwrap_or_default()
    }

    /// The name that an address was asked for by, or given out for when it was an
    /// exact one.
    fn name_behind(&self, one: &Attachment, address: &str) -> String {
        let Ok(address) = address.parse::<Ipv4Addr>() else { return String::new() };
        let asked = self.seen.lock().ok();
        let asked = asked.and_then(|seen| seen.name_of(one.id, address).map(ToString::to_string));
        asked.unwrap_or_else(|| {
            let mut names = one.answers.keys().filter(|(_, open)| *open == address);
            names.next().map_or_else(String::new, |(entry, _)| entry.target().to_string())
        })
    }

    /// Logs what was refused, and tells it to users who watch. What nobody heard
    /// waits for the next who watches: a program that is gone the moment after it
    /// was blocked must not be gone without a trace.
    pub async fn flush(&self, watches: impl Fn(u32) -> bool) {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        for id in state.untold.ids() {
            let Some(one) = state.attachments.all.get(&id) else {
                state.untold.take_of(id);
                continue;
            };
            let uid = one.uid;
            if watches(uid) {
                let before = state.untold.take_of(id).into_iter();
                before.for_each(|(what, count)| self.tell(uid, what, count));
            }
        }
        for id in state.blocked.ids() {
            let of_it = state.blocked.take_of(id);
            let Some(one) = state.attachments.all.get(&id) else { continue };
            let (uid, watched) = (one.uid, watches(one.uid));
            for (what, count) in of_it {
                let reason = what.reason.as_str();
                info!(event = "blocked", uid, attachment = id, reason, count, "blocked");
                // Names of hosts are personal: only at debug level.
                let Blocked { host, address, port, .. } = &what;
                tracing::debug!(host, address, port, "blocked what");
                // Who is told needs no room here.
                if watched {
                    self.tell(uid, what, count);
                } else {
                    state.untold.count(what, count);
                }
            }
        }
    }

    fn tell(&self, uid: u32, what: Blocked, count: u32) {
        let _ = self.events.send(Event::Blocked { uid, what, count });
    }

    /// Takes back what nobody was there to hear any more, for the next who watches.
    pub async fn untold(&self, what: Blocked, count: u32) {
        self.state.lock().await.untold.count(what, count);
    }

    /// Waits until all events that there were have been sent.
    pub async fn sent(&self) {
        let (done, sent) = oneshot::channel();
        if self.events.send(Event::Sent(done)).is_ok() {
            let _ = sent.await;
        }
    }

    /// When the next timed rule ends, in seconds of [`now`].
    pub async fn next_end(&self) -> Option<u64> {
        let state = self.state.lock().await;
        state.attachments.all.values().filter_map(Attachment::next_end).min()
    }

    /// Lets timed rules end.
    pub async fn expire(&self) {
        let mut state = self.state.lock().await;
        for id in state.attachments.ids() {
            if state.attachments.all.get(&id).is_some_and(|one| one.clone().expire(now())) {
                self.end_what_is_over(&mut state, id).await;
            }
        }
    }

    /// The computer slept. The kernel's sets give addresses by name the time again that
    /// went by: all rules are written with what is left of it.
    pub async fn woke(&self) {
        let mut state = self.state.lock().await;
        let ids = state.attachments.ids();
        info!(event = "woke", sandboxes = ids.len(), "the computer slept");
        for id in ids {
            self.end_what_is_over(&mut state, id).await;
        }
    }

    async fn end_what_is_over(&self, state: &mut State, id: u32) {
        let end = |one: &mut Attachment| {
            one.expire(now());
        };
        if let Err(error) = self.replace_rules(state, id, false, end).await {
            error!(attachment = id, %error, "what is over could not end; the sandbox is cut off");
            self.cut_off(state, id).await;
        }
    }

    /// Clears attachments whose link the kernel took away; false when it could not look.
    /// All links are looked at only when one of theirs may be gone: while they are,
    /// everybody else waits.
    pub async fn sweep(&self, removed: &Removed) -> bool {
        let mut state = self.state.lock().await;
        if !state.attachments.all.values().any(|one| removed.may_be(one.link)) {
            return true;
        }
        let links = self.gate.run(|| Rtnl::new()?.links()).await;
        let Ok(Ok(links)) = links else { return false };
        let gone: Vec<u32> = state
            .attachments
            .all
            .values()
            .filter(|one| !links.iter().any(|link| link.index == one.link))
            .map(|one| one.id)
            .collect();
        for id in gone {
            self.clear(&mut state, id, "ended").await;
        }
        true
    }

    /// Takes over addresses of the host that changed.
    pub async fn host_changed(&self) -> Result<(), HelperError> {
        let mut state = self.state.lock().await;
        let link = self.host.run(|| Rtnl::new()?.link(rules::HOST_LINK)).await.map_err(failed)?;
        if link.map_err(failed)?.is_none_or(|link| link.index != self.host_link) {
            self.gone.notify_one();
        }
        let networks = self.read_host_networks().await?;
        if networks != state.host_networks {
            self.commit(rules::host_networks(&networks)).await?;
            state.host_networks = networks;
        }
        Ok(())
    }

    /// Puts the host's table up again.
    pub async fn restore_host(&self) -> Result<(), HelperError> {
        let mut state = self.state.lock().await;
        self.put_up_host(&mut state).await
    }

    /// Puts the host's table up. While it cannot stand, the link to the host is down.
    pub(super) async fn put_up_host(&self, state: &mut State) -> Result<(), HelperError> {
        let uplink = state.uplink.clone();
        let restore = move || -> anyhow::Result<()> {
            let mut rtnl = Rtnl::new()?;
            let index = rtnl.index(rules::HOST_LINK)?;
            if let Err(error) = host::apply_table(&mut rtnl, &uplink) {
                rtnl.set_up(index, false)?;
                return Err(error.into());
            }
            Ok(host::link_up(&mut rtnl)?)
        };
        let restored = self.host.run(restore).await.map_err(anyhow::Error::from);
        let restored = restored.and_then(|restored| restored);
        state.uplink_stands = restored.is_ok();
        restored.map_err(|error| {
            // The next helper puts it up, whatever it is then.
            uplink::forget();
            error!(%error, "the host's table cannot be put up");
            let text = format!("The computer's own table could not be put up: {error:#}. Sandboxes reach nothing until it stands.");
            HelperError::new(Code::Failed, text)
        })?;
        // A failure before took the record away.
        if Uplink::recorded().as_ref() != Some(&state.uplink) {
            state.uplink.record();
        }
        info!(event = "restored", "the host's table was put up again");
        Ok(())
    }
}
