//! What goes to the kernel directly is what the program would have written: both write
//! the same random sandboxes, each in a namespace of its own, and what stands in the two
//! is compared as nft lists it, and expression by expression.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rcc_dbus::Rule as Wanted;
use rcc_policy::{Defaults, Entry, Target};

use super::*;
use crate::batch::Batch;
use crate::netns::Room;
use crate::rules::{Answered, AttachmentRules, attachment, detached, gate};

/// Changes that are tried.
const TURNS: usize = 40;
/// Sandboxes that they fall upon, so that some stand already.
const SANDBOXES: u32 = 4;

#[derive(Debug, Clone)]
struct Turn {
    id: u32,
    defaults: (bool, bool),
    entries: Vec<Entry>,
    /// Which entry, which address, for how long.
    answers: Vec<(prop::sample::Index, u32, u32)>,
    generation: u32,
    connected: bool,
    many_before: bool,
    /// It ends.
    ends: bool,
}

impl Turn {
    fn transaction(&self) -> Transaction {
        let address = Ipv4Addr::from(0x6440_0004 + self.id);
        if self.ends {
            return detached(self.id, address);
        }
        let named: Vec<&Entry> =
            self.entries.iter().filter(|one| !matches!(one.target(), Target::Net(_))).collect();
        let answered = |(which, address, seconds): &(prop::sample::Index, u32, u32)| Answered {
            entry: named[which.index(named.len())],
            address: Ipv4Addr::from(*address),
            seconds: *seconds,
        };
        let answers = if named.is_empty() { &[] } else { &self.answers[..] };
        attachment(&AttachmentRules {
            id: self.id,
            address,
            defaults: Defaults {
                block_rfc1918: self.defaults.0,
                allow_public: self.defaults.1,
                ..Defaults::default()
            },
            entries: self.entries.iter().collect(),
            answers: answers.iter().map(answered).collect(),
            generation: self.generation,
            connected: self.connected,
            networks_before: if self.many_before { usize::MAX } else { 0 },
        })
    }
}

fn entry() -> impl Strategy<Value = Entry> {
    let target = prop_oneof![
        Just("allowed.example".to_owned()),
        Just("*.zone.example".to_owned()),
        (any::<u32>(), 8u32..=32).prop_map(|(address, length)| {
            format!("{}/{length}", Ipv4Addr::from(address & (u32::MAX << (32 - length))))
        }),
        (0u32..1 << 16, 24u32..=32).prop_map(|(low, length)| {
            let address = (0x0a00_0000 | low) & (u32::MAX << (32 - length));
            format!("{}/{length}", Ipv4Addr::from(address))
        }),
    ];
    let ports = prop::collection::btree_set(prop_oneof![Just(443), 1u16..], 1..4);
    (target, ports, any::<bool>(), any::<bool>()).prop_filter_map(
        "it can stand in a list",
        |(target, ports, tcp, private)| {
            let protocol = if tcp { "tcp" } else { "udp" }.to_owned();
            let ports = ports.into_iter().collect();
            Wanted { target, ports, protocol, private }.to_entry().ok()
        },
    )
}

fn turn() -> impl Strategy<Value = Turn> {
    let answer = (any::<prop::sample::Index>(), any::<u32>(), 60u32..4_000);
    (
        1..=SANDBOXES,
        any::<(bool, bool)>(),
        prop::collection::vec(entry(), 0..8),
        prop::collection::vec(answer, 0..6),
        1..i32::MAX as u32,
        prop::bool::weighted(0.8),
        any::<bool>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(id, defaults, entries, answers, generation, connected, many_before, ends)| Turn {
                id,
                defaults,
                entries,
                answers,
                generation,
                connected,
                many_before,
                ends,
            },
        )
}

/// All that stands in the namespace of the calling thread, without what is different
/// each time: numbers, the order in a set, and what is left of a life.
fn standing() -> (Value, Vec<String>) {
    let nft = |arguments: &[&str]| {
        let output = Program::new(NFT).args(arguments).output();
        output.map_or(String::new(), |one| String::from_utf8_lossy(&one.stdout).into_owned())
    };
    let mut all = serde_json::from_str(&nft(&["-j", "list", "ruleset"])).unwrap_or_default();
    settle(&mut all);
    // What nft lists is what it understood; this is what the kernel runs.
    let rules = nft(&["--debug=netlink", "list", "table", "inet", TABLE]);
    let rules = rules.lines().map(str::trim).filter(|line| line.starts_with("[ "));
    // nft 1.0 turns the one byte of a protocol round, which does nothing.
    let rules = rules.filter(|line| !line.starts_with("[ byteorder"));
    (all, rules.map(str::to_owned).collect())
}

fn settle(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for word in ["handle", "expires", "metainfo"] {
                object.remove(word);
            }
            object.values_mut().for_each(settle);
            if let Some(Value::Array(elements)) = object.get_mut("elem") {
                elements.sort_by_key(Value::to_string);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(settle),
        _ => {}
    }
}

#[test]
fn what_is_written_directly_is_what_nft_writes() {
    let (Ok(program), Ok(direct)) = (Room::empty("program"), Room::empty("direct")) else {
        return rcc_test_aids::skip("this needs root");
    };
    if !std::path::Path::new(NFT).exists() {
        return rcc_test_aids::skip("nftables is not installed");
    }
    for room in [&program, &direct] {
        room.run_blocking(|| gate(&[], &[]).commit()).expect("a thread").expect("a gate");
    }
    let mut runner = TestRunner::deterministic();
    for number in 0..TURNS {
        let turn = turn().new_tree(&mut runner).expect("a turn").current();
        let written = turn.transaction();
        let ours = turn.transaction();
        // The first of each sandbox is the program's in both: one that stood before an update.
        let first = number < 2;
        let theirs = program.run_blocking(|| {
            let written = written.commit_by_program().map_err(|error| error.to_string());
            (written, standing())
        });
        let ours = direct.run_blocking(move || {
            let written = if first {
                ours.commit_by_program().map_err(|error| error.to_string())
            } else {
                let batch = messages::batch(&ours).ok_or("something is not known".to_owned());
                batch.and_then(|batch| batch.commit().map_err(|error| error.to_string()))
            };
            (written, standing())
        });
        let ((nft, theirs), (kernel, ours)) = (theirs.expect("a thread"), ours.expect("a thread"));
        assert_eq!((nft, kernel), (Ok(()), Ok(())), "{turn:#?}");
        // The gate has some eighty objects and twice as many expressions.
        let listed = theirs.0["nftables"].as_array().map_or(0, Vec::len);
        assert!(listed > 50 && theirs.1.len() > 100, "too little was listed: {listed}");
        assert_eq!(theirs.1, ours.1, "{turn:#?}");
        assert_eq!(theirs.0, ours.0, "{turn:#?}");
    }
}

#[test]
fn what_the_kernel_refuses_holds_in_no_part_and_is_told_in_words() {
    let Ok(room) = Room::empty("refused") else { return rcc_test_aids::skip("this needs root") };
    if !std::path::Path::new(NFT).exists() {
        return rcc_test_aids::skip("nftables is not installed");
    }
    // A thread of the helper that panics ends the process, so it only looks.
    let seen = room.run_blocking(|| {
        let made = gate(&[], &[]).commit();
        let before = standing();
        let refused = || {
            let mut t = Transaction::new();
            t.chain("a_1");
            t.rule("a_1", vec![accept()]);
            t.remove_chain("a_2");
            t
        };
        let directly = messages::batch(&refused()).map(Batch::commit);
        (made, before, directly, refused().commit(), standing())
    });
    let (made, before, directly, with_words, after) = seen.expect("a thread");
    made.expect("a gate");
    assert!(directly.expect("all of it is known").is_err());
    let words = with_words.expect_err("there is no such chain").to_string();
    assert!(words.starts_with("nftables refused the transaction: "), "{words}");
    assert!(words.contains("No such file or directory"), "{words}");
    assert_eq!(before, after);
}

#[test]
fn what_is_not_known_is_left_to_the_program() {
    assert!(messages::batch(&gate(&[], &[])).is_none());
    let mut t = Transaction::new();
    t.rule("a_1", vec![is(payload("ip", "saddr"), text("10.0.0.1")), accept()]);
    assert!(messages::batch(&t).is_none());
    // A set of which nobody said what it holds.
    let mut t = Transaction::new();
    t.elements("own4", vec![concat(vec![text("s1"), text("100.64.0.5")])]);
    assert!(messages::batch(&t).is_none());
    t.stands("own4", &[SetType::Ifname, SetType::Ipv4Addr]);
    assert!(messages::batch(&t).is_some());
    // More than the kernel takes at once.
    let mut t = Transaction::new();
    t.set("net_1", &[SetType::Ipv4Addr, SetType::InetProto, SetType::InetService], &[]);
    let one = |n: u32| concat(vec![text(Ipv4Addr::from(n).to_string()), text("tcp"), number(443)]);
    t.elements("net_1", (0..10_000).map(one).collect());
    assert!(messages::batch(&t).is_none());
}
