//! H4: prompts that stay open, a polkit that is slow or gone, and calls without end.

use super::*;

const WIDER: &str = "version: 1\ndefaults:\n  allow_public: true\n";

/// polkit's process, which does not go on until this goes.
struct Held(nix::unistd::Pid);

impl Held {
    fn new(lab: &Lab) -> Self {
        let polkit = lab.polkit();
        send_signal(polkit, nix::sys::signal::Signal::SIGSTOP);
        Self(polkit)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.0, nix::sys::signal::Signal::SIGCONT);
    }
}

/// CVE-2021-3560: the caller is gone when polkit looks at who it is. That is an error, and an
/// error is no.
#[test]
fn h4_a_caller_that_is_gone_when_polkit_answers_changes_nothing() {
    let Some((lab, mut ann, sandbox)) = start() else { return };
    let mut root = lab.person((0, "root")).expect("root");
    let (_, version): (String, String) = root.call(&Call::GetPolicy).expect("read");
    let polkit = Held::new(&lab);
    // An administrator may do it, so that nothing else is in the way.
    root.send(&Call::ReplacePolicy(WIDER.into(), version)).expect("sent");
    std::thread::sleep(Duration::from_millis(700));
    drop(root);
    std::thread::sleep(Duration::from_millis(200));
    drop(polkit);
    let mut root = lab.person((0, "root")).expect("root");
    let file = || lab.on_host("cat /etc/rcc/network-whitelist.yaml").expect("file");
    let (document, version): (String, String) = root.call(&Call::GetPolicy).expect("read");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((document.as_str(), file().as_str()), (POLICY, POLICY));
    assert!(sandbox.tcp(world::SERVERS[1], 443).is_err());
    // Nobody waits for it: others are served, and the list can be edited.
    assert_eq!(ann.list().expect("list").len(), 1);
    let mut edited = Err(anyhow::anyhow!("not tried"));
    wait_for(|| {
        edited = root.call::<String>(&Call::ReplacePolicy(WIDER.into(), version.clone()));
        edited.is_ok()
    })
    .unwrap_or_else(|_| panic!("{edited:?}"));
    assert!(sandbox.tcp(world::SERVERS[1], 443).is_ok(), "one that stays may");
}

#[test]
fn h4_a_polkit_that_hangs_or_is_gone_is_a_refusal() {
    let Some((lab, mut ann, sandbox)) = start() else { return };
    let rules = vec![Rule::tcp("other.example", &[443])];
    let bare = lab.bare_sandbox(&mut ann).expect("namespace");
    // It does not answer: without a person to ask ten seconds are enough.
    let polkit = Held::new(&lab);
    let begun = Instant::now();
    refused(ann.call(&Call::Attach(bare.pid, vec![])), "NotAuthorized");
    assert!(begun.elapsed() > Duration::from_secs(5), "it was waited for");
    drop(polkit);
    wait_for(|| ann.list().is_ok_and(|list| list.len() == 1)).expect("it answers again");
    // It is gone in the middle of a question, and then there is none.
    let polkit = Held::new(&lab);
    ann.send(&Call::SetRules(sandbox.id, rules.clone(), 0)).expect("sent");
    std::thread::sleep(Duration::from_millis(500));
    send_signal(polkit.0, nix::sys::signal::Signal::SIGKILL);
    refused(ann.answer(), "NotAuthorized");
    refused(ann.call(&Call::SetRules(sandbox.id, rules, 0)), "NotAuthorized");
    refused(ann.call(&Call::Attach(bare.pid, vec![])), "NotAuthorized");
    assert!(sandbox.resolve("other.example").is_err());
    assert!(sandbox.reach("allowed.example", 443).is_ok(), "what stands goes on");
}

/// A prompt that a user leaves open is that user's: an administrator edits meanwhile.
#[test]
fn h4_a_prompt_that_is_left_open_keeps_no_administrator_out() {
    let Some((lab, mut ann, sandbox)) = start() else { return };
    let mut root = lab.person((0, "root")).expect("root");
    let mut again = lab.person(ANN).expect("her other window");
    let (_, version): (String, String) = root.call(&Call::GetPolicy).expect("read");
    let change = || Call::ReplacePolicy(WIDER.into(), version.clone());
    // Nobody is answered yet, neither she nor root.
    let polkit = Held::new(&lab);
    ann.send(&change()).expect("sent");
    std::thread::sleep(Duration::from_secs(2));
    refused(again.call(&change()), "LimitReached");
    refused(again.call(&Call::Setup(vec!["boot".into()])), "LimitReached");
    root.send(&change()).expect("sent");
    std::thread::sleep(Duration::from_millis(500));
    drop(polkit);
    root.answer::<String>().expect("it is an administrator's to change");
    refused(ann.answer(), "NotAuthorized");
    assert!(sandbox.tcp(world::SERVERS[1], 443).is_ok());
    refused(again.call(&change()), "VersionConflict");
}

/// Each change holds all others up for a moment, so there is a pace for them; taking a
/// sandbox away is not held up by it.
#[test]
fn h4_changes_have_a_pace_of_their_users_own() {
    let Some((lab, mut ann, sandbox)) = start() else { return };
    let mut bob = lab.person(BOB).expect("another");
    let theirs = lab.sandbox(&mut bob, &[]).expect("bob's");
    // Refused for itself, and counted all the same.
    let too_long = Call::OpenInternet(sandbox.id, u32::MAX);
    let mut told = (0..2_000).map(|_| ann.call::<()>(&too_long).expect_err("refused").to_string());
    let other = told.find(|told| !told.starts_with("InvalidArgument:")).expect("too fast");
    assert!(other.starts_with("LimitReached:"), "{other}");
    bob.set_rules(theirs.id, &[], 0).expect("bob's pace is his own");
    ann.detach(sandbox.id).expect("taken away");
}

/// Whoever takes away without end is not refused, but does not keep the service busy.
#[test]
fn h4_taking_away_without_end_waits_in_between() {
    let Some((lab, mut ann, sandbox)) = start() else { return };
    let mut bob = lab.person(BOB).expect("another");
    let theirs = lab.sandbox(&mut bob, &[]).expect("bob's");
    let take = |actor: &mut Actor, id, often| {
        let begun = Instant::now();
        for _ in 0..often {
            actor.set_rules(id, &[], 0).expect("never refused");
        }
        begun.elapsed()
    };
    // What she may do at once is used up by what is refused for itself, which is quick.
    let too_long = Call::OpenInternet(sandbox.id, u32::MAX);
    let mut begun = Instant::now();
    let refused = (0..2_000).any(|_| {
        begun = Instant::now();
        let told = ann.call::<()>(&too_long).expect_err("refused").to_string();
        told.starts_with("LimitReached:")
    });
    assert!(refused);
    take(&mut ann, sandbox.id, 10);
    // From there ten come in a second, however busy this computer is.
    let waited = begun.elapsed();
    assert!(waited > Duration::from_millis(900), "{waited:?}");
    let others = take(&mut bob, theirs.id, 10);
    assert!(others < waited, "bob's pace is his own: {others:?} and {waited:?}");
}

/// Three hundred calls without a pause, a hundred at a time: another user is served, in time,
/// and none of it counts for the other.
#[test]
fn h4_a_flood_of_calls_leaves_others_theirs() {
    // The bus lets nobody wait for more than 128 answers.
    const AT_ONCE: usize = 100;
    const EACH: usize = 3;
    let Some((lab, mut ann, sandbox)) = start() else { return };
    let mut bob = lab.person(BOB).expect("another");
    bob.list().expect("before");
    // More than would be left of what both had together.
    let his: Vec<Sandbox> =
        (0..15).map(|_| lab.bare_sandbox(&mut bob).expect("namespace")).collect();
    // Polkit is asked for each, and each looks at a descriptor.
    let flood = Instant::now();
    ann.send(&Call::Flood(sandbox.pid, AT_ONCE, EACH)).expect("sent");
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let begun = Instant::now();
        bob.list().expect("served");
        longest = longest.max(begun.elapsed());
    }
    let codes: Vec<String> = ann.answer().expect("answers");
    let whole = flood.elapsed();
    assert!(longest < Duration::from_secs(3).max(whole / 2), "{longest:?} of {whole:?}");
    assert_eq!(codes.len(), AT_ONCE * EACH, "none gave a second link");
    assert!(codes.iter().any(|code| code == "LimitReached"), "it is too much: {codes:?}");
    for one in his {
        bob.attach(one.pid, &[]).expect("her limit is not his");
    }
}
