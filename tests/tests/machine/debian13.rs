//! The package, as it is built here, on the next release of Debian.

use rcc_tests::people::{ANN, CAROL, PASSWORD};
use rcc_tests::protocol::Call;
use rcc_tests::{Machine, Release, Sandbox, Seat};

use super::package::inventory;
use super::{helper, install, rules, walls_stand, with_packages};

#[test]
fn debian_13_has_the_package_from_install_to_purge() {
    let Some(mut machine) = with_packages(|| Machine::of(Release::Debian13)) else { return };
    let release = machine.root("cat /etc/os-release").expect("a release");
    assert!(release.contains("VERSION_ID=\"13\""), "{release}");
    let before = inventory(&machine);
    install(&machine, "this.deb");
    let units = "systemd-analyze verify --man=no /usr/lib/systemd/system/rcc-* && dpkg --verify rcc-sandbox";
    machine.root(units).expect("units without faults, files as packed");
    let missing = "ldd /usr/bin/rcc-desktop /usr/bin/rcc-sandbox /usr/lib/rcc/rcc-helper | grep 'not found' || true";
    assert_eq!(machine.root(missing).expect("ldd"), "", "libraries of the window, too");
    assert_eq!(helper(&machine), 0);
    // The first who asks starts the service, with its restrictions.
    let said = machine.user(ANN, "rcc doctor || true").expect("the command line");
    assert!(said.contains("The firewall's namespace stands"), "{said}");
    assert_ne!(helper(&machine), 0);
    let works = |machine: &Machine, sandbox: &Sandbox| {
        sandbox.reach("allowed.example", 443).expect("what is allowed");
        walls_stand(sandbox);
        let log = machine.root("journalctl -b -u rcc-helper -o cat --no-pager").expect("journal");
        assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
    };
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    let sandbox = machine.sandbox(&mut ann, &rules()).expect("a sandbox");
    works(&machine, &sandbox);
    let bad: Vec<_> =
        ann.diagnose().expect("diagnose").into_iter().filter(|one| one.state == "bad").collect();
    assert!(bad.is_empty(), "{bad:?}");

    // An administrator's password, right and wrong, at this release's polkit.
    for (password, admitted) in [("wrong", false), (PASSWORD, true)] {
        ann.answer_prompts(CAROL.1, Some(password)).expect("an agent");
        let all = ann.call::<Vec<rcc_dbus::AttachmentInfo>>(&Call::List(true));
        assert_eq!(all.is_ok(), admitted, "{all:?}");
        assert_eq!(ann.prompts().expect("prompts").len(), 1, "asked once");
    }
    drop(ann);

    // N10: after a reboot the gate stands before anybody logs in.
    machine.reboot().expect("reboot");
    let show = machine.root("/usr/lib/rcc/rcc-helper show").expect("show");
    assert!(show.starts_with("The firewall stands.") && show.contains("No sandbox"), "{show}");
    assert_eq!(helper(&machine), 0);
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    let sandbox = machine.sandbox(&mut ann, &rules()).expect("a sandbox");
    works(&machine, &sandbox);
    drop(ann);

    machine.root("DEBIAN_FRONTEND=noninteractive apt-get purge -y rcc-sandbox").expect("purge");
    let after = inventory(&machine);
    let left: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    let lost: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    assert!(left.is_empty() && lost.is_empty(), "left {left:?}, lost {lost:?}");
}
