//! The administrator's file, in force everywhere at once.

use std::collections::HashSet;
use std::sync::Arc;

use rcc_dbus::HelperError;
use rcc_policy::Entry;
use tracing::{error, info};

use super::change::users_may_open;
use super::{Control, Event};
use crate::netlink::Rtnl;
use crate::policy_file::InForce;
use crate::uplink::Uplink;

impl Control {
    /// The file in force.
    pub async fn policy(&self) -> Arc<InForce> {
        self.state.lock().await.policy.clone()
    }

    /// Puts another policy in force, everywhere at once.
    pub async fn use_policy(&self, policy: InForce) -> Result<(), HelperError> {
        let mut state = self.state.lock().await;
        if policy.version == state.policy.version {
            return Ok(());
        }
        let version = policy.version.clone();
        let uplink = Uplink::said_by(&policy);
        if let Some(uplink) = uplink.filter(|said| *said != state.uplink || !state.uplink_stands) {
            // First: whoever looks meanwhile, the regular check too, goes by the new one.
            uplink.record();
            state.uplink = uplink;
            self.put_up_host(&mut state).await?;
        }
        state.policy = Arc::new(policy);
        // The resolver's index first: with the new one and an old revision a
        // publication is refused; the other way round it would open addresses of
        // one entry for another.
        self.brief_policy(&state).await?;
        let may_open = users_may_open(&state.policy.policy);
        for id in state.attachments.ids() {
            let held: HashSet<Entry> = {
                let Some(one) = state.attachments.all.get(&id) else { continue };
                let own: Vec<Entry> = one.entries().cloned().collect();
                rcc_policy::merge(&state.policy.policy, &own).0.into_iter().collect()
            };
            // Entries of the file may have gone: every flow is looked at again.
            let result = self
                .replace_rules(&mut state, id, true, |one| {
                    one.held.retain(|own| held.contains(&own.entry));
                    one.open_until = one.open_until.filter(|_| may_open);
                })
                .await;
            if let Err(error) = result {
                error!(attachment = id, %error, "the new policy cannot hold; the sandbox is cut off");
                self.clear(&mut state, id, "failed").await;
            }
        }
        state.attachments.policy.clone_from(&version);
        // It holds, and the next helper finds out anew what it holds for.
        if let Err(error) = state.attachments.write_all() {
            error!(%error, "could not write the state");
        }
        info!(event = "policy", version, "the policy changed");
        let _ = self.events.send(Event::PolicyChanged { version });
        Ok(())
    }

    /// Makes the host's table be as the policy says; the one that stands may be of
    /// another one.
    pub(super) async fn use_uplink(&self) -> Result<(), HelperError> {
        let mut state = self.state.lock().await;
        if Uplink::recorded().as_ref() != Some(&state.uplink) {
            state.uplink.record();
            self.put_up_host(&mut state).await?;
        }
        state.uplink_stands = true;
        Ok(())
    }

    /// By which interface sandboxes leave the host, and how it is with it.
    pub async fn uplink(&self) -> (Uplink, Option<(&'static str, String)>) {
        let uplink = self.state.lock().await.uplink.clone();
        let own = uplink.clone();
        let look = move || Rtnl::new().and_then(|mut rtnl| own.state(&mut rtnl));
        let state = match self.host.run(look).await {
            Ok(Ok(state)) => state,
            Ok(Err(error)) => Some(("note", unseen(&error))),
            Err(error) => Some(("note", unseen(&error))),
        };
        (uplink, state)
    }
}

fn unseen(error: &dyn std::fmt::Display) -> String {
    format!("Whether sandboxes can leave this computer could not be looked at: {error}.")
}
