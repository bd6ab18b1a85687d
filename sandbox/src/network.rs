//! The user's side of the helper: attach, rules, on and off.

use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rcc_dbus::{Attachment, AttachmentInfo, Check, Helper1Proxy, HelperError, Rule, RuleDropped};
use rcc_policy::Entry;

use crate::error::{Code, Error, Result};
use crate::link::Namespaces;

/// Longest wait for an answer that needs no password.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest wait for an answer that a person has to type a password for.
const WITH_A_PERSON: Duration = Duration::from_secs(600);

/// A connection to the helper. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Network {
    helper: Helper1Proxy<'static>,
}

impl Network {
    /// Connects and makes sure that the helper answers and speaks this protocol.
    ///
    /// # Errors
    /// [`Code::HelperMissing`], [`Code::HelperRefused`].
    pub async fn connect() -> Result<Self> {
        let helper = bounded(async { rcc_dbus::connect().await }).await?;
        let network = Self { helper };
        let (protocol, release) = network.version().await?;
        if protocol != rcc_dbus::PROTOCOL {
            return Err(Error::new(
                Code::HelperRefused,
                format!(
                    "The firewall service is rcc {} with protocol {protocol}, this program needs protocol {}.",
                    crate::display::line(&release, 20),
                    rcc_dbus::PROTOCOL
                ),
            )
            .hint_is("Install the same release of both, then log in again."));
        }
        Ok(network)
    }

    /// Protocol and release of the helper.
    ///
    /// # Errors
    /// As [`Network::connect`].
    pub async fn version(&self) -> Result<(u32, String)> {
        bounded(async { Ok(self.helper.version().await?) }).await
    }

    /// What the helper says about gate and host.
    ///
    /// # Errors
    /// As [`Network::connect`].
    pub async fn diagnose(&self) -> Result<Vec<Check>> {
        bounded(async { Ok(self.helper.diagnose().await?) }).await
    }

    /// Has the helper do steps of its `Setup`. Waits while a person types a
    /// password.
    ///
    /// # Errors
    /// [`Code::HelperRefused`] when nobody did, or a step failed.
    pub async fn setup(&self, steps: &[&str]) -> Result<()> {
        let answer = tokio::time::timeout(WITH_A_PERSON, self.helper.setup(steps)).await;
        let answer = answer.map_err(|_| {
            Error::new(Code::HelperRefused, "Nobody answered the question for the password.")
        })?;
        answer.map_err(|error| {
            explain(&HelperError::from(error))
                .title_is("The firewall was not set up.")
                .hint_is("Ask the administrator; `rcc doctor` shows what is missing.")
        })
    }

    pub(crate) async fn attach(
        &self,
        namespaces: &Namespaces,
        rules: &[Entry],
    ) -> Result<Attachment> {
        let rules = wire(rules)?;
        bounded(async { Ok(self.helper.attach(namespaces.net().into(), rules).await?) }).await
    }

    pub(crate) async fn detach(&self, id: u32) -> Result<()> {
        bounded(async { Ok(self.helper.detach(id).await?) }).await
    }

    /// The administrator's list and its version.
    ///
    /// # Errors
    /// As [`Network::connect`].
    pub(crate) async fn policy(&self) -> Result<(String, String)> {
        bounded(async { Ok(self.helper.get_policy().await?) }).await
    }

    /// Replaces the administrator's list when it is still the one of `version`;
    /// answers the new version. Waits while a person types a password.
    pub(crate) async fn replace_policy(&self, document: &str, version: &str) -> Result<String> {
        let call = self.helper.replace_policy(document, version);
        let answer = tokio::time::timeout(WITH_A_PERSON, call).await.map_err(|_| {
            Error::new(Code::HelperRefused, "Nobody answered the question for the password.")
        })?;
        answer.map_err(|e| {
            let error = HelperError::from(e);
            match error.code() {
                Some(rcc_dbus::Code::VersionConflict) => crate::hosts::changed(),
                Some(rcc_dbus::Code::NotAuthorized) => explain(&error)
                    .title_is("The list of this computer was not changed.")
                    .hint_is("Ask the administrator, or allow the host for your own projects."),
                _ => explain(&error),
            }
        })
    }

    /// The caller's own attachments.
    pub(crate) async fn list(&self) -> Result<Vec<AttachmentInfo>> {
        bounded(async { Ok(self.helper.list(false).await?) }).await
    }

    /// The attachment of the namespace that the process `pid` is in.
    pub(crate) async fn attachment_of(&self, pid: i32) -> Result<Option<AttachmentInfo>> {
        let Some(inode) = netns_inode(pid) else {
            return Ok(None);
        };
        Ok(self.list().await?.into_iter().find(|attachment| attachment.netns == inode))
    }

    pub(crate) async fn set_connected(&self, id: u32, connected: bool) -> Result<()> {
        bounded(async { Ok(self.helper.set_connected(id, connected).await?) }).await
    }

    pub(crate) async fn open_internet(&self, id: u32, seconds: u32) -> Result<()> {
        bounded(async { Ok(self.helper.open_internet(id, seconds).await?) }).await
    }

    pub(crate) async fn reached(&self, id: u32) -> Result<Vec<rcc_dbus::Reached>> {
        bounded(async { Ok(self.helper.reached(id).await?) }).await
    }

    pub(crate) async fn set_rules(
        &self,
        id: u32,
        rules: Vec<Rule>,
        expires_in: u32,
    ) -> Result<Vec<RuleDropped>> {
        bounded(async { Ok(self.helper.set_rules(id, rules, expires_in).await?) }).await
    }

    pub(crate) fn helper(&self) -> &Helper1Proxy<'static> {
        &self.helper
    }
}

/// Rules as they travel.
pub(crate) fn wire(entries: &[Entry]) -> Result<Vec<Rule>> {
    if entries.len() > rcc_dbus::MAX_RULES_PER_CALL {
        return Err(Error::new(
            Code::Rule,
            format!(
                "{} hosts are allowed for this project; the firewall service takes {} of a user's own.",
                entries.len(),
                rcc_dbus::MAX_RULES_PER_CALL
            ),
        )
        .hint_is("Ask the administrator to put the common ones into the system's list."));
    }
    Ok(entries.iter().map(Rule::from).collect())
}

/// Inode of the network namespace of a process.
pub(crate) fn netns_inode(pid: i32) -> Option<u64> {
    (pid > 0)
        .then(|| std::fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|meta| meta.ino()))
        .flatten()
}

async fn bounded<T>(call: impl Future<Output = std::result::Result<T, HelperError>>) -> Result<T> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(|e| explain(&e)),
        Err(_) => {
            Err(Error::new(Code::HelperMissing, "It was asked and said nothing for 30 seconds."))
        }
    }
}

pub(crate) fn explain(error: &HelperError) -> Error {
    match error {
        HelperError::Refused { code, message } => {
            Error::new(Code::HelperRefused, sentence(message)).with_detail(code.as_str())
        }
        HelperError::Unreachable(why) => {
            Error::new(Code::HelperMissing, "It is not installed, or it could not be started.")
                .with_detail(why)
        }
        HelperError::Bus(why) => {
            Error::new(Code::HelperMissing, "The system bus does not answer.").with_detail(why)
        }
    }
}

fn sentence(text: &str) -> String {
    let text = crate::display::line(text, 300);
    let mut letters = text.chars();
    let first: String = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_apart_from_silence() {
        let refused = HelperError::new(rcc_dbus::Code::LimitReached, "too many sandboxes");
        assert_eq!(explain(&refused).code(), Code::HelperRefused);
        assert_eq!(explain(&refused).body(), "Too many sandboxes.");
        assert_eq!(explain(&HelperError::Unreachable("x".into())).code(), Code::HelperMissing);
        assert_eq!(explain(&HelperError::Bus("x".into())).code(), Code::HelperMissing);
    }

    #[test]
    fn more_rules_than_the_helper_takes_are_refused_here() {
        let entry = |n: usize| {
            Entry::new(&format!("h{n}.example.org"), &[443], rcc_policy::Protocol::Tcp, false)
                .unwrap()
        };
        let many: Vec<_> = (0..=rcc_dbus::MAX_RULES_PER_CALL).map(entry).collect();
        assert_eq!(wire(&many).unwrap_err().code(), Code::Rule);
        assert_eq!(wire(&many[1..]).unwrap().len(), rcc_dbus::MAX_RULES_PER_CALL);
    }

    #[test]
    fn a_process_without_a_number_has_no_namespace() {
        assert_eq!(netns_inode(0), None);
        assert!(netns_inode(i32::try_from(std::process::id()).unwrap()).is_some());
    }
}
