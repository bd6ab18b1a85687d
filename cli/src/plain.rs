//! Output of a program without a terminal of its own, on the person's terminal:
//! text and colours pass, every other escape sequence is thrown away. Nobody holds
//! the terminal then, so an answer to a question of the program's would be typed
//! into the person's shell (THREATS T1).

use crate::sequences::{Sequences, Token};

/// Longest sequence for a colour that is let through.
const MAX_COLOUR: usize = 64;

/// Keeps its place between pieces of output.
#[derive(Default)]
pub struct Plain(Sequences);

impl Plain {
    /// The bytes to show.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        self.0.take(bytes, |token| match token {
            Token::Byte(byte @ (b'\t' | b'\n' | b'\r' | 0x08 | 0x20..=0x7e | 0x80..)) => {
                shown.push(byte);
            }
            Token::Control(sequence) if is_colour(sequence) => shown.extend(sequence),
            _ => {}
        });
        shown
    }
}

/// `ESC [ numbers m`.
fn is_colour(sequence: &[u8]) -> bool {
    let numbers = sequence.strip_prefix(b"\x1b[").and_then(|rest| rest.strip_suffix(b"m"));
    sequence.len() <= MAX_COLOUR
        && numbers.is_some_and(|all| all.iter().all(|b| matches!(b, b'0'..=b'9' | b';' | b':')))
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
        }
    }
}
