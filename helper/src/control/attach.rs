//! Plugging a link into a sandbox.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::libc;
use rcc_dbus::{Attachment as Offer, Code, HelperError, Rule, RuleDropped};
use tracing::info;

use super::{Control, MOST_PER_USER, NSFS_MAGIC, State, check_held, failed, take_rules};
use crate::attachments::Attachment;
use crate::clock::now;
use crate::ioctl;
use crate::netlink::{Mac, Rtnl, random_mac};
use crate::netns::{self, NetnsId};
use crate::resolver::parent::Sockets;
use crate::resolver::wire::{self, ToResolver};
use crate::rules::{GATEWAY, link_name};

impl Control {
    /// Plugs a link into the namespace behind `namespace` for `uid`.
    pub async fn attach(
        &self,
        uid: u32,
        namespace: OwnedFd,
        rules: &[Rule],
    ) -> Result<Offer, HelperError> {
        let (netns, met) = self.check_namespace(uid, &namespace).await?;
        let mut state = self.state.lock().await;
        if state.attachments.is_locked(netns, met) {
            let text = "An administrator disconnected this sandbox; it has no network until it is started anew.";
            return Err(HelperError::new(Code::NotAuthorized, text));
        }
        if state.attachments.all.values().any(|one| one.netns == netns) {
            return Err(HelperError::new(Code::InUse, "This sandbox has a link already."));
        }
        let own = state.attachments.all.values().filter(|one| one.uid == uid).count();
        if own >= MOST_PER_USER {
            let text = format!("You have {own} sandboxes with a network, which is the most.");
            return Err(HelperError::new(Code::LimitReached, text));
        }
        let (held, dropped) = take_rules(&state.policy, rules, None)?;
        check_held(&held)?;
        let Some(address) = state.attachments.next_address(now()) else {
            return Err(HelperError::new(
                Code::LimitReached,
                "All addresses for sandboxes are in use.",
            ));
        };
        let attachment = Attachment {
            id: state.attachments.next_id(),
            uid,
            netns,
            link: 0,
            address,
            macs: (random_mac().map_err(failed)?, random_mac().map_err(failed)?),
            connected: true,
            locked: false,
            open_until: None,
            since: seconds_since_1970(),
            held,
            generation: state.attachments.next_generation(),
            revision: state.attachments.next_revision(),
            answers: HashMap::new(),
            networks: 0,
        };
        let id = attachment.id;
        let offer = offer(&attachment, dropped);
        state.attachments.all.insert(id, attachment);
        if let Ok(mut seen) = self.seen.lock() {
            seen.begin(id);
        }
        let plugged = self.plug(&mut state, id, namespace).await;
        if let Err(error) = plugged {
            self.clear(&mut state, id, "failed").await;
            return Err(error);
        }
        self.changes.notify_one();
        info!(event = "attach", uid, attachment = id, %address, rules = rules.len(), "attached");
        Ok(offer)
    }

    /// Link first, then rules, and only then up (N10). The record is on disk
    /// before anything is made, so that a crash leaves nothing unknown.
    pub(super) async fn plug(
        &self,
        state: &mut State,
        id: u32,
        namespace: OwnedFd,
    ) -> Result<(), HelperError> {
        state.attachments.write(id).map_err(failed)?;
        let one = state.attachments.all.get_mut(&id).ok_or_else(|| failed("it is gone"))?;
        let (address, (sandbox_mac, gate_mac)) = (one.address, one.macs);
        let transaction = one.transaction(&state.policy.policy, now());
        let revision = one.revision;
        let made = self
            .gate
            .run(move || -> Result<(u32, Sockets), HelperError> {
                let name = link_name(id);
                let mut gate = Rtnl::new().map_err(failed)?;
                let fd = netns::raw(&namespace);
                // Down until the rules stand.
                gate.add_veth(&name, Some(gate_mac), "eth0", Some(sandbox_mac), fd)
                    .map_err(failed)?;
                transaction.commit().map_err(failed)?;
                let index = gate.index(&name).map_err(failed)?;
                gate.add_address(index, GATEWAY, 32).map_err(failed)?;
                let sockets = Sockets::new(&name).map_err(failed)?;
                gate.set_up(index, true).map_err(failed)?;
                gate.add_neighbour(index, address, sandbox_mac).map_err(failed)?;
                gate.add_route(index, Some(address), None).map_err(failed)?;
                Ok((index, sockets))
            })
            .await
            .map_err(failed)??;
        let (link, sockets) = made;
        if let Some(one) = state.attachments.all.get_mut(&id) {
            one.link = link;
        }
        state.attachments.write(id).map_err(failed)?;
        self.introduce(state, id, revision, &sockets).await?;
        self.store.keep(id, &sockets);
        state.sockets.insert(id, sockets);
        Ok(())
    }

    pub(super) async fn introduce(
        &self,
        state: &State,
        id: u32,
        revision: u64,
        sockets: &Sockets,
    ) -> Result<(), HelperError> {
        let Some(one) = state.attachments.all.get(&id) else { return Ok(()) };
        let file = wire::entries_file(&one.entries().map(Rule::from).collect()).map_err(failed)?;
        let fds = [wire::number(&sockets.udp), wire::number(&sockets.tcp), wire::number(&file)];
        let (connected, open) = (one.connected, one.open_until.is_some());
        let message = ToResolver::Attached { id, revision, connected, open };
        self.resolver.tell(&message, &fds).await;
        Ok(())
    }

    /// H2: only a live, empty network namespace that this user made. Answers whether the
    /// gate had to do with it before.
    pub(super) async fn check_namespace(
        &self,
        uid: u32,
        namespace: &OwnedFd,
    ) -> Result<(NetnsId, bool), HelperError> {
        let bad = |text: &str| HelperError::new(Code::BadDescriptor, format!("{text}."));
        // Before any ioctl: on a device the numbers would mean something else.
        let kind = nix::sys::statfs::fstatfs(namespace)
            .map_err(|_| bad("The descriptor is not a namespace"))?;
        if kind.filesystem_type().0 as i64 != NSFS_MAGIC {
            return Err(bad("The descriptor is not a namespace"));
        }
        match ioctl::kind(namespace) {
            Ok(libc::CLONE_NEWNET) => {}
            _ => return Err(bad("The descriptor is a namespace, but not one of networking")),
        }
        let id = netns::identify(namespace).map_err(failed)?;
        if id == self.host_id {
            return Err(bad("The descriptor is the computer's own network namespace"));
        }
        if id == self.gate_id {
            return Err(bad("The descriptor is the firewall's own network namespace"));
        }
        let owner = ioctl::user_namespace(namespace).and_then(ioctl::owner_uid);
        if uid == 0 || owner.ok() != Some(uid) {
            return Err(bad("The network namespace belongs to another user"));
        }
        let copy = namespace.try_clone().map_err(failed)?;
        let look = move || -> io::Result<_> {
            let (mut gate, fd) = (Rtnl::new()?, netns::raw(copy.as_fd()));
            // First: who looks at its links meets it.
            Ok((gate.has_met(fd)?, gate.links_elsewhere(fd, 2)?))
        };
        let (met, links) = self.gate.run(look).await.map_err(failed)?.map_err(failed)?;
        if links != ["lo"] {
            return Err(bad("The network namespace has links already"));
        }
        Ok((id, met))
    }
}

fn offer(one: &Attachment, dropped: Vec<RuleDropped>) -> Offer {
    let text = |mac: Mac| mac.map(|byte| format!("{byte:02x}")).join(":");
    Offer {
        id: one.id,
        interface: "eth0".into(),
        address4: one.address.to_string(),
        address6: String::new(),
        gateway4: GATEWAY.to_string(),
        gateway6: String::new(),
        mac: text(one.macs.0),
        gateway_mac: text(one.macs.1),
        dropped,
    }
}

fn seconds_since_1970() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
