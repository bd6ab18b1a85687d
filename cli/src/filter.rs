//! What of a sandbox's terminal may do something to the person's: everything
//! that draws. Commands to the terminal itself pass only when they are known to
//! be harmless; a question for the clipboard never does, as its answer would be
//! typed into the sandbox (THREATS T1).

use std::collections::BTreeSet;

use crate::sequences::{Sequences, Token};

/// Longest command other than a clipboard text, in bytes.
const MAX_COMMAND: usize = 8 << 10;

/// Commands that set or ask for something of the drawing alone: titles, colours
/// and their resets, marks of a shell's prompts (xterm's ctlseqs; 133 by FinalTerm).
const HARMLESS: [&str; 14] =
    ["0", "1", "2", "4", "10", "11", "12", "22", "104", "110", "111", "112", "133", "9;4"];

/// What takes back a command of the same number (xterm's ctlseqs; 9;4 by ConEmu). Further
/// colours of 10 are those of the next numbers.
const UNDONE: [(&str, &[&str]); 9] = [
    ("0", &["0;"]),
    ("1", &["0;"]),
    ("2", &["0;"]),
    ("4", &["104"]),
    ("10", &["110", "111", "112"]),
    ("11", &["111", "112"]),
    ("12", &["112"]),
    ("22", &["22;"]),
    ("9;4", &["9;4;0"]),
];
/// The last of them that a program may set, and so is taken back.
const LAST_COLOUR: usize = 12;

/// Keeps its place between pieces of output, and what was changed for longer than they.
#[derive(Default)]
pub struct Filter {
    sequences: Sequences,
    changed: BTreeSet<&'static str>,
}

impl Filter {
    /// The bytes to show.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        let Self { sequences, changed } = self;
        sequences.take(bytes, |token| match token {
            Token::Byte(byte) => shown.push(byte),
            Token::Escape(sequence) => shown.extend(sequence),
            Token::Control(sequence) => {
                if draws(sequence) {
                    shown.extend(sequence);
                }
            }
            Token::Command(text) => {
                if may_pass(text) {
                    changed.extend(undone_by(text));
                    shown.extend(b"\x1b]");
                    shown.extend(text);
                    shown.extend(b"\x1b\\");
                }
            }
        });
        shown
    }

    /// What gives the person's terminal its own colours, title and pointer back, as far as
    /// any were changed: who has set them by hand keeps them otherwise.
    pub fn undo(&self) -> String {
        self.changed.iter().map(|command| format!("\x1b]{command}\x1b\\")).collect()
    }
}

/// Of a command that passes, and is no question.
fn undone_by(text: &[u8]) -> &'static [&'static str] {
    let Ok(text) = std::str::from_utf8(text) else { return &[] };
    let of = |(number, undone): (&str, &'static [&'static str])| {
        let rest = text.strip_prefix(number)?.strip_prefix(';')?;
        let asks = |part: &str| part == "?" || part.bytes().all(|byte| byte.is_ascii_digit());
        let is_title = undone == ["0;"];
        (is_title || !rest.split(';').all(asks) || number == "9;4").then_some(undone)
    };
    UNDONE.into_iter().find_map(of).unwrap_or_default()
}

/// A command for the colours of the text and what follows it names none beyond the cursor's.
fn stays_with_known_colours(number: &str, rest: &str) -> bool {
    match number.parse::<usize>() {
        Ok(first @ 10..=LAST_COLOUR) => first + rest.split(';').count() <= LAST_COLOUR + 1,
        _ => true,
    }
}

/// Not what prints on paper (`i`), moves or asks windows (`t`), or locks the keyboard (mode
/// 2 without a mark of a private one; ECMA-48), nor what makes it another terminal, which
/// knows nothing of what is undone at the end (private mode 2; DEC STD 070).
fn draws(sequence: &[u8]) -> bool {
    let Some((last, rest)) = sequence.split_last() else { return false };
    let parameters = rest.strip_prefix(b"\x1b[").unwrap_or(rest);
    match last {
        b'i' | b't' => false,
        b'l' if parameters.starts_with(b"?") => {
            !parameters[1..].split(|byte| *byte == b';').any(|one| number(one) == Some(2))
        }
        b'h' => !parameters
            .split(|byte| *byte == b';' || *byte == b':')
            .any(|one| number(one) == Some(2)),
        _ => true,
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn may_pass(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    // Bytes that were left out can bring two others together.
    if text.chars().any(char::is_control) {
        return false;
    }
    let (number, rest) = text.split_once(';').unwrap_or((text, ""));
    match number {
        "52" => sets_clipboard(rest),
        "8" => is_link(rest) && text.len() <= MAX_COMMAND,
        _ => {
            let is = |known: &&str| {
                let rest = text.strip_prefix(*known);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(';'))
            };
            HARMLESS.iter().any(is)
                && text.len() <= MAX_COMMAND
                && stays_with_known_colours(number, rest)
        }
    }
}

/// `where ; base64`. Anything else could be a question.
fn sets_clipboard(rest: &str) -> bool {
    let Some((selections, text)) = rest.split_once(';') else { return false };
    selections.len() <= 8
        && selections.bytes().all(|byte| b"cpqs01234567".contains(&byte))
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
}

/// `parameters ; address`: of the web, or the end of a link.
fn is_link(rest: &str) -> bool {
    let Some((_, address)) = rest.split_once(';') else { return false };
    address.is_empty() || address.starts_with("https://") || address.starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(text: &str) -> String {
        String::from_utf8(Filter::default().pass(text.as_bytes())).expect("UTF-8")
    }

    #[test]
    fn t1_what_reads_writes_files_or_is_unknown_never_arrives() {
        for attack in [
            "\x1b]52;c;?\x07",
            "\x1b]52;;?\x1b\\",
            "\x1b]52;cp; ?\x07",
            "\x1b]52;c?\x07",
            "\x1b]052;c;?\x07",
            "\x1b]5\x002;c;?\x07",
            "\u{9d}52;c;?\u{9c}",
            "\x1b\x1b]52;c;?\x07",
            "\x1bP$q\"p\x1b\\",
            "\x1b_Ga=q\x1b\\",
            "\x1b]1337;File=name=eA==:eA==\x07",
            "\x1b]8;;file:///etc/passwd\x07",
            "\x1b]8;;javascript:alert(1)\x07",
            "\x1b]7;file://host/\x07",
            "\x1b]50;?\x07",
            "\x1b]777;notify;a;b\x07",
            "\x1b[5i",
            "\x1b[?5i",
            "\u{9b}4;5i",
            "\x1b[3;0;0t",
            "\x1b[21t",
            "\x1b[2h",
            "\x1b[?2l",
            "\x1b[?25;02l",
            "\x1b[4;002h",
        ] {
            let shown = pass(&format!("a{attack}b")).replace('\0', "");
            assert_eq!(shown, "ab", "{attack:?}");
        }
        // tmux hands on what stands in there; its own escapes break it off here.
        assert!(!pass("\x1bPtmux;\x1b\x1b]52;c;?\x07\x1b\\").contains("52"));
    }

    #[test]
    fn everything_that_draws_passes() {
        for text in [
            "plain ? text ü 漢 🙂\r\n",
            "\x1b[38;2;1;2;3m\x1b[?25h\x1b[>0q\x1b[?2026$p\x1b[6n\x1b[?2h\x1b[4;20h\x1b[2l",
            "\x1b7\x1b8\x1b(B\x1bc\x1b=",
            "\x1b]52;c;aGVsbG8=\x1b\\",
            "\x1b]0;✳ title?\x1b\\",
            "\x1b]11;?\x1b\\\x1b]104\x1b\\",
            "\x1b]8;id=1;https://a.example/?q\x1b\\link\x1b]8;;\x1b\\",
        ] {
            assert_eq!(pass(text), text);
        }
        assert_eq!(pass("\x1b]0;title\x07"), "\x1b]0;title\x1b\\");
    }

    #[test]
    fn t1_what_was_changed_is_given_back_and_nothing_else() {
        let undo = |text: &str| {
            let mut filter = Filter::default();
            filter.pass(text.as_bytes());
            filter.undo()
        };
        assert_eq!(undo("text \x1b[31m\x1b]11;?\x1b\\\x1b]4;1;?\x07\x1b]52;c;aGk=\x07"), "");
        assert_eq!(undo("\x1b]12;#000000\x07"), "\x1b]112\x1b\\");
        let all = "\x1b]110\x1b\\\x1b]111\x1b\\\x1b]112\x1b\\";
        assert_eq!(undo("\x1b]10;#000;#000;#000\x07"), all);
        // A fourth colour is that of what is selected: nothing of it arrives.
        assert_eq!(pass("\x1b]10;#000;#000;#000;#000\x07\x1b]12;#000;#000\x07x"), "x");
        assert_eq!(
            undo("\x1b]4;1;#fff\x07\x1b]2;a\x07\x1b]0;b\x07"),
            "\x1b]0;\x1b\\\x1b]104\x1b\\"
        );
        assert_eq!(undo("\x1b]9;4;1;50\x07"), "\x1b]9;4;0\x1b\\");
    }

    #[test]
    fn a_sequence_that_is_broken_off_hides_nothing_after_it() {
        assert_eq!(pass("\x1b]52;c;abc\x1b[31mred"), "\x1b[31mred");
        assert_eq!(pass("\x1b]52;c;?\x1b]52;c;?\x07x"), "x");
        assert_eq!(pass("\x1b]52;c;abc\x18x"), "x");
        // Found by fuzzing: a question for the clipboard within a title.
        assert_eq!(pass("\x1b]0;title\u{9d}52;c;?\x07x"), "x");
        let split = Filter::default().pass(b"\x1b]0;title\xc2\x7f\x9d52;c;?\x07x");
        assert_eq!(split, b"x");
        assert_eq!(pass("\x1b]0;title\u{9b}31mred"), "\x1b[31mred");
        assert_eq!(pass("\x1b]0;a\u{85}\u{a0}b\x07"), "\u{a0}b\x07");
    }
}
