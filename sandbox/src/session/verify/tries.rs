//! What is tried, row by row.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use rcc_inside::PROGRAM;
use rcc_inside::probes::Probe;

use super::bait::{Canary, Listening};
use super::{A, GATE, Known, NO_NAME};
use crate::engine::WORKSPACE;
use crate::guard;
use crate::project::Project;
use crate::session::NetworkState;

/// An address of IPv6 for documentation (RFC 3849), which nobody has.
const NOBODY_6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
/// A and K of the name servers of the internet's root: they are there, whoever asks, and
/// no list of hosts has a reason to name them. Nothing is sent to them that the firewall
/// does not refuse.
pub(super) const ROOTS: [IpAddr; 2] = [v4(198, 41, 0, 4), v4(193, 0, 14, 129)];
/// One that answers to DNS over TLS.
pub(super) const OVER_TLS: IpAddr = v4(9, 9, 9, 9);
/// The number of a type of DNS records that can carry anything.
const TXT: u16 = 16;

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// What shows that a wall is there, and not just nobody behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// Any failure: what is tried is there for certain.
    Failure,
    /// Somebody says no: silence may have any reason.
    Refusal,
    /// The gate's reset: what is far away may be silent, or without a way there.
    Reset,
    /// Silence: a sandbox that is reached says no itself where nobody listens.
    Silence,
}

/// Tries of one row: each must fail, and show by what.
pub(super) struct Tries {
    pub id: &'static str,
    pub what: &'static str,
    pub tried: String,
    pub probes: Vec<(Probe, Proof)>,
}

/// Everything that is tried in one go. `namespaces`: programs may make some of their own.
pub(super) fn tries(
    project: &Project,
    canary: &Canary,
    listening: &Listening,
    known: &Known,
    namespaces: bool,
) -> Vec<Tries> {
    let connect = |address, port| Probe::Connect { address, port };
    let past_gate = |address, port| Probe::ConnectPastGate { address, port };
    let text = Path::to_string_lossy;
    // Without a link the sandbox's own kernel refuses everything.
    let offline = known.state == NetworkState::Offline;
    let by_the_gate = if offline { Proof::Refusal } else { Proof::Reset };
    let row = |id, what, tried: &str, proof, probes: Vec<Probe>| {
        let probes = probes.into_iter().map(|probe| (probe, proof)).collect();
        Tries { id, what, tried: tried.into(), probes }
    };
    let exists = |path: &str| Probe::Exists { path: path.into() };
    let mut sockets: Vec<Probe> = [
        "/run/dbus/system_bus_socket",
        "/var/run/dbus/system_bus_socket",
        "/run/podman/podman.sock",
        "/var/run/docker.sock",
        "/tmp/.X11-unix",
        "/run/user",
    ]
    .map(exists)
    .into();
    sockets.extend(known.agent.as_deref().map(exists));
    let services = format!(
        "a server that listens on {} addresses of this computer, and the gate",
        listening.addresses.len()
    );
    let mut tries = vec![
        row(
            "F1",
            "No file outside the project can be read",
            "a file of your own, by its path, a link, .. and /proc",
            Proof::Refusal,
            vec![Probe::ReadHost {
                path: text(&canary.path).into_owned(),
                word: canary.word.clone(),
            }],
        ),
        row(
            "F1-write",
            "What belongs to the system cannot be written",
            "/etc, /usr, and rcc's own files in the sandbox",
            Proof::Refusal,
            [
                "/etc/rcc-verify",
                "/usr/rcc-verify",
                PROGRAM,
                "/etc/resolv.conf",
                "/etc/claude-code/managed-settings.json",
            ]
            .map(|path| Probe::Write { path: path.into() })
            .into(),
        ),
        row(
            "calls",
            "System calls that programs here do not need are refused",
            "the mark of rcc's own filter, odd sockets, namespaces",
            Proof::Refusal,
            vec![Probe::Calls { namespaces }],
        ),
        row(
            "F1-mount",
            "Mounts cannot be changed",
            "mount over a folder; unmount in namespaces of its own",
            Proof::Refusal,
            vec![Probe::Mount, Probe::Unmount],
        ),
        row(
            "H8",
            "The desktop's and the engine's sockets are not there",
            "the usual paths of D-Bus, Podman, Docker, X11, your runtime folder and your SSH agent",
            Proof::Refusal,
            sockets,
        ),
        row(
            "N1",
            "There is no other network beside the link",
            "list the links",
            Proof::Refusal,
            vec![Probe::OtherLink],
        ),
        row(
            "N3",
            "IPv6 does not go round the firewall",
            "an address of the world; a connection",
            Proof::Refusal,
            vec![Probe::AddressOfSix, connect(NOBODY_6, 443)],
        ),
        row(
            "N6",
            "Metadata services of clouds are out of reach",
            "169.254.169.254, 168.63.129.16, 100.100.100.200",
            by_the_gate,
            vec![
                past_gate(v4(169, 254, 169, 254), 80),
                past_gate(v4(168, 63, 129, 16), 80),
                past_gate(v4(100, 100, 100, 200), 80),
            ],
        ),
        row(
            "N8",
            "No packet with a forged source is sent",
            "raw sockets",
            Proof::Refusal,
            vec![Probe::RawSocket],
        ),
        row(
            "N18",
            "Rights in namespaces of its own do not reach out",
            "a user and a network namespace, and a connection from there",
            Proof::Refusal,
            vec![Probe::OwnNetwork { address: GATE, port: 53 }],
        ),
        row(
            "firewall",
            "The firewall's rules cannot be changed from inside",
            "make a table, as `iptables -F` and `nft` would have to",
            Proof::Refusal,
            vec![Probe::ChangeRules],
        ),
        row(
            "list",
            "The firewall's list is not in the sandbox",
            crate::hosts::COMPUTER_FILE,
            Proof::Refusal,
            vec![exists(crate::hosts::COMPUTER_FILE)],
        ),
    ];
    if !listening.addresses.is_empty() {
        let all = listening.addresses.iter().map(|address| connect(*address, listening.port));
        let gate = [connect(GATE, 22), connect(v4(169, 254, 1, 2), listening.port)];
        let what = "The computer's own services are out of reach";
        tries.push(row("N2", what, &services, Proof::Failure, all.chain(gate).collect()));
    }
    tries.extend(of_the_list(known, by_the_gate));
    if !known.others.is_empty() {
        tries.push(row(
            "N13",
            OTHER_SANDBOX,
            &format!("{} other sandboxes of yours", known.others.len()),
            Proof::Silence,
            known.others.iter().flat_map(|one| [connect(*one, 22), connect(*one, 8080)]).collect(),
        ));
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
            what: EXECUTED,
            tried: format!("{} that exist in the project", guarded.len()),
            probes: guarded.iter().take(64).map(|path| (write(path), Proof::Refusal)).collect(),
        });
    }
    tries
}

/// What N13 says.
pub(super) const OTHER_SANDBOX: &str = "Other sandboxes are out of reach";
/// What F2 says.
pub(super) const EXECUTED: &str = "Files that this computer would execute cannot be written";
/// What N4 says.
pub(super) const NAMES: &str = "Names carry no data out";
/// What N16 says.
pub(super) const LOOKALIKE: &str = "A name that only looks like an allowed one is refused";
/// What the row says that the whole is for.
pub(super) const HOSTS: &str = "Hosts that are not allowed are out of reach";

/// What the list of hosts decides. Nothing of it says anything while the public internet
/// is open, or where nobody knows what is on the list.
fn of_the_list(known: &Known, by_the_gate: Proof) -> Vec<Tries> {
    if known.why_open().is_some() {
        return Vec::new();
    }
    let refused = |address: IpAddr, port| {
        let probe = || (Probe::ConnectPastGate { address, port }, by_the_gate);
        (!known.allows(address, port)).then(probe)
    };
    let ask = |name: String, kind| Probe::Ask { server: GATE, name, kind };
    let mut rows = vec![Tries {
        id: "hosts",
        what: HOSTS,
        tried: "connections to two name servers of the internet's root, which everybody reaches"
            .into(),
        probes: ROOTS.into_iter().filter_map(|root| refused(root, 53)).collect(),
    }];
    let mut questions: Vec<_> = refused(OVER_TLS, 853).into_iter().collect();
    if known.state != NetworkState::Offline {
        questions.extend(known.stranger.map(|name| (ask(name.into(), A), Proof::Refusal)));
        questions.push((ask(NO_NAME.into(), TXT), Proof::Refusal));
        questions.extend(known.name.clone().map(|name| (ask(name, TXT), Proof::Refusal)));
    }
    rows.push(Tries {
        id: "N4",
        what: NAMES,
        tried: "names that are not allowed, TXT of one that is, DNS over TLS".into(),
        probes: questions,
    });
    if let Some(name) = known.name.as_ref().filter(|_| known.state != NetworkState::Offline) {
        let looks_like = format!("{name}.{NO_NAME}");
        rows.push(Tries {
            id: "N16",
            what: LOOKALIKE,
            tried: format!("{looks_like}, by the firewall's resolver"),
            probes: vec![(ask(looks_like, A), Proof::Refusal)],
        });
    }
    rows
}
