//! Each target over its stored corpus, and over changes of it: the same in each run, and
//! bounded. `RCC_TURNS` says how many changes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rcc_fuzz::TARGETS;
use rcc_fuzz::mutate::{Dice, changed};

/// A run of all tests has so long for one target.
const PATIENCE: Duration = Duration::from_secs(4);
const TURNS: usize = 20_000;
/// Nothing may take longer than this: a sandbox would hold up all others.
const ONE: Duration = Duration::from_secs(1);

fn stored(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("readable")).collect()
}

fn try_target(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let stored = stored(name);
    assert!(stored.len() >= 3, "{name} has {} stored inputs", stored.len());
    let run = |bytes: &[u8]| {
        let begun = Instant::now();
        if std::panic::catch_unwind(|| (target.run)(bytes)).is_err() {
            panic!("{name} falls over {}", hex(bytes));
        }
        assert!(begun.elapsed() < ONE, "{name} took {:?} for {}", begun.elapsed(), hex(bytes));
    };
    stored.iter().for_each(|bytes| run(bytes));
    let wanted = std::env::var("RCC_TURNS").ok().and_then(|text| text.parse::<usize>().ok());
    let (begun, mut dice) = (Instant::now(), Dice::new(0x5eed));
    for _ in 0..wanted.unwrap_or(TURNS) {
        if wanted.is_none() && begun.elapsed() > PATIENCE {
            break;
        }
        run(&changed(&stored, &mut dice));
    }
}

/// To be put into a file with `xxd -r -p`.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_target_is_tried() {
    let text = include_str!("corpus.rs");
    for target in TARGETS {
        assert!(text.contains(&format!("\n    {},", target.name)), "{}", target.name);
    }
}

macro_rules! targets {
    ($($name:ident,)*) => {
        $(#[test]
        fn $name() {
            try_target(stringify!($name));
        })*
    };
}

targets! {
    whitelist,
    edits,
    dns_question,
    dns_answer,
    client_hello,
    hello_packets,
    packet,
    resolver_channel,
    bus_arguments,
    frames,
    hook,
    probes,
    screen,
    terminal_filter,
    plain_output,
}
