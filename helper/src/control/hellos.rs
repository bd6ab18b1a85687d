//! What the resolver found out about hellos (N20), checked and done.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;

use rcc_dbus::{BlockedReason, HelperError};
use rcc_policy::{Name, Policy, Target};

use super::{Blocked, Control, State, failed};
use crate::attachments::Attachment;
use crate::layout::{GATE_ADDRESS, UNCHECKED};
use crate::nfnetlink::{Conntrack, Flow};
use crate::rules::{TLS, allows_tls};

/// Connections whose names are remembered; when there are more, all are forgotten, and
/// those that run are cut the next time that something is taken away.
const MOST_NAMES: usize = 16_384;

/// The names by which running connections were passed.
#[derive(Default)]
pub struct Names(HashMap<(u16, Ipv4Addr), Passed>);

struct Passed {
    /// Of which sandbox.
    id: u32,
    began: u64,
    name: Name,
}

impl Names {
    fn note(&mut self, id: u32, flow: &Flow, name: Name) {
        if self.0.len() >= MOST_NAMES {
            self.0.clear();
        }
        let passed = Passed { id, began: flow.began, name };
        self.0.insert((flow.gate_port, flow.destination), passed);
    }

    /// The sandbox is gone.
    pub fn forget(&mut self, id: u32) {
        self.0.retain(|_, passed| passed.id != id);
    }

    /// The name of just this flow.
    pub fn of(&self, flow: &Flow) -> Option<&Name> {
        let passed = self.0.get(&(flow.gate_port, flow.destination))?;
        (passed.began == flow.began).then_some(&passed.name)
    }
}

/// An entry of the administrator's or the user's allows TLS to this name.
pub(super) fn allows_name(policy: &Policy, one: &Attachment, name: &Name) -> bool {
    policy.entries.iter().chain(one.entries()).any(|entry| {
        let named = matches!(entry.target(), Target::Host(host) if host.matches(name));
        named && allows_tls(entry)
    })
}

impl Control {
    /// Whose connection it is that leaves the gate by `port`, as the kernel knows it,
    /// and when it began.
    pub async fn whose(&self, port: u16, server: Ipv4Addr) -> Option<(u32, u64)> {
        // Under the lock: the mark of the flow and the rules belong together.
        let state = self.state.lock().await;
        let flow = self.flow(port, server).await.ok()??;
        unchecked(&state, &flow).map(|one| (one.id, flow.began))
    }

    /// The server of a connection has its hello, which names `name`: the kernel may
    /// pass the rest by itself, if the rules of now allow that name. `began` says which
    /// connection: another one may have its ports by now.
    pub async fn hello_passed(
        &self,
        port: u16,
        server: Ipv4Addr,
        began: u64,
        name: &Name,
    ) -> Result<(), HelperError> {
        // Under the lock: rules that change meanwhile look at every flow again.
        let state = self.state.lock().await;
        let Some(flow) = self.flow(port, server).await? else { return Ok(()) };
        let Some(one) = unchecked(&state, &flow) else { return Ok(()) };
        if flow.began != began || began == 0 {
            return Ok(());
        }
        let policy = &state.policy.policy;
        let allowed =
            one.connected && (one.defaults(policy).allow_public || allows_name(policy, one, name));
        let generation = one.generation;
        if allowed && let Ok(mut names) = self.names.lock() {
            names.note(one.id, &flow, name.clone());
        }
        let change = move || -> io::Result<()> {
            let mut conntrack = Conntrack::new()?;
            if !allowed {
                return conntrack.forget(&flow);
            }
            conntrack.remark(&flow, generation)?;
            // Another one may have come between the look and the mark; before it can say
            // anything, its server must have answered.
            let now = conntrack.answered_by((server, TLS), (GATE_ADDRESS, port))?;
            match now {
                Some(now) if now.began != began => conntrack.forget(&now),
                _ => Ok(()),
            }
        };
        self.gate.run(change).await.map_err(failed)?.map_err(failed)
    }

    /// A connection was ended since its hello names a server that is not allowed, or
    /// hides whom it names.
    pub async fn hello_refused(&self, port: u16, server: Ipv4Addr, name: Option<&Name>) {
        let Some((id, _)) = self.whose(port, server).await else { return };
        let what = Blocked {
            id,
            host: name.map(ToString::to_string).unwrap_or_default(),
            address: server.to_string(),
            port: TLS,
            protocol: "tcp".into(),
            reason: if name.is_some() { BlockedReason::NotAllowed } else { BlockedReason::Unnamed },
        };
        self.refused(what, None).await;
    }

    async fn flow(&self, port: u16, server: Ipv4Addr) -> Result<Option<Flow>, HelperError> {
        let look = move || Conntrack::new()?.answered_by((server, TLS), (GATE_ADDRESS, port));
        self.gate.run(look).await.map_err(failed)?.map_err(failed)
    }
}

/// The attachment whose flow this is, while its hello is looked at.
fn unchecked<'a>(state: &'a State, flow: &Flow) -> Option<&'a Attachment> {
    let one = state.attachments.all.values().find(|one| one.address == flow.source)?;
    (flow.mark == one.generation | UNCHECKED).then_some(one)
}
