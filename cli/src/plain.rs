//! Output of a program without a terminal of its own, on the person's terminal:
//! text and colours pass, every other escape sequence is thrown away. Nobody holds
//! the terminal then, so an answer to a question of the program's would be typed
//! into the person's shell (THREATS T1).

const ESCAPE: u8 = 0x1b;
/// Longest sequence for a colour that is let through.
const MAX_COLOUR: usize = 64;

/// Keeps its place between pieces of output.
#[derive(Default)]
pub struct Plain {
    state: State,
    /// The sequence so far, while it may be one for a colour.
    held: Vec<u8>,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum State {
    #[default]
    Text,
    /// After the first byte of a control character of two (U+0080 to U+009F).
    HighControl,
    Escape,
    /// In a sequence that ends with a byte from `@` to `~`.
    Control,
    /// In a string that ends with BEL or ST.
    String,
    StringEscape,
    /// Intermediate bytes of an escape sequence, to its final one.
    Intermediate,
}

impl Plain {
    /// The bytes to show.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            self.take(byte, &mut shown);
        }
        shown
    }

    fn take(&mut self, byte: u8, shown: &mut Vec<u8>) {
        self.state = match (self.state, byte) {
            // Begins anew wherever it comes, but in a string it may be its end.
            (State::String, ESCAPE) => State::StringEscape,
            (_, ESCAPE) => {
                self.held.clear();
                self.held.push(ESCAPE);
                State::Escape
            }
            (State::Text, 0xc2) => State::HighControl,
            (State::Text, b'\t' | b'\n' | b'\r' | 0x08 | 0x20..=0x7e | 0x80..) => {
                shown.push(byte);
                State::Text
            }
            (State::Text, _) => State::Text,
            (State::HighControl, 0x9b) => {
                self.held.clear();
                State::Control
            }
            (State::HighControl, 0x90 | 0x98 | 0x9d..=0x9f) => State::String,
            (State::HighControl, 0x80..=0x9f) => State::Text,
            (State::HighControl, other) => {
                shown.extend([0xc2, other]);
                State::Text
            }
            (State::Escape, b'[') => {
                self.held.push(byte);
                State::Control
            }
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::String,
            (State::Escape | State::Intermediate, 0x20..=0x2f) => State::Intermediate,
            // A control character does not end a sequence.
            (
                State::Escape | State::Control | State::Intermediate,
                0..=0x17 | 0x19 | 0x1c..=0x1f,
            ) => {
                self.held.clear();
                self.state
            }
            (State::Escape | State::Intermediate, _) => State::Text,
            (State::Control, 0x40..=0x7e) => {
                let colour = byte == b'm'
                    && self.held.starts_with(b"\x1b[")
                    && self.held[2..].iter().all(|b| matches!(b, b'0'..=b'9' | b';' | b':'));
                if colour {
                    shown.append(&mut self.held);
                    shown.push(byte);
                }
                State::Text
            }
            (State::Control, 0x18 | 0x1a) => State::Text,
            (State::Control, _) => {
                if self.held.len() < MAX_COLOUR {
                    self.held.push(byte);
                } else {
                    self.held.clear();
                }
                State::Control
            }
            (State::String, 0x07 | 0x18 | 0x1a) => State::Text,
            (State::String, _) => State::String,
            (State::StringEscape, b'\\') => State::Text,
            (State::StringEscape, _) => State::String,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t1_text_and_colours_pass_and_nothing_else() {
        for (given, shown) in [
            ("plain ü 漢\ttext\r\n", "plain ü 漢\ttext\r\n"),
            ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
            ("a\x1b]52;c;?\x07b", "ab"),
            ("a\x1b]052;c;?\x1b\\b", "ab"),
            ("a\x1b]0;title\x07b", "ab"),
            ("a\x1b[6nb\x1b[cb\x1b[21tb", "abbb"),
            ("a\x1bP$qm\x1b\\b", "ab"),
            ("a\x1b[?1049hb\x1b[2Jb\x1b(0b\x1bcb", "abbbb"),
            ("a\u{9d}52;c;?\x07b\u{9b}6nb", "abb"),
            ("a\x1b[3\x006nb\x1b[>1mb", "abb"),
            ("a\x07b\x00c", "abc"),
            ("\u{a0}£", "\u{a0}£"),
        ] {
            let whole = Plain::default().pass(given.as_bytes());
            assert_eq!(String::from_utf8_lossy(&whole), shown, "{given:?}");
            let mut bit_by_bit = Plain::default();
            let pieces: Vec<u8> = given.bytes().flat_map(|byte| bit_by_bit.pass(&[byte])).collect();
            assert_eq!(pieces, whole, "{given:?} in pieces");
        }
    }
}
