//! Changing what holds for a sandbox, and taking it away.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use rcc_dbus::{Code, HelperError, Rule, RuleDropped};
use rcc_policy::{Entry, Flow as NewFlow, Protocol, Verdict};
use tracing::{error, info, warn};

use super::{Control, Event, State, check_held, failed, hellos, take_rules, unknown};
use crate::attachments::Attachment;
use crate::clock::now;
use crate::layout::UNCHECKED;
use crate::netlink::Rtnl;
use crate::nfnetlink::{Conntrack, Flow};
use crate::resolver::wire::{self, ToResolver};
use crate::rules::{self, answer_may_open, link_name};

/// How long a packet may be under way in the gate: as long as a computer in software may
/// stop one of its processors.
const UNDER_WAY: Duration = Duration::from_secs(1);

impl Control {
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
        let mut places: HashMap<Entry, usize> =
            held.iter().enumerate().map(|(place, held)| (held.entry.clone(), place)).collect();
        for fresh in fresh {
            match places.get(&fresh.entry).map(|place| &mut held[*place]) {
                // A rule that stays is not made to end.
                Some(held) if held.until.is_none() => {}
                Some(held) => held.until = fresh.until,
                None => {
                    places.insert(fresh.entry.clone(), held.len());
                    held.push(fresh);
                }
            }
        }
        check_held(&held)?;
        let count = held.len();
        self.replace_rules(&mut state, id, false, |one| one.held = held).await?;
        let uid = state.attachments.all.get(&id).map_or(0, |one| one.uid);
        self.changes.notify_one();
        info!(event = "rules", uid, attachment = id, rules = count, expires_in, "rules changed");
        Ok(dropped)
    }

    /// See `OpenInternet` of the contract.
    pub async fn open_internet(&self, id: u32, seconds: u32) -> Result<(), HelperError> {
        if seconds > rcc_dbus::MAX_OPEN {
            return Err(HelperError::new(
                Code::InvalidArgument,
                "A sandbox is open to the internet for an hour at most.",
            ));
        }
        let mut state = self.state.lock().await;
        let uid = state.attachments.all.get(&id).ok_or_else(unknown)?.uid;
        if seconds > 0 && !users_may_open(&state.policy.policy) {
            return Err(HelperError::new(
                Code::NotAuthorized,
                "The administrator lets users add no hosts here, so none can open the internet.",
            ));
        }
        let until = (seconds > 0).then(|| now() + u64::from(seconds));
        self.replace_rules(&mut state, id, false, |one| one.open_until = until).await?;
        self.changes.notify_one();
        info!(event = "open", uid, attachment = id, seconds, "opened to the internet for a time");
        Ok(())
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
        self.replace_rules(&mut state, id, false, |one| {
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

    /// Changes an attachment, and the kernel and the resolver with it; or nothing. Flows
    /// are looked at again when something of its own was taken away, or `anyway`.
    pub(super) async fn replace_rules(
        &self,
        state: &mut State,
        id: u32,
        anyway: bool,
        change: impl FnOnce(&mut Attachment),
    ) -> Result<(), HelperError> {
        let before = state.attachments.all.get(&id).cloned().ok_or_else(unknown)?;
        let mut after = before.clone();
        change(&mut after);
        after.revision = state.attachments.next_revision();
        after.prune_answers(&state.policy.policy, now());
        // Flows that were accepted go on by their mark only while nothing was taken away.
        let held: HashSet<&Entry> = after.entries().collect();
        let narrower = anyway
            || !before.entries().all(|entry| held.contains(entry))
            || before.connected != after.connected
            || before.open_until.is_some() && after.open_until.is_none();
        if narrower {
            after.generation = state.attachments.next_generation();
        }
        let (old, revision) = (before.generation, after.revision);
        let (connected, open) = (after.connected, after.open_until.is_some());
        let transaction = after.transaction(&state.policy.policy, now());
        let entries: Vec<Rule> = after.entries().map(Rule::from).collect();
        // Before anything is done, as it can fail.
        let file = wire::entries_file(&entries).map_err(failed)?;
        let generation = after.generation;
        state.attachments.all.insert(id, after);
        // Written down before it is done: a helper that is killed in between must
        // not bring back what was taken away.
        let done = match state.attachments.write(id) {
            Ok(()) => self.commit(transaction).await,
            Err(error) => Err(failed(error)),
        };
        if let Err(error) = done {
            state.attachments.all.insert(id, before);
            if let Err(error) = state.attachments.write(id) {
                error!(attachment = id, %error, "what did not come to hold is written down");
            }
            return Err(error);
        }
        let cut = if narrower { self.cut(state, id, old, generation).await } else { Ok(()) };
        if narrower {
            self.look_again(old);
        }
        // Also when it failed: the rules hold, and names are answered by no others.
        let message = ToResolver::Rules { id, revision, connected, open };
        self.resolver.tell(&message, &[wire::number(&file)]).await;
        cut
    }

    /// Flows that the new rules would not accept are forgotten, the others get
    /// the new mark; then it is looked whether any is left (N15).
    pub(super) async fn cut(
        &self,
        state: &State,
        id: u32,
        old: u32,
        new: u32,
    ) -> Result<(), HelperError> {
        for _ in 0..5 {
            let flows = self.gate.run(move || Conntrack::new()?.marked(old)).await;
            let flows = flows.map_err(failed)?.map_err(failed)?;
            if flows.is_empty() {
                return Ok(());
            }
            let Some(one) = state.attachments.all.get(&id) else { return Ok(()) };
            let policy = &state.policy.policy;
            let entries: Vec<Entry> = policy.entries.iter().chain(one.entries()).cloned().collect();
            let name = |flow: &Flow| self.names.lock().ok()?.of(flow).cloned();
            let verdicts: Vec<_> = flows
                .into_iter()
                .map(|flow| {
                    let name = name(&flow);
                    let open =
                        one.connected && still_open(policy, one, &entries, &flow, name.as_ref());
                    (flow, open)
                })
                .collect();
            let apply = move || -> io::Result<Vec<Flow>> {
                let mut conntrack = Conntrack::new()?;
                let mut shut = Vec::new();
                for (flow, open) in verdicts {
                    if open {
                        conntrack.remark(&flow, new | (flow.mark & UNCHECKED))?;
                    } else {
                        conntrack.forget(&flow)?;
                        shut.push(flow);
                    }
                }
                Ok(shut)
            };
            let shut = self.gate.run(apply).await.map_err(failed)?.map_err(failed)?;
            self.forget_behind_gate(shut).await;
        }
        // Still some: all of them go.
        let shut = self.gate.run(move || forget_all(old)).await;
        self.forget_behind_gate(shut.map_err(failed)?.map_err(failed)?).await;
        Ok(())
    }

    /// Forgets flows of generations that no sandbox has: of one whose record is lost (N9),
    /// or of rules that were others when the helper was killed before it had cut (N15).
    pub(super) async fn forget_strangers(&self, state: &State) -> Result<(), HelperError> {
        let present: HashSet<u32> =
            state.attachments.all.values().map(|one| one.generation).collect();
        // Looked at again: a packet that is on its way may begin one meanwhile.
        for _ in 0..5 {
            let present = present.clone();
            let forget = move || -> io::Result<Vec<Flow>> {
                let mut conntrack = Conntrack::new()?;
                let mut strangers = conntrack.all_marked()?;
                strangers.retain(|flow| !present.contains(&(flow.mark & !UNCHECKED)));
                strangers.iter().try_for_each(|flow| conntrack.forget(flow))?;
                Ok(strangers)
            };
            let shut = self.gate.run(forget).await.map_err(failed)?.map_err(failed)?;
            if shut.is_empty() {
                return Ok(());
            }
            self.forget_behind_gate(shut).await;
        }
        Ok(())
    }

    /// Has the host forget flows that are forgotten in the gate. That is tidiness and no
    /// wall: nothing of them passes the gate any more.
    async fn forget_behind_gate(&self, flows: Vec<Flow>) {
        if flows.is_empty() {
            return;
        }
        let forget = move || -> io::Result<()> {
            let mut conntrack = Conntrack::new()?;
            flows.iter().try_for_each(|flow| conntrack.forget_behind_gate(flow))
        };
        match self.host.run(forget).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the computer remembers connections that were cut"),
            Err(error) => warn!(%error, "the computer remembers connections that were cut"),
        }
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

    /// Takes away a sandbox whose change failed halfway: the kernel may know flows of its
    /// rules of before.
    pub(super) async fn cut_off(&self, state: &mut State, id: u32) {
        self.clear(state, id, "failed").await;
        if let Err(error) = self.forget_strangers(state).await {
            self.give_up(state, id, &error.to_string());
        }
    }

    /// Looks once more for flows of a generation that is over. A packet that was under way
    /// when its rules went can begin one after the last look; no rule lets it on, but what
    /// its server sends would come in.
    fn look_again(&self, generation: u32) {
        let gate = self.gate.clone();
        tokio::spawn(async move {
            tokio::time::sleep(UNDER_WAY).await;
            let late = gate.run(move || forget_all(generation)).await;
            if let Err(error) = late.map_err(io::Error::other).and_then(|late| late) {
                warn!(%error, "late connections could not be looked for");
            }
        });
    }

    /// A link that could not be taken away must not stay up without a record: the
    /// process ends, and the next one removes every link that it does not know.
    fn give_up(&self, state: &State, id: u32, error: &str) {
        error!(attachment = id, error, "could not clear a sandbox; starting anew");
        if let Err(error) = state.attachments.write(id) {
            error!(%error, "could not write the state");
        }
        std::process::exit(70);
    }

    /// Takes everything of an attachment away. Goes on after an error: what is
    /// left over is cut off already, since its link is gone.
    pub(super) async fn clear(&self, state: &mut State, id: u32, reason: &'static str) {
        let Some(one) = state.attachments.remove(id, now()) else { return };
        state.sockets.remove(&id);
        self.store.forget(id);
        state.blocked.take_of(id);
        state.untold.take_of(id);
        if let Ok(mut seen) = self.seen.lock() {
            seen.forget(id);
        }
        if let Ok(mut names) = self.names.lock() {
            names.forget(id);
        }
        self.resolver.tell(&ToResolver::Detached { id }, &[]).await;
        let transaction = rules::detached(id, one.address);
        let generation = one.generation;
        let cleared = self
            .gate
            .run(move || -> anyhow::Result<Vec<Flow>> {
                let link = Rtnl::new().and_then(|mut gate| gate.remove_link(&link_name(id)));
                let rules = transaction.commit();
                let flows = forget_all(generation);
                link?;
                rules?;
                Ok(flows?)
            })
            .await;
        self.look_again(generation);
        match cleared {
            Ok(Ok(flows)) => self.forget_behind_gate(flows).await,
            Ok(Err(error)) => self.give_up(state, id, &error.to_string()),
            Err(error) => self.give_up(state, id, &error.to_string()),
        }
        if let Err(error) = state.attachments.write(id) {
            error!(%error, "could not write the state");
        }
        self.changes.notify_one();
        info!(event = "detach", uid = one.uid, attachment = id, reason, "detached");
        let _ = self.events.send(Event::Detached { uid: one.uid, id, reason });
    }
}

/// Forgets all flows of a generation, in the gate; answers which there were, as far as the
/// kernel tells.
fn forget_all(generation: u32) -> io::Result<Vec<Flow>> {
    let mut conntrack = Conntrack::new()?;
    let flows = conntrack.marked(generation);
    conntrack.forget_marked(generation)?;
    Ok(flows.unwrap_or_else(|error| {
        warn!(%error, "which connections are cut is not known");
        Vec::new()
    }))
}

/// Opening the internet is adding every public host for a time.
pub(super) fn users_may_open(policy: &rcc_policy::Policy) -> bool {
    policy.defaults.users_may_add != rcc_policy::UsersMayAdd::None
}

/// Takes from a sandbox what the administrator's list does not let its user have, and what
/// is over.
pub(super) fn hold_to(policy: &rcc_policy::Policy, one: &mut Attachment) {
    one.expire(now());
    let own: Vec<Entry> = one.entries().cloned().collect();
    let held: HashSet<Entry> = rcc_policy::merge(policy, &own).0.into_iter().collect();
    one.held.retain(|own| held.contains(&own.entry));
    one.open_until = one.open_until.filter(|_| users_may_open(policy));
}

/// The rules of now, which are `entries`, let this flow go on. `name`: by which it was passed, for one whose
/// hello was looked at.
fn still_open(
    policy: &rcc_policy::Policy,
    one: &Attachment,
    entries: &[Entry],
    flow: &Flow,
    name: Option<&rcc_policy::Name>,
) -> bool {
    let address = IpAddr::V4(flow.destination);
    let defaults = one.defaults(policy);
    let Some(protocol) = flow.protocol else {
        return defaults.allow_public && answer_may_open(address, false);
    };
    let allowed = |answers: &[rcc_policy::Answer]| {
        let flow = NewFlow { address, protocol, port: flow.port };
        rcc_policy::decide(&defaults, entries, answers, flow) == Verdict::Allowed
    };
    // By a rule of the address itself, or since everything is open.
    if allowed(&[]) {
        return true;
    }
    // An address by name, which is shared: what counts is whom this connection is to. One
    // that nobody can say that of yet is begun anew by its client: its hello may have been
    // sent on by the rules of before.
    let looked_at = protocol == Protocol::Tcp && flow.port == rules::TLS;
    if looked_at && answer_may_open(address, false) {
        return name.is_some_and(|name| hellos::allows_name(policy, one, name));
    }
    let answers: Vec<rcc_policy::Answer> = one
        .answers
        .keys()
        .filter(|(_, open)| *open == flow.destination)
        .filter_map(|(entry, _)| {
            let entry = entries.iter().position(|other| other == entry)?;
            Some(rcc_policy::Answer { address, entry })
        })
        .collect();
    allowed(&answers)
}
