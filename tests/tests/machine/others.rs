//! The .rpm and the Arch package, by rpm and pacman themselves: what their scripts do on a
//! computer that runs. It is a Debian, so dependencies are not looked at.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcc_tests::people::ANN;
use rcc_tests::protocol::Call;
use rcc_tests::{Machine, Release, SHARED, Seat, Skip, built, skip, wait_for, world};

use super::package::{inventory, while_somebody_calls};
use super::{NEXT, PLAIN, helper, ran, rules, walls_stand};

/// How one of them does things. The packages are `this` and `next`, with its ending, in the
/// folder that the machine shares.
struct Manager {
    install: &'static str,
    upgrade: &'static str,
    /// Says nothing when every file is as it was packed.
    verify: &'static str,
    version: &'static str,
    next: &'static str,
    remove: &'static str,
    /// Where it keeps a list that the administrator changed.
    kept: &'static str,
    /// Without that one.
    purge: &'static str,
}

const RPM: Manager = Manager {
    install: "rpm -i --force-debian --nodeps /opt/rcc-test/this.rpm",
    upgrade: "rpm -U --force-debian --nodeps /opt/rcc-test/next.rpm",
    verify: "rpm -V --nodeps rcc-sandbox",
    version: "rpm -q --qf '%{VERSION}-%{RELEASE}' rcc-sandbox",
    next: "0.9.0-1",
    remove: "rpm -e --force-debian --nodeps rcc-sandbox",
    kept: "/etc/rcc/network-whitelist.yaml.rpmsave",
    purge: "rpm -e --force-debian --nodeps rcc-sandbox && rm -r /etc/rcc",
};

const PACMAN: Manager = Manager {
    install: "pacman -U --noconfirm -dd /opt/rcc-test/this.pkg.tar.zst",
    upgrade: "pacman -U --noconfirm -dd /opt/rcc-test/next.pkg.tar.zst",
    verify: "pacman -Qkkq rcc-sandbox",
    version: "pacman -Q rcc-sandbox | cut -d' ' -f2",
    next: "0.1.0-2",
    remove: "pacman -R --noconfirm rcc-sandbox",
    kept: "/etc/rcc/network-whitelist.yaml.pacsave",
    purge: "pacman -Rn --noconfirm rcc-sandbox && rm -rf /etc/rcc",
};

/// Packages of the programs that these tests were built with, in a folder of their own.
fn package(kind: &str, more: &[&str]) -> PathBuf {
    let name = format!("package-{kind}{}", more.concat());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    let mut xtask = Command::new(built("xtask").expect("xtask"));
    xtask.args(["package", "--debug", "--kind", kind]).args(more).arg("--output").arg(&folder);
    PathBuf::from(ran(&mut xtask).trim())
}

/// A machine; `None`, and said, where something is missing.
fn machine(tools: &[&str]) -> Option<Machine> {
    let missing = ["xtask", "rcc", "rcc-helper", "rcc-desktop"]
        .into_iter()
        .find_map(|name| built(name).err());
    if let Some(error) = missing {
        skip(&Skip(error.to_string()));
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there =
        |tool: &&&str| std::env::split_paths(&path).any(|folder| folder.join(tool).exists());
    if let Some(tool) = tools.iter().find(|tool| !there(tool)) {
        skip(&Skip(format!("{tool} is not installed")));
        return None;
    }
    match Machine::start(Release::Own, |_| Ok(())).expect("a machine") {
        Ok(machine) => Some(machine),
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

#[test]
fn the_rpm_serves_from_install_to_removal() {
    let Some(machine) = machine(&["rpmbuild"]) else { return };
    for (more, name) in [(&[][..], "this.rpm"), (&["--number", NEXT], "next.rpm")] {
        fs::copy(package("rpm", more), machine.shared().join(name)).expect("copy");
    }
    from_install_to_removal(&machine, &RPM);
}

/// Stands for cargo, whose one call in the PKGBUILD is for the files in a folder.
const CARGO: &str = r#"#!/bin/sh
[ "$*" = "xtask package --kind tree --output $6" ] && mkdir "$6" && cp -a /opt/rcc-test/tree "$6"
"#;

#[test]
fn the_arch_package_serves_from_install_to_removal() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if !project.join(".git").exists() {
        return skip(&Skip("this is no clone: there is no source to pack".into()));
    }
    let Some(machine) = machine(&["git"]) else { return };
    let shared = machine.shared();
    for kind in ["arch", "tree"] {
        ran(Command::new("cp").arg("-r").arg(package(kind, &[])).arg(shared.join(kind)));
    }
    fs::create_dir(shared.join("bin")).expect("a folder");
    fs::write(shared.join("bin/cargo"), CARGO).expect("write");
    fs::set_permissions(shared.join("bin/cargo"), fs::Permissions::from_mode(0o755)).expect("mode");
    // As an ordinary user, as makepkg wants it; then the next one of the same files.
    let make = format!(
        "cp -r {SHARED}/arch ~/arch && cd ~/arch && export PATH={SHARED}/bin:$PATH PKGEXT=.pkg.tar.zst && \
         makepkg --nodeps 2>&1 && sed -i s/^pkgrel=1/pkgrel=2/ PKGBUILD && makepkg --nodeps --repackage 2>&1"
    );
    machine.user(ANN, &make).expect("makepkg");
    let made = machine.root("ls /home/ann/arch/*.zst").expect("packages");
    for (path, name) in made.lines().zip(["this", "next"]) {
        let from = machine.home().join(path.trim_start_matches("/home/"));
        fs::copy(from, shared.join(format!("{name}.pkg.tar.zst"))).expect(path);
    }
    from_install_to_removal(&machine, &PACMAN);
}

fn from_install_to_removal(machine: &Machine, manager: &Manager) {
    // Folders of other packages, which are empty or missing on a Debian, and what ufw leaves behind
    // by itself.
    let others = "mkdir -p /usr/share/licenses && touch /usr/share/licenses/other && \
        for folder in /usr/share/icons/hicolor/*/apps; do touch $folder/other; done && \
        ufw route allow in on any0 && ufw route delete allow in on any0";
    machine.root(others).expect("as it is elsewhere");
    let before = inventory(machine);
    let left = || {
        let after = inventory(machine);
        let lost: Vec<_> = before.iter().filter(|line| !after.contains(line)).cloned().collect();
        assert!(lost.is_empty(), "lost {lost:?}");
        after.into_iter().filter(|line| !before.contains(line)).collect::<Vec<_>>()
    };
    let quiet = |command: &str| {
        let said = machine.root(&format!("{command} 2>&1")).unwrap_or_else(|e| panic!("{e}"));
        for word in ["warning", "error", "fail"] {
            assert!(!said.to_lowercase().contains(word), "{command}: {said}");
        }
        said
    };
    quiet(manager.install);

    // The firewall stands, and nothing else runs yet.
    let show = machine.root("/usr/lib/rcc/rcc-helper show").expect("show");
    assert!(show.starts_with("The firewall stands."), "{show}");
    let links = "readlink /usr/bin/rcc /usr/share/man/man1/rcc.1.gz /usr/share/bash-completion/completions/rcc";
    assert_eq!(machine.root(links).expect("links"), "rcc-sandbox\nrcc-sandbox.1.gz\nrcc-sandbox\n");
    assert_eq!(helper(machine), 0);
    let state = "systemctl is-enabled rcc-firewall.service rcc-whitelist-update.timer; \
        systemctl is-active rcc-firewall.service rcc-whitelist-update.timer; true";
    assert_eq!(machine.root(state).expect("units"), "enabled\nenabled\nactive\nactive\n");
    machine
        .root("systemd-analyze verify --man=no /usr/lib/systemd/system/rcc-*")
        .expect("no faults");
    machine.root("getent passwd rcc-resolver").expect("the resolver's user");
    assert_eq!(quiet(manager.verify), "", "every file as it was packed");

    // The first who asks starts it.
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    ann.call::<serde_json::Value>(&Call::Version).expect("activated by the bus");
    let first = helper(machine);
    assert_ne!(first, 0);
    let sandbox = machine.sandbox(&mut ann, &rules()).expect("a sandbox");
    sandbox.reach("allowed.example", 443).expect("what is allowed");
    walls_stand(&sandbox);
    let stream = super::held(&sandbox, world::SERVERS[0], PLAIN);

    // N11: upgraded while a sandbox runs. What the administrator changed stays as it is.
    machine
        .root("echo '# ours' >> /etc/rcc/network-whitelist.yaml && systemctl disable --now rcc-whitelist-update.timer")
        .expect("an administrator");
    quiet(manager.upgrade);
    wait_for(|| ![0, first].contains(&helper(machine))).expect("the new one runs");
    let program = format!("readlink /proc/{}/exe", helper(machine));
    assert_eq!(machine.root(&program).expect("its program").trim(), "/usr/lib/rcc/rcc-helper");
    assert_eq!(machine.root(manager.version).expect("version").trim(), manager.next);
    assert_eq!(machine.root(state).expect("units"), "enabled\ndisabled\nactive\ninactive\n");
    machine.root("tail -1 /etc/rcc/network-whitelist.yaml | grep -x '# ours'").expect("the list");
    assert!(super::echoes(&stream), "a connection goes on");
    wait_for(|| sandbox.reach("allowed.example", 443).is_ok())
        .expect("and the sandbox is connected");
    walls_stand(&sandbox);
    let mut again = machine.person(ANN, Seat::Here).expect("ann");
    let ids: Vec<_> = again.list().expect("list").iter().map(|one| one.id).collect();
    assert_eq!(ids, [sandbox.id]);
    machine.root("systemctl enable --now rcc-whitelist-update.timer").expect("enable");

    // Removed while a sandbox runs and somebody calls without a pause, with another firewall
    // opened: the sandbox is cut off, and the computer is as before, but for the
    // administrator's list and the user.
    machine.root("systemctl start rcc-setup@ufw.service").expect("open ufw");
    machine.root("grep -q rcc0 /etc/ufw/user.rules").expect("it is open");
    let said = while_somebody_calls(machine, manager.remove);
    assert!(sandbox.tcp(world::SERVERS[0], PLAIN).is_err(), "cut off");
    assert!(!super::echoes(&stream), "what was open, too");
    drop((ann, again));
    machine.root("! grep rcc0 /etc/ufw/user.rules").expect("ufw is closed again");
    let user = "getent passwd rcc-resolver && getent group rcc-resolver";
    let user = machine.root(user).expect("who stays, as is usual there");
    let mut user: Vec<_> = user.lines().map(str::to_owned).collect();
    user.sort();
    let mut expected = vec!["/etc/rcc".to_owned(), manager.kept.to_owned()];
    expected.extend(user.clone());
    expected.sort();
    assert_eq!(left(), expected, "{said}");

    // It can be installed once more, and removed without anything kept.
    machine.root(&format!("{} 2>&1", manager.install)).expect("again");
    assert_eq!(machine.root(state).expect("units"), "enabled\nenabled\nactive\nactive\n");
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    ann.call::<serde_json::Value>(&Call::Version).expect("activated by the bus");
    drop(ann);
    machine.root(&format!("({}) 2>&1", manager.purge)).expect("remove");
    assert_eq!(left(), user);
}
