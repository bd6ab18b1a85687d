//! The client: one typed call for each method of the interface.

use zbus::zvariant::Fd;

use crate::{Attachment, AttachmentInfo, Check, HelperError, Reached, Rule, RuleDropped};

/// The helper as a client sees it. Each call can take as long as a person needs
/// to type a password.
#[zbus::proxy(
    interface = "dev.rcc.Helper1",
    default_service = "dev.rcc.Helper1",
    default_path = "/dev/rcc/Helper1",
    gen_blocking = false
)]
pub trait Helper1 {
    /// Plugs a link into the network namespace behind `netns` and lets it reach
    /// what the administrator's file and `rules` allow.
    fn attach(&self, netns: Fd<'_>, rules: Vec<Rule>) -> zbus::Result<Attachment>;

    /// `expires_in` 0: `rules` replace all user rules of the attachment, timed
    /// ones too. Otherwise `rules` are added for so many seconds (at most
    /// [`crate::MAX_EXPIRY`]); a rule that is timed already gets the new end.
    fn set_rules(
        &self,
        id: u32,
        rules: Vec<Rule>,
        expires_in: u32,
    ) -> zbus::Result<Vec<RuleDropped>>;

    /// Cuts all traffic of the attachment, or lets it through again.
    fn set_connected(&self, id: u32, connected: bool) -> zbus::Result<()>;

    /// Opens the attachment to the public internet for so many seconds (at most
    /// [`crate::MAX_OPEN`]), private ranges stay closed; 0 ends it and cuts what
    /// only that allowed. Refused where the administrator lets users add nothing.
    fn open_internet(&self, id: u32, seconds: u32) -> zbus::Result<()>;

    /// Where the attachment went, the latest first.
    fn reached(&self, id: u32) -> zbus::Result<Vec<Reached>>;

    /// Takes the link away.
    fn detach(&self, id: u32) -> zbus::Result<()>;

    /// The caller's attachments; with `others` every user's (administrator).
    fn list(&self, others: bool) -> zbus::Result<Vec<AttachmentInfo>>;

    /// Registers the caller's bus name for the signals about its own attachments.
    fn watch(&self) -> zbus::Result<()>;

    /// Ends that. What was refused until now comes before the answer; what is
    /// refused later waits for the next who watches.
    fn unwatch(&self) -> zbus::Result<()>;

    /// The administrator's file in force and its version.
    fn get_policy(&self) -> zbus::Result<(String, String)>;

    /// What works and what does not.
    fn diagnose(&self) -> zbus::Result<Vec<Check>>;

    /// Replaces the administrator's file when its version is still
    /// `expected_version`; answers the new version.
    fn replace_policy(&self, document: &str, expected_version: &str) -> zbus::Result<String>;

    /// Reads the administrator's file again and checks gate and host for drift.
    fn refresh(&self) -> zbus::Result<()>;

    /// Does steps of [`crate::SetupStep`], after one password prompt that names
    /// them. What was done is undone when rcc is removed.
    fn setup(&self, steps: &[&str]) -> zbus::Result<()>;

    /// Something of the caller's was refused `count` times since the last signal
    /// for the same thing. `host` may be empty, `port` 0 when only a name was asked.
    #[zbus(signal)]
    fn blocked(
        &self,
        id: u32,
        host: &str,
        address: &str,
        port: u16,
        protocol: &str,
        reason: &str,
        count: u32,
    ) -> zbus::Result<()>;

    /// An attachment of the caller's is gone.
    #[zbus(signal)]
    fn detached(&self, id: u32, reason: &str) -> zbus::Result<()>;

    /// The administrator's file in force changed.
    #[zbus(signal)]
    fn policy_changed(&self, version: &str) -> zbus::Result<()>;

    /// `PROTOCOL` and the helper's release.
    fn version(&self) -> zbus::Result<(u32, String)>;
}

/// Connects to the helper on the system bus (`DBUS_SYSTEM_BUS_ADDRESS` is honoured).
///
/// # Errors
/// [`HelperError::Bus`] when there is no system bus. Whether the helper can be
/// activated shows in the first call.
pub async fn connect() -> Result<Helper1Proxy<'static>, HelperError> {
    let connection = zbus::Connection::system().await?;
    Ok(Helper1Proxy::new(&connection).await?)
}
