//! The administrator's file, in force everywhere at once.

use std::sync::Arc;

use rcc_dbus::HelperError;
use tracing::{error, info};

use super::change::hold_to;
use super::hear::entries_of;
use super::{Control, Event};
use crate::attachments::Attachment;
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
        // Before anything is done, as it can fail: half a change would count as done.
        let entries = entries_of(&policy.policy)?;
        let version = policy.version.clone();
        let uplink = Uplink::said_by(&policy);
        // Where that fails nothing leaves the host, so the rest can hold all the same.
        let mut put_up = Ok(());
        if let Some(uplink) = uplink.filter(|said| *said != state.uplink || !state.uplink_stands) {
            // First: whoever looks meanwhile, the regular check too, goes by the new one.
            uplink.record();
            state.uplink = uplink;
            put_up = self.put_up_host(&mut state).await;
        }
        policy.record();
        let policy = Arc::new(policy);
        state.policy = policy.clone();
        // The resolver's index first: with the new one and an old revision a
        // publication is refused; the other way round it would open addresses of
        // one entry for another.
        self.brief_policy(&policy.policy, &entries).await;
        for id in state.attachments.ids() {
            // Entries of the file may have gone: every flow is looked at again.
            let held = |one: &mut Attachment| hold_to(&policy.policy, one);
            if let Err(error) = self.replace_rules(&mut state, id, true, held).await {
                error!(attachment = id, %error, "the new policy cannot hold; the sandbox is cut off");
                self.cut_off(&mut state, id).await;
            }
        }
        state.attachments.policy.clone_from(&version);
        // It holds, and the next helper finds out anew what it holds for.
        if let Err(error) = state.attachments.write_all() {
            error!(%error, "could not write the state");
        }
        info!(event = "policy", version, "the policy changed");
        let _ = self.events.send(Event::PolicyChanged { version });
        put_up
    }

    /// Makes the host's table be as the policy says: the one that stands may be of another
    /// one, and while no service ran anybody may have taken it away.
    pub(super) async fn use_uplink(&self) -> Result<(), HelperError> {
        let mut state = self.state.lock().await;
        state.uplink.record();
        self.put_up_host(&mut state).await
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
