//! What lasts while the service does not: the DNS sockets of sandboxes, which
//! systemd keeps.

use std::time::Duration;

use rcc_tests::people::ANN;
use rcc_tests::{Machine, Release, Sandbox, Seat, wait_for, world};

use super::{boot, helper, install, rules, walls_stand};

/// The service comes back late enough for a question that nobody can answer yet.
const LATE: &str = "mkdir -p /etc/systemd/system/rcc-helper.service.d && \
    printf '[Service]\\nRestartSec=1500ms\\nNotifyAccess=all\\n' > /etc/systemd/system/rcc-helper.service.d/late.conf && \
    systemctl daemon-reload";

/// Ends the service and asks a name while it is away.
fn ask_while_away(machine: &Machine, sandbox: &Sandbox) -> Result<(), String> {
    let before = helper(machine);
    machine.root(&format!("kill -KILL {before}")).expect("kill");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(helper(machine), 0, "the service is away");
    // One question, sent once.
    let answer = sandbox.resolve("allowed.example").map(drop);
    wait_for(|| ![0, before].contains(&helper(machine))).expect("it comes back");
    answer
}

#[test]
fn n11_questions_wait_while_the_service_is_away() {
    questions_wait_while_the_service_is_away(Release::Own);
}

#[test]
fn n11_on_debian_13_questions_wait_while_the_service_is_away() {
    questions_wait_while_the_service_is_away(Release::Debian13);
}

fn questions_wait_while_the_service_is_away(release: Release) {
    let Some(machine) = boot(release) else { return };
    install(&machine, "this.deb");
    machine.root(LATE).expect("a later restart");
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    let sandbox = machine.sandbox(&mut ann, &rules()).expect("a sandbox");
    let second = machine.sandbox(&mut ann, &rules()).expect("another");
    sandbox.reach("allowed.example", 443).expect("it works");

    ask_while_away(&machine, &sandbox).expect("the question waited");
    assert_eq!(kept(&machine), "4", "two sockets for each sandbox");
    // A sandbox that is gone has none, also one that went while nobody looked.
    ann.detach(second.id).expect("detach");
    wait_for(|| kept(&machine) == "2").expect("its sockets are closed");

    // Sockets that are not what their names say are not used, and not kept: the
    // right name with a wrong socket, and a name of nobody's.
    let plant = format!(
        "import array, os, socket
def bad(port):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(('127.0.0.1', port))
    return os.dup(one.fileno())
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.connect(os.environ['NOTIFY_SOCKET'])
def say(text, fds=()):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
    out.sendmsg([text.encode()], rights)
say('FDSTOREREMOVE=1\\nFDNAME=udp-{id}')
say('FDSTORE=1\\nFDNAME=udp-{id}\\nFDPOLL=0', [bad(5353)])
say('FDSTORE=1\\nFDNAME=udp-4000\\nFDPOLL=0', [bad(5354)])
say('FDSTORE=1\\nFDNAME=nonsense\\nFDPOLL=0', [bad(5355)])
import time; time.sleep(0.3)",
        id = sandbox.id
    );
    std::fs::write(machine.shared().join("plant.py"), plant).expect("write");
    machine
        .root(
            "printf '[Service]\\nExecStartPost=/usr/bin/python3 /opt/rcc-test/plant.py\\n' \
             > /etc/systemd/system/rcc-helper.service.d/plant.conf && systemctl daemon-reload && \
             systemctl restart rcc-helper.service && rm /etc/systemd/system/rcc-helper.service.d/plant.conf && \
             systemctl daemon-reload",
        )
        .expect("plant");
    wait_for(|| kept(&machine) == "4").expect("planted");
    let _ = ask_while_away(&machine, &sandbox);
    wait_for(|| sandbox.reach("allowed.example", 443).is_ok()).expect("names are answered");
    assert_eq!(kept(&machine), "2", "the wrong ones are gone, the right ones made anew");
    let log = machine.root("journalctl -b -u rcc-helper --no-pager").expect("journal");
    assert!(log.contains("a kept socket is not used"), "{log}");
    ask_while_away(&machine, &sandbox).expect("and they last");
    walls_stand(&sandbox);
}

#[test]
fn n11_a_service_that_ends_again_and_again_still_ends_what_is_open_for_a_time() {
    what_is_open_for_a_time_ends(Release::Own);
}

#[test]
fn n11_on_debian_13_a_service_that_ends_again_and_again_still_ends_what_is_open_for_a_time() {
    what_is_open_for_a_time_ends(Release::Debian13);
}

fn what_is_open_for_a_time_ends(release: Release) {
    let Some(machine) = boot(release) else { return };
    install(&machine, "this.deb");
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    let sandbox = machine.sandbox(&mut ann, &rules()).expect("a sandbox");
    let elsewhere = world::SERVERS[1];
    assert!(sandbox.tcp(elsewhere, 443).is_err());
    ann.open_internet(sandbox.id, 12).expect("open");
    sandbox.tcp(elsewhere, 443).expect("it is open");
    // More often than systemd starts others again in ten seconds. Nobody calls it meanwhile.
    let mut killed = 0;
    for _ in 0..12 {
        let before = helper(&machine);
        if before == 0 {
            break;
        }
        machine.root(&format!("kill -KILL {before}")).expect("kill");
        killed += 1;
        let _ = wait_for(|| ![0, before].contains(&helper(&machine)));
    }
    wait_for(|| sandbox.tcp(elsewhere, 443).is_err())
        .unwrap_or_else(|error| panic!("still open after {killed} kills: {error}"));
    assert_eq!(killed, 12, "it came back each time");
    walls_stand(&sandbox);
}

/// Descriptors that systemd keeps for the service.
fn kept(machine: &Machine) -> String {
    let said = machine.root("systemctl show -P NFileDescriptorStore rcc-helper.service");
    said.expect("systemctl").trim().to_owned()
}
