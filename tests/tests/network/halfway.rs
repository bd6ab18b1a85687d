//! Found in a review: changes that fail halfway, and packets that are under way while rules
//! change. What a processor that stands still for a moment does to a packet is played.

use rcc_tests::hello::hello_for;
use rcc_tests::protocol::Call;

use super::faults::{Failing, GATE, can_fail};
use super::hellos::said;
use super::*;

const SERVER: Ipv4Addr = world::SERVERS[0];
const ADDRESSES: &str = "version: 1
whitelist:
  - ip: 203.0.113.0/24
    ports: [9999]
";

/// The marks of a sandbox's flows to a port.
fn marks(lab: &Lab, sandbox: &Sandbox, port: u16) -> Vec<u32> {
    let flows = lab.in_gate(&format!("conntrack -L -s {} 2>/dev/null || true", sandbox.address));
    let flows = flows.expect("conntrack");
    let port = format!(" dport={port} ");
    let marks = flows.lines().filter(|flow| flow.contains(&port)).filter_map(|flow| {
        let mark = flow.split(" mark=").nth(1)?.split(' ').next()?;
        Some(mark.parse().expect("a number"))
    });
    marks.collect()
}

/// Gives flows another mark, with their next packet.
fn play_mark(lab: &Lab, from: u32, to: u32, packet: impl FnOnce()) {
    lab.in_gate(&format!(
        "nft 'add table inet played; \
         add chain inet played late {{ type filter hook prerouting priority -160; }}; \
         add rule inet played late ct mark {from} ct mark set {to}'"
    ))
    .expect("played");
    packet();
    std::thread::sleep(Duration::from_millis(50));
    lab.in_gate("nft delete table inet played").expect("no longer");
}

/// A list whose entries the resolver could not be given counted as the list in force.
#[test]
fn n15_an_edit_that_fails_halfway_does_not_count_as_done() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    if !can_fail() {
        return;
    }
    sandbox.reach("allowed.example", 9_999).expect("allowed");
    let stream = held(&sandbox, SERVER, 9_999);
    let mut root = lab.person((0, "root")).expect("root");
    let (_, version): (String, String) = root.call(&Call::GetPolicy).expect("read");
    let failing = Failing::with(&lab, "memfd_create", "error=EMFILE", &[]);
    let other = POLICY.replace("allowed", "other");
    root.call::<String>(&Call::ReplacePolicy(other, version)).expect_err("it fails");
    assert!(failing.end(&lab) > 0);
    ann.call::<()>(&Call::Refresh).expect("the next look");
    assert!(sandbox.resolve("allowed.example").is_err());
    assert!(sandbox.tcp(SERVER, 9_999).is_err());
    assert!(!echoes(&stream));
    assert!(sandbox.reach("other.example", 9_999).is_ok());
}

/// While a set is emptied and filled again in one go, kernels have told packets that what is
/// in it before and after is not.
#[test]
fn n2_a_start_takes_nothing_out_of_what_is_never_allowed() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    let log = "/run/rcc-lab/elements";
    lab.in_gate(&format!("timeout 20 nft monitor elements >{log} 2>&1 </dev/null & sleep 0.5"))
        .expect("nft monitor");
    kill_helper(&lab);
    ann.list().expect("a new helper");
    ann.set_rules(sandbox.id, &[Rule::tcp("9.9.9.0/24", &[443])], 0).expect("a change");
    wait_for(|| std::fs::read_to_string(log).is_ok_and(|log| log.contains("net_public_")))
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::fs::read_to_string(log)));
    let told = std::fs::read_to_string(log).expect("the log");
    for set in ["never4", "private4"] {
        let taken = told.lines().find(|line| line.contains("delete") && line.contains(set));
        assert_eq!(taken, None);
        lab.in_gate(&format!("nft list set inet rcc {set}")).expect("it is there");
    }
}

/// A flow of rules that are gone, begun after the last look at them: no packet of it goes out,
/// but its server's would come in, by whoever has the address then.
#[test]
fn n15_a_flow_that_comes_late_is_found() {
    let Some((lab, mut ann, sandbox)) = start(ADDRESSES, &[]) else { return };
    ann.set_rules(sandbox.id, &[Rule::tcp("9.9.9.0/24", &[443])], 0).expect("more");
    let _stream = held(&sandbox, SERVER, 9_999);
    let generation = marks(&lab, &sandbox, 9_999)[0];
    let late = |port: u16| {
        lab.in_gate(&format!(
            "conntrack -I -p udp -s {} -d {SERVER} --sport {port} --dport 9999 \
             --reply-port-src 9999 --reply-port-dst {port} -r {SERVER} -q {} \
             -t 300 -m {generation}",
            sandbox.address, sandbox.address
        ))
        .expect("conntrack");
    };
    let has = || marks(&lab, &sandbox, 9_999).contains(&generation);
    ann.set_rules(sandbox.id, &[], 0).expect("take it away");
    late(5_001);
    assert!(has());
    wait_for(|| !has()).expect("looked for again");
    let generation = marks(&lab, &sandbox, 9_999)[0];
    ann.detach(sandbox.id).expect("taken away");
    lab.in_gate(&format!(
        "conntrack -I -p udp -s {} -d {SERVER} --sport 5002 --dport 9999 --reply-port-src 9999 \
         --reply-port-dst 5002 -r {SERVER} -q {GATE} -t 300 -m {generation}",
        sandbox.address
    ))
    .expect("conntrack");
    wait_for(|| marks(&lab, &sandbox, 9_999).is_empty()).expect("nobody inherits it");
}

/// The change held and the kernel could not be asked for the flows that go with it: they were
/// left when the sandbox was taken away for that.
#[test]
fn n9_a_sandbox_whose_change_failed_halfway_leaves_no_flow() {
    let Some((lab, mut ann, sandbox)) = start(ADDRESSES, &[]) else { return };
    if !can_fail() {
        return;
    }
    // Each of the first calls to the kernel in turn: which of them asks is not the test's.
    let mut sandbox = sandbox;
    let mut cut = 0;
    for number in 1..=6 {
        ann.set_rules(sandbox.id, &[Rule::tcp("9.9.9.0/24", &[443])], 2).expect("for a time");
        let stream = held(&sandbox, SERVER, 9_999);
        let how = format!("error=ENOBUFS:when={number}");
        let failing = Failing::with(&lab, "sendto", &how, &[]);
        wait_for(|| {
            ann.list().is_ok_and(|list| list.first().is_none_or(|one| one.rules.is_empty()))
        })
        .expect("it ends");
        failing.end(&lab);
        if ann.list().expect("a list").is_empty() {
            cut += 1;
            assert_eq!(marks(&lab, &sandbox, 9_999), Vec::<u32>::new(), "call {number}");
            sandbox = lab.sandbox(&mut ann, &[]).expect("another");
        } else {
            assert!(goes_on(&stream), "call {number}");
        }
    }
    assert!(cut > 0, "none of them was of a change that was done");
}

/// What was passed by its name goes on, also when its address is no longer open by name and its
/// packets come between new rules and the look at what they leave open.
#[test]
fn n20_what_goes_on_is_not_ended_by_the_change() {
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    sandbox.resolve("allowed.example").expect("open");
    let stream = held(&sandbox, SERVER, 443);
    assert!(said(&stream, &hello_for("allowed.example")));
    let passed = || marks(&lab, &sandbox, 443).first().copied().filter(|mark| mark >> 31 == 0);
    wait_for(|| passed().is_some()).expect("passed");
    let (generation, other) = (passed().expect("passed"), 0x3fff_ffff);
    let set = format!("name_public_{}", sandbox.id);
    lab.in_gate(&format!("nft delete element inet rcc {set} '{{ {SERVER} . tcp . 443 }}'"))
        .expect("its time is over");
    play_mark(&lab, generation, other, || (&stream).write_all(b"ping").expect("written"));
    assert_eq!(marks(&lab, &sandbox, 443), [other]);
    // The packet is said again until it passes.
    play_mark(&lab, other, generation, || std::thread::sleep(Duration::from_millis(1_500)));
    let mut answer = [0; 4];
    stream.set_read_timeout(Some(Duration::from_secs(3))).expect("timeout");
    (&stream).read_exact(&mut answer).expect("it goes on");
    ann.set_rules(sandbox.id, &[], 0).expect("a change");
    assert!(goes_on(&stream));
}

/// A connection of rules that are gone, whose hello is looked at: it is the cut's to end, and
/// no rule of now takes it along.
#[test]
fn n20_what_runs_is_not_looked_at_once_more() {
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    sandbox.resolve("allowed.example").expect("open");
    let stream = held(&sandbox, SERVER, 443);
    assert!(said(&stream, &hello_for("allowed.example")));
    let passed = || marks(&lab, &sandbox, 443).first().copied().filter(|mark| mark >> 31 == 0);
    wait_for(|| passed().is_some()).expect("passed");
    let unchecked = 0x3fff_ffff | 1 << 31;
    let write = || (&stream).write_all(b"ping").expect("written");
    play_mark(&lab, passed().expect("passed"), unchecked, write);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(marks(&lab, &sandbox, 443), [unchecked], "{}", lab.log());
    assert!(!echoes(&stream));
}

/// The rules give no flow that runs another mark: whoever cuts tells the kernel the difference
/// to what was seen, and two changes at once would give the old one back.
#[test]
fn n15_rules_change_no_mark_of_a_flow_that_runs() {
    let Some((lab, _ann, sandbox)) = start(ADDRESSES, &[]) else { return };
    let stream = held(&sandbox, SERVER, 9_999);
    let generation = marks(&lab, &sandbox, 9_999)[0];
    let other = 0x3fff_ffff;
    play_mark(&lab, generation, other, || assert!(goes_on(&stream)));
    assert!(goes_on(&stream), "its rule allows it");
    assert_eq!(marks(&lab, &sandbox, 9_999), [other]);
}
