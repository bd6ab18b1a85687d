//! Who may do what, with polkit, logind and a person who types passwords.

use std::time::Duration;

use rcc_tests::people::{ANN, BOB, CAROL, PASSWORD};
use rcc_tests::protocol::Call;
use rcc_tests::{Actor, Seat};

use super::{boot, install, rules};

#[test]
fn polkit_admits_and_refuses_on_a_real_system() {
    let Some(machine) = boot() else { return };
    install(&machine, "this.deb");
    let refused = |result: anyhow::Result<serde_json::Value>, code: &str| {
        let error = result.expect_err("refused").to_string();
        assert!(error.starts_with(&format!("{code}:")), "{error}");
    };

    // attach, control-own, status, refresh: everybody, at the screen and over ssh.
    let mut bob = machine.person(BOB, Seat::Remote).expect("bob");
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    for (person, refresh) in [(&mut ann, true), (&mut bob, true)] {
        let sandbox = machine.sandbox(person, &rules()).expect("attach");
        person.set_rules(sandbox.id, &[], 0).expect("set rules");
        person.set_connected(sandbox.id, false).expect("disconnect");
        assert_eq!(person.list().expect("list").len(), 1);
        assert!(person.diagnose().expect("diagnose").iter().all(|check| check.state != "bad"));
        if refresh {
            person.call::<()>(&Call::Refresh).expect("refresh");
        }
    }
    // A daemon's account has no sandboxes (H9).
    let mut daemon = machine.daemon(1).expect("daemon");
    let pid = daemon.make_namespace().expect("a namespace");
    refused(daemon.call(&Call::Attach(pid, vec![])), "CallerRefused");

    // control-others: an administrator's password, each time.
    refused(ann.call(&Call::List(true)), "NotAuthorized");
    let asks = |person: &mut Actor, user: (u32, &str), password: Option<&str>| {
        person.answer_prompts(user.1, password).expect("an agent");
    };
    asks(&mut ann, CAROL, Some("wrong"));
    refused(ann.call(&Call::List(true)), "NotAuthorized");
    asks(&mut ann, CAROL, None);
    refused(ann.call(&Call::List(true)), "NotAuthorized");
    // Her own password is not an administrator's.
    asks(&mut ann, ANN, Some(PASSWORD));
    refused(ann.call(&Call::List(true)), "NotAuthorized");
    asks(&mut ann, CAROL, Some(PASSWORD));
    for times in 1..=2 {
        let all: Vec<rcc_dbus::AttachmentInfo> = ann.call(&Call::List(true)).expect("carol agrees");
        assert_eq!(all.len(), 2);
        assert_eq!(ann.prompts().expect("prompts").len(), times, "asked each time");
    }

    // edit-policy: the prompt says what will change; widening asks each time,
    // narrowing keeps the answer for a while.
    let (document, version): (String, String) = ann.call(&Call::GetPolicy).expect("policy");
    let wider = format!("{document}  - host: new.example\n    ports: [443]\n");
    asks(&mut ann, CAROL, None);
    refused(ann.call(&Call::ReplacePolicy(wider.clone(), version.clone())), "NotAuthorized");
    let prompts = ann.prompts().expect("prompts");
    assert_eq!(prompts.len(), 1);
    assert!(
        prompts[0].0.ends_with("edit-policy-widen") && prompts[0].1.contains("new.example"),
        "{prompts:?}"
    );
    assert_eq!(
        machine
            .root("grep -c new.example /etc/rcc/network-whitelist.yaml || true")
            .expect("grep")
            .trim(),
        "0"
    );
    asks(&mut ann, CAROL, Some(PASSWORD));
    let version: String = ann.call(&Call::ReplacePolicy(wider.clone(), version)).expect("wider");
    let narrower = "version: 1\n";
    let version: String = ann.call(&Call::ReplacePolicy(document.clone(), version)).expect("back");
    let _: String = ann.call(&Call::ReplacePolicy(narrower.to_owned(), version)).expect("narrower");
    let asked: Vec<_> =
        ann.prompts().expect("prompts").into_iter().map(|(action, _)| action).collect();
    assert_eq!(
        asked,
        ["dev.rcc.helper.edit-policy-widen", "dev.rcc.helper.edit-policy-narrow"],
        "kept for the third"
    );

    // H4: a prompt that stays open holds up nobody.
    let (_, version): (String, String) = ann.call(&Call::GetPolicy).expect("policy");
    asks(&mut ann, CAROL, Some("wait"));
    ann.send(&Call::ReplacePolicy(wider, version)).expect("asked");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(bob.list().expect("others are served").len(), 1);
    drop(ann);
    bob.call::<serde_json::Value>(&Call::GetPolicy).expect("and the service goes on");
}
