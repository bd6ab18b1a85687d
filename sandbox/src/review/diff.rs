//! What changed between two texts, line by line.

use crate::display;

/// Longest line that is shown, in characters.
const MAX_LINE: usize = 400;
/// Lines that are compared exactly; more are shown as taken out and put in.
const MAX_LINES: usize = 2_000;
/// Lines that are shown as taken out, and as many as put in, where there are more: a file
/// of line breaks alone would be a million.
const MAX_SHOWN: usize = 2_500;
/// Lines that did not change, around those that did.
const AROUND: usize = 3;

/// One line of the difference. Its text is harmless for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiffLine {
    /// In both.
    Same(String),
    /// Only there before.
    Old(String),
    /// Only there now.
    New(String),
    /// Lines that did not change are left out here.
    Gap,
    /// Whether it can be executed now, where that changed.
    Executable(bool),
    /// So many lines that did change are left out here.
    More(usize),
}

/// `None` where it is not text that a person can read.
pub(super) fn diff(before: &[u8], now: &[u8]) -> Option<Vec<DiffLine>> {
    let (before, now) = (text(before)?, text(now)?);
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), now.lines().collect());
    let same_head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[same_head..], &new[same_head..]);
    let same_tail =
        old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old_middle, new_middle) =
        (&old_rest[..old_rest.len() - same_tail], &new_rest[..new_rest.len() - same_tail]);
    // One more than is shown, for the gap.
    let head = &old[same_head.saturating_sub(AROUND + 1)..same_head];
    let tail = &old_rest[old_rest.len() - same_tail..];
    let tail = &tail[..tail.len().min(AROUND + 1)];
    let mut lines: Vec<DiffLine> = head.iter().map(|line| same(line)).collect();
    lines.extend(middle(old_middle, new_middle));
    lines.extend(tail.iter().map(|line| same(line)));
    Some(shortened(lines))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

fn same(line: &str) -> DiffLine {
    DiffLine::Same(shown(line))
}

fn shown(line: &str) -> String {
    display::line(line, MAX_LINE)
}

/// The longest common subsequence, where that is not too much work.
fn middle(old: &[&str], new: &[&str]) -> Vec<DiffLine> {
    let removed =
        |lines: &[&str]| lines.iter().map(|l| DiffLine::Old(shown(l))).collect::<Vec<_>>();
    let added = |lines: &[&str]| lines.iter().map(|l| DiffLine::New(shown(l))).collect::<Vec<_>>();
    if old.len() > MAX_LINES || new.len() > MAX_LINES {
        // Each bounded by itself: what is taken out does not hide what is put in.
        let more = |lines: &[&str]| match lines.len().saturating_sub(MAX_SHOWN) {
            0 => Vec::new(),
            left => vec![DiffLine::More(left)],
        };
        let first = |lines: &'_ [&'_ str]| lines.len().min(MAX_SHOWN);
        return [removed(&old[..first(old)]), more(old), added(&new[..first(new)]), more(new)]
            .concat();
    }
    // longest[i][j]: of what follows line i of the old and line j of the new.
    let mut longest = vec![vec![0_u16; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i][j] = if old[i] == new[j] {
                longest[i + 1][j + 1] + 1
            } else {
                longest[i + 1][j].max(longest[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() && j < new.len() {
        if old[i] == new[j] {
            lines.push(same(old[i]));
            (i, j) = (i + 1, j + 1);
        } else if longest[i + 1][j] >= longest[i][j + 1] {
            lines.push(DiffLine::Old(shown(old[i])));
            i += 1;
        } else {
            lines.push(DiffLine::New(shown(new[j])));
            j += 1;
        }
    }
    lines.extend(removed(&old[i..]));
    lines.extend(added(&new[j..]));
    lines
}

/// Without the lines that are far from any change.
fn shortened(lines: Vec<DiffLine>) -> Vec<DiffLine> {
    let changed: Vec<usize> = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| !matches!(line, DiffLine::Same(_)))
        .map(|(at, _)| at)
        .collect();
    let near = |at: usize| {
        let next = changed.partition_point(|changed| *changed + AROUND < at);
        changed.get(next).is_some_and(|changed| *changed <= at + AROUND)
    };
    let mut short: Vec<DiffLine> = Vec::new();
    for (at, line) in lines.into_iter().enumerate() {
        if near(at) {
            short.push(line);
        } else if short.last() != Some(&DiffLine::Gap) {
            short.push(DiffLine::Gap);
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(lines: &[DiffLine]) -> Vec<String> {
        let line = |line: &DiffLine| match line {
            DiffLine::Same(text) => format!(" {text}"),
            DiffLine::Old(text) => format!("-{text}"),
            DiffLine::New(text) => format!("+{text}"),
            DiffLine::Gap | DiffLine::Executable(_) => "…".into(),
            DiffLine::More(left) => format!("… {left}"),
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn r1_a_file_of_line_breaks_is_not_shown_whole() {
        let now = "\n".repeat(1 << 20);
        let lines = diff(b"", now.as_bytes()).unwrap();
        assert_eq!(lines.len(), MAX_SHOWN + 1);
        assert_eq!(lines.last(), Some(&DiffLine::More((1 << 20) - MAX_SHOWN)));
        // What was there before does not hide what is there now.
        let lines = diff(now.as_bytes(), "evil\n".repeat(5_000).as_bytes()).unwrap();
        assert_eq!(lines.len(), 2 * MAX_SHOWN + 2);
        assert!(lines.contains(&DiffLine::New("evil".into())));
        let one = format!("{now}evil\n{now}");
        let lines = written(&diff(now.repeat(2).as_bytes(), one.as_bytes()).unwrap());
        assert_eq!(lines, ["…", " ", " ", " ", "+evil", " ", " ", " ", "…"]);
    }

    #[test]
    fn a_change_is_shown_with_what_is_around_it() {
        let before = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let now = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n";
        let lines = written(&diff(before.as_bytes(), now.as_bytes()).unwrap());
        assert_eq!(lines, ["…", " 2", " 3", " 4", "-5", "+five", " 6", " 7", " 8", "…"]);
        assert_eq!(written(&diff(b"", b"a\n").unwrap()), ["+a"]);
        assert_eq!(diff(b"a", b"\xff"), None);
        assert_eq!(diff(b"a\0", b""), None);
    }

    #[test]
    fn escape_codes_of_the_agents_are_not_shown() {
        let lines = written(&diff(b"", b"rm\x1b[2K\r echo").unwrap());
        assert!(!lines[0].contains(['\x1b', '\r']), "{lines:?}");
    }

    proptest! {
        #[test]
        fn old_and_new_can_be_read_from_it(
            old in prop::collection::vec("[ab]{1,2}", 0..12),
            new in prop::collection::vec("[ab]{1,2}", 0..12),
        ) {
            let (one, two): (Vec<&str>, Vec<&str>) =
                (old.iter().map(String::as_str).collect(), new.iter().map(String::as_str).collect());
            let lines = middle(&one, &two);
            let side = |wanted: fn(&DiffLine) -> Option<&String>| {
                lines.iter().filter_map(wanted).cloned().collect::<Vec<_>>()
            };
            prop_assert_eq!(side(|line| match line {
                DiffLine::Same(text) | DiffLine::Old(text) => Some(text),
                _ => None,
            }), old);
            prop_assert_eq!(side(|line| match line {
                DiffLine::Same(text) | DiffLine::New(text) => Some(text),
                _ => None,
            }), new);
        }
    }
}
