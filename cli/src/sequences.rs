//! Takes what a program writes for a terminal apart into text and escape
//! sequences (ECMA-48, and xterm's for strings), however it is spelled and cut
//! into pieces. What a sequence may do is decided elsewhere: [`crate::filter`]
//! and [`crate::plain`].

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// Longest sequence that is no string, in bytes. Longer ones are thrown away.
const MAX_SEQUENCE: usize = 512;
/// Longest operating system command: a clipboard text, as in the window.
const MAX_STRING: usize = 1 << 20;

/// One thing that a program wrote.
#[derive(Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A byte of a text in UTF-8, or a control character of one byte.
    Byte(u8),
    /// `ESC … final`, with its first byte.
    Escape(&'a [u8]),
    /// `ESC [ … final`, also one that began with U+009B.
    Control(&'a [u8]),
    /// What stands in an operating system command (`ESC ] … ST`), without control
    /// characters. Of device control and other strings nothing is said.
    Command(&'a [u8]),
}

/// Keeps its place between pieces of output.
#[derive(Debug, Default)]
pub struct Sequences {
    state: State,
    /// The sequence so far, or what stands in a string.
    held: Vec<u8>,
    /// Too long: thrown away to its end.
    overlong: bool,
    /// Bytes of a character that are still to come.
    continuation: u8,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum State {
    #[default]
    Text,
    /// After 0xc2, which begins U+0080 to U+00BF.
    High,
    Escape,
    Control,
    Command,
    /// A string of which nothing is kept.
    Other,
    /// After 0xc2 in a string.
    StringHigh(bool),
    /// After an escape in a string; whether that is a command.
    StringEscape(bool),
}

impl Sequences {
    /// Calls `token` for each thing in `bytes`, one after the other.
    pub fn take(&mut self, bytes: &[u8], mut token: impl FnMut(Token<'_>)) {
        for &byte in bytes {
            self.byte(byte, &mut token);
        }
    }

    fn byte(&mut self, byte: u8, token: &mut impl FnMut(Token<'_>)) {
        self.state = match self.state {
            State::Text => self.text(byte, token),
            State::High => match byte {
                0x80..=0x9f => self.begin_high(byte),
                0xa0..=0xbf => {
                    token(Token::Byte(0xc2));
                    token(Token::Byte(byte));
                    State::Text
                }
                _ => self.text(byte, token),
            },
            State::Escape | State::Control => self.sequence(byte, token),
            State::Command | State::Other => self.string(byte, token),
            State::StringHigh(command) => match byte {
                // U+009C, the string's end in one character.
                0x9c => self.end(command, token),
                // Another control character begins something else, as an escape does.
                0x80..=0x9f => self.begin_high(byte),
                _ => {
                    self.state = string(command);
                    self.hold(0xc2, MAX_STRING);
                    self.string(byte, token)
                }
            },
            State::StringEscape(command) => match byte {
                b'\\' => self.end(command, token),
                // The string is broken off: the escape begins something else.
                _ => {
                    self.begin(State::Escape, &[ESCAPE]);
                    self.sequence(byte, token)
                }
            },
        };
    }

    fn text(&mut self, byte: u8, token: &mut impl FnMut(Token<'_>)) -> State {
        if self.continuation > 0 && (0x80..=0xbf).contains(&byte) {
            self.continuation -= 1;
            token(Token::Byte(byte));
            return State::Text;
        }
        self.continuation = match byte {
            0xc3..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf4 => 3,
            _ => 0,
        };
        match byte {
            ESCAPE => self.begin(State::Escape, &[ESCAPE]),
            0xc2 => State::High,
            // No character: a control character to a terminal that is not set to UTF-8.
            0x80..=0xc1 | 0xf5.. => State::Text,
            _ => {
                token(Token::Byte(byte));
                State::Text
            }
        }
    }

    /// A control character from U+0080 to U+009F; `ESC @` to `ESC _` are the same.
    fn begin_high(&mut self, byte: u8) -> State {
        match byte {
            0x9b => self.begin(State::Control, b"\x1b["),
            0x9d => self.begin(State::Command, b""),
            0x90 | 0x98 | 0x9e | 0x9f => self.begin(State::Other, b""),
            _ => State::Text,
        }
    }

    fn begin(&mut self, state: State, held: &[u8]) -> State {
        self.held.clear();
        self.held.extend_from_slice(held);
        self.overlong = false;
        state
    }

    fn hold(&mut self, byte: u8, most: usize) {
        if self.held.len() < most {
            self.held.push(byte);
        } else {
            self.overlong = true;
        }
    }

    /// In a sequence that is no string.
    fn sequence(&mut self, byte: u8, token: &mut impl FnMut(Token<'_>)) -> State {
        let first = self.state == State::Escape && self.held.len() == 1
            || matches!(self.state, State::StringEscape(_));
        match byte {
            ESCAPE => self.begin(State::Escape, &[ESCAPE]),
            // CAN and SUB break it off.
            0x18 | 0x1a => State::Text,
            // Other control characters act at once and end nothing.
            0..=0x1f => {
                token(Token::Byte(byte));
                self.stay()
            }
            0x7f => self.stay(),
            // No byte of a sequence.
            0x80.. => self.text(byte, token),
            b'[' if first => {
                self.held.push(byte);
                State::Control
            }
            b']' if first => self.begin(State::Command, b""),
            b'P' | b'X' | b'^' | b'_' if first => self.begin(State::Other, b""),
            _ => {
                self.hold(byte, MAX_SEQUENCE);
                let control = self.state == State::Control;
                let last = if control { byte >= 0x40 } else { byte >= 0x30 };
                if !last {
                    return self.stay();
                }
                if !self.overlong {
                    let held = &self.held;
                    token(if control { Token::Control(held) } else { Token::Escape(held) });
                }
                State::Text
            }
        }
    }

    /// The same sequence goes on.
    fn stay(&self) -> State {
        if self.state == State::Control { State::Control } else { State::Escape }
    }

    fn string(&mut self, byte: u8, token: &mut impl FnMut(Token<'_>)) -> State {
        let command = self.state == State::Command;
        match byte {
            BELL => self.end(command, token),
            ESCAPE => State::StringEscape(command),
            0x18 | 0x1a => State::Text,
            0xc2 => State::StringHigh(command),
            // Terminals pass over them, so that they must hide nothing.
            0..=0x1f | 0x7f => self.state,
            _ => {
                if command {
                    self.hold(byte, MAX_STRING);
                }
                self.state
            }
        }
    }

    fn end(&mut self, command: bool, token: &mut impl FnMut(Token<'_>)) -> State {
        if command && !self.overlong {
            token(Token::Command(&self.held));
        }
        // A megabyte is not kept for the next title.
        self.held = Vec::new();
        State::Text
    }
}

fn string(command: bool) -> State {
    if command { State::Command } else { State::Other }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut sequences = Sequences::default();
        let mut tokens: Vec<String> = Vec::new();
        for piece in pieces {
            sequences.take(piece, |token| {
                let (kind, bytes) = match token {
                    Token::Byte(byte) => ("", vec![byte]),
                    Token::Escape(bytes) => ("E", bytes.to_vec()),
                    Token::Control(bytes) => ("C", bytes.to_vec()),
                    Token::Command(bytes) => ("O", bytes.to_vec()),
                };
                tokens.push(format!("{kind}{}", bytes.escape_ascii()));
            });
        }
        tokens
    }

    #[test]
    fn every_spelling_of_a_command_is_one() {
        for spelling in [
            "\x1b]52;c;?\x07",
            "\x1b]52;c;?\x1b\\",
            "\x1b]52;c;?\u{9c}",
            "\u{9d}52;c;?\x07",
            "\x1b\x1b]52;c;?\x07",
            "\x1b]5\x002;c\x01;?\x07",
            "\x1b]0\x1b]52;c;?\x07",
            "\x1b[1\x1b]52;c;?\x07",
            "\x1bP\x1b]52;c;?\x07",
        ] {
            assert_eq!(tokens([spelling.as_bytes()]), ["O52;c;?"], "{spelling:?}");
        }
        // A control character in between acts, and the command is one all the same.
        assert_eq!(tokens([b"\x1b\x00]52;c;?\x07".as_slice()]), ["\\x00", "O52;c;?"]);
        // What is no character in UTF-8 arrives nowhere.
        assert_eq!(tokens([b"\x9d52\x07".as_slice()]), ["5", "2", "\\x07"]);
    }

    #[test]
    fn other_strings_are_passed_over_and_text_in_utf_8_is_not() {
        for string in ["\x1bPtmux;\x1b\x1b]52;c;?\x07\x1b\\", "\x1b_Gx\x1b\\", "\u{90}x\u{9c}"] {
            let tokens = tokens([string.as_bytes()]);
            let shown: Vec<_> = tokens.iter().filter(|token| !token.starts_with('E')).collect();
            assert!(shown.iter().all(|token| **token == "O52;c;?"), "{string:?}: {tokens:?}");
        }
        // U+275C ends with the byte that is a string's end in another coding.
        assert_eq!(tokens(["\x1b]0;\u{275c}x\x07".as_bytes()]), ["O0;\\xe2\\x9d\\x9cx"]);
        assert_eq!(tokens(["Ý".as_bytes()]), ["\\xc3", "\\x9d"]);
    }

    #[test]
    fn what_has_no_end_is_bounded() {
        let mut sequences = Sequences::default();
        sequences.take(b"\x1b]52;c;", |_| panic!("not yet"));
        for _ in 0..40 {
            sequences.take(&[b'A'; 100_000], |_| panic!("not yet"));
            assert!(sequences.held.len() <= MAX_STRING);
        }
        let mut seen = Vec::new();
        sequences.take(b"\x07x", |token| seen.push(format!("{token:?}")));
        assert_eq!(seen, ["Byte(120)"]);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            parts in prop::collection::vec(
                prop_oneof![
                    Just(b"\x1b]".to_vec()), Just(b"\x1b[".to_vec()), Just(b"\x1b\\".to_vec()),
                    Just(b"\x1bP".to_vec()), Just("\u{9d}\u{9c}".as_bytes().to_vec()),
                    prop::collection::vec(any::<u8>(), 0..6),
                ],
                0..12,
            ),
        ) {
            let bytes = parts.concat();
            let single = bytes.iter().map(std::slice::from_ref);
            prop_assert_eq!(tokens([bytes.as_slice()]), tokens(single));
        }
    }
}
