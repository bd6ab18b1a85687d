//! What of a sandbox's output must not reach the person's terminal: a question
//! for the clipboard, whose answer would be typed into the sandbox (THREATS T1),
//! and a clipboard text without bounds. Everything else passes as it came.

/// Most bytes of one clipboard text, as in the window.
const MAX_CLIPBOARD: usize = 1 << 20;

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// `OSC 52 ;`, with which every use of the clipboard begins.
const CLIPBOARD: &[u8] = b"\x1b]52;";

/// Keeps its place between pieces of output.
#[derive(Default)]
pub struct Filter {
    /// Bytes of a sequence that may be, or is, one for the clipboard.
    held: Vec<u8>,
    /// The sequence is too long and is thrown away to its end.
    dropping: bool,
}

impl Filter {
    /// The bytes to show.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            self.take(byte, &mut shown);
        }
        shown
    }

    fn take(&mut self, byte: u8, shown: &mut Vec<u8>) {
        if self.held.len() < CLIPBOARD.len() {
            if byte != CLIPBOARD[self.held.len()] {
                shown.append(&mut self.held);
                // The byte may begin a sequence of its own.
                if byte != ESCAPE {
                    return shown.push(byte);
                }
            }
            return self.held.push(byte);
        }
        let after_escape = self.held.last() == Some(&ESCAPE);
        self.held.push(byte);
        // BEL or ST end it; any other escape, CAN and SUB break it off.
        let ended = byte == BELL || (after_escape && byte == b'\\');
        let broken_off = matches!(byte, 0x18 | 0x1a) || (after_escape && byte != b'\\');
        if broken_off {
            self.held.clear();
            self.dropping = false;
            if after_escape {
                // The escape begins something else: look at it anew.
                self.take(ESCAPE, shown);
                self.take(byte, shown);
            }
        } else if ended {
            if !self.dropping && !asks(&self.held) {
                shown.append(&mut self.held);
            }
            self.held.clear();
            self.dropping = false;
        } else if self.held.len() > MAX_CLIPBOARD {
            self.dropping = true;
            self.held.truncate(CLIPBOARD.len());
        }
    }
}

/// `OSC 52 ; where ; ?` asks for the text; anything with a question mark in it is
/// no base64 and is taken for one.
fn asks(sequence: &[u8]) -> bool {
    sequence.contains(&b'?')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_splits(input: &[u8]) -> Vec<u8> {
        let whole = Filter::default().pass(input);
        let mut filter = Filter::default();
        let single: Vec<u8> = input.iter().flat_map(|byte| filter.pass(&[*byte])).collect();
        assert_eq!(whole, single, "{input:?}");
        whole
    }

    #[test]
    fn a_question_for_the_clipboard_never_arrives() {
        for question in
            ["\x1b]52;c;?\x07", "\x1b]52;;?\x1b\\", "\x1b]52;cp; ?\x07", "\x1b\x1b]52;c;?\x07"]
        {
            let shown = all_splits(format!("a{question}b").as_bytes());
            assert!(!shown.contains(&b'?'), "{question:?} -> {shown:?}");
            assert!(shown.starts_with(b"a") && shown.ends_with(b"b"));
        }
    }

    #[test]
    fn everything_else_passes_as_it_came() {
        for text in [
            "plain ? text",
            "\x1b]52;c;aGVsbG8=\x07",
            "\x1b]52;c;aGVsbG8=\x1b\\x",
            "\x1b]0;title?\x07",
            "\x1b[?25h\x1b]5",
            "\x1b]8;;http://a.example/?q\x07",
        ] {
            let mut shown = all_splits(text.as_bytes());
            if text.ends_with("\x1b]5") {
                shown.extend_from_slice(b"\x1b]5");
            }
            assert_eq!(shown, text.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn a_sequence_that_is_broken_off_hides_nothing_after_it() {
        assert_eq!(all_splits(b"\x1b]52;c;abc\x1b[31mred"), b"\x1b[31mred");
        assert_eq!(all_splits(b"\x1b]52;c;?\x1b]52;c;?\x07x"), b"x");
        assert_eq!(all_splits(b"\x1b]52;c;abc\x18x"), b"x");
    }

    #[test]
    fn a_text_without_bounds_is_dropped_and_memory_stays_bounded() {
        let mut filter = Filter::default();
        assert!(filter.pass(CLIPBOARD).is_empty());
        for _ in 0..40 {
            assert!(filter.pass(&vec![b'A'; 100_000]).is_empty());
            assert!(filter.held.len() <= MAX_CLIPBOARD);
        }
        assert_eq!(filter.pass(b"\x07after"), b"after");
    }
}
