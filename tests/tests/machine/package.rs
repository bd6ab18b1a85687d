//! From install to purge, and beside another package's `rcc`.

use std::path::Path;
use std::process::Command;

use rcc_tests::people::ANN;
use rcc_tests::protocol::Call;
use rcc_tests::{Machine, Release, Sandbox, Seat, Skip, built, skip, wait_for, world};

use super::{PLAIN, boot, helper, install, packages, rules, walls_stand};

/// Everything on the machine that a package could leave behind.
pub(super) fn inventory(machine: &Machine) -> Vec<String> {
    let files = "find / -xdev \\( -path /proc -o -path /sys -o -path /tmp -o -path /var/lib/dpkg -o -path /var/lib/apt \
         -o -path /var/lib/rpm -o -path /var/lib/pacman -o -path /var/cache -o -path /var/log -o -path /opt/rcc-test -o -path /home \
         -o -path /run/systemd -o -path /run/log -o -path /run/user -o -path /root -o -path /var/tmp \\) -prune -o -print";
    let rest = "getent passwd; getent group; ip rule; nft list tables; ip -o link | cut -d: -f2; ls /run/netns; \
         sysctl -a 2>/dev/null | grep '[.]forwarding ='; systemctl list-unit-files --no-legend | cut -d' ' -f1; ls /run";
    let said = machine.root(&format!("{files}; {rest}")).expect("look");
    let mut lines: Vec<_> = said.lines().map(str::to_owned).collect();
    // Backups of what userdel and useradd change; a note of the console's own program, which
    // comes some time after the start.
    lines.retain(|line| {
        !["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "agetty.reload"]
            .contains(&line.as_str())
    });
    lines.sort();
    lines
}

/// Runs a command as root while the service is called without a pause, and answers what the
/// command wrote.
pub(super) fn while_somebody_calls(machine: &Machine, command: &str) -> String {
    let calling = "for turn in $(seq 400); do \
         busctl --system call dev.rcc.Helper1 / org.freedesktop.DBus.Peer Ping; sleep 0.01; done";
    let both = format!("({calling}) >/dev/null 2>&1 & {command} 2>&1; end=$?; wait; exit $end");
    machine.root(&both).unwrap_or_else(|error| panic!("{command}: {error}"))
}

#[test]
fn the_package_serves_from_install_to_purge() {
    from_install_to_purge(Release::Own);
}

#[test]
fn on_debian_13_the_package_serves_from_install_to_purge() {
    from_install_to_purge(Release::Debian13);
}

fn from_install_to_purge(release: Release) {
    let Some(mut machine) = boot(release) else { return };
    let id = machine.root("cat /etc/os-release").expect("a release");
    assert!(release != Release::Debian13 || id.contains("VERSION_ID=\"13\""), "{id}");
    // Where userdel leaves groups to themselves.
    machine
        .root("sed -i 's/^USERGROUPS_ENAB.*/USERGROUPS_ENAB no/' /etc/login.defs && grep USERGROUPS_ENAB.no /etc/login.defs")
        .expect("a setting");
    let before = inventory(&machine);
    install(&machine, "this.deb");

    // The firewall stands, and nothing else runs yet.
    let show = machine.root("/usr/lib/rcc/rcc-helper show").expect("show");
    assert!(show.starts_with("The firewall stands."), "{show}");
    assert_eq!(machine.root("readlink /usr/bin/rcc").expect("a link").trim(), "rcc-sandbox");
    assert_eq!(helper(&machine), 0);
    let enabled = "systemctl is-enabled rcc-firewall.service rcc-whitelist-update.timer";
    assert_eq!(machine.root(enabled).expect("enabled"), "enabled\nenabled\n");
    machine
        .root("systemctl is-active rcc-whitelist-update.timer && systemd-analyze verify --man=no /usr/lib/systemd/system/rcc-*")
        .expect("units without faults");
    let exposed = "systemd-analyze security --no-pager --offline=yes --threshold=30 /usr/lib/systemd/system/rcc-helper.service";
    machine.root(exposed).expect("an exposure of 3.0 at most");
    machine
        .root("dpkg --verify rcc-sandbox && test -s /etc/rcc/network-whitelist.yaml")
        .expect("whole");
    let missing = "ldd /usr/bin/rcc-desktop /usr/bin/rcc-sandbox /usr/lib/rcc/rcc-helper | grep 'not found' || true";
    assert_eq!(machine.root(missing).expect("ldd"), "", "libraries of the window, too");

    // The first who asks starts it.
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    ann.call::<serde_json::Value>(&Call::Version).expect("activated by the bus");
    let first = helper(&machine);
    assert_ne!(first, 0);
    let sandbox = machine.sandbox(&mut ann, &rules()).expect("a sandbox");
    let works = |sandbox: &Sandbox| {
        sandbox.reach("allowed.example", 443).expect("what is allowed");
        walls_stand(sandbox);
    };
    works(&sandbox);
    let bad: Vec<_> =
        ann.diagnose().expect("diagnose").into_iter().filter(|one| one.state == "bad").collect();
    assert!(bad.is_empty(), "{bad:?}");

    // N11: killed, and back with the same sandboxes.
    machine.root(&format!("kill -KILL {first}")).expect("kill");
    wait_for(|| ![0, first].contains(&helper(&machine))).expect("systemd starts it again");
    wait_for(|| sandbox.reach("allowed.example", 443).is_ok()).expect("names come back");
    walls_stand(&sandbox);

    // N11: upgraded while a sandbox runs.
    let second = helper(&machine);
    install(&machine, "next.deb");
    wait_for(|| ![0, second].contains(&helper(&machine))).expect("the new one runs");
    wait_for(|| sandbox.reach("allowed.example", 443).is_ok())
        .expect("and the sandbox is connected");
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    assert_eq!(
        ann.list().expect("list").iter().map(|one| one.id).collect::<Vec<_>>(),
        [sandbox.id]
    );

    // Stopped: no rule goes.
    machine.root("systemctl stop rcc-helper.service").expect("stop");
    walls_stand(&sandbox);
    let address = sandbox.tcp(world::SERVERS[0], PLAIN);
    assert!(address.is_ok(), "what was open before goes on: {address:?}");

    // N12: something takes the host's table away while nobody runs; the timer's
    // service puts it back.
    machine
        .root("nft flush ruleset && systemctl start rcc-whitelist-update.service")
        .expect("repair");
    machine.root("nft list table inet rcc").expect("it stands again");
    walls_stand(&sandbox);
    drop(ann);

    // N10: after a reboot the gate stands before anybody logs in.
    machine.reboot().expect("reboot");
    let show = machine.root("/usr/lib/rcc/rcc-helper show").expect("show");
    assert!(show.starts_with("The firewall stands.") && show.contains("No sandbox"), "{show}");
    assert_eq!(helper(&machine), 0);
    assert_eq!(machine.root("loginctl list-sessions --no-legend").expect("sessions"), "");
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    let sandbox = machine.sandbox(&mut ann, &rules()).expect("a sandbox");
    works(&sandbox);
    let log = machine.root("journalctl -b -u rcc-helper -o cat --no-pager").expect("journal");
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");

    // Removed while a sandbox runs and somebody calls without a pause: it is cut off,
    // and the computer is as before, but for the administrator's list. Purged: without
    // that, too.
    while_somebody_calls(&machine, "DEBIAN_FRONTEND=noninteractive apt-get remove -y rcc-sandbox");
    assert!(sandbox.tcp(world::SERVERS[0], PLAIN).is_err(), "cut off");
    drop(ann);
    let after = inventory(&machine);
    let left: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    // Which units were on is kept for the next installation, as of every package.
    let stays = ["/etc/", "/var/lib/systemd/deb-systemd-helper-enabled/", "rcc-resolver:"];
    assert!(left.iter().all(|line| stays.iter().any(|start| line.starts_with(start))), "{left:?}");
    assert!(left.iter().any(|line| line.contains("/etc/rcc/network-whitelist.yaml")), "{left:?}");
    machine.root("DEBIAN_FRONTEND=noninteractive apt-get purge -y rcc-sandbox").expect("purge");
    let after = inventory(&machine);
    let left: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    let lost: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    assert!(left.is_empty() && lost.is_empty(), "left {left:?}, lost {lost:?}");
}

#[test]
fn beside_qtchooser_and_with_podman() {
    beside_qtchooser_and_podman(Release::Own);
}

#[test]
fn on_debian_13_beside_qtchooser_and_with_podman() {
    beside_qtchooser_and_podman(Release::Debian13);
}

fn beside_qtchooser_and_podman(release: Release) {
    let Some(machine) = boot(release) else { return };
    // Qt's first: the name is its.
    machine.root("dpkg -i /opt/aside/qtchooser_*.deb").expect("qtchooser");
    install(&machine, "this.deb");
    let owner = "dpkg -S /usr/bin/rcc";
    assert!(machine.root(owner).expect("owned").starts_with("qtchooser:"));
    machine.root("rcc-sandbox --version && man -w rcc-sandbox 2>/dev/null || test -s /usr/share/man/man1/rcc-sandbox.1.gz").expect("ours");

    // What doctor says of such a computer: everything that a package brings is there.
    let said = machine.user(ANN, "rcc-sandbox doctor --json || true").expect("doctor");
    let lines: Vec<serde_json::Value> = serde_json::from_str(&said).expect("JSON");
    let state = |name: &str| {
        let line = lines.iter().find(|line| line["name"] == name);
        let line = line.unwrap_or_else(|| panic!("{name}: {said}"));
        (line["state"].as_str().unwrap_or_default(), line["text"].as_str().unwrap_or_default())
    };
    for name in ["engine", "ids", "namespaces", "inside", "versions", "boot", "disk"] {
        assert_eq!(state(name).0, "ok", "{name}: {}", state(name).1);
    }
    for name in ["gate", "host-table", "resolver", "upstream", "host-firewall"] {
        assert_eq!(state(&format!("firewall: {name}")).0, "ok");
    }
    assert!(state("name").1.contains("rcc-sandbox"), "{:?}", state("name"));
    assert_eq!(state("logout").0, "note");
    let report = machine.user(ANN, "rcc-sandbox doctor --report < /dev/null || true");
    let report = report.expect("a report");
    assert!(report.contains("Debian") && !report.contains("/home/ann"), "{report}");

    // The real command line, a real container, the real firewall.
    let image = "mkdir -p t/bin && cp /bin/busybox t/bin/ && for a in sh cat ls sleep nc id; do ln -s busybox t/bin/$a; done \
        && tar -C t -c . | podman import -q - tiny";
    machine.user(ANN, image).expect("an image");
    let project = "mkdir -p ~/project && cd ~/project && ";
    let run = |what: &str| machine.user(ANN, &format!("{project} rcc-sandbox {what}"));
    run("run --yes --image localhost/tiny -- sh -c 'echo made inside > file'")
        .expect("a container");
    assert_eq!(machine.user(ANN, "cat ~/project/file").expect("read"), "made inside\n");
    let greeting = |host: &str, port: u16| {
        run(&format!("run --yes --image localhost/tiny -- sh -c 'sleep 2 | nc {host} {port}'"))
    };
    assert!(greeting("allowed.example", 443).is_err(), "not allowed yet");
    run("allow allowed.example").expect("allow");
    let said = greeting("allowed.example", 443).expect("allowed");
    assert!(said.contains("from "), "{said}");
    let log = run("log").expect("log");
    assert!(log.contains("allowed.example"), "{log}");
    run("stop").expect("stop");

    machine.root("DEBIAN_FRONTEND=noninteractive apt-get purge -y rcc-sandbox").expect("purge");
    assert!(machine.root(owner).expect("owned").starts_with("qtchooser:"));

    // The other way round: ours first, then Qt's takes the name.
    machine.root("dpkg -P qtchooser").expect("away");
    install(&machine, "this.deb");
    assert_eq!(machine.root("readlink /usr/bin/rcc").expect("link").trim(), "rcc-sandbox");
    machine.root("dpkg -i /opt/aside/qtchooser_*.deb").expect("qtchooser");
    machine.root("DEBIAN_FRONTEND=noninteractive apt-get purge -y rcc-sandbox").expect("purge");
    machine.root("test -e /usr/bin/rcc && dpkg --verify qtchooser").expect("Qt's is whole");
}

#[test]
fn the_package_is_as_debian_wants_it() {
    for program in ["xtask", "rcc", "rcc-helper", "rcc-desktop"] {
        if let Err(error) = built(program) {
            return skip(&Skip(error.to_string()));
        }
    }
    let package = packages()[0].clone();
    let tools: [(&str, &[&str]); 3] = [
        ("lintian", &["--fail-on", "error", "--tag-display-limit", "0", "--allow-root"]),
        ("desktop-file-validate", &["--no-hints"]),
        ("appstreamcli", &["validate", "--no-net"]),
    ];
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/desktop");
    let subjects = [
        package,
        project.join("dev.rcc.Desktop.desktop"),
        project.join("dev.rcc.Desktop.metainfo.xml"),
    ];
    for ((tool, arguments), subject) in tools.into_iter().zip(subjects) {
        match Command::new(tool).args(arguments).arg(&subject).output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success(), "{tool}: {said}");
            }
            Err(error) => skip(&Skip(format!("{tool} cannot be run: {error}"))),
        }
    }
}
