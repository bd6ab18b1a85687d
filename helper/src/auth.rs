//! Who may do what. One table, default deny; polkit decides over the bus name of
//! the message, and a hung polkit is a refusal.

use std::collections::HashMap;
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::time::Duration;

use rcc_dbus::{Code, HelperError, action};
use rcc_policy::MayAttach;
use zbus::message::Header;
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

/// How long polkit gets without, and with, a person typing a password.
const PROMPTLY: Duration = Duration::from_secs(10);
const WITH_A_PERSON: Duration = Duration::from_secs(180);

/// Each method and the action that it needs. A method that is missing here is
/// refused; a test holds the list against the interface.
pub const METHODS: &[(&str, &str)] = &[
    ("Attach", action::ATTACH),
    ("SetRules", action::CONTROL_OWN),
    ("SetConnected", action::CONTROL_OWN),
    ("OpenInternet", action::CONTROL_OWN),
    ("Reached", action::STATUS),
    ("Detach", action::CONTROL_OWN),
    ("List", action::STATUS),
    ("Watch", action::STATUS),
    ("Unwatch", action::STATUS),
    ("GetPolicy", action::STATUS),
    ("Diagnose", action::STATUS),
    ("Version", action::STATUS),
    // Which of the two depends on the document; the stronger one is the default.
    ("ReplacePolicy", action::EDIT_POLICY_WIDEN),
    ("Refresh", action::REFRESH),
    ("Setup", action::SETUP),
];

/// A caller that was looked at.
#[derive(Debug, Clone)]
pub struct Caller {
    /// As the bus knows it.
    pub uid: u32,
    /// Its process, for one look at its network namespace.
    pid: Option<u32>,
    /// Its name on the bus.
    pub name: String,
}

fn refused(text: impl Into<String>) -> HelperError {
    HelperError::new(Code::NotAuthorized, text)
}

impl Caller {
    /// Asks the bus who sent the message.
    pub async fn of(
        connection: &zbus::Connection,
        header: &Header<'_>,
    ) -> Result<Self, HelperError> {
        let sender = header.sender().ok_or_else(|| refused("The message has no sender."))?;
        let bus = zbus::fdo::DBusProxy::new(connection).await?;
        let credentials = bus.get_connection_credentials(sender.clone().into()).await?;
        // Never a default: a missing uid must not become 0.
        let uid = credentials
            .unix_user_id()
            .ok_or_else(|| refused("The bus does not know who you are."))?;
        Ok(Self { uid, pid: credentials.process_id(), name: sender.to_string() })
    }

    /// The caller may have sandboxes with a network: a person, in the computer's
    /// own network namespace.
    pub fn check_may_attach(&self, may_attach: &MayAttach) -> Result<(), HelperError> {
        let no = |text: &str| Err(HelperError::new(Code::CallerRefused, text));
        if !is_person(self.uid) {
            return no("Only people's accounts can have sandboxes with a network.");
        }
        match may_attach {
            MayAttach::Persons => {}
            MayAttach::Nobody => return no("The administrator allows no sandbox a network."),
            MayAttach::Group(group) if in_group(self.uid, group) => {}
            MayAttach::Group(group) => {
                let text =
                    format!("The administrator allows networks to members of the group {group}.");
                return no(&text);
            }
        }
        if !self.pid.is_some_and(shares_our_network) {
            return no("The request comes from inside another network namespace.");
        }
        Ok(())
    }
}

/// From `UID_MIN` to `UID_MAX` of login.defs(5): no daemon, fixed or dynamic, and
/// not `nobody`.
fn is_person(uid: u32) -> bool {
    let text = fs::read_to_string("/etc/login.defs").unwrap_or_default();
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        line.and_then(|rest| rest.trim().parse().ok())
    };
    let (minimum, maximum) =
        (number("UID_MIN").unwrap_or(1_000), number("UID_MAX").unwrap_or(60_000));
    (minimum.max(1)..=maximum).contains(&uid)
}

fn in_group(uid: u32, group: &str) -> bool {
    use nix::unistd::{Group, Uid, User, getgrouplist};
    let (Ok(Some(user)), Ok(Some(group))) =
        (User::from_uid(Uid::from_raw(uid)), Group::from_name(group))
    else {
        return false;
    };
    let Ok(name) = std::ffi::CString::new(user.name) else { return false };
    getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group.gid))
}

/// The process lives in the network namespace of the helper's process. The link
/// under /proc/PID/ns may be read only by who may trace the process, which the
/// helper gave up; the files under /proc/PID/net are another set of inodes for
/// each namespace, and anyone may look at them.
fn shares_our_network(pid: u32) -> bool {
    let inode = |who: &str| fs::metadata(format!("/proc/{who}/net/dev")).map(|file| file.st_ino());
    match (inode(&pid.to_string()), inode("self")) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        _ => false,
    }
}

/// The action of a method of the table.
pub fn action_of(method: &str) -> Result<&'static str, HelperError> {
    METHODS
        .iter()
        .find(|(name, _)| *name == method)
        .map(|(_, action)| *action)
        .ok_or_else(|| refused("This method has no action, so nobody may call it."))
}

/// Asks polkit. `interactive`: a person may be asked for a password.
pub async fn authorise(
    connection: &zbus::Connection,
    header: &Header<'_>,
    action: &str,
    details: &HashMap<&str, &str>,
) -> Result<(), HelperError> {
    let interactive =
        action != action::ATTACH && action != action::STATUS && action != action::REFRESH;
    let (flags, patience) = if interactive {
        (CheckAuthorizationFlags::AllowUserInteraction.into(), WITH_A_PERSON)
    } else {
        (Default::default(), PROMPTLY)
    };
    let check = async {
        let subject =
            Subject::new_for_message_header(header).map_err(|e| refused(e.to_string()))?;
        let authority = AuthorityProxy::new(connection).await?;
        let result = authority.check_authorization(&subject, action, details, flags, "").await?;
        Ok::<bool, HelperError>(result.is_authorized)
    };
    match tokio::time::timeout(patience, check).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(refused(format!("You are not allowed to do this ({action})."))),
        Ok(Err(error)) => Err(refused(format!("polkit could not be asked: {error}."))),
        Err(_) => Err(refused("polkit did not answer in time.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h9_daemons_and_nobody_are_not_persons() {
        for uid in [0, 1, 33, 999, 61_184, 65_519, 65_534, u32::MAX] {
            assert!(!is_person(uid), "{uid}");
        }
        assert!(is_person(1_000));
    }

    #[test]
    fn unknown_methods_have_no_action() {
        assert!(action_of("Nonsense").is_err());
        assert_eq!(action_of("Attach").unwrap(), action::ATTACH);
    }
}
