//! Who may do what, with polkit, logind and a person who types passwords.

use std::time::Duration;

use rcc_tests::people::{ANN, BOB, CAROL, PASSWORD};
use rcc_tests::protocol::Call;
use rcc_tests::{Actor, Machine, Release, Seat};
use serde_json::Value;

use super::{boot, install, rules};

/// The actions and who may do them: what administrators write their own rules from.
const FILE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../polkit/dev.rcc.helper.policy"));

/// An action of that file.
struct Row {
    action: &'static str,
    /// What the file says to who is at no screen, at one that somebody else uses now, and
    /// at one in use.
    defaults: [&'static str; 3],
    /// Something that needs it.
    call: fn(&mut Asker) -> anyhow::Result<Value>,
    /// The code of the refusal.
    refusal: &'static str,
}

/// Somebody who calls, with what the calls need.
struct Asker {
    actor: Actor,
    /// Which of the defaults is theirs; `None` for root, whom polkit asks nothing.
    column: Option<usize>,
    /// The name of a person, who may have sandboxes and a window for passwords.
    person: Option<&'static str>,
    /// Sandboxes of theirs and of somebody else.
    own: u32,
    others: u32,
}

impl Asker {
    /// What polkit's file says to them.
    fn default(&self, row: &Row) -> &'static str {
        self.column.map_or("yes", |column| row.defaults[column])
    }
}

const YES: [&str; 3] = ["yes"; 3];
const ASKED: [&str; 3] = ["auth_admin"; 3];

const TABLE: [Row; 9] = [
    Row { action: "attach", defaults: YES, call: attach, refusal: "NotAuthorized" },
    Row {
        action: "control-own",
        defaults: YES,
        call: |asker| asker.actor.call(&Call::SetConnected(asker.own, true)),
        refusal: "NotAuthorized",
    },
    Row {
        action: "control-others",
        defaults: ASKED,
        call: |asker| asker.actor.call(&Call::List(true)),
        refusal: "NotAuthorized",
    },
    Row {
        action: "control-others",
        defaults: ASKED,
        call: |asker| asker.actor.call(&Call::SetConnected(asker.others, true)),
        // Which numbers there are is nobody else's business (H1).
        refusal: "NoSuchAttachment",
    },
    Row {
        action: "status",
        defaults: YES,
        call: |asker| asker.actor.call(&Call::GetPolicy),
        refusal: "NotAuthorized",
    },
    Row {
        action: "edit-policy-narrow",
        defaults: ["auth_admin", "auth_admin", "auth_admin_keep"],
        call: |asker| edit(asker, |document| format!("{document}# as before\n")),
        refusal: "NotAuthorized",
    },
    Row {
        action: "edit-policy-widen",
        defaults: ASKED,
        call: |asker| {
            let entry =
                |text: &str| format!("  - host: h{}.example\n    ports: [443]\n", text.len());
            edit(asker, |document| format!("{document}{}", entry(document)))
        },
        refusal: "NotAuthorized",
    },
    Row {
        action: "refresh",
        defaults: YES,
        call: |asker| asker.actor.call(&Call::Refresh),
        refusal: "NotAuthorized",
    },
    Row {
        action: "setup",
        defaults: ASKED,
        call: |asker| asker.actor.call(&Call::Setup(vec!["boot".into()])),
        refusal: "NotAuthorized",
    },
];

fn attach(asker: &mut Asker) -> anyhow::Result<Value> {
    let pid = asker.actor.make_namespace()?;
    let answer = asker.actor.call(&Call::Attach(pid, vec![]));
    asker.actor.end_namespace(pid)?;
    answer
}

fn edit(asker: &mut Asker, change: impl Fn(&str) -> String) -> anyhow::Result<Value> {
    let (document, version): (String, String) = asker.actor.call(&Call::GetPolicy)?;
    asker.actor.call(&Call::ReplacePolicy(change(&document), version))
}

#[test]
fn every_action_of_the_policy_file_is_in_the_table_as_it_is() {
    let mut told: Vec<_> = TABLE.iter().map(|row| (row.action, row.defaults)).collect();
    told.dedup();
    let said = |text: &'static str, name: &str| {
        let value = text.split(&format!("<{name}>")).nth(1).and_then(|rest| rest.split('<').next());
        value.unwrap_or_else(|| panic!("{name} in {text}"))
    };
    let actions = FILE.split("<action id=\"dev.rcc.helper.").skip(1);
    let written: Vec<_> = actions
        .map(|text| {
            let name = text.split('"').next().expect("a name");
            (name, ["allow_any", "allow_inactive", "allow_active"].map(|word| said(text, word)))
        })
        .collect();
    assert_eq!(told, written);
    let known = rcc_dbus::action::ALL.map(|action| action.trim_start_matches("dev.rcc.helper."));
    assert_eq!(written.iter().map(|(name, _)| *name).collect::<Vec<_>>(), known);
}

fn code(answer: anyhow::Result<Value>) -> String {
    match answer {
        Ok(_) => "done".to_owned(),
        Err(error) => error.to_string().split(':').next().unwrap_or_default().to_owned(),
    }
}

#[test]
fn polkit_admits_and_refuses_as_its_file_says() {
    each_row_admits_and_refuses(Release::Own);
}

#[test]
fn on_debian_13_polkit_admits_and_refuses_as_its_file_says() {
    each_row_admits_and_refuses(Release::Debian13);
}

fn each_row_admits_and_refuses(release: Release) {
    let Some(machine) = boot(release) else { return };
    install(&machine, "this.deb");
    // What `setup` would change.
    machine
        .root("systemctl disable -q rcc-firewall.service rcc-whitelist-update.timer")
        .expect("units that do not start at boot");
    let mut askers = askers(&machine);
    let state = || {
        machine
            .root("cat /etc/rcc/network-whitelist.yaml; systemctl is-enabled rcc-firewall.service || true")
            .expect("what a refusal leaves as it is")
    };
    // Nobody is there who could be asked.
    for asker in &mut askers {
        for row in &TABLE {
            let before = state();
            let said = code((row.call)(asker));
            let who = (asker.person, asker.column, row.action);
            if asker.default(row) == "yes" {
                assert_eq!(said, admitted(asker, row), "{who:?}");
            } else {
                assert_eq!((said.as_str(), state()), (row.refusal, before), "{who:?}");
            }
        }
    }
    for asker in askers.iter_mut().filter(|asker| asker.person.is_some()) {
        for row in TABLE.iter().filter(|row| row.defaults != YES) {
            let before = state();
            let who = (asker.person, row.action);
            // Closed; not the password; that of a person who is no administrator.
            for (user, password) in
                [(CAROL.1, None), (CAROL.1, Some("wrong")), (BOB.1, Some(PASSWORD))]
            {
                asker.actor.answer_prompts(user, password).expect("an agent");
                let said = code((row.call)(asker));
                assert_eq!(said, row.refusal, "{user} {password:?}: {who:?}");
                assert_eq!(prompts(asker), [row.action], "{user} {password:?}: {who:?}");
            }
            assert_eq!(state(), before, "{who:?}");
            asker.actor.answer_prompts(CAROL.1, Some(PASSWORD)).expect("an agent");
            let mut asked = Vec::new();
            for _ in 1..=2 {
                assert_eq!(code((row.call)(asker)), "done", "{who:?}");
                if asked.is_empty() || asker.default(row) == "auth_admin" {
                    asked.push(row.action);
                }
                assert_eq!(prompts(asker), asked, "{who:?}");
            }
        }
    }
}

/// What an admitted caller gets. Accounts that are not people's have no sandboxes (H9): there
/// polkit is asked first, and says yes.
fn admitted(asker: &Asker, row: &Row) -> &'static str {
    match row.action {
        "attach" if asker.person.is_none() => "CallerRefused",
        "control-own" if asker.person.is_none() => "NoSuchAttachment",
        _ => "done",
    }
}

fn prompts(asker: &mut Asker) -> Vec<String> {
    let shown = asker.actor.prompts().expect("prompts").into_iter();
    shown.map(|(action, _)| action.trim_start_matches("dev.rcc.helper.").to_owned()).collect()
}

/// One at a screen, one whose screen somebody else uses now, one over the network, a daemon,
/// and root.
fn askers(machine: &Machine) -> Vec<Asker> {
    let mut people = Vec::new();
    for (who, seat, column) in
        [(CAROL, Seat::Here, 1), (ANN, Seat::Here, 2), (BOB, Seat::Remote, 0)]
    {
        let mut actor = machine.person(who, seat).expect(who.1);
        let own = machine.sandbox(&mut actor, &rules()).expect("a sandbox").id;
        people.push(Asker { actor, column: Some(column), person: Some(who.1), own, others: 0 });
    }
    let sessions = "for id in $(loginctl list-sessions --no-legend | awk '{print $1}'); do \
        case $(loginctl show-session $id -P Class) in manager*) continue;; esac; \
        for what in Name Seat Active; do loginctl show-session $id -P $what; done | xargs; done | sort";
    let sessions = machine.root(sessions).expect("sessions");
    assert_eq!(sessions, "ann seat0 yes\nbob yes\ncarol seat0 no\n");
    let first = people[0].own;
    let second = people[1].own;
    for one in &mut people {
        one.others = if one.own == first { second } else { first };
    }
    let outsider = |uid, column| Asker {
        actor: machine.daemon(uid).expect("a daemon"),
        column,
        person: None,
        own: 0,
        others: first,
    };
    people.push(outsider(1, Some(0)));
    people.push(outsider(0, None));
    people
}

#[test]
fn a_prompt_names_what_changes_and_holds_up_nobody() {
    prompts_name_and_hold_up_nobody(Release::Own);
}

#[test]
fn on_debian_13_a_prompt_names_what_changes_and_holds_up_nobody() {
    prompts_name_and_hold_up_nobody(Release::Debian13);
}

fn prompts_name_and_hold_up_nobody(release: Release) {
    let Some(machine) = boot(release) else { return };
    install(&machine, "this.deb");
    let mut bob = machine.person(BOB, Seat::Remote).expect("bob");
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    for person in [&mut ann, &mut bob] {
        let sandbox = machine.sandbox(person, &rules()).expect("attach");
        person.set_rules(sandbox.id, &[], 0).expect("set rules");
        assert_eq!(person.list().expect("list").len(), 1);
        assert!(person.diagnose().expect("diagnose").iter().all(|check| check.state != "bad"));
    }
    ann.answer_prompts(CAROL.1, Some(PASSWORD)).expect("an agent");
    let all: Vec<rcc_dbus::AttachmentInfo> = ann.call(&Call::List(true)).expect("carol agrees");
    assert_eq!(all.len(), 2);

    let (document, version): (String, String) = ann.call(&Call::GetPolicy).expect("policy");
    let wider = format!("{document}  - host: new.example\n    ports: [443]\n");
    ann.answer_prompts(CAROL.1, Some(PASSWORD)).expect("an agent");
    let version: String = ann.call(&Call::ReplacePolicy(wider.clone(), version)).expect("wider");
    let version: String = ann.call(&Call::ReplacePolicy(document, version)).expect("back");
    let empty = "version: 1\n".to_owned();
    let _: String = ann.call(&Call::ReplacePolicy(empty, version)).expect("narrower");
    let asked = ann.prompts().expect("prompts");
    let actions: Vec<_> = asked.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(
        actions,
        ["dev.rcc.helper.edit-policy-widen", "dev.rcc.helper.edit-policy-narrow"],
        "kept for the third"
    );
    for (_, message) in &asked {
        assert!(message.contains("new.example"), "{message}");
    }
    assert!(asked[1].1.contains("no longer"), "{asked:?}");

    // H4: a prompt that stays open holds up nobody.
    let (_, version): (String, String) = ann.call(&Call::GetPolicy).expect("policy");
    ann.answer_prompts(CAROL.1, Some("wait")).expect("an agent");
    ann.send(&Call::ReplacePolicy(wider, version)).expect("asked");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(bob.list().expect("others are served").len(), 1);
    drop(ann);
    bob.call::<Value>(&Call::GetPolicy).expect("and the service goes on");
}
