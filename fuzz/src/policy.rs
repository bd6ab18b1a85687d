//! The whitelist, and edits of it.

use std::collections::HashMap;

use rcc_policy::{
    Entry, Policy, UserRules, add_entry, comments, parse_spec, remove_entry, replace_entry,
};

/// Any document. What can be read means the same when it is written anew.
pub fn whitelist(bytes: &[u8]) {
    let rules = UserRules::parse(bytes);
    let Ok(policy) = Policy::parse(bytes) else { return };
    if let Ok(rules) = rules {
        assert_eq!(rules.entries, policy.entries);
    }
    let mut written = String::new();
    for entry in &policy.entries {
        written = add_entry(&written, entry).expect("an entry that was read can be written");
    }
    let again = Policy::parse(written.as_bytes()).map(|policy| policy.entries);
    let again = again.unwrap_or_default();
    for entry in &policy.entries {
        let same =
            |one: &&Entry| one.target() == entry.target() && one.protocol() == entry.protocol();
        let found = again.iter().find(same).expect("it stands there");
        assert!(entry.ports().iter().all(|port| found.ports().contains(port)));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert_eq!(comments(text, policy.entries.len()).len(), policy.entries.len());
    }
}

/// A first byte that says what is done, a line with a host as on the command line, and a
/// document: an edit keeps the meaning of all else, and every comment.
pub fn edits(bytes: &[u8]) {
    let Some((what, rest)) = bytes.split_first() else { return };
    let Ok(rest) = std::str::from_utf8(rest) else { return };
    let Some((spec, document)) = rest.split_once('\n') else { return };
    let Ok(entry) = parse_spec(spec, what & 0x80 != 0) else { return };
    let Ok(before) = Policy::parse(document.as_bytes()) else { return };
    let chosen = before.entries.get(usize::from(what >> 2 & 7));
    let edited = match what % 3 {
        0 => add_entry(document, &entry),
        1 => match chosen {
            Some(old) => replace_entry(document, old.target(), old.protocol(), &entry),
            None => return,
        },
        _ => match chosen {
            Some(old) => remove_entry(document, old.target(), None),
            None => return,
        },
    };
    let Ok(edited) = edited else { return };
    let after = Policy::parse(edited.as_bytes()).expect("it can be read");
    assert_eq!(after.defaults, before.defaults);
    let gone = |one: &Entry| !after.entries.contains(one);
    let changed: Vec<&Entry> = before.entries.iter().filter(|one| gone(one)).collect();
    let touches = |one: &&Entry| {
        let is =
            |other: &Entry| one.target() == other.target() && one.protocol() == other.protocol();
        match what % 3 {
            0 => is(&entry),
            1 => is(&entry) || chosen.is_some_and(is),
            _ => chosen.is_some_and(|chosen| chosen.target() == one.target()),
        }
    };
    assert!(changed.iter().all(touches), "{changed:?}");
    // What belongs to an entry that is taken out goes with it.
    if what % 3 == 0 {
        let kept = comment_lines(&edited);
        for (comment, count) in comment_lines(document) {
            assert!(kept.get(comment).is_some_and(|kept| *kept >= count), "{comment:?} is lost");
        }
    }
}

fn comment_lines(document: &str) -> HashMap<&str, usize> {
    let mut found = HashMap::new();
    let comments = document.lines().filter_map(|line| {
        let line = line.trim();
        let at = if line.starts_with('#') { Some(0) } else { line.find(" #").map(|at| at + 1) };
        at.map(|at| line[at..].trim())
    });
    comments.for_each(|comment| *found.entry(comment).or_default() += 1);
    found
}
