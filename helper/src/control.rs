//! The one place that changes the firewall while it runs. Everything that a
//! caller, the resolver or the kernel says comes here, and one thing happens
//! after the other, under one lock.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ipnet::IpNet;
use nix::libc;
use rcc_dbus::{
    Attachment as Offer, AttachmentInfo, BlockedReason, Code, HelperError, Rule, RuleDropped,
};
use rcc_policy::{Entry, Flow as NewFlow, Target, Verdict};
use tokio::sync::{Mutex, mpsc};
use tracing::{error, info, warn};

use crate::attachments::{Attachment, Attachments, Held, now};
use crate::layout::STATE_FOLDER;
use crate::netlink::{Mac, Rtnl, random_mac};
use crate::netns::{self, NetnsId, Room};
use crate::nfnetlink::Conntrack;
use crate::nft::{NftError, Transaction};
use crate::policy_file::InForce;
use crate::resolver::dns::MAX_ADDRESSES;
use crate::resolver::parent::{Channel, Sockets};
use crate::resolver::wire::{self, ToResolver};
use crate::rules::{self, GATEWAY, answer_may_open, link_name};
use crate::{host, ns_ioctl};

/// Attachments that one user may have, and all together.
const MOST_PER_USER: usize = 128;
/// Rules of one attachment, timed ones included.
const MOST_RULES: usize = rcc_dbus::MAX_RULES_PER_CALL;
/// `NSFS_MAGIC`, linux/magic.h.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// What watchers are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something was refused.
    Blocked {
        /// Whose.
        uid: u32,
        /// What.
        what: Blocked,
        /// How often since the last event for the same.
        count: u32,
    },
    /// A link is gone.
    Detached {
        /// Whose.
        uid: u32,
        /// Which.
        id: u32,
        /// A word: `ended`, `asked`, `administrator`.
        reason: &'static str,
    },
    /// The administrator's file changed.
    PolicyChanged {
        /// To this.
        version: String,
    },
}

/// Something that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Blocked {
    /// Of which attachment.
    pub id: u32,
    /// The name, when it was asked for by name.
    pub host: String,
    /// The address, when it was a packet.
    pub address: String,
    /// 0 without one.
    pub port: u16,
    /// `tcp`, `udp`, …; empty for names.
    pub protocol: String,
    /// Why.
    pub reason: BlockedReason,
}

/// What the resolver wants given out.
pub struct Publication {
    /// For which sandbox.
    pub id: u32,
    /// The revision of the rules it was chosen under.
    pub revision: u64,
    /// Numbers of the administrator's entries.
    pub administrators: Vec<u32>,
    /// Numbers of the user's entries.
    pub users: Vec<u32>,
    /// What the name server said.
    pub addresses: Vec<IpAddr>,
    /// Seconds.
    pub ttl: u32,
}

/// Addresses that are open now; an error means: ask again.
pub type Published = Result<Vec<IpAddr>, ()>;

struct State {
    policy: InForce,
    attachments: Attachments,
    sockets: HashMap<u32, Sockets>,
    host_networks: Vec<IpNet>,
    blocked: HashMap<Blocked, u32>,
}

/// See the module.
pub struct Control {
    gate: Room,
    host: Room,
    host_id: NetnsId,
    gate_id: NetnsId,
    state: Mutex<State>,
    /// The resolver.
    pub resolver: Channel,
    events: mpsc::UnboundedSender<Event>,
}

fn failed(error: impl std::fmt::Display) -> HelperError {
    HelperError::new(Code::Failed, format!("The firewall could not be changed: {error}."))
}

impl Control {
    /// Takes over what stands in the gate. `gate` and `host` are threads in the
    /// two namespaces.
    pub async fn start(
        gate: Room,
        host: Room,
        policy: InForce,
    ) -> anyhow::Result<(Arc<Self>, mpsc::UnboundedReceiver<Event>)> {
        let host_id = host.run(|| netns::identify(netns::current()?)).await??;
        let gate_id = gate.run(|| netns::identify(netns::current()?)).await??;
        let (events, heard) = mpsc::unbounded_channel();
        let attachments = match Attachments::read() {
            Ok(attachments) => attachments,
            Err(error) => {
                error!(%error, "{STATE_FOLDER} does not read; every sandbox is cut off");
                Attachments::default()
            }
        };
        let state = State {
            policy,
            attachments,
            sockets: HashMap::new(),
            host_networks: Vec::new(),
            blocked: HashMap::new(),
        };
        let control = Self {
            gate,
            host,
            host_id,
            gate_id,
            state: Mutex::new(state),
            resolver: Channel::default(),
            events,
        };
        control.reconcile().await?;
        Ok((Arc::new(control), heard))
    }

    /// Holds the file against the links that stand in the gate: what has no
    /// record loses its link, what has no link loses its record.
    async fn reconcile(&self) -> anyhow::Result<()> {
        let mut state = self.state.lock().await;
        state.host_networks = self.read_host_networks().await?;
        let known: HashMap<String, u32> =
            state.attachments.all.values().map(|one| (link_name(one.id), one.link)).collect();
        let standing = self
            .gate
            .run(move || -> io::Result<Vec<String>> {
                let mut gate = Rtnl::new()?;
                let mut kept = Vec::new();
                for link in gate.links()? {
                    let ours = link.name.starts_with('s') && link.kind == "veth";
                    if ours && known.get(&link.name) == Some(&link.index) {
                        kept.push(link.name);
                    } else if ours {
                        gate.remove_link(&link.name)?;
                    }
                }
                Ok(kept)
            })
            .await??;
        let gone: Vec<u32> = state
            .attachments
            .ids()
            .into_iter()
            .filter(|id| !standing.contains(&link_name(*id)))
            .collect();
        let kept: Vec<u32> =
            state.attachments.ids().into_iter().filter(|id| !gone.contains(id)).collect();
        self.commit(rules::gate(&state.host_networks, &kept)).await?;
        for id in gone {
            self.clear(&mut state, id, "ended").await;
        }
        for id in kept {
            // The policy may be another than when the helper ended.
            self.replace_rules(&mut state, id, |_| {}).await?;
            let sockets = self.gate.run(move || Sockets::new(&link_name(id))).await??;
            state.sockets.insert(id, sockets);
        }
        state.attachments.write()?;
        Ok(())
    }

    async fn commit(&self, transaction: Transaction) -> Result<(), HelperError> {
        let result: Result<Result<(), NftError>, _> =
            self.gate.run(move || transaction.commit()).await;
        result.map_err(failed)?.map_err(failed)
    }

    async fn read_host_networks(&self) -> Result<Vec<IpNet>, HelperError> {
        let read = || Rtnl::new().and_then(|mut rtnl| host::networks(&mut rtnl));
        self.host.run(read).await.map_err(failed)?.map_err(failed)
    }

    // Attaching.

    /// Plugs a link into the namespace behind `namespace` for `uid`.
    pub async fn attach(
        &self,
        uid: u32,
        namespace: OwnedFd,
        rules: &[Rule],
    ) -> Result<Offer, HelperError> {
        let netns = self.check_namespace(uid, &namespace).await?;
        let mut state = self.state.lock().await;
        if state.attachments.all.values().any(|one| one.netns == netns) {
            return Err(HelperError::new(Code::InUse, "This sandbox has a link already."));
        }
        let own = state.attachments.all.values().filter(|one| one.uid == uid).count();
        if own >= MOST_PER_USER {
            let text = format!("You have {own} sandboxes with a network, which is the most.");
            return Err(HelperError::new(Code::LimitReached, text));
        }
        let (held, dropped) = take_rules(&state.policy, rules, None)?;
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
            since: seconds_since_1970(),
            held,
            generation: state.attachments.next_generation(),
            revision: state.attachments.next_revision(),
            answers: HashMap::new(),
        };
        let id = attachment.id;
        let offer = offer(&attachment, dropped);
        state.attachments.all.insert(id, attachment);
        let plugged = self.plug(&mut state, id, namespace).await;
        if let Err(error) = plugged {
            self.clear(&mut state, id, "failed").await;
            return Err(error);
        }
        info!(event = "attach", uid, attachment = id, %address, rules = rules.len(), "attached");
        Ok(offer)
    }

    /// Link first, then rules, and only then up (N10). The record is on disk
    /// before anything is made, so that a crash leaves nothing unknown.
    async fn plug(
        &self,
        state: &mut State,
        id: u32,
        namespace: OwnedFd,
    ) -> Result<(), HelperError> {
        state.attachments.write().map_err(failed)?;
        let ids = state.attachments.ids();
        let one = state.attachments.all.get(&id).ok_or_else(|| failed("it is gone"))?;
        let (address, (sandbox_mac, gate_mac)) = (one.address, one.macs);
        let transaction = rules::attachment(&one.rules(&state.policy.policy, now()), &ids);
        let revision = one.revision;
        let made = self
            .gate
            .run(move || -> Result<(u32, Sockets), HelperError> {
                let name = link_name(id);
                let mut gate = Rtnl::new().map_err(failed)?;
                let fd = netns::raw(&namespace);
                gate.add_veth(&name, Some(gate_mac), "eth0", Some(sandbox_mac), fd)
                    .map_err(failed)?;
                let index = gate.index(&name).map_err(failed)?;
                transaction.commit().map_err(failed)?;
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
        state.attachments.write().map_err(failed)?;
        self.introduce(state, id, revision, &sockets).await?;
        state.sockets.insert(id, sockets);
        Ok(())
    }

    async fn introduce(
        &self,
        state: &State,
        id: u32,
        revision: u64,
        sockets: &Sockets,
    ) -> Result<(), HelperError> {
        let Some(one) = state.attachments.all.get(&id) else { return Ok(()) };
        let file = wire::entries_file(&one.entries().map(Rule::from).collect()).map_err(failed)?;
        let fds = [wire::number(&sockets.udp), wire::number(&sockets.tcp), wire::number(&file)];
        let message = ToResolver::Attached { id, revision, connected: one.connected };
        self.resolver.tell(&message, &fds).await;
        Ok(())
    }

    /// H2: only a live, empty network namespace that this user made.
    async fn check_namespace(&self, uid: u32, namespace: &OwnedFd) -> Result<NetnsId, HelperError> {
        let bad = |text: &str| HelperError::new(Code::BadDescriptor, format!("{text}."));
        // Before any ioctl: on a device the numbers would mean something else.
        let kind = nix::sys::statfs::fstatfs(namespace)
            .map_err(|_| bad("The descriptor is not a namespace"))?;
        if kind.filesystem_type().0 as i64 != NSFS_MAGIC {
            return Err(bad("The descriptor is not a namespace"));
        }
        match ns_ioctl::kind(namespace) {
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
        let owner = ns_ioctl::user_namespace(namespace).and_then(ns_ioctl::owner_uid);
        if uid == 0 || owner.ok() != Some(uid) {
            return Err(bad("The network namespace belongs to another user"));
        }
        let copy = namespace.try_clone().map_err(failed)?;
        let links = move || Rtnl::new()?.links_elsewhere(netns::raw(copy.as_fd()), 2);
        let links = self.gate.run(links).await.map_err(failed)?.map_err(failed)?;
        if links != ["lo"] {
            return Err(bad("The network namespace has links already"));
        }
        Ok(id)
    }

    // Changing.

    /// See `SetRules` of the contract.
    pub async fn set_rules(
        &self,
        id: u32,
        rules: &[Rule],
        expires_in: u32,
    ) -> Result<Vec<RuleDropped>, HelperError> {
        if expires_in > rcc_dbus::MAX_EXPIRY {
            return Err(HelperError::new(
                Code::InvalidArgument,
                "A timed rule lives a day at most.",
            ));
        }
        let mut state = self.state.lock().await;
        let until = (expires_in > 0).then(|| now() + u64::from(expires_in));
        let (fresh, dropped) = take_rules(&state.policy, rules, until)?;
        if !state.attachments.all.contains_key(&id) {
            return Err(unknown());
        }
        let timed = until.is_some();
        let one = state.attachments.all.get(&id).ok_or_else(unknown)?;
        let mut held = if timed { one.held.clone() } else { Vec::new() };
        for fresh in fresh {
            match held.iter_mut().find(|held| held.entry == fresh.entry) {
                // A rule that stays is not made to end.
                Some(held) if held.until.is_none() => {}
                Some(held) => held.until = fresh.until,
                None => held.push(fresh),
            }
        }
        if held.len() > MOST_RULES {
            let text = format!("A sandbox has {MOST_RULES} rules at most.");
            return Err(HelperError::new(Code::LimitReached, text));
        }
        let count = held.len();
        self.replace_rules(&mut state, id, |one| one.held = held).await?;
        let uid = state.attachments.all.get(&id).map_or(0, |one| one.uid);
        info!(event = "rules", uid, attachment = id, rules = count, expires_in, "rules changed");
        Ok(dropped)
    }

    /// See `SetConnected` of the contract.
    pub async fn set_connected(
        &self,
        id: u32,
        connected: bool,
        administrator: bool,
    ) -> Result<(), HelperError> {
        let mut state = self.state.lock().await;
        let one = state.attachments.all.get(&id).ok_or_else(unknown)?;
        let uid = one.uid;
        if one.locked && connected && !administrator {
            let text = "An administrator disconnected this sandbox; only an administrator connects it again.";
            return Err(HelperError::new(Code::NotAuthorized, text));
        }
        self.replace_rules(&mut state, id, |one| {
            one.connected = connected;
            one.locked = !connected && (administrator || one.locked);
        })
        .await?;
        info!(
            event = "connected",
            uid,
            attachment = id,
            connected,
            administrator,
            "network switched"
        );
        Ok(())
    }

    /// Changes an attachment, and the kernel and the resolver with it; or nothing.
    async fn replace_rules(
        &self,
        state: &mut State,
        id: u32,
        change: impl FnOnce(&mut Attachment),
    ) -> Result<(), HelperError> {
        let before = state.attachments.all.get(&id).cloned().ok_or_else(unknown)?;
        let mut after = before.clone();
        change(&mut after);
        after.revision = state.attachments.next_revision();
        after.prune_answers(&state.policy.policy, now());
        // Flows that were accepted go on by their mark only while nothing was
        // taken away. A policy that changed counts as narrower.
        let kept = |held: &Held| after.held.iter().any(|other| other.entry == held.entry);
        let narrower = !before.held.iter().all(kept) || before.connected != after.connected;
        if narrower {
            after.generation = state.attachments.next_generation();
        }
        let (old, revision, connected) = (before.generation, after.revision, after.connected);
        let transaction =
            rules::attachment(&after.rules(&state.policy.policy, now()), &state.attachments.ids());
        self.commit(transaction).await?;
        let entries: Vec<Rule> = after.entries().map(Rule::from).collect();
        let generation = after.generation;
        state.attachments.all.insert(id, after);
        if narrower {
            self.cut(state, id, old, generation).await?;
        }
        let file = wire::entries_file(&entries).map_err(failed)?;
        let message = ToResolver::Rules { id, revision, connected };
        self.resolver.tell(&message, &[wire::number(&file)]).await;
        state.attachments.write().map_err(failed)
    }

    /// Flows that the new rules would not accept are forgotten, the others get
    /// the new mark; then it is looked whether any is left (N15).
    async fn cut(&self, state: &State, id: u32, old: u32, new: u32) -> Result<(), HelperError> {
        for _ in 0..5 {
            let flows = self.gate.run(move || Conntrack::new()?.marked(old)).await;
            let flows = flows.map_err(failed)?.map_err(failed)?;
            if flows.is_empty() {
                return Ok(());
            }
            let Some(one) = state.attachments.all.get(&id) else { return Ok(()) };
            let policy = &state.policy.policy;
            let verdicts: Vec<_> = flows
                .into_iter()
                .map(|flow| {
                    let open = one.connected && still_open(policy, one, &flow);
                    (flow, open)
                })
                .collect();
            let apply = move || -> io::Result<()> {
                let mut conntrack = Conntrack::new()?;
                for (flow, open) in &verdicts {
                    if *open { conntrack.remark(flow, new)? } else { conntrack.forget(flow)? }
                }
                Ok(())
            };
            self.gate.run(apply).await.map_err(failed)?.map_err(failed)?;
        }
        // Still some: all of them go.
        let forget = move || Conntrack::new()?.forget_marked(old);
        self.gate.run(forget).await.map_err(failed)?.map_err(failed)
    }

    /// See `Detach` of the contract.
    pub async fn detach(&self, id: u32, administrator: bool) -> Result<(), HelperError> {
        let mut state = self.state.lock().await;
        if !state.attachments.all.contains_key(&id) {
            return Err(unknown());
        }
        self.clear(&mut state, id, if administrator { "administrator" } else { "asked" }).await;
        Ok(())
    }

    /// Takes everything of an attachment away. Goes on after an error: what is
    /// left over is cut off already, since its link is gone.
    async fn clear(&self, state: &mut State, id: u32, reason: &'static str) {
        let Some(one) = state.attachments.remove(id, now()) else { return };
        state.sockets.remove(&id);
        state.blocked.retain(|blocked, _| blocked.id != id);
        self.resolver.tell(&ToResolver::Detached { id }, &[]).await;
        let transaction = rules::detached(id, one.address, &state.attachments.ids());
        let generation = one.generation;
        let cleared = self
            .gate
            .run(move || -> anyhow::Result<()> {
                let link = Rtnl::new().and_then(|mut gate| gate.remove_link(&link_name(id)));
                let rules = transaction.commit();
                let flows = Conntrack::new().and_then(|mut flows| flows.forget_marked(generation));
                link?;
                rules?;
                Ok(flows?)
            })
            .await;
        match cleared {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(attachment = id, %error, "could not clear everything"),
            Err(error) => error!(attachment = id, %error, "could not clear"),
        }
        if let Err(error) = state.attachments.write() {
            error!(%error, "could not write the state");
        }
        info!(event = "detach", uid = one.uid, attachment = id, reason, "detached");
        let _ = self.events.send(Event::Detached { uid: one.uid, id, reason });
    }

    // What others say.

    /// Opens what the resolver found, as far as the policy allows: first the set,
    /// then the answer. Many at once, in one transaction.
    pub async fn publish(&self, publications: &[Publication]) -> Vec<Published> {
        let mut state = self.state.lock().await;
        let now = now();
        let mut transaction = Transaction::new();
        let mut noted = Vec::new();
        let results: Vec<Published> = publications
            .iter()
            .map(|publication| open(&mut state, publication, now, &mut transaction, &mut noted))
            .collect();
        if let Err(error) = self.commit(transaction).await {
            warn!(%error, "could not open addresses");
            for (id, key) in noted {
                if let Some(one) = state.attachments.all.get_mut(&id) {
                    one.answers.remove(&key);
                }
            }
            return publications.iter().map(|_| Err(())).collect();
        }
        // On a memory file system, so this costs microseconds; a helper that is
        // killed now knows afterwards what is open (N11).
        if !noted.is_empty()
            && let Err(error) = state.attachments.write()
        {
            error!(%error, "could not write the state");
        }
        results
    }

    /// Tells a new resolver everything.
    pub async fn brief_resolver(&self) -> Result<(), HelperError> {
        let state = self.state.lock().await;
        self.brief_policy(&state).await?;
        for (id, one) in &state.attachments.all {
            if let Some(sockets) = state.sockets.get(id) {
                self.introduce(&state, *id, one.revision, sockets).await?;
            }
        }
        Ok(())
    }

    async fn brief_policy(&self, state: &State) -> Result<(), HelperError> {
        let policy = &state.policy.policy;
        let file = wire::entries_file(&policy.entries.iter().map(Rule::from).collect());
        let message = ToResolver::Policy { allow_public: policy.defaults.allow_public };
        self.resolver.tell(&message, &[wire::number(&file.map_err(failed)?)]).await;
        Ok(())
    }

    /// Counts something refused; [`Control::flush`] tells of it. `link` is that of
    /// the packet, for packets.
    pub async fn refused(&self, mut what: Blocked, link: Option<u32>) {
        /// Different things that may wait to be told, of all sandboxes.
        const MOST: usize = 1_000;
        let mut state = self.state.lock().await;
        let one = match link {
            Some(link) => state.attachments.by_link(link),
            None => state.attachments.all.get(&what.id),
        };
        let Some(one) = one else { return };
        what.id = one.id;
        if what.host.is_empty() {
            what.host = name_behind(one, &what.address);
        }
        if state.blocked.len() < MOST || state.blocked.contains_key(&what) {
            *state.blocked.entry(what).or_default() += 1;
        }
    }

    /// Tells of what was refused. Called often.
    pub async fn flush(&self) {
        let mut state = self.state.lock().await;
        let blocked = std::mem::take(&mut state.blocked);
        for (what, count) in blocked {
            let Some(one) = state.attachments.all.get(&what.id) else { continue };
            let uid = one.uid;
            // Names of hosts are personal: only at debug level.
            info!(
                event = "blocked",
                uid,
                attachment = what.id,
                reason = what.reason.as_str(),
                count,
                "blocked"
            );
            tracing::debug!(
                host = what.host,
                address = what.address,
                port = what.port,
                "blocked what"
            );
            let _ = self.events.send(Event::Blocked { uid, what, count });
        }
    }

    /// Lets timed rules end.
    pub async fn expire(&self) {
        let mut state = self.state.lock().await;
        for id in state.attachments.ids() {
            let due =
                state.attachments.all.get_mut(&id).is_some_and(|one| one.clone().expire(now()));
            if due
                && let Err(error) = self
                    .replace_rules(&mut state, id, |one| {
                        one.expire(now());
                    })
                    .await
            {
                error!(attachment = id, %error, "a timed rule could not end; the sandbox is cut off");
                self.clear(&mut state, id, "failed").await;
            }
        }
    }

    /// Clears attachments whose link the kernel took away.
    pub async fn sweep(&self) {
        let mut state = self.state.lock().await;
        let links = self.gate.run(|| Rtnl::new()?.links()).await;
        let Ok(Ok(links)) = links else { return };
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
    }

    /// Takes over addresses of the host that changed.
    pub async fn host_changed(&self) -> Result<(), HelperError> {
        let mut state = self.state.lock().await;
        let networks = self.read_host_networks().await?;
        if networks != state.host_networks {
            self.commit(rules::host_networks(&networks)).await?;
            state.host_networks = networks;
        }
        Ok(())
    }

    /// Puts the host's table up again. While it cannot stand, the link to the
    /// host is down.
    pub async fn restore_host(&self) {
        let restore = || -> anyhow::Result<()> {
            let mut rtnl = Rtnl::new()?;
            let index = rtnl.index(rules::HOST_LINK)?;
            if let Err(error) = host::apply_table(&mut rtnl) {
                rtnl.set_up(index, false)?;
                return Err(error.into());
            }
            Ok(rtnl.set_up(index, true)?)
        };
        match self.host.run(restore).await {
            Ok(Ok(())) => info!(event = "restored", "the host's table was put up again"),
            Ok(Err(error)) => error!(%error, "the host's table cannot be put up"),
            Err(error) => error!(%error, "the host's table cannot be put up"),
        }
    }

    /// True while the host's link to the gate is up and its routing rules stand.
    pub async fn host_table_stands(&self) -> bool {
        let look = || Rtnl::new().and_then(|mut rtnl| host::stands(&mut rtnl));
        matches!(self.host.run(look).await, Ok(Ok(true)))
    }

    // The policy.

    /// The file in force.
    pub async fn policy(&self) -> InForce {
        self.state.lock().await.policy.clone()
    }

    /// Puts another policy in force, everywhere at once.
    pub async fn use_policy(&self, policy: InForce) -> Result<(), HelperError> {
        let mut state = self.state.lock().await;
        if policy.version == state.policy.version {
            return Ok(());
        }
        let version = policy.version.clone();
        state.policy = policy;
        for id in state.attachments.ids() {
            let (held, _) = {
                let Some(one) = state.attachments.all.get(&id) else { continue };
                let own: Vec<Entry> = one.entries().cloned().collect();
                rcc_policy::merge(&state.policy.policy, &own)
            };
            let result = self
                .replace_rules(&mut state, id, |one| {
                    one.held.retain(|own| held.contains(&own.entry));
                })
                .await;
            if let Err(error) = result {
                error!(attachment = id, %error, "the new policy cannot hold; the sandbox is cut off");
                self.clear(&mut state, id, "failed").await;
                continue;
            }
            // Entries of the file may have gone: every flow is looked at again.
            self.recheck(&mut state, id).await?;
        }
        self.brief_policy(&state).await?;
        info!(event = "policy", version, "the policy changed");
        let _ = self.events.send(Event::PolicyChanged { version });
        Ok(())
    }

    async fn recheck(&self, state: &mut State, id: u32) -> Result<(), HelperError> {
        let generation = state.attachments.next_generation();
        let Some(one) = state.attachments.all.get_mut(&id) else { return Ok(()) };
        let old = std::mem::replace(&mut one.generation, generation);
        let one = one.clone();
        let rules = one.rules(&state.policy.policy, now());
        self.commit(rules::attachment(&rules, &state.attachments.ids())).await?;
        self.cut(state, id, old, generation).await?;
        state.attachments.write().map_err(failed)
    }

    // Looking.

    /// Attachments of `uid`, or everybody's.
    pub async fn list(&self, uid: Option<u32>) -> Vec<AttachmentInfo> {
        let state = self.state.lock().await;
        let wanted = |one: &&Attachment| uid.is_none_or(|uid| one.uid == uid);
        state.attachments.all.values().filter(wanted).map(|one| one.info(now())).collect()
    }

    /// Whose attachment this is.
    pub async fn owner(&self, id: u32) -> Option<u32> {
        self.state.lock().await.attachments.all.get(&id).map(|one| one.uid)
    }

    /// True while somebody has a link.
    pub async fn in_use(&self) -> bool {
        !self.state.lock().await.attachments.all.is_empty()
    }
}

fn unknown() -> HelperError {
    HelperError::new(Code::NoSuchAttachment, "You have no sandbox with this number.")
}

/// The caller's rules, checked one by one and held within the bounds.
fn take_rules(
    policy: &InForce,
    rules: &[Rule],
    until: Option<u64>,
) -> Result<(Vec<Held>, Vec<RuleDropped>), HelperError> {
    if rules.len() > MOST_RULES {
        let text =
            format!("{} rules are more than the {MOST_RULES} that one call may have.", rules.len());
        return Err(HelperError::new(Code::LimitReached, text));
    }
    let mut dropped = Vec::new();
    let mut entries = Vec::new();
    let mut indices = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let too_long = rule.target.len() > 300 || rule.ports.len() > rcc_dbus::MAX_PORTS_PER_RULE;
        let entry = if too_long {
            Err("It is too long.".to_owned())
        } else {
            rule.to_entry().map_err(|e| e.to_string())
        };
        match entry {
            Ok(entry) => {
                entries.push(entry);
                indices.push(index);
            }
            Err(reason) => dropped.push(RuleDropped { index, reason }),
        }
    }
    let (held, outside) = rcc_policy::merge(&policy.policy, &entries);
    dropped.extend(
        outside
            .into_iter()
            .map(|one| RuleDropped { index: indices[one.index], reason: one.reason }),
    );
    Ok((held.into_iter().map(|entry| Held { entry, until }).collect(), dropped))
}

/// Opens one publication within the transaction. The resolver is believed in
/// nothing: entries, addresses and their number are checked here.
fn open(
    state: &mut State,
    publication: &Publication,
    now: u64,
    transaction: &mut Transaction,
    noted: &mut Vec<(u32, (Entry, Ipv4Addr))>,
) -> Published {
    let policy = &state.policy.policy;
    let one = state.attachments.all.get_mut(&publication.id).ok_or(())?;
    if one.revision != publication.revision
        || !one.connected
        || publication.addresses.len() > MAX_ADDRESSES
    {
        return Err(());
    }
    let mut entries = Vec::new();
    for number in &publication.administrators {
        entries.push(policy.entries.get(*number as usize).ok_or(())?.clone());
    }
    for number in &publication.users {
        entries.push(one.held.get(*number as usize).ok_or(())?.entry.clone());
    }
    let mut opened = Vec::new();
    for address in &publication.addresses {
        let IpAddr::V4(v4) = *address else { continue };
        if state.host_networks.iter().any(|net| net.contains(address)) {
            continue;
        }
        for entry in &entries {
            let by_name = matches!(entry.target(), Target::Host(_));
            if !by_name || !answer_may_open(*address, entry.private()) {
                continue;
            }
            if let Some(seconds) = one.note_answer(entry, v4, publication.ttl, now).map_err(drop)? {
                let answer = rules::Answered { entry, address: v4, seconds };
                rules::answered(transaction, one.id, &answer);
                noted.push((one.id, (entry.clone(), v4)));
            }
            if !opened.contains(address) {
                opened.push(*address);
            }
        }
    }
    Ok(opened)
}

fn still_open(
    policy: &rcc_policy::Policy,
    one: &Attachment,
    flow: &crate::nfnetlink::Flow,
) -> bool {
    let address = IpAddr::V4(flow.destination);
    let Some(protocol) = flow.protocol else {
        return policy.defaults.allow_public && answer_may_open(address, false);
    };
    let entries: Vec<Entry> = policy.entries.iter().chain(one.entries()).cloned().collect();
    let answers: Vec<rcc_policy::Answer> = one
        .answers
        .keys()
        .filter(|(_, open)| *open == flow.destination)
        .filter_map(|(entry, _)| {
            let entry = entries.iter().position(|other| other == entry)?;
            Some(rcc_policy::Answer { address, entry })
        })
        .collect();
    let flow = NewFlow { address, protocol, port: flow.port };
    rcc_policy::decide(&policy.defaults, &entries, &answers, flow) == Verdict::Allowed
}

/// The name that an address was given out for, when it was an exact one.
fn name_behind(one: &Attachment, address: &str) -> String {
    let Ok(address) = address.parse::<Ipv4Addr>() else { return String::new() };
    let mut names = one.answers.keys().filter(|(_, open)| *open == address);
    names.next().map_or_else(String::new, |(entry, _)| entry.target().to_string())
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
