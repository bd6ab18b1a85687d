//! `rcc verify`: the ways out that THREATS names, tried from inside a running
//! sandbox with the agent's rights, and what the kernel says from outside.
//!
//! The tries run in the sandbox, by the program that is mounted read-only there. A
//! hostile program in the same sandbox could falsify their answers: verify shows that
//! the walls stand, it does not find somebody who broke one.

mod bait;
mod judge;
mod tries;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bollard::container::LogOutput;
use futures_util::StreamExt;
use rcc_inside::PROGRAM;
use rcc_inside::probes::{End, MAX_DOCUMENT, Outcome, Probe, read_outcomes};
use rcc_policy::{Entry, HostPattern, Name, Policy, Protocol, Target};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use self::bait::{Canary, Listening};
use self::judge::{held_by_the_kernel, judge, not_tried, order};
use self::tries::tries;
use super::{NetworkState, Session, Walls};
use crate::engine::{WORKSPACE, label};
use crate::error::{Code, Error, Result};
use crate::host::Host;
use crate::network::Network;
use crate::project::Project;

/// For everything together; the slowest single try gives up after 1.2 s.
const TIME: Duration = Duration::from_millis(4_700);
/// What the way into the sandbox and back may take of it.
const WAY: Duration = Duration::from_millis(400);
/// The gate, where sandboxes find it.
const GATE: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// A name that nobody has (RFC 2606).
const NO_NAME: &str = "rcc-verify.invalid";
/// The number of a type of DNS records: addresses of IPv4.
const A: u16 = 1;

/// What came of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was tried, and the wall held.
    Holds,
    /// It was tried, and it was possible.
    Open,
    /// It was not tried, or could not be.
    NotTried,
    /// There was no time to try it.
    Unfinished,
}

impl Verdict {
    /// A word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Open => "OPEN",
            Self::NotTried | Self::Unfinished => "not tried",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Of docs/threat-model.md, or a word.
    pub id: &'static str,
    /// What must hold.
    pub what: &'static str,
    /// What was tried.
    pub tried: String,
    /// What was seen, or why nothing was tried.
    pub seen: String,
    /// What came of it.
    pub verdict: Verdict,
}

impl Row {
    fn not_tried(id: &'static str, what: &'static str, why: impl Into<String>) -> Self {
        Self { id, what, tried: String::new(), seen: why.into(), verdict: Verdict::NotTried }
    }

    fn unfinished(
        id: &'static str,
        what: &'static str,
        tried: impl Into<String>,
        outcome: &Outcome,
    ) -> Self {
        let (tried, seen) = (tried.into(), outcome.seen.clone());
        Self { id, what, tried, seen, verdict: Verdict::Unfinished }
    }

    fn seen(
        id: &'static str,
        what: &'static str,
        tried: impl Into<String>,
        holds: bool,
        seen: impl Into<String>,
    ) -> Self {
        let verdict = if holds { Verdict::Holds } else { Verdict::Open };
        Self { id, what, tried: tried.into(), seen: seen.into(), verdict }
    }
}

impl Session {
    /// Tries everything, in five seconds: what is not done by then says so. Nothing is
    /// changed, but for files that are made and removed again at once.
    ///
    /// # Errors
    /// [`Code::Engine`], [`Code::Inside`] when the tries cannot be run at all.
    pub async fn verify(
        &self,
        project: &Project,
        host: &Host,
        network: Option<&Network>,
    ) -> Result<Vec<Row>> {
        let end = Instant::now() + TIME;
        let canary = Canary::make(host)?;
        let listening = Listening::start();
        let known = self.look(network);
        let known = timeout_at(end, known).await.map_err(|_| {
            failed("the engine and the firewall service took five seconds").hint_is(
                "A busy computer can be the reason: try again in a moment. \
                     `rcc doctor` says more.",
            )
        })??;

        let namespaces = self.label(label::USER_NAMESPACES) == "1";
        let tries = tries(project, &canary, &listening, &known, namespaces);
        let mut probes: Vec<Probe> =
            tries.iter().flat_map(|one| &one.probes).map(|(probe, _)| probe.clone()).collect();
        // The one that must succeed, and tells an address for the check of names.
        let control = known.name.as_ref().filter(|_| known.state == NetworkState::Connected);
        if let Some(name) = control {
            probes.push(Probe::Ask { server: GATE, name: name.clone(), kind: A });
        }
        let mut outcomes = self.probe(&probes, end).await?;
        let answer = control.and_then(|_| outcomes.pop());

        let mut rows = held_by_the_kernel(&known.walls);
        rows.push(known.memory.clone());
        let mut outcomes = outcomes.into_iter();
        for one in tries {
            let mut outcomes: Vec<Outcome> = outcomes.by_ref().take(one.probes.len()).collect();
            let mut one = one;
            if one.id == "N13" {
                let there = timeout_at(end, others(network)).await.unwrap_or_default();
                (one, outcomes) = judge::without_gone(one, outcomes, &there);
            }
            rows.push(judge(one, &outcomes));
        }
        rows.extend(self.names(&known, control, answer, end).await?);
        rows.extend(not_tried(&known, !listening.addresses.is_empty()));
        rows.extend(judge::elsewhere(&rows));
        rows.sort_by_key(|row| order(row.id));
        Ok(rows)
    }

    /// What is known of it from outside.
    async fn look(&self, network: Option<&Network>) -> Result<Known> {
        let walls = self.walls().await?;
        let memory = self.memory().await;
        let state = self.network_state(network).await;
        let policy = match network {
            Some(network) => network.policy().await.ok(),
            None => None,
        };
        let policy = policy.and_then(|(document, _)| Policy::parse(document.as_bytes()).ok());
        let attachment = match network {
            Some(network) => self.attachment(network).await.ok().flatten(),
            None => None,
        };
        let open = attachment.as_ref().is_some_and(|one| one.open_for > 0)
            || policy.as_ref().is_some_and(|policy| policy.defaults.allow_public);
        let own = attachment.as_ref().and_then(|own| own.address4.parse().ok());
        let mut others = if own.is_some() { others(network).await } else { Vec::new() };
        others.retain(|one| Some(*one) != own);
        others.truncate(8);
        let is_known = policy.is_some() || state == NetworkState::Offline;
        let mut entries = policy.map(|policy| policy.entries).unwrap_or_default();
        // What is in force: also what was allowed for this session, or for a time.
        let own = attachment.iter().flat_map(|one| &one.rules);
        entries.extend(own.filter_map(|one| one.rule.to_entry().ok()));
        let agent = std::env::var("SSH_AUTH_SOCK").ok().filter(|path| path.starts_with('/'));
        let (name, stranger) = (tls_name(&entries), stranger(&entries));
        Ok(Known { walls, memory, state, open, is_known, others, agent, name, stranger, entries })
    }

    /// Runs the probes inside and reads what came of them until `end`.
    async fn probe(&self, probes: &[Probe], end: Instant) -> Result<Vec<Outcome>> {
        let unfinished = || Ok(vec![Outcome::unfinished(); probes.len()]);
        let time = end.saturating_duration_since(Instant::now()).saturating_sub(WAY);
        if time.is_zero() {
            return unfinished();
        }
        let document = serde_json::to_vec(probes).map_err(failed)?;
        let argv = [PROGRAM.to_owned(), "probe".to_owned(), time.as_millis().to_string()];
        let run = async {
            let mut pipes = self.engine.exec(&self.found.id, &argv, &[], Some(WORKSPACE)).await?;
            let written = async {
                pipes.input.write_all(&document).await?;
                pipes.input.shutdown().await
            };
            written.await.map_err(|e: io::Error| failed(e))?;
            let mut said = Vec::new();
            while let Some(piece) = pipes.output.next().await {
                if let LogOutput::StdOut { message } = piece.map_err(failed)? {
                    said.extend(&message[..]);
                }
                if said.len() > MAX_DOCUMENT {
                    break;
                }
            }
            read_outcomes(&said, probes.len()).map_err(failed)
        };
        timeout_at(end, run).await.unwrap_or_else(|_| unfinished())
    }

    /// N20, and that the firewall lets through what it should.
    async fn names(
        &self,
        known: &Known,
        name: Option<&String>,
        answer: Option<Outcome>,
        end: Instant,
    ) -> Result<Vec<Row>> {
        let not_tried = |why: &str| Ok(vec![Row::not_tried("N20", judge::OTHER_NAME, why)]);
        let (Some(name), Some(answer)) = (name, answer) else {
            return not_tried("no name is allowed, or no network");
        };
        if answer.end == End::Unfinished {
            return Ok(judge::names(name, &answer, &answer).into());
        }
        // Said by the sandbox; it is tried from nowhere but there.
        let Ok(address) = answer.seen.parse::<IpAddr>() else {
            return not_tried(&format!("{name}: {}; is this computer online?", answer.seen));
        };
        let hello = |name: &str| Probe::Hello { address, port: 443, name: name.into() };
        let by_address = known.allows(address, 443).then_some("the address itself is allowed");
        if let Some(why) = known.why_open().or(by_address) {
            let outcomes = self.probe(&[hello(name)], end).await?;
            let good = outcomes.into_iter().next().unwrap_or_else(Outcome::unfinished);
            let [works, _] = judge::names(name, &good, &good);
            return Ok(vec![works, Row::not_tried("N20", judge::OTHER_NAME, why)]);
        }
        let outcomes = self.probe(&[hello(name), hello(NO_NAME)], end).await?;
        let [good, evil] = outcomes.as_slice() else {
            return not_tried("the sandbox did not answer");
        };
        Ok(judge::names(name, good, evil).into())
    }

    async fn memory(&self) -> Row {
        let what = "It takes no more memory than it was given";
        let usage = self.usage().await.unwrap_or_default();
        match usage.memory_limit {
            Some(limit) => {
                let gigabytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
                let seen = format!(
                    "it takes {:.2} GB of this computer's memory now, and can take up to {:.1} GB",
                    gigabytes(usage.memory.unwrap_or_default()),
                    gigabytes(limit)
                );
                Row::seen("memory", what, "the kernel's limit", true, seen)
            }
            None => Row::not_tried(
                "memory",
                what,
                "this computer's control groups hold no limit for it; `rcc doctor` says why",
            ),
        }
    }
}

/// What is known from outside before anything is tried.
struct Known {
    walls: Walls,
    memory: Row,
    state: NetworkState,
    /// The public internet is.
    open: bool,
    /// The firewall's list could be had, or there is no link that it could open.
    is_known: bool,
    /// Addresses of other sandboxes of the person's.
    others: Vec<IpAddr>,
    /// Where the person's SSH agent listens.
    agent: Option<String>,
    /// One that is allowed.
    name: Option<String>,
    /// One that everybody but the firewall answers to.
    stranger: Option<&'static str>,
    /// What is allowed.
    entries: Vec<Entry>,
}

impl Known {
    /// Why what the list does not name says nothing.
    fn why_open(&self) -> Option<&'static str> {
        if !self.is_known {
            return Some(
                "the firewall service does not say what is allowed; `rcc doctor` says more",
            );
        }
        self.open.then_some(
            "the public internet is open, by the list or for a time by you: any host is \
             reached, any name is looked up, and no hello is looked at",
        )
    }

    /// An entry opens this address, whatever name it has.
    fn allows(&self, address: IpAddr, port: u16) -> bool {
        self.entries.iter().any(|entry| match entry.target() {
            Target::Net(net) => net.contains(&address) && entry.ports().contains(&port),
            Target::Host(_) => false,
        })
    }
}

/// Addresses of all sandboxes of the person's.
async fn others(network: Option<&Network>) -> Vec<IpAddr> {
    let Some(network) = network else { return Vec::new() };
    let all = network.list().await.unwrap_or_default();
    all.into_iter().filter_map(|one| one.address4.parse().ok()).collect()
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::new(Code::Inside, format!("The sandbox did not try anything: {why}."))
}

/// A name that is allowed on the port of TLS.
fn tls_name(entries: &[Entry]) -> Option<String> {
    entries.iter().find_map(|entry| match entry.target() {
        Target::Host(HostPattern::Exact(name))
            if entry.protocol() == Protocol::Tcp
                && entry.ports().contains(&443)
                && !entry.private() =>
        {
            Some(name.to_string())
        }
        _ => None,
    })
}

/// A name that is there for good (RFC 2606, IANA's own), and that no entry names, or has
/// something below: that is answered without addresses, and not refused.
fn stranger(entries: &[Entry]) -> Option<&'static str> {
    let hosts: Vec<&HostPattern> = entries
        .iter()
        .filter_map(|entry| match entry.target() {
            Target::Host(pattern) => Some(pattern),
            Target::Net(_) => None,
        })
        .collect();
    ["example.org", "example.net", "iana.org"].into_iter().find(|text| {
        let name: Option<Name> = text.parse().ok();
        name.is_some_and(|name| {
            !hosts.iter().any(|one| {
                one.matches(&name) || name.is_ancestor_of(one.base()) || *one.base() == name
            })
        })
    })
}
