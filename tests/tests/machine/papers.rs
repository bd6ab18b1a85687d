//! What docs/administration.md tells administrators, done as it stands there.

use rcc_tests::people::{ANN, BOB};
use rcc_tests::protocol::Call;
use rcc_tests::{Actor, Machine, Release, Seat, wait_for, world};

use super::{boot, install, rules};

const PAPER: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/administration.md"));

/// The first lines to copy after this heading.
fn block(heading: &str) -> String {
    let rest = PAPER.split_once(&format!("\n## {heading}\n")).expect(heading).1;
    let lines = rest.lines().skip_while(|line| !line.starts_with("    "));
    let own = lines.take_while(|line| line.is_empty() || line.starts_with("    "));
    let text: Vec<_> = own.map(|line| line.trim_start_matches("    ")).collect();
    text.join("\n").trim_end().to_owned()
}

fn code(answer: anyhow::Result<serde_json::Value>) -> String {
    let said = answer.map_or_else(|error| error.to_string(), |_| "done".to_owned());
    said.split(':').next().unwrap_or_default().to_owned()
}

fn attach(person: &mut Actor) -> String {
    let pid = person.make_namespace().expect("a namespace");
    let said = code(person.call(&Call::Attach(pid, rules())));
    person.end_namespace(pid).expect("end");
    said
}

fn edit(person: &mut Actor, more: &str) -> String {
    let (document, version): (String, String) = person.call(&Call::GetPolicy).expect("policy");
    code(person.call(&Call::ReplacePolicy(document + more, version)))
}

#[test]
fn what_administrators_are_told_does_what_it_says() {
    what_the_paper_says(Release::Own);
}

#[test]
fn on_debian_13_what_administrators_are_told_does_what_it_says() {
    what_the_paper_says(Release::Debian13);
}

fn what_the_paper_says(release: Release) {
    let Some(machine) = boot(release) else { return };
    install(&machine, "this.deb");
    // Before she logs in: Debian 13's polkit takes the groups of the process.
    machine.root("groupadd rcc-users && usermod -aG rcc-users ann").expect("a group");
    let mut ann = machine.person(ANN, Seat::Here).expect("ann");
    let mut bob = machine.person(BOB, Seat::Here).expect("bob");
    assert_eq!((attach(&mut ann).as_str(), attach(&mut bob).as_str()), ("done", "done"));
    // A rule of polkit's own for that group. Nobody is there who could be asked.
    assert_eq!(edit(&mut ann, "# fewer\n"), "NotAuthorized");
    let rule = block("polkit");
    let path = rule.lines().next().and_then(|line| line.strip_prefix("// ")).expect("a path");
    write(&machine, path, &rule);
    wait_for(|| attach(&mut bob) == "NotAuthorized").expect("bob is not in the group");
    assert_eq!(attach(&mut ann), "done");
    assert_eq!(edit(&mut ann, "# fewer\n"), "done", "narrowing, without a password");
    assert_eq!(edit(&mut bob, "# fewer\n"), "NotAuthorized");
    let wider = "  - host: new.example\n    ports: [443]\n";
    assert_eq!(edit(&mut ann, wider), "NotAuthorized", "widening is another action");
    machine.root(&format!("rm {path}")).expect("remove");
    wait_for(|| attach(&mut bob) == "done").expect("as before");

    // The list has it, too.
    let list = "/etc/rcc/network-whitelist.yaml";
    let group = PAPER.split('`').find(|code| code.starts_with("attach: group ")).expect("a line");
    write(&machine, list, &format!("version: 1\ndefaults:\n  {group}\n"));
    wait_for(|| attach(&mut bob) == "CallerRefused").expect("bob is not in the group");
    let sandbox = machine.sandbox(&mut ann, &rules()).expect("ann is");
    assert!(sandbox.tcp(world::SERVERS[1], 443).is_err());

    // The journal says who changed what, and what was blocked.
    let commands = block("Journal and audit");
    assert_eq!(commands.lines().count(), 2, "{commands}");
    for command in commands.lines() {
        wait_for(|| machine.root(command).is_ok_and(|said| said.contains("uid=1000")))
            .unwrap_or_else(|_| panic!("{command}: {:?}", machine.root(command)));
    }
}

fn write(machine: &Machine, path: &str, text: &str) {
    std::fs::write(machine.shared().join("file"), text).expect("write");
    machine.root(&format!("cp /opt/rcc-test/file {path}")).expect(path);
}
