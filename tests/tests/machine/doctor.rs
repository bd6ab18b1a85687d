//! What `rcc doctor` says of a firewall that is broken, and that what it says mends it.

use rcc_tests::people::ANN;
use rcc_tests::{Machine, Release, Seat, world};
use serde_json::Value;

use super::{boot, install, rules};

const LIST: &str = "/etc/rcc/network-whitelist.yaml";

struct Case {
    /// The line's name, after `firewall: `.
    name: &'static str,
    /// Breaks it.
    broken: String,
    /// A word of the line then.
    says: &'static str,
    /// What a person does whom the hint tells no command; empty where it does.
    mended: String,
}

fn cases() -> Vec<Case> {
    let case = |name, broken: &str, says, mended: &str| Case {
        name,
        broken: broken.to_owned(),
        says,
        mended: mended.to_owned(),
    };
    let servers = format!("echo nameserver {} > /etc/resolv.conf", world::ROUTER);
    let kept = format!("cp {LIST} /tmp/list");
    let back = format!("cp /tmp/list {LIST}");
    vec![
        case("gate", "ip -n rcc link set uplink0 down", "is cut", ""),
        case("host-table", "ip link set rcc0 down", "is missing", ""),
        case("resolver", "systemctl stop rcc-helper && userdel rcc-resolver", "does not run", ""),
        case("upstream", ": > /etc/resolv.conf", "names no name server", &servers),
        // Nobody has this address (RFC 5737).
        case(
            "upstream",
            "echo nameserver 192.0.2.77 > /etc/resolv.conf",
            "did not answer",
            &servers,
        ),
        case("policy", &format!("{kept} && echo nonsense: 1 >> {LIST}"), "line ", &back),
        case(
            "uplink",
            &format!("{kept} && printf 'version: 1\\ndefaults:\\n  uplink: wg9\\n' > {LIST}"),
            "wg9",
            &back,
        ),
    ]
}

/// State, text and hint of a line of doctor's about the firewall.
fn line(machine: &Machine, name: &str) -> [String; 3] {
    let said = machine.user(ANN, "rcc doctor --json || true").expect("doctor");
    let lines: Vec<Value> = serde_json::from_str(&said).expect("JSON");
    let line = lines.iter().find(|line| line["name"] == format!("firewall: {name}"));
    let word = |key: &str| {
        let value = line.map(|line| line[key].as_str().unwrap_or_default());
        value.unwrap_or_default().to_owned()
    };
    [word("state"), word("text"), word("hint")]
}

#[test]
fn what_doctor_says_mends_the_firewall() {
    what_doctor_says_mends(Release::Own);
}

#[test]
fn on_debian_13_what_doctor_says_mends_the_firewall() {
    what_doctor_says_mends(Release::Debian13);
}

fn what_doctor_says_mends(release: Release) {
    let Some(machine) = boot(release) else { return };
    install(&machine, "this.deb");
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    for Case { name, broken, says, mended } in cases() {
        let before = line(&machine, name);
        assert_ne!(before[0], "bad", "{name}: {before:?}");
        machine.root(&broken).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Edits of the list are seen within a second.
        let [_, text, hint] = until(&machine, name, "bad");
        assert!(text.contains(says), "{name}: {text}");
        let is_command = |word: &&str| word.starts_with("sudo ") || word.starts_with("rcc ");
        let command = hint.split('`').find(is_command).unwrap_or_default();
        if mended.is_empty() {
            assert!(command.starts_with("sudo "), "{name}: {hint}");
            machine.root(&command.replace("sudo ", "")).expect(command);
        } else {
            assert!(hint.contains(if name == "upstream" { "/etc/resolv.conf" } else { LIST }));
            assert_eq!(command.is_empty(), name != "policy", "{name}: {hint}");
            if !command.is_empty() {
                let said = machine.user(ANN, &format!("{command} 2>&1; echo code $?"));
                let said = said.expect("the command");
                assert!(said.contains("line ") && said.ends_with("code 125\n"), "{said}");
            }
            machine.root(&mended).expect(name);
        }
        let after = until(&machine, name, &before[0]);
        assert_eq!(after[2], "", "{name}: nothing is left to do");
        // And not only the line says so.
        let sandbox = machine.sandbox(&mut ann, &rules()).expect("a sandbox");
        sandbox.reach("allowed.example", 443).unwrap_or_else(|error| panic!("{name}: {error}"));
        ann.detach(sandbox.id).expect("detach");
    }
}

fn until(machine: &Machine, name: &str, state: &str) -> [String; 3] {
    let mut said = line(machine, name);
    for _ in 0..20 {
        if said[0] == state {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
        said = line(machine, name);
    }
    assert_eq!(said[0], state, "{name}: {said:?}");
    said
}
