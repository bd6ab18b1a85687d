//! What a helper finds when the one before it was killed in the middle of something, or
//! left records that do not read.

use super::*;

/// What the gate has of a sandbox: rules, links, flows.
fn traces(lab: &Lab, sandbox: &Sandbox) -> Vec<String> {
    let all = lab.in_gate("nft list ruleset; ip -o link; conntrack -L 2>/dev/null").expect("nft");
    let words = [
        format!("_{} ", sandbox.id),
        format!(" s{}@", sandbox.id),
        format!("\"s{}\"", sandbox.id),
        format!("{} ", sandbox.address),
    ];
    let of_it = |line: &&str| words.iter().any(|word| line.contains(word.as_str()));
    all.lines().filter(of_it).map(str::to_owned).collect()
}

#[test]
fn n9_what_has_no_record_that_reads_leaves_nothing_to_the_next() {
    let rules = [Rule::tcp("other.example", &[9_999])];
    let Some((lab, mut ann, lost)) = start(POLICY, &rules) else { return };
    let kept = lab.sandbox(&mut ann, &rules).expect("another");
    let connections = [&lost, &kept].map(|sandbox| {
        sandbox.reach("other.example", 9_999).expect("before");
        held(sandbox, world::SERVERS[1], 9_999)
    });
    assert!(!traces(&lab, &lost).is_empty() && !traces(&lab, &kept).is_empty());

    kill_helper(&lab);
    lab.on_host(&format!("echo '{{' > /run/rcc/sandboxes/{}.json", lost.id)).expect("a record");
    let list = ann.list().expect("a new helper");
    assert_eq!(list.iter().map(|one| one.id).collect::<Vec<_>>(), [kept.id]);
    assert!(goes_on(&connections[1]), "the other one goes on\n{}", lab.log());
    assert!(!echoes(&connections[0]));
    assert_eq!(traces(&lab, &lost), [""; 0]);
    let next = lab.sandbox(&mut ann, &[]).expect("one more");
    assert!(next.id > kept.id && next.address != lost.address, "{next:?}");

    // What all share: nobody knows which numbers and addresses were given out.
    kill_helper(&lab);
    lab.on_host("echo '{' > /run/rcc/attachments.json").expect("the record");
    assert_eq!(ann.list().expect("a new helper").len(), 0);
    assert!(!echoes(&connections[1]), "cut off");
    for sandbox in [&kept, &next] {
        assert_eq!(traces(&lab, sandbox), [""; 0]);
        assert!(sandbox.shell("ip link show eth0").is_err(), "its link is gone");
    }
    let again = lab.sandbox(&mut ann, &[]).expect("and it works afterwards");
    assert!(again.reach("allowed.example", 9_999).is_ok());
    let before = [lost.id, kept.id, next.id];
    assert!(!before.contains(&again.id), "{before:?}, then {}", again.id);
    kill_helper(&lab);
    assert_eq!(ann.list().expect("a new helper").len(), 1);
}

/// The record says already that the entry is gone; who wrote it died before it could cut.
#[test]
fn n15_who_is_killed_before_it_cuts_leaves_no_flow() {
    let both = [Rule::tcp("allowed.example", &[9_999]), Rule::tcp("other.example", &[9_999])];
    let Some((lab, mut ann, sandbox)) = start("version: 1\nwhitelist: []\n", &both) else { return };
    sandbox.reach("other.example", 9_999).expect("before");
    let goes = held(&sandbox, world::SERVERS[1], 9_999);
    assert!(goes_on(&goes));
    kill_helper(&lab);
    let record = format!("/run/rcc/sandboxes/{}.json", sandbox.id);
    let edit = r#"s/"held":.*,"generation":[0-9]*,/"held":[],"generation":4000,/"#;
    lab.on_host(&format!("sed -i '{edit}' {record} && grep -q 4000 {record}")).expect("a record");
    assert_eq!(ann.list().expect("a new helper")[0].rules, []);
    let flows = lab.in_gate("conntrack -L -p tcp 2>/dev/null").expect("conntrack");
    assert!(!flows.contains(&format!("src={} ", sandbox.address)), "{flows}");
    assert!(!echoes(&goes));
}

const LIST: &str = "/etc/rcc/network-whitelist.yaml";

/// The list is edited while no service runs, and something that was open for a time is over.
#[test]
fn n11_a_service_that_starts_holds_sandboxes_to_the_list_of_now() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    ann.set_rules(sandbox.id, &[Rule::tcp("other.example", &[9_999])], 0).expect("her own");
    ann.open_internet(sandbox.id, 600).expect("open");
    sandbox.reach("other.example", 9_999).expect("her own");
    let streams = [(world::SERVERS[1], 9_999), (world::SERVERS[2], 9_999)]
        .map(|(server, port)| held(&sandbox, server, port));
    kill_helper(&lab);
    std::fs::write(LIST, format!("{POLICY}defaults:\n  users_may_add: none\n")).expect("write");
    let list = ann.list().expect("the next helper");
    assert!(list[0].rules.is_empty() && list[0].open_for == 0, "{list:?}");
    assert!(streams.iter().all(|stream| !echoes(stream)), "cut");
    assert!(sandbox.resolve("other.example").is_err());
    assert!(sandbox.tcp(world::SERVERS[2], 9_999).is_err());
    assert!(sandbox.reach("allowed.example", 9_999).is_ok(), "what the list says");
}

#[test]
fn n11_a_mistake_in_the_list_gives_nobody_more_after_a_restart() {
    let bounded = format!("{POLICY}defaults:\n  users_may_add: none\n");
    let Some((lab, mut ann, sandbox)) = start(&bounded, &[]) else { return };
    std::fs::write(LIST, format!("{bounded}  attach: [\n")).expect("write");
    let more = [Rule::tcp("other.example", &[9_999])];
    let next = |ann: &mut rcc_tests::Actor| {
        kill_helper(&lab);
        let dropped = ann.set_rules(sandbox.id, &more, 0).expect("the next helper");
        assert_eq!(dropped.len(), 1, "{dropped:?}");
        assert!(ann.open_internet(sandbox.id, 60).is_err(), "nor everything");
        assert!(sandbox.resolve("other.example").is_err());
    };
    next(&mut ann);
    assert!(sandbox.reach("allowed.example", 9_999).is_ok(), "the last list that did read holds");
    // As after a start of the computer: nobody knows what was allowed, and to whom.
    lab.on_host("rm /run/rcc/list").expect("a record");
    next(&mut ann);
    assert!(sandbox.resolve("allowed.example").is_err());
    assert!(lab.sandbox(&mut ann, &[]).is_err(), "no new one gets a network");
}

#[test]
fn n12_a_service_that_starts_puts_up_the_computers_own_table() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    kill_helper(&lab);
    lab.on_host("nft flush ruleset").expect("flush");
    ann.list().expect("the next helper");
    lab.on_host("nft list chain inet rcc h_arrive").expect("it stands");
    assert!(sandbox.reach("allowed.example", 9_999).is_ok());
}
