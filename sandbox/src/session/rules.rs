//! Allowing and denying hosts while sessions run.

use std::time::Duration;

use rcc_dbus::{AttachmentInfo, Rule, RuleDropped};
use rcc_policy::Entry;

use super::Session;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::host::Host;
use crate::levels::{self, Level};
use crate::lock::Lock;
use crate::network::{Network, wire};
use crate::project::Project;

/// How far a rule reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The running session of the project, until it ends.
    Session,
    /// The running session of the project, for so long; 1 s to 24 h.
    For(Duration),
    /// The project: now and later.
    Project,
    /// All projects of this user: now and later.
    All,
}

/// A rule that the administrator's bounds do not let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedRule {
    /// Name, address or network.
    pub target: String,
    /// A sentence.
    pub reason: String,
}

impl std::fmt::Display for DroppedRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} stays blocked: {}", self.target, self.reason)
    }
}

pub(super) fn dropped(rules: &[Rule], dropped: &[RuleDropped]) -> Vec<DroppedRule> {
    dropped
        .iter()
        .filter_map(|drop| {
            let rule = rules.get(usize::try_from(drop.index).ok()?)?;
            Some(DroppedRule {
                target: crate::display::host(&rule.target),
                reason: crate::display::line(&drop.reason, 200),
            })
        })
        .collect()
}

/// Allows `entry`. Session scopes need a running, connected session; the others
/// are written down first and then brought to the sessions that run.
///
/// # Errors
/// [`Code::NoSession`], [`Code::Offline`], [`Code::Rule`] when the
/// administrator's bounds do not let it through, [`Code::HelperMissing`],
/// [`Code::HelperRefused`], [`Code::Settings`], [`Code::Io`].
pub async fn allow(
    host: &Host,
    engine: &Engine,
    network: Option<&Network>,
    project: &Project,
    entry: &Entry,
    scope: Scope,
) -> Result<()> {
    match scope {
        Scope::Session | Scope::For(_) => {
            let _lock = lock(host, project.id()).await?;
            let (network, attachment) = connected(engine, network, project).await?;
            let rule = Rule::from(entry);
            let expires = match scope {
                Scope::For(time) => seconds(time)?,
                _ => 0,
            };
            let refused = if expires > 0 {
                let rules = vec![rule];
                let refused = network.set_rules(attachment.id, rules.clone(), expires).await?;
                dropped(&rules, &refused)
            } else {
                replace(network, &attachment, merge(standing(&attachment), rule)).await?
            };
            refusal(entry, &refused)
        }
        Scope::Project => {
            levels::add(&Level::Project(project), host, entry)?;
            bring(host, engine, network, Some(project), entry).await
        }
        Scope::All => {
            levels::add(&Level::All, host, entry)?;
            bring(host, engine, network, None, entry).await
        }
    }
}

/// Takes `entry`'s target out of every level of `scope` and out of the running
/// sessions; flows to it are cut. Answers whether anything was there.
///
/// # Errors
/// As [`allow`].
pub async fn deny(
    host: &Host,
    engine: &Engine,
    network: Option<&Network>,
    project: &Project,
    entry: &Entry,
    scope: Scope,
) -> Result<bool> {
    let mut found = false;
    if matches!(scope, Scope::Project | Scope::All) {
        found |= levels::remove(&Level::Project(project), host, entry)?;
    }
    if scope == Scope::All {
        found |= levels::remove(&Level::All, host, entry)?;
    }
    let Some(network) = network else {
        return Ok(found);
    };
    let rule = Rule::from(entry);
    for session in sessions(engine, (scope != Scope::All).then_some(project)).await? {
        let _lock = lock(host, session.project_id()).await?;
        let Some(attachment) = session.attachment(network).await? else { continue };
        let gone = |standing: &Rule| same_target(standing, &rule);
        if !attachment.rules.iter().any(|standing| gone(&standing.rule)) {
            continue;
        }
        found = true;
        let mut left = attachment.clone();
        left.rules.retain(|standing| !gone(&standing.rule));
        replace(network, &left, standing(&left)).await?;
    }
    Ok(found)
}

/// Brings a changed list to the sessions that it is for: what `before` had and
/// the files no longer have goes, its flows are cut; what they have now comes.
///
/// # Errors
/// As [`allow`].
pub async fn refresh(
    host: &Host,
    engine: &Engine,
    network: &Network,
    level: Level<'_>,
    before: &[Entry],
) -> Result<Vec<DroppedRule>> {
    let only = match level {
        Level::All => None,
        Level::Project(project) => Some(project.id()),
    };
    refresh_of(host, engine, network, only, before).await
}

/// [`refresh`] by the project's id; none is every project.
pub(super) async fn refresh_of(
    host: &Host,
    engine: &Engine,
    network: &Network,
    only: Option<&str>,
    before: &[Entry],
) -> Result<Vec<DroppedRule>> {
    let gone = wire(before)?;
    let mut refused = Vec::new();
    let mut failed = None;
    for session in Session::all(engine).await? {
        if only.is_some_and(|id| id != session.project_id()) {
            continue;
        }
        // A mistake in one project's list must not keep a host open in another's sandbox.
        match refresh_one(host, network, &session, &gone).await {
            Ok(dropped) => refused.extend(dropped),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(refused), Err)
}

async fn refresh_one(
    host: &Host,
    network: &Network,
    session: &Session,
    gone: &[Rule],
) -> Result<Vec<DroppedRule>> {
    let _lock = lock(host, session.project_id()).await?;
    let Some(attachment) = session.attachment(network).await? else { return Ok(Vec::new()) };
    // Not by its folder, which may be gone: what is taken out goes all the same.
    let now = wire(&levels::of_session(session.project_id(), host)?)?;
    let left = now.into_iter().fold(without(standing(&attachment), gone), merge);
    if left == standing(&attachment) {
        return Ok(Vec::new());
    }
    replace(network, &attachment, left).await
}

/// Held while a sandbox's rules are asked for and set again: of two faces that change them
/// at once the second would put back what the first took away.
async fn lock(host: &Host, project: &str) -> Result<Lock> {
    Lock::take(&host.runtime.join(format!("{project}.rules.lock"))).await
}

/// Takes the ports of `gone` out of `rules`, and rules that then have none.
fn without(mut rules: Vec<Rule>, gone: &[Rule]) -> Vec<Rule> {
    for rule in &mut rules {
        let mut ports = std::mem::take(&mut rule.ports);
        for gone in gone.iter().filter(|gone| same_target(gone, rule)) {
            ports.retain(|port| !gone.ports.contains(port));
        }
        rule.ports = ports;
    }
    rules.retain(|rule| !rule.ports.is_empty());
    rules
}

/// The helper's call replaces timed rules too: they are put back with the time
/// that is left to them.
async fn replace(
    network: &Network,
    attachment: &AttachmentInfo,
    rules: Vec<Rule>,
) -> Result<Vec<DroppedRule>> {
    let refused = network.set_rules(attachment.id, rules.clone(), 0).await?;
    for timed in attachment.rules.iter().filter(|standing| standing.expires_in > 0) {
        network.set_rules(attachment.id, vec![timed.rule.clone()], timed.expires_in).await?;
    }
    Ok(dropped(&rules, &refused))
}

async fn bring(
    host: &Host,
    engine: &Engine,
    network: Option<&Network>,
    project: Option<&Project>,
    entry: &Entry,
) -> Result<()> {
    let Some(network) = network else {
        return Ok(());
    };
    let mut refused = Vec::new();
    for session in sessions(engine, project).await? {
        let _lock = lock(host, session.project_id()).await?;
        let Some(attachment) = session.attachment(network).await? else { continue };
        let rules = merge(standing(&attachment), Rule::from(entry));
        refused.extend(replace(network, &attachment, rules).await?);
    }
    refusal(entry, &refused)
}

async fn sessions(engine: &Engine, project: Option<&Project>) -> Result<Vec<Session>> {
    match project {
        Some(project) => Ok(Session::find(engine, project).await?.into_iter().collect()),
        None => Session::all(engine).await,
    }
}

async fn connected<'a>(
    engine: &Engine,
    network: Option<&'a Network>,
    project: &Project,
) -> Result<(&'a Network, AttachmentInfo)> {
    let session = Session::of_project(engine, project).await?;
    let network = network.ok_or_else(|| {
        Error::new(Code::HelperMissing, "A session's hosts are kept by it alone.")
    })?;
    let attachment = session.attachment(network).await?.ok_or_else(|| {
        Error::new(
            Code::Offline,
            format!("The sandbox of {} has no network.", project.path().display()),
        )
    })?;
    Ok((network, attachment))
}

/// Whether the rule that was asked for is among those not taken.
fn refusal(entry: &Entry, refused: &[DroppedRule]) -> Result<()> {
    let target = crate::display::host(&entry.target().to_string());
    match refused.iter().find(|dropped| dropped.target == target) {
        Some(dropped) => {
            Err(Error::new(Code::Rule, format!("{}.", dropped.reason.trim_end_matches('.')))
                .title_is(format!("{target} stays blocked."))
                .hint_is("Ask the administrator to allow it for everybody."))
        }
        None => Ok(()),
    }
}

fn standing(attachment: &AttachmentInfo) -> Vec<Rule> {
    attachment
        .rules
        .iter()
        .filter(|rule| rule.expires_in == 0)
        .map(|rule| rule.rule.clone())
        .collect()
}

fn same_target(a: &Rule, b: &Rule) -> bool {
    a.target == b.target && a.protocol == b.protocol
}

/// Adds a rule; ports of the same target come together in one.
fn merge(mut rules: Vec<Rule>, rule: Rule) -> Vec<Rule> {
    match rules.iter_mut().find(|standing| same_target(standing, &rule)) {
        Some(standing) => {
            standing.ports.extend(rule.ports);
            standing.ports.sort_unstable();
            standing.ports.dedup();
            standing.private |= rule.private;
        }
        None => rules.push(rule),
    }
    rules
}

fn seconds(time: Duration) -> Result<u32> {
    u32::try_from(time.as_secs())
        .ok()
        .filter(|seconds| (1..=rcc_dbus::MAX_EXPIRY).contains(seconds))
        .ok_or_else(|| Error::new(Code::Invalid, "A host can be allowed for 1 second to 24 hours."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_one_target_come_together() {
        let rules = merge(vec![Rule::tcp("a.example", &[443])], Rule::tcp("a.example", &[22, 443]));
        assert_eq!(rules, [Rule::tcp("a.example", &[22, 443])]);
        let mut udp = Rule::tcp("a.example", &[443]);
        udp.protocol = "udp".into();
        assert_eq!(merge(rules, udp).len(), 2);
    }

    #[test]
    fn only_what_the_list_had_is_taken_away() {
        let rules = vec![Rule::tcp("a.example", &[22, 443]), Rule::tcp("b.example", &[443])];
        let gone = [Rule::tcp("a.example", &[443]), Rule::tcp("b.example", &[443])];
        assert_eq!(without(rules, &gone), [Rule::tcp("a.example", &[22])]);
    }

    #[test]
    fn times_are_bounded() {
        assert_eq!(seconds(Duration::from_secs(600)).unwrap(), 600);
        for bad in [Duration::ZERO, Duration::from_millis(900), Duration::from_secs(86_401)] {
            assert_eq!(seconds(bad).unwrap_err().code(), Code::Invalid);
        }
    }

    #[test]
    fn what_the_administrator_does_not_let_through_is_an_error_with_the_reason() {
        let entry = levels::parse_host("db.internal:5432", false).unwrap();
        let rules = [Rule::from(&entry)];
        let refused =
            dropped(&rules, &[RuleDropped { index: 0, reason: "only public hosts".into() }]);
        let error = refusal(&entry, &refused).unwrap_err();
        assert_eq!((error.code(), error.body()), (Code::Rule, "only public hosts."));
        assert!(refusal(&levels::parse_host("a.example", false).unwrap(), &refused).is_ok());
        assert!(dropped(&rules, &[RuleDropped { index: 9, reason: String::new() }]).is_empty());
    }
}
