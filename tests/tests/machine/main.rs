//! The package on a real system: a Debian with systemd, D-Bus, polkit and logind,
//! booted in a container of systemd-nspawn's. Skipped where there is none. What a package
//! does to a computer, and a computer to it, is tried on this computer's own release of
//! Debian and on Debian 13.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rcc_dbus::Rule;
use rcc_tests::{Machine, Release, SHARED, Sandbox, Skip, built, skip, world};

mod docker;
mod doctor;
mod firewalls;
mod others;
mod package;
mod papers;
mod permissions;
mod restart;
mod routes;
mod run;
mod timer;

/// The next release, for an upgrade.
const NEXT: &str = "0.9.0";

/// A machine that has the packages at hand, in its folder [`SHARED`].
fn boot(release: Release) -> Option<Machine> {
    for program in ["xtask", "rcc", "rcc-helper", "rcc-desktop"] {
        if let Err(error) = built(program) {
            skip(&Skip(error.to_string()));
            return None;
        }
    }
    match Machine::start(release, |_| Ok(())).expect("a machine") {
        Ok(machine) => {
            for (package, name) in packages().iter().zip(["this.deb", "next.deb"]) {
                std::fs::copy(package, machine.shared().join(name)).expect("copy");
            }
            Some(machine)
        }
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

/// The package, made once, of the programs that these tests were built with; and
/// the next release, which differs in its number.
fn packages() -> &'static [PathBuf; 2] {
    static MADE: OnceLock<[PathBuf; 2]> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
        let mut xtask = Command::new(built("xtask").expect("xtask"));
        let made = ran(xtask.args(["package", "--debug", "--output"]).arg(&folder));
        let this = PathBuf::from(made.trim());
        let (tree, next) = (folder.join("next"), folder.join("next.deb"));
        let again = format!(
            "rm -rf {tree} && dpkg-deb -R {this} {tree} && sed -i 's/^Version: .*/Version: {NEXT}/' \
             {tree}/DEBIAN/control && dpkg-deb --root-owner-group -Znone -b {tree} {next} && rm -r {tree}",
            tree = tree.display(),
            this = this.display(),
            next = next.display(),
        );
        ran(Command::new("sh").args(["-c", &again]));
        [this, next]
    })
}

fn ran(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn install(machine: &Machine, package: &str) {
    let command = format!(
        "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {SHARED}/{package} 2>&1"
    );
    let said = machine.root(&command).expect("install");
    assert!(!said.contains("warning"), "{said}");
}

/// A port that is not looked into for names, so that the kernel alone decides.
const PLAIN: u16 = 9_999;

fn rules() -> Vec<Rule> {
    vec![Rule::tcp("allowed.example", &[443, PLAIN])]
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

/// A connection that can be told from a dead one.
fn held(sandbox: &Sandbox, address: Ipv4Addr, port: u16) -> TcpStream {
    let stream = sandbox.run(|| TcpStream::connect((address, port))).expect("connect");
    stream.set_read_timeout(Some(Duration::from_millis(1_500))).expect("timeout");
    let mut greeting = [0; 128];
    assert!((&stream).read(&mut greeting).expect("greeting") > 0);
    stream
}

fn echoes(mut stream: &TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"ping").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && &answer == b"ping"
}
