//! `rcc verify`: the ways out that THREATS names, tried from inside a running
//! sandbox with the agent's rights, and what the kernel says from outside.
//!
//! The tries run in the sandbox, by the program that is mounted read-only there. A
//! hostile program in the same sandbox could falsify their answers: verify shows that
//! the walls stand, it does not find somebody who broke one.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::container::LogOutput;
use futures_util::StreamExt;
use rcc_inside::PROGRAM;
use rcc_inside::probes::{MAX_DOCUMENT, Outcome, Probe, read_outcomes};
use rcc_policy::{Entry, HostPattern, Policy, Protocol, Target};
use tokio::io::AsyncWriteExt;

use super::{NetworkState, Session, Walls};
use crate::engine::{WORKSPACE, label};
use crate::error::{Code, Error, Result};
use crate::guard;
use crate::host::Host;
use crate::levels;
use crate::network::Network;
use crate::project::Project;

/// All tries together; the slowest single one gives up after 1.2 s.
const PATIENCE: Duration = Duration::from_secs(4);
/// The gate, where sandboxes find it.
const GATE: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// An address for documentation (RFC 5737), which nobody has and no rule names.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53));
/// The same for IPv6 (RFC 3849).
const NOBODY_6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
/// A name that nobody has (RFC 2606).
const NO_NAME: &str = "rcc-verify.invalid";
/// The numbers of two types of DNS records.
const A: u16 = 1;
const TXT: u16 = 16;

/// What came of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was tried, and the wall held.
    Holds,
    /// It was tried, and it was possible.
    Open,
    /// It was not tried, or could not be.
    NotTried,
}

impl Verdict {
    /// A word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Open => "OPEN",
            Self::NotTried => "not tried",
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Of docs/threat-model.md, or a word.
    pub id: &'static str,
    /// What must not be possible.
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

/// Tries of one row: each must fail.
struct Tries {
    id: &'static str,
    what: &'static str,
    tried: String,
    probes: Vec<Probe>,
}

impl Session {
    /// Tries everything; at most five seconds. Nothing is changed, but for files that
    /// are made and removed again at once.
    ///
    /// # Errors
    /// [`Code::Engine`], [`Code::Inside`] when the tries cannot be run at all.
    pub async fn verify(
        &self,
        project: &Project,
        host: &Host,
        network: Option<&Network>,
    ) -> Result<Vec<Row>> {
        let canary = Canary::make(host)?;
        let listening = Listening::start();
        let walls = self.walls().await?;
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
        let others = match (network, &attachment) {
            (Some(network), Some(own)) => network
                .list()
                .await
                .unwrap_or_default()
                .into_iter()
                .filter(|one| one.id != own.id)
                .filter_map(|one| one.address4.parse().ok())
                .take(8)
                .collect(),
            _ => Vec::new(),
        };
        let name = policy.as_ref().and_then(|policy| tls_name(policy, project, host));

        let tries = self.tries(project, &canary, &listening, &others, name.as_deref(), open);
        let mut probes: Vec<Probe> = tries.iter().flat_map(|one| one.probes.clone()).collect();
        // The one that must succeed, and tells an address for the check of names.
        let control = name.as_ref().filter(|_| state == NetworkState::Connected);
        if let Some(name) = control {
            probes.push(Probe::Ask { server: GATE, name: name.clone(), kind: A });
        }
        let mut outcomes = self.probe(&probes).await?;
        let answer = control.and_then(|_| outcomes.pop());

        let mut rows = held_by_the_kernel(walls);
        rows.extend(self.memory().await);
        let mut outcomes = outcomes.into_iter();
        for one in tries {
            let outcomes: Vec<Outcome> = outcomes.by_ref().take(one.probes.len()).collect();
            rows.push(judge(one, &outcomes));
        }
        rows.extend(self.names(control, answer).await?);
        rows.extend(not_tried(state, open, &others, &listening));
        rows.sort_by_key(|row| order(row.id));
        Ok(rows)
    }

    /// Runs the probes inside and reads what came of them.
    async fn probe(&self, probes: &[Probe]) -> Result<Vec<Outcome>> {
        let failed = |why: String| {
            Error::new(Code::Inside, format!("The sandbox did not try anything: {why}."))
        };
        let document = serde_json::to_vec(probes).map_err(|e| failed(e.to_string()))?;
        let argv = [PROGRAM.to_owned(), "probe".to_owned()];
        let run = async {
            let mut pipes = self.engine.exec(&self.found.id, &argv, &[], Some(WORKSPACE)).await?;
            let written = async {
                pipes.input.write_all(&document).await?;
                pipes.input.shutdown().await
            };
            written.await.map_err(|e: io::Error| failed(e.to_string()))?;
            let mut said = Vec::new();
            while let Some(piece) = pipes.output.next().await {
                let piece = piece.map_err(|e| failed(e.to_string()))?;
                if let LogOutput::StdOut { message } = piece {
                    said.extend(&message[..]);
                }
                if said.len() > MAX_DOCUMENT {
                    break;
                }
            }
            read_outcomes(&said, probes.len()).map_err(failed)
        };
        tokio::time::timeout(PATIENCE, run)
            .await
            .map_err(|_| failed("it took longer than four seconds".into()))?
    }

    fn tries(
        &self,
        project: &Project,
        canary: &Canary,
        listening: &Listening,
        others: &[IpAddr],
        name: Option<&str>,
        open: bool,
    ) -> Vec<Tries> {
        let connect = |address, port| Probe::Connect { address, port };
        let v4 = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
        let text = Path::to_string_lossy;
        let mut tries = vec![
            Tries {
                id: "F1",
                what: "A file outside the project is read",
                tried: "a file of your own, by its path, a link, .. and /proc".into(),
                probes: vec![Probe::ReadHost {
                    path: text(&canary.path).into_owned(),
                    word: canary.word.clone(),
                }],
            },
            Tries {
                id: "F1-write",
                what: "What belongs to the system is written",
                tried: "/etc, /usr, and rcc's own files in the sandbox".into(),
                probes: [
                    "/etc/rcc-verify",
                    "/usr/rcc-verify",
                    PROGRAM,
                    "/etc/resolv.conf",
                    "/etc/claude-code/managed-settings.json",
                ]
                .map(|path| Probe::Write { path: path.into() })
                .into(),
            },
            Tries {
                id: "calls",
                what: "System calls are possible that programs here do not need",
                tried: "the mark of rcc's own filter, odd sockets, namespaces".into(),
                probes: vec![Probe::Calls {
                    namespaces: self.label(label::USER_NAMESPACES) == "1",
                }],
            },
            Tries {
                id: "F1-mount",
                what: "Mounts are changed",
                tried: "mount over a folder; unmount in namespaces of its own".into(),
                probes: vec![Probe::Mount, Probe::Unmount],
            },
            Tries {
                id: "H8",
                what: "The desktop's and the engine's sockets are reached",
                tried: "the usual paths of D-Bus, Podman, Docker, X11, and your runtime folder"
                    .into(),
                probes: [
                    "/run/dbus/system_bus_socket",
                    "/var/run/dbus/system_bus_socket",
                    "/run/podman/podman.sock",
                    "/var/run/docker.sock",
                    "/tmp/.X11-unix",
                    "/run/user",
                ]
                .map(|path| Probe::Exists { path: path.into() })
                .into(),
            },
            Tries {
                id: "N1",
                what: "There is another network beside the link",
                tried: "list the links".into(),
                probes: vec![Probe::OtherLink],
            },
            Tries {
                id: "N2",
                what: "The computer's own services are reached",
                tried: format!(
                    "a server that listens on {} addresses of this computer, and the gate",
                    listening.addresses.len()
                ),
                probes: listening
                    .addresses
                    .iter()
                    .map(|address| connect(*address, listening.port))
                    .chain([connect(GATE, 22), connect(v4(169, 254, 1, 2), listening.port)])
                    .collect(),
            },
            Tries {
                id: "N3",
                what: "IPv6 goes round the firewall",
                tried: "an address of the world; a connection".into(),
                probes: vec![Probe::AddressOfSix, connect(NOBODY_6, 443)],
            },
            Tries {
                id: "N6",
                what: "Metadata services of clouds are reached",
                tried: "169.254.169.254, 168.63.129.16, 100.100.100.200".into(),
                probes: vec![
                    connect(v4(169, 254, 169, 254), 80),
                    connect(v4(168, 63, 129, 16), 80),
                    connect(v4(100, 100, 100, 200), 80),
                ],
            },
            Tries {
                id: "N8",
                what: "Packets with a forged source are sent",
                tried: "raw sockets".into(),
                probes: vec![Probe::RawSocket],
            },
            Tries {
                id: "N18",
                what: "Rights in namespaces of its own reach out",
                tried: "a user and a network namespace, and a connection from there".into(),
                probes: vec![Probe::OwnNetwork { address: GATE, port: 53 }],
            },
            Tries {
                id: "firewall",
                what: "The firewall's rules or its list are changed from inside",
                tried: "make a table (as `iptables -F` does); write the list".into(),
                probes: vec![
                    Probe::ChangeRules,
                    Probe::Write { path: crate::hosts::COMPUTER_FILE.into() },
                ],
            },
        ];
        let mut questions = vec![
            Probe::Ask { server: NOBODY, name: "example.org".into(), kind: A },
            Probe::Ask { server: GATE, name: NO_NAME.into(), kind: TXT },
        ];
        if let Some(name) = name {
            questions.push(Probe::Ask { server: GATE, name: name.into(), kind: TXT });
        }
        if !open {
            questions.push(connect(NOBODY, 853));
        }
        tries.push(Tries {
            id: "N4",
            what: "Names carry data out",
            tried: "another resolver, a name that is not allowed, TXT, DNS over TLS".into(),
            probes: questions,
        });
        if !others.is_empty() {
            tries.push(Tries {
                id: "N13",
                what: "Another sandbox is reached",
                tried: format!("{} other sandboxes of yours", others.len()),
                probes: others
                    .iter()
                    .flat_map(|one| [connect(*one, 22), connect(*one, 8080)])
                    .collect(),
            });
        }
        let guarded: Vec<PathBuf> = guard::plan(project.path())
            .map(|plan| plan.mounts)
            .unwrap_or_default()
            .into_iter()
            .filter(|mount| mount.read_only)
            .map(|mount| mount.path)
            .collect();
        if !guarded.is_empty() {
            let inside = |path: &PathBuf| {
                let whole = project.path().join(path);
                let path = Path::new(WORKSPACE).join(path);
                if whole.is_dir() { path.join("rcc-verify") } else { path }
            };
            let write = |path: &PathBuf| Probe::Write { path: text(&inside(path)).into_owned() };
            tries.push(Tries {
                id: "F2",
                what: "Files that this computer would execute are written",
                tried: format!("{} that exist in the project", guarded.len()),
                probes: guarded.iter().take(64).map(write).collect(),
            });
        }
        tries
    }

    /// N20, and that the firewall lets through what it should.
    async fn names(&self, name: Option<&String>, answer: Option<Outcome>) -> Result<Vec<Row>> {
        let what = "Another name at an allowed address is reached";
        let (Some(name), Some(answer)) = (name, answer) else {
            return Ok(vec![Row::not_tried("N20", what, "no name is allowed, or no network")]);
        };
        let allowed = "What is allowed can be reached";
        // Said by the sandbox; it is tried from nowhere but there.
        let Ok(address) = answer.seen.parse::<IpAddr>() else {
            let seen = format!("{name}: {}; is this computer online?", answer.seen);
            return Ok(vec![Row::not_tried("N20", what, seen)]);
        };
        let hello = |name: &str| Probe::Hello { address, port: 443, name: name.into() };
        let outcomes = self.probe(&[hello(name), hello(NO_NAME)]).await?;
        let (good, evil) = (&outcomes[0], &outcomes[1]);
        let mut rows = vec![if good.succeeded {
            Row::seen("works", allowed, format!("TLS to {name}"), true, good.seen.as_str())
        } else {
            Row::not_tried("works", allowed, format!("{name} does not answer: {}", good.seen))
        }];
        rows.push(Row::seen(
            "N20",
            what,
            format!("TLS to the address of {name} with another name"),
            !evil.succeeded,
            evil.seen.as_str(),
        ));
        Ok(rows)
    }

    async fn memory(&self) -> Vec<Row> {
        let what = "More memory is used than was given";
        let usage = self.usage().await.unwrap_or_default();
        vec![match usage.memory_limit {
            Some(limit) => {
                let gigabytes = limit as f64 / f64::from(1 << 30);
                let used = usage.memory.unwrap_or_default() as f64 / f64::from(1 << 30);
                let seen =
                    format!("{used:.2} GB of {gigabytes:.1} GB are used, and no more are taken");
                Row::seen("memory", what, "the kernel's limit", true, seen)
            }
            None => Row::not_tried(
                "memory",
                what,
                "this computer's control groups hold no limit for it; `rcc doctor` says why",
            ),
        }]
    }
}

/// Rows without a try, each with its reason.
fn not_tried(
    state: NetworkState,
    open: bool,
    others: &[IpAddr],
    listening: &Listening,
) -> Vec<Row> {
    let mut rows = vec![
        Row::not_tried(
            "N15",
            "Something outside connects to the sandbox",
            "it would send packets out of this computer; tested in the project's lab",
        ),
        Row::not_tried(
            "N21",
            "An allowed host is used as a mailbox",
            "no firewall prevents that: allow few hosts",
        ),
        Row::not_tried(
            "C2",
            "The agent reads the token that it uses",
            "cannot be prevented: use a token of its own for a project that you do not trust",
        ),
        Row::not_tried(
            "kernel",
            "A hole in the kernel is a way out",
            "the sandbox shares this computer's kernel: keep it up to date",
        ),
        Row::not_tried("people", "You are talked into something", "no wall prevents that"),
    ];
    if others.is_empty() {
        let why = "no other sandbox of yours is connected";
        rows.push(Row::not_tried("N13", "Another sandbox is reached", why));
    }
    if listening.addresses.is_empty() {
        let why = "no server could be started on this computer to be reached";
        rows.push(Row::not_tried("N2-server", "The computer's own services are reached", why));
    }
    if open {
        let why = "the public internet is open: by the list, or for a time by you";
        rows.push(Row::not_tried("N4-open", "Other resolvers are out of reach", why));
    }
    if state == NetworkState::Unknown {
        let why = "the firewall service does not answer; `rcc doctor` says more";
        rows.push(Row::not_tried("helper", "The firewall says what it does", why));
    }
    rows
}

fn judge(tries: Tries, outcomes: &[Outcome]) -> Row {
    let Tries { id, what, tried, .. } = tries;
    let possible = outcomes.iter().find(|outcome| outcome.succeeded);
    let shown = possible.or(outcomes.first()).map(|outcome| outcome.seen.clone());
    Row::seen(id, what, tried, possible.is_none(), shown.unwrap_or_default())
}

fn held_by_the_kernel(walls: Walls) -> Vec<Row> {
    let row = |id, what, tried: &str, holds: bool, good: &str, bad: &str| {
        Row::seen(id, what, tried, holds, if holds { good } else { bad })
    };
    vec![
        row(
            "namespaces",
            "The sandbox sees the computer's users and files (--network=host, --userns=host)",
            "/proc of its first process, from outside",
            walls.own_view,
            "users and mounts of its own",
            "it shares the computer's view",
        ),
        row(
            "rights",
            "It has rights of root's (--privileged, CAP_NET_ADMIN)",
            "/proc of its first process, from outside",
            walls.no_privileges,
            "no capability, now or by a program; no new privileges",
            "it has capabilities, or may get some",
        ),
        row(
            "seccomp",
            "Dangerous system calls are possible",
            "/proc of its first process, from outside",
            walls.filter,
            "a filter is in force",
            "there is no filter",
        ),
    ]
}

/// Files, then rights, then the network, then what is left; each by its number.
fn order(id: &str) -> (u8, u32, &str) {
    let place = match id {
        "works" => 0,
        _ if id.starts_with('F') => 1,
        "namespaces" | "rights" | "seccomp" | "calls" | "memory" => 2,
        _ if id.starts_with('H') => 3,
        _ if id.starts_with('N') => 4,
        "firewall" => 5,
        _ => 6,
    };
    let digits: String = id.chars().filter(char::is_ascii_digit).collect();
    (place, digits.parse().unwrap_or(0), id)
}

/// A name that is allowed on the port of TLS.
fn tls_name(policy: &Policy, project: &Project, host: &Host) -> Option<String> {
    let own = levels::of_project(project, host).unwrap_or_default();
    let exact = |entry: &Entry| match entry.target() {
        Target::Host(HostPattern::Exact(name))
            if entry.protocol() == Protocol::Tcp
                && entry.ports().contains(&443)
                && !entry.private() =>
        {
            Some(name.to_string())
        }
        _ => None,
    };
    policy.entries.iter().chain(&own).find_map(exact)
}

/// A file of the person's that nobody inside may read.
struct Canary {
    path: PathBuf,
    word: String,
}

impl Canary {
    fn make(host: &Host) -> Result<Self> {
        let mut random = [0; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::new(Code::Environment, format!("No random numbers: {e}.")))?;
        let word: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = host.state.join(format!("verify-{word}"));
        let written = crate::host::make_dirs(&host.state)
            .and_then(|()| crate::host::write_atomically(&path, word.as_bytes()));
        written?;
        Ok(Self { path, word })
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A server on every address of this computer that the sandbox must not reach.
struct Listening {
    addresses: Vec<IpAddr>,
    port: u16,
    _listener: Option<TcpListener>,
}

impl Listening {
    fn start() -> Self {
        let none = Self { addresses: Vec::new(), port: 9, _listener: None };
        let Ok(listener) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)) else { return none };
        let Ok(own) = listener.local_addr() else { return none };
        let all = nix::ifaddrs::getifaddrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
        let v4 = |one: nix::ifaddrs::InterfaceAddress| {
            Some(IpAddr::V4(one.address?.as_sockaddr_in()?.ip()))
        };
        let mut addresses: Vec<IpAddr> = all.into_iter().filter_map(v4).collect();
        // Inside, this is the sandbox itself.
        addresses.retain(|address| !address.is_loopback());
        addresses.sort();
        addresses.dedup();
        addresses.truncate(16);
        Self { addresses, port: own.port(), _listener: Some(listener) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(succeeded: bool, seen: &str) -> Outcome {
        Outcome { succeeded, seen: seen.into() }
    }

    #[test]
    fn one_success_is_a_hole() {
        let tries = |probes| Tries { id: "N1", what: "w", tried: "t".into(), probes };
        let probes = vec![Probe::OtherLink, Probe::RawSocket];
        let row = judge(tries(probes.clone()), &[outcome(false, "no"), outcome(true, "yes")]);
        assert_eq!((row.verdict, row.seen.as_str()), (Verdict::Open, "yes"));
        let row = judge(tries(probes), &[outcome(false, "no"), outcome(false, "neither")]);
        assert_eq!((row.verdict, row.seen.as_str()), (Verdict::Holds, "no"));
    }

    #[test]
    fn rows_have_an_order() {
        let mut ids = ["people", "N20", "F1", "N3", "works", "rights", "H8"];
        ids.sort_by_key(|id| order(id));
        assert_eq!(ids, ["works", "F1", "rights", "H8", "N3", "N20", "people"]);
    }
}
