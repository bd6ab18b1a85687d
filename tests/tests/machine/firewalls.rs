//! Other firewalls of the computer: what they do to sandboxes, what opens them,
//! and that nothing they do opens anything else (N12).

use rcc_tests::people::{ANN, CAROL, PASSWORD};
use rcc_tests::protocol::Call;
use rcc_tests::{Actor, Machine, Release, Sandbox, Seat, wait_for, world};

use super::{boot, install, rules, walls_stand};

/// The text of a line of `Diagnose`, with its state.
pub(super) fn line(ann: &mut Actor, name: &str) -> String {
    let checks = ann.diagnose().expect("diagnose");
    let line = checks.into_iter().find(|check| check.name == name);
    line.map_or_else(String::new, |check| format!("{}: {}", check.state, check.text))
}

pub(super) fn open(sandbox: &Sandbox) -> bool {
    let open = sandbox.tcp(world::SERVERS[0], 443).is_ok();
    walls_stand(sandbox);
    open
}

struct Case {
    word: &'static str,
    /// Turns it on.
    on: &'static str,
    /// What somebody does to it later.
    again: &'static str,
    off: &'static str,
    /// What is left of ours in it.
    ours: &'static str,
}

const CASES: [Case; 2] = [
    Case {
        word: "firewalld",
        on: "systemctl start firewalld",
        again: "firewall-cmd --reload",
        off: "systemctl stop firewalld",
        ours: "firewall-cmd --permanent --get-zones --get-policies 2>/dev/null | grep -w rcc; firewall-cmd --permanent --get-policies | grep rcc",
    },
    Case {
        word: "ufw",
        on: "ufw --force enable",
        again: "ufw reload",
        off: "ufw --force disable && nft flush ruleset",
        ours: "grep rcc0 /etc/ufw/*.rules",
    },
];

#[test]
fn n12_other_firewalls_are_named_opened_and_closed_again() {
    other_firewalls_are_named_opened_and_closed_again(Release::Own);
}

#[test]
fn n12_on_debian_13_other_firewalls_are_named_opened_and_closed_again() {
    other_firewalls_are_named_opened_and_closed_again(Release::Debian13);
}

fn other_firewalls_are_named_opened_and_closed_again(release: Release) {
    let Some(machine) = boot(release) else { return };
    install(&machine, "this.deb");
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    let sandbox = machine.sandbox(&mut ann, &rules()).expect("a sandbox");
    sandbox.reach("allowed.example", 443).expect("it works");
    assert!(line(&mut ann, "host-firewall").starts_with("ok: No other firewall"));
    ann.answer_prompts(CAROL.1, Some(PASSWORD)).expect("an agent");
    for (count, case) in CASES.iter().enumerate() {
        let word = case.word;
        machine.root(case.on).unwrap_or_else(|error| panic!("{word}: {error}"));
        wait_for(|| !open(&sandbox))
            .unwrap_or_else(|_| panic!("{word} drops what it does not know"));
        let said = line(&mut ann, "host-firewall");
        assert!(said.starts_with(&format!("bad: {word} ")) && said.contains("rcc setup"), "{said}");
        ann.call::<()>(&Call::Setup(vec![word.to_owned()]))
            .unwrap_or_else(|error| panic!("{word}: {error}"));
        let prompts = ann.prompts().expect("prompts");
        assert_eq!(prompts.len(), count + 1, "asked once");
        assert!(
            prompts[count].0.ends_with(".setup") && prompts[count].1.to_lowercase().contains(word),
            "{prompts:?}"
        );
        assert!(open(&sandbox), "{word} lets sandboxes through");
        assert!(
            line(&mut ann, "host-firewall").starts_with("ok: "),
            "{}",
            line(&mut ann, "host-firewall")
        );
        machine.root(case.again).expect(word);
        wait_for(|| open(&sandbox))
            .unwrap_or_else(|_| panic!("{word} lets them through after a reload"));
        sandbox.reach("allowed.example", 443).expect("and names are answered");
        machine.root("nft list table inet rcc").expect("our table stands");
        machine.root(case.off).expect(word);
    }

    // A table of the administrator's own: named, in words, and left alone.
    let own = "table inet mine { chain f { type filter hook forward priority 0; policy drop; }; chain o { type filter hook output priority 0; policy drop; oifname != \"nothing\" accept; }; }";
    machine.root(&format!("nft '{own}'")).expect("a table");
    assert!(!open(&sandbox));
    let said = line(&mut ann, "host-firewall");
    assert!(said.starts_with("bad: Table inet mine "), "{said}");
    assert!(line(&mut ann, "host-output").contains("inet mine"));
    let passage = "nft insert rule inet mine f iifname rcc0 accept && \
        nft insert rule inet mine f oifname rcc0 ct state established,related accept";
    machine.root(passage).expect("what the words say");
    assert!(open(&sandbox), "and it helps");

    // N12: a reload of nftables throws everything away, ours too, which is back at once.
    machine
        .root("printf '#!/usr/sbin/nft -f\\nflush ruleset\\n' > /etc/nftables.conf && systemctl start nftables && systemctl reload nftables")
        .expect("reload");
    wait_for(|| machine.root("nft list table inet rcc").is_ok()).expect("it is back");
    assert!(open(&sandbox));

    refused_without_password(&machine);
    // Removal closes what Setup opened.
    machine.root("systemctl start firewalld").expect("firewalld");
    machine.root("DEBIAN_FRONTEND=noninteractive apt-get purge -y rcc-sandbox").expect("purge");
    for case in &CASES {
        let left = machine.root(&format!("({}) || true", case.ours)).expect("look");
        assert_eq!(left.trim(), "", "{}", case.word);
    }
}

/// Nobody sets anything up without a password, nor with words that are no step.
fn refused_without_password(machine: &Machine) {
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    for (steps, code) in [
        (vec!["boot"], "NotAuthorized"),
        (vec!["firewalld", "../../evil"], "InvalidArgument"),
        (vec![], "InvalidArgument"),
    ] {
        let steps = steps.into_iter().map(str::to_owned).collect();
        let error = ann.call::<()>(&Call::Setup(steps)).expect_err("refused").to_string();
        assert!(error.starts_with(&format!("{code}:")), "{error}");
    }
    // With one: the units are enabled again.
    machine
        .root("systemctl disable --now rcc-firewall.service rcc-whitelist-update.timer")
        .expect("disable");
    ann.answer_prompts(CAROL.1, Some(PASSWORD)).expect("an agent");
    ann.call::<()>(&Call::Setup(vec!["boot".into()])).expect("boot");
    let state = "systemctl is-enabled rcc-firewall.service rcc-whitelist-update.timer && systemctl is-active rcc-firewall.service rcc-whitelist-update.timer";
    assert_eq!(machine.root(state).expect("state"), "enabled\nenabled\nactive\nactive\n");
}
