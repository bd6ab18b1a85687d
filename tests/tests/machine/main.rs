//! The package on a real system: a Debian with systemd, D-Bus, polkit and logind,
//! booted in a container of systemd-nspawn's. Skipped where there is none.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rcc_dbus::Rule;
use rcc_tests::{Machine, SHARED, Sandbox, Skip, built, skip, world};

mod firewalls;
mod package;
mod permissions;
mod restart;

/// The next release, for an upgrade.
const NEXT: &str = "0.9.0";

/// A machine that has the packages at hand, in its folder [`SHARED`].
fn boot() -> Option<Machine> {
    for program in ["xtask", "rcc", "rcc-helper", "rcc-desktop"] {
        if let Err(error) = built(program) {
            skip(&Skip(error.to_string()));
            return None;
        }
    }
    match Machine::start(|_| Ok(())).expect("a machine") {
        Ok(machine) => {
            for (version, name) in [(None, "this.deb"), (Some(NEXT), "next.deb")] {
                std::fs::copy(package(version), machine.shared().join(name)).expect("copy");
            }
            Some(machine)
        }
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

/// The package, made once, of the programs that these tests were built with.
fn package(version: Option<&str>) -> PathBuf {
    static MADE: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        [None, Some(NEXT)]
            .map(|version| {
                let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
                let mut xtask = Command::new(built("xtask").expect("xtask"));
                xtask.args(["package", "--debug", "--output"]).arg(folder);
                xtask.args(version.iter().flat_map(|version| ["--version", version]));
                let output = xtask.output().expect("start xtask");
                let complaint = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "xtask package: {complaint}");
                PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
            })
            .to_vec()
    });
    made[usize::from(version.is_some())].clone()
}

fn install(machine: &Machine, package: &str) {
    let command = format!(
        "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {SHARED}/{package} 2>&1"
    );
    let said = machine.root(&command).expect("install");
    assert!(!said.contains("warning"), "{said}");
}

fn rules() -> Vec<Rule> {
    vec![Rule::tcp("allowed.example", &[443])]
}

/// The helper's process, as the machine's systemd knows it; 0 for none.
fn helper(machine: &Machine) -> u32 {
    let said = machine.root("systemctl show -P MainPID rcc-helper.service").expect("systemctl");
    said.trim().parse().expect("a number")
}

/// A host that is not allowed, the computer itself and its LAN are out of reach.
fn walls_stand(sandbox: &Sandbox) {
    for address in [world::SERVERS[1], world::HOST, world::HOST_ON_LAN, world::NEIGHBOUR] {
        assert!(sandbox.tcp(address, 443).is_err(), "{address} is out of reach");
    }
}
