//! Edits of a hand-written document that keep its comments and its order.
//!
//! The text is changed line by line, and what comes out is read again: when it
//! does not mean exactly what was wanted, the edit is refused and the document
//! stays as it was.

use thiserror::Error;

use crate::document::{Policy, PolicyError};
use crate::entry::{Entry, Protocol, Target};

/// Why an edit was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EditError {
    /// The document was not valid before.
    #[error(transparent)]
    Invalid(#[from] PolicyError),
    /// It is written in a way that cannot be changed without rewriting it.
    #[error(
        "the whitelist is written in a form that rcc cannot change without losing its layout; change it in an editor"
    )]
    Layout,
}

/// Adds `entry`, or its ports to the entry for the same target and protocol.
/// An empty document becomes a new one.
pub fn add_entry(document: &str, entry: &Entry) -> Result<String, EditError> {
    if document.trim().is_empty() {
        return add_entry("version: 1\nwhitelist:\n", entry);
    }
    let before = Policy::parse(document.as_bytes())?;
    let mut wanted = before.entries.clone();
    let same =
        |other: &Entry| other.target() == entry.target() && other.protocol() == entry.protocol();
    let mut lines: Vec<String> = document.lines().map(str::to_owned).collect();
    if let Some(index) = before.entries.iter().position(same) {
        let merged = with_ports_of(&before.entries[index], entry);
        put(&mut lines, index, before.entries.len(), &merged)?;
        wanted[index] = merged;
    } else {
        append(&mut lines, entry, before.entries.len())?;
        wanted.push(entry.clone());
    }
    finish(&lines, &Policy { entries: wanted, ..before })
}

/// Takes out the entries for `target`, of every protocol or just one.
/// A target that is not there changes nothing.
pub fn remove_entry(
    document: &str,
    target: &Target,
    protocol: Option<Protocol>,
) -> Result<String, EditError> {
    if document.trim().is_empty() {
        return Ok(document.to_owned());
    }
    let before = Policy::parse(document.as_bytes())?;
    let goes =
        |entry: &Entry| entry.target() == target && protocol.is_none_or(|p| p == entry.protocol());
    if !before.entries.iter().any(goes) {
        return Ok(document.to_owned());
    }
    let mut lines: Vec<String> = document.lines().map(str::to_owned).collect();
    let items = Items::find(&lines, before.entries.len())?.items;
    for (index, item) in items.into_iter().enumerate().rev() {
        if goes(&before.entries[index]) {
            lines.drain(item);
        }
    }
    let entries = before.entries.iter().filter(|entry| !goes(entry)).cloned().collect();
    finish(&lines, &Policy { entries, ..before })
}

/// Puts `entry` in the place of the one for `target` and `protocol`; a comment
/// behind its first line stays. When another entry has the new target already
/// the two become one there.
pub fn replace_entry(
    document: &str,
    target: &Target,
    protocol: Protocol,
    entry: &Entry,
) -> Result<String, EditError> {
    let before = Policy::parse(document.as_bytes())?;
    let is = |other: &Entry, target: &Target, protocol: Protocol| {
        other.target() == target && other.protocol() == protocol
    };
    let Some(index) = before.entries.iter().position(|other| is(other, target, protocol)) else {
        return add_entry(document, entry);
    };
    let taken = before
        .entries
        .iter()
        .enumerate()
        .any(|(at, other)| at != index && is(other, entry.target(), entry.protocol()));
    if taken {
        let without = remove_entry(document, target, Some(protocol))?;
        return add_entry(&without, entry);
    }
    let mut lines: Vec<String> = document.lines().map(str::to_owned).collect();
    put(&mut lines, index, before.entries.len(), entry)?;
    let mut wanted = before.entries.clone();
    wanted[index] = entry.clone();
    finish(&lines, &Policy { entries: wanted, ..before })
}

/// What is written beside each entry: the comment behind its first line, else
/// the lines of comment right above it. As many as there are entries; none where
/// the layout does not tell.
pub fn comments(document: &str, entries: usize) -> Vec<Option<String>> {
    let lines: Vec<String> = document.lines().map(str::to_owned).collect();
    let Ok(found) = Items::find(&lines, entries) else { return vec![None; entries] };
    let text = |comment: &str| comment.trim_start_matches('#').trim().to_owned();
    let above = |start: usize| {
        let mut above: Vec<String> = lines[..start]
            .iter()
            .rev()
            .take_while(|line| line.trim_start().starts_with('#'))
            .map(|line| text(line.trim_start()))
            .collect();
        above.reverse();
        above.join(" ")
    };
    found
        .items
        .iter()
        .map(|item| match comment_of(&lines[item.start]) {
            Some(behind) => text(behind),
            None => above(item.start),
        })
        .map(|comment| (!comment.is_empty()).then_some(comment))
        .collect()
}

/// Writes the item anew; a comment behind its first line stays there, all others in it
/// come behind it.
fn put(
    lines: &mut Vec<String>,
    index: usize,
    count: usize,
    entry: &Entry,
) -> Result<(), EditError> {
    let item = Items::find(lines, count)?.items[index].clone();
    let mut fresh = render(entry, lines[item.start].find('-').unwrap_or(0));
    if let Some(comment) = comment_of(&lines[item.start]) {
        fresh[0] += &format!("  {comment}");
    }
    let space = " ".repeat(fresh[0].find('-').unwrap_or(0) + 2);
    let inner = lines[item.start + 1..item.end].iter();
    fresh.extend(inner.filter_map(|line| match line.trim_start() {
        whole if whole.starts_with('#') => Some(line.clone()),
        _ => comment_of(line).map(|comment| format!("{space}{comment}")),
    }));
    lines.splice(item, fresh);
    Ok(())
}

fn with_ports_of(entry: &Entry, more: &Entry) -> Entry {
    let mut ports: Vec<u16> = entry.ports().iter().chain(more.ports()).copied().collect();
    ports.sort_unstable();
    ports.dedup();
    // Both were valid with this target, so the union of their ports is.
    Entry::new(
        &entry.target().to_string(),
        &ports,
        entry.protocol(),
        entry.private() || more.private(),
    )
    .unwrap_or_else(|_| entry.clone())
}

/// Where the list and its items stand, as line numbers from 0.
struct Items {
    /// The line of `whitelist:`.
    key: usize,
    /// One past the last line of the last item.
    end: usize,
    /// Each item from its dash to its last line that is not blank or a comment.
    items: Vec<std::ops::Range<usize>>,
}

impl Items {
    fn find(lines: &[String], expected: usize) -> Result<Self, EditError> {
        let key = lines
            .iter()
            .position(|line| line.starts_with("whitelist:"))
            .ok_or(EditError::Layout)?;
        let mut items: Vec<std::ops::Range<usize>> = Vec::new();
        let mut indent = None;
        let mut end = key + 1;
        for (number, line) in lines.iter().enumerate().skip(key + 1) {
            let trimmed = line.trim_start();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let depth = line.len() - trimmed.len();
            let dash = trimmed == "-" || trimmed.starts_with("- ");
            if dash && indent.is_none_or(|own| own == depth) {
                indent = Some(depth);
                items.push(number..number + 1);
            } else if depth > indent.unwrap_or(0) && !items.is_empty() {
                if let Some(last) = items.last_mut() {
                    last.end = number + 1;
                }
            } else {
                break;
            }
            end = number + 1;
        }
        if items.len() != expected {
            return Err(EditError::Layout);
        }
        Ok(Self { key, end, items })
    }
}

fn append(lines: &mut Vec<String>, entry: &Entry, count: usize) -> Result<(), EditError> {
    let Some(key) = lines.iter().position(|line| line.starts_with("whitelist:")) else {
        lines.push("whitelist:".to_owned());
        lines.extend(render(entry, 2));
        return Ok(());
    };
    if count == 0 {
        // `whitelist:`, `whitelist: []`, `whitelist: null`, each with or without a comment.
        let comment =
            comment_of(&lines[key]).map(|comment| format!(" {comment}")).unwrap_or_default();
        lines[key] = format!("whitelist:{comment}");
        lines.splice(key + 1..key + 1, render(entry, 2));
        return Ok(());
    }
    let found = Items::find(lines, count)?;
    debug_assert!(found.key < found.end);
    let indent = lines[found.items[0].start].find('-').unwrap_or(0);
    lines.splice(found.end..found.end, render(entry, indent));
    Ok(())
}

fn render(entry: &Entry, indent: usize) -> Vec<String> {
    let space = " ".repeat(indent);
    let first = match entry.target() {
        // `*` starts an alias in YAML, and a name such as `no` would be a boolean.
        Target::Host(host) => format!("{space}- host: \"{host}\""),
        Target::Net(net) => format!("{space}- ip: \"{net}\""),
    };
    let ports: Vec<_> = entry.ports().iter().map(u16::to_string).collect();
    let mut lines = vec![first, format!("{space}  ports: [{}]", ports.join(", "))];
    if entry.protocol() != Protocol::Tcp {
        lines.push(format!("{space}  protocol: {}", entry.protocol()));
    }
    if entry.private() {
        lines.push(format!("{space}  private: true"));
    }
    lines
}

fn comment_of(line: &str) -> Option<&str> {
    line.find(" #").map(|at| line[at..].trim())
}

fn finish(lines: &[String], wanted: &Policy) -> Result<String, EditError> {
    let mut text = lines.join("\n");
    text.push('\n');
    match Policy::parse(text.as_bytes()) {
        Ok(after) if after == *wanted => Ok(text),
        _ => Err(EditError::Layout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::parse_spec;
    use proptest::prelude::*;

    const DOCUMENT: &str = "# mine\nversion: 1\ndefaults:\n  allow_public: false # no\nwhitelist:\n  # first\n  - host: a.example # why\n    ports: [443]\n\n  # second\n  - ip: 198.51.100.0/24\n    ports:\n      - 80\n\n# the end\n";

    fn entry(spec: &str) -> Entry {
        parse_spec(spec, false).unwrap()
    }

    #[test]
    fn adding_keeps_everything_else() {
        let text = add_entry(DOCUMENT, &entry("*.b.example:8443")).unwrap();
        let expected = DOCUMENT
            .replace("      - 80\n", "      - 80\n  - host: \"*.b.example\"\n    ports: [8443]\n");
        assert_eq!(text, expected);
    }

    #[test]
    fn adding_a_port_to_a_host_keeps_its_comment() {
        let text = add_entry(DOCUMENT, &entry("a.example:80")).unwrap();
        assert!(text.contains("  - host: \"a.example\"  # why\n    ports: [80, 443]\n"), "{text}");
        assert!(text.contains("# second\n") && text.ends_with("# the end\n"));
    }

    #[test]
    fn removing_keeps_everything_else() {
        let text = remove_entry(DOCUMENT, entry("198.51.100.0/24").target(), None).unwrap();
        assert!(
            !text.contains("198.51") && text.contains("# second") && text.contains("# the end")
        );
        let text = remove_entry(&text, entry("a.example").target(), None).unwrap();
        assert_eq!(Policy::parse(text.as_bytes()).unwrap().entries, []);
        let text = add_entry(&text, &entry("c.example")).unwrap();
        assert_eq!(Policy::parse(text.as_bytes()).unwrap().entries, [entry("c.example")]);
    }

    #[test]
    fn an_entry_is_replaced_in_its_place() {
        let a = entry("a.example");
        let fresh = entry("*.c.example:80,443");
        let text = replace_entry(DOCUMENT, a.target(), a.protocol(), &fresh).unwrap();
        let old = "  - host: a.example # why\n    ports: [443]\n";
        let new = "  - host: \"*.c.example\"  # why\n    ports: [80, 443]\n";
        assert_eq!(text, DOCUMENT.replace(old, new));
        // Onto one that is there: they become one.
        let net = entry("198.51.100.0/24:22");
        let text = replace_entry(DOCUMENT, a.target(), a.protocol(), &net).unwrap();
        let left = Policy::parse(text.as_bytes()).unwrap().entries;
        assert_eq!(left, [entry("198.51.100.0/24:22,80")]);
        // One that is gone is added.
        let gone = entry("gone.example");
        let text = replace_entry(DOCUMENT, gone.target(), gone.protocol(), &fresh).unwrap();
        assert_eq!(Policy::parse(text.as_bytes()).unwrap().entries.len(), 3);
    }

    #[test]
    fn what_is_written_beside_an_entry_is_found() {
        assert_eq!(comments(DOCUMENT, 2), [Some("why".into()), Some("second".into())]);
        let flow = "version: 1\nwhitelist: [{host: a.example, ports: [1]}]\n";
        assert_eq!(comments(flow, 1), [None]);
        assert_eq!(comments("", 0), []);
    }

    #[test]
    fn empty_documents_start_new_ones() {
        for document in [
            "",
            "\n",
            "version: 1\n",
            "version: 1\nwhitelist: []\n",
            "version: 1\nwhitelist: # none\n",
        ] {
            let text = add_entry(document, &entry("a.example")).unwrap();
            assert_eq!(
                Policy::parse(text.as_bytes()).unwrap().entries,
                [entry("a.example")],
                "{document:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let flow = "version: 1\nwhitelist: [{host: a.example, ports: [1]}]\n";
        assert_eq!(add_entry(flow, &entry("b.example")), Err(EditError::Layout));
        assert!(matches!(add_entry("nonsense", &entry("b.example")), Err(EditError::Invalid(_))));
    }

    proptest! {
        #[test]
        fn add_then_remove_leaves_the_meaning(names in proptest::collection::vec("[a-z]{1,8}\\.example", 1..8)) {
            let mut text = DOCUMENT.to_owned();
            for name in &names {
                text = add_entry(&text, &entry(name)).unwrap();
            }
            for name in &names {
                text = remove_entry(&text, entry(name).target(), None).unwrap();
            }
            let mut before = Policy::parse(DOCUMENT.as_bytes()).unwrap();
            before.entries.retain(|e| !names.contains(&e.target().to_string()));
            prop_assert_eq!(Policy::parse(text.as_bytes()).unwrap(), before);
        }
    }
}
