//! `cargo xtask run`: from a checkout to a session. What it does depends on the
//! machine: it installs rcc on a desktop with systemd, and plays a whole one in
//! a lab where root has none (a container, a CI).

mod desktop;
mod lab;
pub mod plan;
mod window;

use std::fs;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::workspace;
use plan::{Family, System};

pub use desktop::uninstall;

/// What can be asked for.
#[derive(Debug, Clone, Args)]
pub struct Wanted {
    /// The project to open; without it a sample
    pub path: Option<PathBuf>,
    /// Ask nothing
    #[arg(long)]
    pub yes: bool,
    /// No window
    #[arg(long)]
    pub cli: bool,
    /// A scripted turn with a played API, no account needed, also on a terminal
    #[arg(long)]
    pub demo: bool,
    /// Only say what is missing: 0 nothing, 3 something
    #[arg(long)]
    pub check: bool,
}

/// Unsupported system.
pub const UNSUPPORTED: u8 = 2;
/// Declined, or something is missing.
pub const DECLINED: u8 = 3;

/// See the module; answers the exit code.
pub fn run(wanted: &Wanted) -> anyhow::Result<u8> {
    let system = detect();
    match (system.root, system.systemd, system.family) {
        (true, true, _) => {
            eprintln!(
                "xtask: run it as yourself, not as root: sandboxes belong to an ordinary user. \
                 It asks for the administrator's password once."
            );
            Ok(UNSUPPORTED)
        }
        (true, false, _) => lab::run(wanted, &system),
        (false, true, Some(family)) => desktop::run(wanted, &system, family),
        (false, ..) => {
            unsupported(&system);
            Ok(UNSUPPORTED)
        }
    }
}

/// This machine.
pub fn detect() -> System {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let family = Family::of(&release);
    System {
        name: plan::field(&release, "PRETTY_NAME").unwrap_or_else(|| "an unknown system".into()),
        family,
        root: nix::unistd::Uid::effective().is_root(),
        systemd: Path::new("/run/systemd/system").is_dir(),
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        firewalld: workspace::succeeds("systemctl", &["is-active", "--quiet", "firewalld"]),
        user: nix::unistd::User::from_uid(nix::unistd::Uid::effective())
            .ok()
            .flatten()
            .map_or_else(|| "?".into(), |user| user.name),
    }
}

fn unsupported(system: &System) {
    eprintln!("xtask: rcc is not installed automatically on {} yet.", system.name);
    if !system.systemd {
        eprintln!("  - systemd does not run here; the firewall service is a unit of it.");
        eprintln!("    As root, `cargo xtask run` plays everything in a lab instead.");
    }
    for (program, why) in [
        ("podman", "runs the sandboxes"),
        ("newuidmap", "lets Podman run without root (package uidmap or shadow)"),
        ("nft", "is the firewall's tool (package nftables)"),
        ("mmdebstrap", "builds the image; any image of yours does, too"),
        ("setpriv", "is part of util-linux"),
    ] {
        if workspace::find(program).is_none() {
            eprintln!("  - {program} is missing: it {why}");
        }
    }
    eprintln!(
        "  `cargo build --release` and the list in packaging/files.toml are all that an \
         installation by hand needs."
    );
}

/// Asks once; `otherwise` is the answer where nobody can be asked.
fn agreed(question: &str, yes: bool, otherwise: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Ok(otherwise);
    }
    print!("{question} [Y/n] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "" | "y" | "Y" | "yes"))
}
