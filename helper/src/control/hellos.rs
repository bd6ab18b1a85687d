//! What the resolver found out about hellos (N20), checked and done.

use std::io;
use std::net::Ipv4Addr;

use rcc_dbus::{BlockedReason, HelperError};
use rcc_policy::{Name, Target};

use super::{Blocked, Control, State, failed};
use crate::attachments::Attachment;
use crate::layout::{GATE_ADDRESS, UNCHECKED};
use crate::nfnetlink::{Conntrack, Flow};
use crate::rules::{TLS, allows_tls};

impl Control {
    /// Whose connection it is that leaves the gate by `port`, as the kernel knows it.
    pub async fn whose(&self, port: u16, server: Ipv4Addr) -> Option<u32> {
        let flow = self.flow(port, server).await.ok()??;
        let state = self.state.lock().await;
        unchecked(&state, &flow).map(|one| one.id)
    }

    /// The server of a connection has its hello, which names `name`: the kernel may
    /// pass the rest by itself, if the rules of now allow that name.
    pub async fn hello_passed(
        &self,
        port: u16,
        server: Ipv4Addr,
        name: &Name,
    ) -> Result<(), HelperError> {
        // Under the lock: rules that change meanwhile look at every flow again.
        let state = self.state.lock().await;
        let Some(flow) = self.flow(port, server).await? else { return Ok(()) };
        let Some(one) = unchecked(&state, &flow) else { return Ok(()) };
        let policy = &state.policy.policy;
        let allowed = one.connected
            && (one.defaults(policy).allow_public
                || policy.entries.iter().chain(one.entries()).any(|entry| {
                    let named = matches!(entry.target(), Target::Host(host) if host.matches(name));
                    named && allows_tls(entry)
                }));
        let generation = one.generation;
        let change = move || -> io::Result<()> {
            let mut conntrack = Conntrack::new()?;
            if allowed { conntrack.remark(&flow, generation) } else { conntrack.forget(&flow) }
        };
        self.gate.run(change).await.map_err(failed)?.map_err(failed)
    }

    /// A connection was ended since its hello names a server that is not allowed, or
    /// hides whom it names.
    pub async fn hello_refused(&self, port: u16, server: Ipv4Addr, name: Option<&Name>) {
        let Some(id) = self.whose(port, server).await else { return };
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
