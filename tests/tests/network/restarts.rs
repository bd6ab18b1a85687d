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
    assert!(echoes(&connections[1]), "the other one goes on\n{}", lab.log());
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
    assert!(echoes(&goes));
    kill_helper(&lab);
    let record = format!("/run/rcc/sandboxes/{}.json", sandbox.id);
    let edit = r#"s/"held":.*,"generation":[0-9]*,/"held":[],"generation":4000,/"#;
    lab.on_host(&format!("sed -i '{edit}' {record} && grep -q 4000 {record}")).expect("a record");
    assert_eq!(ann.list().expect("a new helper")[0].rules, []);
    let flows = lab.in_gate("conntrack -L -p tcp 2>/dev/null").expect("conntrack");
    assert!(!flows.contains(&format!("src={} ", sandbox.address)), "{flows}");
    assert!(!echoes(&goes));
}
