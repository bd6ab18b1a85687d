//! The one place that changes the firewall while it runs. Everything that a
//! caller, the resolver or the kernel says comes here, and one thing happens
//! after the other, under one lock.

mod attach;
mod change;
mod hear;
mod hellos;
mod policy;
mod publish;
mod refusals;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use rcc_dbus::{AttachmentInfo, BlockedReason, Code, HelperError, Rule, RuleDropped};
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tracing::error;

use self::change::hold_to;
use self::refusals::Refusals;
use crate::attachments::{Attachment, Attachments, Held};
use crate::clock::now;
use crate::firewalls::{self, Firewalls};
use crate::host;
use crate::layout::STATE_FOLDER;
use crate::netlink::Rtnl;
use crate::netns::{self, NetnsId, Room};
use crate::nft::{NftError, Transaction};
use crate::policy_file::InForce;
use crate::resolver::parent::{Channel, Sockets};
use crate::rules::{self, UPLINK, link_name};
use crate::seen::Seen;
use crate::store::Store;
use crate::uplink::Uplink;

/// Attachments that one user may have, and all together.
const MOST_PER_USER: usize = 128;
/// Rules of one attachment, timed ones included.
const MOST_RULES: usize = rcc_dbus::MAX_RULES_PER_CALL;
/// Ports of all of them: each is an element in the kernel for each address of its rule, and
/// a line in a record that must fit the memory of a service that starts anew.
const MOST_PORTS: usize = 4_096;
/// Bytes that the rules of one call may take, a thousand of the longest ones.
const MOST_BYTES: usize = 1 << 20;
/// `NSFS_MAGIC`, linux/magic.h.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// What watchers are told.
#[derive(Debug)]
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
    /// Tells nobody anything: is answered when all before it was sent.
    Sent(oneshot::Sender<()>),
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
    policy: Arc<InForce>,
    /// By which interface sandboxes leave the host.
    uplink: Uplink,
    /// The host's table is of just this one; not, when it could not be put up.
    uplink_stands: bool,
    attachments: Attachments,
    sockets: HashMap<u32, Sockets>,
    host_networks: Vec<IpNet>,
    /// Refused since the log was last written.
    blocked: Refusals,
    /// Refused while nobody of the user's watched.
    untold: Refusals,
}

/// See the module.
pub struct Control {
    gate: Room,
    host: Room,
    host_id: NetnsId,
    gate_id: NetnsId,
    /// Number of the host's end of the link to this gate.
    host_link: u32,
    gone: Notify,
    state: Mutex<State>,
    seen: std::sync::Mutex<Seen>,
    names: std::sync::Mutex<hellos::Names>,
    /// The resolver.
    pub resolver: Channel,
    /// Something was refused and waits to be told.
    pub refusals: Notify,
    /// Rules or attachments changed: deadlines are other ones.
    pub changes: Notify,
    store: Store,
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
        uplink: Uplink,
        store: Store,
    ) -> anyhow::Result<(Arc<Self>, mpsc::UnboundedReceiver<Event>)> {
        let host_id = host.run(|| netns::identify(netns::current()?)).await??;
        let gate_id = gate.run(|| netns::identify(netns::current()?)).await??;
        let host_link = host.run(|| Rtnl::new()?.index(rules::HOST_LINK)).await??;
        let (events, heard) = mpsc::unbounded_channel();
        let (attachments, known) = match Attachments::read() {
            Ok(attachments) => (attachments, true),
            Err(error) => {
                error!(%error, "{STATE_FOLDER} does not read; every sandbox is cut off");
                (Attachments::anew()?, false)
            }
        };
        let state = State {
            policy: Arc::new(policy),
            uplink,
            uplink_stands: false,
            attachments,
            sockets: HashMap::new(),
            host_networks: Vec::new(),
            blocked: Refusals::default(),
            untold: Refusals::default(),
        };
        let control = Self {
            gate,
            host,
            host_id,
            gate_id,
            host_link,
            gone: Notify::new(),
            state: Mutex::new(state),
            seen: std::sync::Mutex::default(),
            names: std::sync::Mutex::default(),
            resolver: Channel::default(),
            refusals: Notify::new(),
            changes: Notify::new(),
            store,
            events,
        };
        control.use_uplink().await?;
        control.reconcile(known).await?;
        Ok((Arc::new(control), heard))
    }

    /// Holds the file against the links that stand in the gate: what has no
    /// record loses its link, what has no link loses its record. Not `known`: nobody could
    /// say what the gate has of sandboxes, so all of that goes.
    async fn reconcile(&self, known: bool) -> anyhow::Result<()> {
        let mut state = self.state.lock().await;
        let left_out = std::mem::take(&mut state.attachments.left_out);
        for (id, error) in &left_out {
            error!(attachment = id, error, "its record does not read; the sandbox is cut off");
        }
        state.host_networks = self.read_host_networks().await?;
        let recorded: HashMap<String, u32> =
            state.attachments.all.values().map(|one| (link_name(one.id), one.link)).collect();
        let standing = self
            .gate
            .run(move || -> io::Result<Vec<String>> {
                let mut gate = Rtnl::new()?;
                let mut kept = Vec::new();
                for link in gate.links()? {
                    let ours = link.name.starts_with('s') && link.kind == "veth";
                    if ours && recorded.get(&link.name) == Some(&link.index) {
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
        let all = state.attachments.all.values().map(|one| (one.id, one.address));
        let kept: Vec<_> = all.filter(|(id, _)| !gone.contains(id)).collect();
        let gate = if known {
            rules::gate(&state.host_networks, &kept)
        } else {
            // Their links are gone already.
            rules::gate_anew(&state.host_networks)
        };
        self.commit(gate).await?;
        for (id, _) in left_out {
            // Its address is not known, and stands in the gate no more.
            self.commit(rules::detached(id, Ipv4Addr::UNSPECIFIED)).await?;
        }
        for id in gone {
            self.clear(&mut state, id, "ended").await;
        }
        for (id, _) in kept {
            if let Err(error) = self.stand_again(&mut state, id).await {
                error!(attachment = id, %error, "the rules cannot stand; the sandbox is cut off");
                self.clear(&mut state, id, "failed").await;
                continue;
            }
            let sockets = match self.store.take(id, self.gate_id) {
                Some(sockets) => sockets,
                None => {
                    let sockets = self.gate.run(move || Sockets::new(&link_name(id))).await??;
                    self.store.keep(id, &sockets);
                    sockets
                }
            };
            state.sockets.insert(id, sockets);
            if let Ok(mut seen) = self.seen.lock() {
                seen.begin(id);
            }
        }
        self.forget_strangers(&state).await?;
        self.store.clean();
        state.attachments.policy = state.policy.version.clone();
        // The record of before is true of all that stands, so a full disk ends nothing.
        if let Err(error) = state.attachments.write_all() {
            error!(%error, "could not write the state");
        }
        Ok(())
    }

    /// Puts the rules of an attachment up as they were when the helper ended.
    async fn stand_again(&self, state: &mut State, id: u32) -> Result<(), HelperError> {
        // The administrator's file may be another than when the helper ended.
        let other = state.attachments.policy != state.policy.version;
        // And what was open for a time may be over.
        let policy = state.policy.clone();
        let held = |one: &mut Attachment| hold_to(&policy.policy, one);
        let written = self.replace_rules(state, id, other, held).await;
        if other {
            return written;
        }
        let Err(error) = written else { return Ok(()) };
        error!(attachment = id, %error, "could not write the state; what was written holds");
        let Some(one) = state.attachments.all.get_mut(&id) else { return Ok(()) };
        let all = (one.held.len(), one.open_until);
        hold_to(&policy.policy, one);
        if (one.held.len(), one.open_until) != all {
            // Its connections would go on: they are looked at only with new rules.
            return Err(error);
        }
        let transaction = one.transaction(&policy.policy, now());
        self.commit(transaction).await
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

    /// Ends when the link to this gate is another one, or none.
    pub async fn gate_is_gone(&self) {
        self.gone.notified().await;
    }

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

    /// True while the host throws away what comes back for sandboxes on a link that
    /// is new.
    pub async fn lacks_forwarding(&self) -> bool {
        let look = || Rtnl::new().and_then(|mut rtnl| host::lacks_forwarding(&mut rtnl));
        matches!(self.host.run(look).await, Ok(Ok(true)))
    }

    /// Other firewalls of the host.
    pub async fn firewalls(&self) -> Option<Firewalls> {
        self.host.run(firewalls::look).await.ok()?.ok()
    }

    /// True while the host's link to the gate is up and its routing rules stand.
    pub async fn host_table_stands(&self) -> bool {
        let look = || Rtnl::new().and_then(|mut rtnl| host::stands(&mut rtnl));
        matches!(self.host.run(look).await, Ok(Ok(true)))
    }

    /// Whether the gate's end of its link to the host is there and up.
    pub async fn uplink_is_up(&self) -> bool {
        let look = || Rtnl::new().and_then(|mut rtnl| rtnl.link(UPLINK));
        matches!(self.gate.run(look).await, Ok(Ok(Some(link))) if link.up)
    }
}

fn unknown() -> HelperError {
    HelperError::new(Code::NoSuchAttachment, "You have no sandbox with this number.")
}

/// Refuses more rules than one call may have, and longer ones.
pub fn check_size(rules: &[Rule]) -> Result<(), HelperError> {
    if rules.len() > MOST_RULES {
        let text =
            format!("{} rules are more than the {MOST_RULES} that one call may have.", rules.len());
        return Err(HelperError::new(Code::LimitReached, text));
    }
    let bytes = |rule: &Rule| rule.target.len() + rule.protocol.len() + 2 * rule.ports.len();
    if rules.iter().map(bytes).sum::<usize>() > MOST_BYTES {
        return Err(HelperError::new(Code::LimitReached, "These rules are too long for one call."));
    }
    Ok(())
}

/// Refuses more rules, and more ports of them, than a sandbox may have.
fn check_held(held: &[Held]) -> Result<(), HelperError> {
    let limit = |text: String| Err(HelperError::new(Code::LimitReached, text));
    if held.len() > MOST_RULES {
        return limit(format!("A sandbox has {MOST_RULES} rules at most."));
    }
    let ports: usize = held.iter().map(|held| held.entry.ports().len()).sum();
    if ports > MOST_PORTS {
        return limit(format!("The rules of a sandbox name {MOST_PORTS} ports at most."));
    }
    Ok(())
}

/// The caller's rules, checked one by one and held within the bounds.
fn take_rules(
    policy: &InForce,
    rules: &[Rule],
    until: Option<u64>,
) -> Result<(Vec<Held>, Vec<RuleDropped>), HelperError> {
    check_size(rules)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn state() -> State {
        State {
            policy: Arc::default(),
            uplink: Uplink::Any,
            uplink_stands: true,
            attachments: Attachments::default(),
            sockets: HashMap::new(),
            host_networks: Vec::new(),
            blocked: Refusals::default(),
            untold: Refusals::default(),
        }
    }

    #[test]
    fn h3_rules_are_bounded_in_number_length_and_ports() {
        let rule = |ports: u16| Rule::tcp("a.example", &(1..=ports).collect::<Vec<_>>());
        assert!(check_size(&vec![rule(64); MOST_RULES]).is_ok());
        assert!(check_size(&vec![rule(1); MOST_RULES + 1]).is_err());
        let long = Rule::tcp("x".repeat(MOST_BYTES), &[443]);
        assert!(check_size(&[long]).is_err());
        let many_ports = Rule::tcp("a.example", &vec![443; MOST_BYTES / 2]);
        assert!(check_size(&[many_ports]).is_err());

        let held = |count, ports| {
            let held = Held { entry: rule(ports).to_entry().unwrap(), until: None };
            check_held(&vec![held; count])
        };
        assert!(held(MOST_RULES, 2).is_ok());
        assert!(held(MOST_RULES + 1, 1).is_err());
        assert!(held(64, 64).is_ok());
        assert!(held(65, 64).is_err());
    }
}
