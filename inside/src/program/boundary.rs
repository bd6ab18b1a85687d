//! Where a terminal's output stands inside an escape sequence or a character.
//!
//! A viewer that joins in the middle of a sequence would show its rest as text. So the bytes since the last moment at
//! which nothing was open are kept, and are sent after a redraw.

/// Open bytes that are kept. More than that only a string has, such as a large clipboard write.
const MAX_OPEN: usize = 4096;

/// Follows a stream of terminal output.
#[derive(Debug, Default)]
pub struct Boundary {
    state: State,
    open: Vec<u8>,
    /// Set when `open` has been cut to the beginning of a string that no terminal acts on.
    cut: bool,
    was_reset: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// So many continuation bytes of a UTF-8 character are missing.
    Character(u8),
    Escape,
    /// After ESC and intermediate bytes.
    Intermediate,
    Control,
    /// OSC, which BEL ends too.
    OperatingSystem,
    /// DCS, SOS, PM, APC.
    String,
    OperatingSystemEscape,
    StringEscape,
}

impl Boundary {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            // Most of a flood is plain text.
            if self.state == State::Ground && (0x20..0x7f).contains(&byte) {
                continue;
            }
            let before = self.state;
            self.state = self.next(byte);
            match (before, self.state) {
                (_, State::Ground) => self.open_with(&[]),
                (_, State::Escape) => self.open_with(&[byte]),
                (_, State::Character(_)) if byte >= 0xc2 => self.open_with(&[byte]),
                // The ESC that was taken for the end of a string began another sequence.
                (State::OperatingSystemEscape | State::StringEscape, _) => {
                    self.open_with(&[0x1b, byte])
                }
                _ => self.keep(byte),
            }
        }
    }

    /// What a viewer that starts now must be sent before the next output.
    #[must_use]
    pub fn open(&self) -> &[u8] {
        &self.open
    }

    /// Whether the terminal was reset (RIS) since this was last asked.
    pub fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.was_reset)
    }

    fn open_with(&mut self, bytes: &[u8]) {
        self.open.clear();
        self.open.extend(bytes);
        self.cut = false;
    }

    fn keep(&mut self, byte: u8) {
        if self.cut {
            return;
        }
        if self.open.len() < MAX_OPEN {
            self.open.push(byte);
            return;
        }
        // The rest of the string still comes and must stay invisible: it becomes part of one without a meaning.
        self.cut = true;
        self.open = match self.state {
            State::OperatingSystem | State::OperatingSystemEscape => b"\x1b]7777;".to_vec(),
            State::String | State::StringEscape => b"\x1b_".to_vec(),
            _ => b"\x1b[".to_vec(),
        };
    }

    fn next(&mut self, byte: u8) -> State {
        use State::{
            Character, Control, Escape, Ground, Intermediate, OperatingSystem,
            OperatingSystemEscape, String, StringEscape,
        };
        match (self.state, byte) {
            // CAN and SUB abort whatever is open.
            (_, 0x18 | 0x1a) => Ground,
            (OperatingSystem, 0x1b) => OperatingSystemEscape,
            (String, 0x1b) => StringEscape,
            (_, 0x1b) => Escape,

            (Ground | Character(_), 0xc2..=0xdf) => Character(1),
            (Ground | Character(_), 0xe0..=0xef) => Character(2),
            (Ground | Character(_), 0xf0..=0xf4) => Character(3),
            (Character(missing @ 2..), 0x80..=0xbf) => Character(missing - 1),
            (Ground | Character(_), _) => Ground,

            (Escape | OperatingSystemEscape | StringEscape, b'[') => Control,
            (Escape | OperatingSystemEscape | StringEscape, b']') => OperatingSystem,
            (Escape | OperatingSystemEscape | StringEscape, b'P' | b'X' | b'^' | b'_') => String,
            (Escape | OperatingSystemEscape | StringEscape, 0x20..=0x2f) => Intermediate,
            (Escape | OperatingSystemEscape | StringEscape, b'c') => {
                self.was_reset = true;
                Ground
            }
            // Control characters inside a sequence are carried out and do not end it.
            (state @ (Escape | Intermediate | Control), 0x00..=0x1f) => state,
            (Escape | OperatingSystemEscape | StringEscape, _) => Ground,

            (Intermediate, 0x20..=0x2f) => Intermediate,
            (Intermediate, _) => Ground,

            (Control, 0x40..=0x7e) => Ground,
            (Control, _) => Control,

            (OperatingSystem, 0x07) => Ground,
            (OperatingSystem, _) => OperatingSystem,
            (String, _) => String,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(bytes: &[u8]) -> Vec<u8> {
        let mut boundary = Boundary::default();
        boundary.push(bytes);
        boundary.open().to_vec()
    }

    #[test]
    fn nothing_is_open_between_sequences() {
        for closed in [
            &b"plain"[..],
            b"\x1b[1;31m",
            b"\x1b(B",
            b"\x1b]0;title\x07",
            b"\x1b]0;title\x1b\\",
            b"\x1bPq#1\x1b\\",
            b"\x1b[31\x18",
            "äöü✳🦀".as_bytes(),
            b"\xff\xfe\x80",
        ] {
            assert_eq!(open(closed), b"", "{closed:?}");
        }
    }

    #[test]
    fn what_is_open_is_kept_from_its_first_byte() {
        for (before, tail) in [
            (&b"text\x1b[0m"[..], &b"\x1b"[..]),
            (b"x", b"\x1b[38;2;1"),
            (b"\x1b[31", b"\x1b[32"),
            (b"\x1b]0;done\x07", b"\x1b]0;ti"),
            (b"", b"\x1bP1"),
            (b"\x1b]0;title", b"\x1b[3"),
            (b"\x1bPq\x1b", b"\x1b]0"),
            (b"a", "✳".as_bytes().get(..2).unwrap()),
            ("ä✳".as_bytes().get(..4).unwrap(), "🦀".as_bytes().get(..3).unwrap()),
        ] {
            assert_eq!(open(&[before, tail].concat()), tail);
        }
    }

    #[test]
    fn a_long_string_is_replaced_by_one_without_a_meaning() {
        let mut boundary = Boundary::default();
        boundary.push(b"\x1b]52;c;");
        boundary.push(&vec![b'A'; 1 << 20]);
        assert_eq!(boundary.open(), b"\x1b]7777;");
        boundary.push(b"\x07ok");
        assert_eq!(boundary.open(), b"");
    }

    #[test]
    fn a_reset_is_noticed_once() {
        let mut boundary = Boundary::default();
        boundary.push(b"ab\x1bcd");
        assert!(boundary.take_reset());
        assert!(!boundary.take_reset());
    }
}
