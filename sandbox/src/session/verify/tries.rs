//! What is tried, row by row.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use rcc_inside::PROGRAM;
use rcc_inside::probes::Probe;

use super::bait::{Canary, Listening};
use super::{A, GATE, NO_NAME};
use crate::engine::WORKSPACE;
use crate::guard;
use crate::project::Project;

/// An address for documentation (RFC 5737), which nobody has and no rule names.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53));
/// The same for IPv6 (RFC 3849).
const NOBODY_6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
/// The number of a type of DNS records that can carry anything.
const TXT: u16 = 16;

/// Tries of one row: each must fail.
pub(super) struct Tries {
    pub id: &'static str,
    pub what: &'static str,
    pub tried: String,
    pub probes: Vec<Probe>,
}

/// Everything that is tried in one go. `others` are addresses of other sandboxes, `name`
/// one that is allowed, `open` says that the public internet is, `namespaces` that
/// programs may make some of their own.
pub(super) fn tries(
    project: &Project,
    canary: &Canary,
    listening: &Listening,
    others: &[IpAddr],
    name: Option<&str>,
    open: bool,
    namespaces: bool,
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
            probes: vec![Probe::Calls { namespaces }],
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
            tried: "the usual paths of D-Bus, Podman, Docker, X11, and your runtime folder".into(),
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
    if let Some(name) = name {
        let looks_like = format!("{name}.{NO_NAME}");
        tries.push(Tries {
            id: "N16",
            what: "A name that only looks like an allowed one is answered",
            tried: format!("{looks_like}, by the firewall's resolver"),
            probes: vec![Probe::Ask { server: GATE, name: looks_like, kind: super::A }],
        });
    }
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
