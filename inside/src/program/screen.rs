//! The model of one terminal: what is on the screen, what scrolled off it, and how to draw all that again.

use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rcc_inside::text::{MAX_SHOWN, clean};
use vt100::{Callbacks, Parser, Screen as Model};

use super::boundary::Boundary;

/// Lines of scrollback that are kept. At 32 bytes a cell that is 2.5 MB for 80 columns and 32 MB for the widest
/// terminal.
const SCROLLBACK_LINES: usize = 1000;

/// Bytes of scrollback that a redraw may have; the newest lines win.
const MAX_HISTORY: usize = 512 << 10;

const COLUMNS: std::ops::RangeInclusive<u16> = 2..=1000;
const ROWS: std::ops::RangeInclusive<u16> = 1..=500;

/// A terminal's size in characters, within what the model can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub cols: NonZeroU16,
    pub rows: NonZeroU16,
}

impl Size {
    /// Brings a wish into range: 2 to 1000 columns, 1 to 500 rows.
    pub fn clamped(cols: u16, rows: u16) -> Self {
        let within = |value: u16, range: std::ops::RangeInclusive<u16>| {
            NonZeroU16::new(value.clamp(*range.start(), *range.end())).unwrap_or(NonZeroU16::MIN)
        };
        Self { cols: within(cols, COLUMNS), rows: within(rows, ROWS) }
    }
}

/// The model of one terminal.
pub struct Screen {
    parser: Parser<Extras>,
    boundary: Boundary,
    size: Size,
}

/// What the program's output asked for while it was taken in.
#[derive(Debug, Default)]
pub struct Effects {
    /// The title changed.
    pub title: bool,
    /// Answers to questions that a terminal must answer, to be typed when no viewer does.
    pub answers: Vec<u8>,
}

impl Screen {
    /// An empty terminal.
    pub fn new(size: Size) -> Self {
        Self { parser: parser(size), boundary: Boundary::default(), size }
    }

    /// Takes in what the program wrote.
    pub fn process(&mut self, bytes: &[u8]) -> Effects {
        self.boundary.push(bytes);
        if self.boundary.take_reset() {
            self.parser.callbacks_mut().modes = Modes::default();
        }
        // The bytes are hostile and the model is somebody else's code: a fault in it costs this screen's content, not
        // the process that everything in the sandbox hangs on.
        if catch_unwind(AssertUnwindSafe(|| self.parser.process(bytes))).is_err() {
            let title = std::mem::take(&mut self.parser.callbacks_mut().title);
            self.parser = parser(self.size);
            self.parser.callbacks_mut().title = title;
        }
        let (row, col) = self.parser.screen().cursor_position();
        let extras = self.parser.callbacks_mut();
        let mut answers = std::mem::take(&mut extras.answers);
        if std::mem::take(&mut extras.asked_position) {
            answers.extend(format!("\x1b[{};{}R", row + 1, col + 1).bytes());
        }
        Effects { title: std::mem::take(&mut extras.title_changed), answers }
    }

    /// The title that the program set, cleaned; at most 140 characters.
    pub fn title(&self) -> &str {
        &self.parser.callbacks().title
    }

    pub fn size(&self) -> Size {
        self.size
    }

    pub fn resize(&mut self, size: Size) {
        if size == self.size {
            return;
        }
        self.size = size;
        let resized = catch_unwind(AssertUnwindSafe(|| self.parser.set_size(size.rows, size.cols)));
        if resized.is_err() {
            self.parser = parser(size);
        }
    }

    /// Bytes that make a viewer of the same size show this terminal, whatever it showed before.
    ///
    /// With `history` the viewer's own scrollback is replaced by this one's. Not drawn again are scroll regions, tab
    /// stops, character sets, hyperlinks, and attributes beyond colour, bold, dim, italic, underline and inverse; a
    /// program that uses them repaints when its size changes.
    pub fn redraw(&mut self, history: bool) -> Vec<u8> {
        let drawn = catch_unwind(AssertUnwindSafe(|| draw(&mut self.parser, self.size, history)));
        let mut bytes = drawn.unwrap_or_else(|_| {
            self.parser = parser(self.size);
            RESET.to_vec()
        });
        bytes.extend(self.boundary.open());
        bytes
    }
}

fn parser(size: Size) -> Parser<Extras> {
    Parser::new_with_callbacks(size.rows, size.cols, SCROLLBACK_LINES, Extras::default())
}

/// Aborts an open sequence, leaves the alternate screen, takes back all modes that [`draw`] may set, clears.
const RESET: &[u8] = b"\x18\x1b[?1049l\x1b[?47l\x1b[r\x1b[?6l\x1b[?7h\x1b[4l\x1b[20l\x1b(B\x0f\x1b>\
\x1b[?1l\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1016l\x1b[?1004l\x1b[?2004l\x1b[?2026l\
\x1b[?2031l\x1b[>4;0m\x1b[=0u\x1b]8;;\x1b\\\x1b[0m\x1b[?25h\x1b[0 q\x1b[H\x1b[2J";

const CLEAR_SCROLLBACK: &[u8] = b"\x1b[3J";

fn draw(parser: &mut Parser<Extras>, size: Size, history: bool) -> Vec<u8> {
    let mut bytes = RESET.to_vec();
    if history {
        bytes.extend(CLEAR_SCROLLBACK);
    }
    let (screen, extras) = parser.screen_and_callbacks_mut();
    if screen.alternate_screen() {
        with_normal_screen(screen, size, |normal| draw_normal(normal, size, history, &mut bytes));
        bytes.extend(b"\x1b[?1049h");
        bytes.extend(screen.contents_formatted().bytes());
    } else {
        draw_normal(screen, size, history, &mut bytes);
    }
    bytes.extend(screen.input_mode_formatted().bytes());
    extras.modes.write(&mut bytes);
    bytes.extend(format!("\x1b]0;{}\x07", extras.title).bytes());
    bytes
}

/// Looks behind the alternate screen, for which the model has no call of its own.
fn with_normal_screen(screen: &mut Model, size: Size, look: impl FnOnce(&mut Model)) {
    let mut other = Parser::new(size.rows, size.cols, 0);
    std::mem::swap(other.screen_mut(), screen);
    // Mode 47 only switches; 1049 would also clear and move the cursor.
    other.process(b"\x1b[?47l");
    look(other.screen_mut());
    other.process(b"\x1b[?47h");
    std::mem::swap(other.screen_mut(), screen);
}

fn draw_normal(screen: &mut Model, size: Size, history: bool, bytes: &mut Vec<u8>) {
    if history {
        let lines = history_lines(screen, size);
        for line in lines.iter().rev() {
            bytes.extend(line.bytes());
            bytes.extend(b"\x1b[m\r\n");
        }
        // Push them off the top, so that they are where a viewer looks for them.
        let rows = usize::from(size.rows.get());
        bytes.extend(format!("\x1b[{rows};1H").bytes());
        bytes.extend(std::iter::repeat_n(b'\n', lines.len().min(rows - 1)));
        bytes.extend(b"\x1b[H");
    }
    bytes.extend(screen.contents_formatted().bytes());
}

/// The scrollback's lines, the newest first.
fn history_lines(screen: &mut Model, size: Size) -> Vec<String> {
    let mut lines = Vec::new();
    let mut total = 0;
    for offset in 1..=screen.scrollback_len() {
        screen.set_scrollback(offset);
        let Some(line) = screen.rows_formatted(0, size.cols.get()).next() else { break };
        total += line.len();
        if total > MAX_HISTORY {
            break;
        }
        lines.push(line);
    }
    screen.set_scrollback(0);
    lines
}

/// Modes that the model does not know, and a viewer does.
#[derive(Debug)]
struct Modes {
    wrap: bool,
    focus: bool,
    pixel_mouse: bool,
    colour_scheme: bool,
    /// xterm's modifyOtherKeys, 0 to 2.
    other_keys: u16,
    /// The flags of kitty's keyboard protocol and what was pushed below them.
    keyboard: Vec<u16>,
}

impl Default for Modes {
    fn default() -> Self {
        Self {
            wrap: true,
            focus: false,
            pixel_mouse: false,
            colour_scheme: false,
            other_keys: 0,
            keyboard: Vec::new(),
        }
    }
}

impl Modes {
    fn set(&mut self, mode: u16, on: bool) {
        match mode {
            7 => self.wrap = on,
            1004 => self.focus = on,
            1016 => self.pixel_mouse = on,
            2031 => self.colour_scheme = on,
            _ => {}
        }
    }

    fn keyboard(&mut self, operation: u8, first: u16, second: u16) {
        /// As many as kitty's own documentation asks a terminal to keep at least.
        const MAX_PUSHED: usize = 16;
        match operation {
            b'>' => {
                self.keyboard.push(first);
                let excess = self.keyboard.len().saturating_sub(MAX_PUSHED);
                self.keyboard.drain(..excess);
            }
            b'<' => self
                .keyboard
                .truncate(self.keyboard.len().saturating_sub(usize::from(first.max(1)))),
            b'=' => {
                let now = self.keyboard.pop().unwrap_or(0);
                self.keyboard.push(match second {
                    2 => now | first,
                    3 => now & !first,
                    _ => first,
                });
            }
            _ => {}
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        if !self.wrap {
            bytes.extend(b"\x1b[?7l");
        }
        for (on, mode) in [(self.focus, 1004), (self.pixel_mouse, 1016), (self.colour_scheme, 2031)]
        {
            if on {
                bytes.extend(format!("\x1b[?{mode}h").bytes());
            }
        }
        if self.other_keys > 0 {
            bytes.extend(format!("\x1b[>4;{}m", self.other_keys).bytes());
        }
        if let Some(flags) = self.keyboard.last().filter(|flags| **flags != 0) {
            bytes.extend(format!("\x1b[={flags}u").bytes());
        }
    }
}

/// What the model leaves to its user.
#[derive(Debug, Default)]
struct Extras {
    title: String,
    title_changed: bool,
    answers: Vec<u8>,
    asked_position: bool,
    modes: Modes,
}

/// Answers that are kept from one piece of output; a program that asks more often does not listen.
const MAX_ANSWERS: usize = 256;

impl Extras {
    fn answer(&mut self, answer: &[u8]) {
        if self.answers.len() + answer.len() <= MAX_ANSWERS {
            self.answers.extend(answer);
        }
    }
}

impl Callbacks for Extras {
    fn set_window_title(&mut self, _: &mut Model, title: &[u8]) {
        let title = clean(&String::from_utf8_lossy(title), MAX_SHOWN);
        if title != self.title {
            self.title = title;
            self.title_changed = true;
        }
    }

    fn unhandled_csi(
        &mut self,
        _: &mut Model,
        first: Option<u8>,
        second: Option<u8>,
        params: &[&[u16]],
        end: char,
    ) {
        let number =
            |index: usize| params.get(index).and_then(|param| param.first()).copied().unwrap_or(0);
        match (first, second, end) {
            (Some(b'?'), None, 'h' | 'l') => {
                for mode in params.iter().filter_map(|param| param.first()) {
                    self.modes.set(*mode, end == 'h');
                }
            }
            (Some(operation @ (b'>' | b'<' | b'=')), None, 'u') => {
                self.modes.keyboard(operation, number(0), number(1));
            }
            (Some(b'>'), None, 'm') if number(0) == 4 => self.modes.other_keys = number(1).min(2),
            (Some(b'!'), None, 'p') => self.modes = Modes::default(),
            // Primary and secondary device attributes, as xterm.js answers them.
            (None, None, 'c') if number(0) == 0 => self.answer(b"\x1b[?1;2c"),
            (Some(b'>'), None, 'c') if number(0) == 0 => self.answer(b"\x1b[>0;276;0c"),
            (None, None, 'n') if number(0) == 5 => self.answer(b"\x1b[0n"),
            (None, None, 'n') if number(0) == 6 => self.asked_position = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(bytes: &[u8]) -> Screen {
        let mut screen = Screen::new(Size::clamped(20, 5));
        screen.process(bytes);
        screen
    }

    /// What a viewer shows that had something else open before.
    fn viewed(screen: &mut Screen, history: bool) -> Screen {
        let mut viewer = Screen::new(screen.size());
        viewer.process(b"old\x1b[?1049h\x1b[?1003h\x1b[31mrubbish\x1b]0;half a ti");
        viewer.process(&screen.redraw(history));
        viewer
    }

    fn same(bytes: &[u8]) {
        let mut original = screen(bytes);
        let viewer = viewed(&mut original, true);
        let (one, two) = (original.parser.screen(), viewer.parser.screen());
        assert_eq!(one.contents_formatted(), two.contents_formatted(), "{bytes:?}");
        assert_eq!(one.input_mode_formatted(), two.input_mode_formatted(), "{bytes:?}");
        assert_eq!(one.alternate_screen(), two.alternate_screen());
        assert_eq!(original.title(), viewer.title());
    }

    #[test]
    fn a_redraw_shows_the_same() {
        same(b"");
        same(b"hello\r\nworld\x1b[31m red \x1b[1;44mbold");
        same("wide 漢字 ✳ é\r\n".as_bytes());
        same(b"exactly twenty chars");
        same(b"\x1b[3;4Hx\x1b[?25l\x1b[?2004h\x1b[?1h\x1b=\x1b[?1002h\x1b[?1006h\x1b[5 q");
        same(b"\x1b]0;\xe2\x9c\xb3 Claude Code\x07$ ");
        same(b"shell$ \x1b[?1049h\x1b[2J\x1b[2;2Hfull \x1b[32mscreen\x1b[?1003h");
    }

    #[test]
    fn the_screen_behind_the_alternate_one_is_there_too() {
        let mut original = screen(b"behind\r\n$ \x1b[?1049h\x1b[Hfront");
        let mut viewer = viewed(&mut original, true);
        for screen in [&mut original, &mut viewer] {
            assert!(screen.parser.screen().contents().contains("front"));
            screen.process(b"\x1b[?1049l");
            assert_eq!(screen.parser.screen().contents(), "behind\n$ ");
            assert_eq!(screen.parser.screen().cursor_position(), (1, 2));
        }
    }

    fn history(screen: &mut Screen) -> Vec<String> {
        let size = screen.size();
        let lines = history_lines(screen.parser.screen_mut(), size);
        lines.into_iter().rev().collect()
    }

    #[test]
    fn scrollback_is_drawn_again() {
        for lines in [4_usize, 5, 6, 8, 9, 10, 11, 50, 1500] {
            let text: Vec<String> = (0..lines)
                .map(|line| format!("\x1b[3{}mline {line}, 20 columns", line % 8))
                .collect();
            let mut original = screen(text.join("\r\n").as_bytes());
            let expected = history(&mut original);
            assert_eq!(expected.len(), usize::clamp(lines, 5, 1005) - 5, "{lines}");
            let mut viewer = viewed(&mut original, true);
            assert_eq!(history(&mut viewer), expected, "{lines}");
            assert_eq!(viewer.parser.screen().contents(), original.parser.screen().contents());
        }
    }

    #[test]
    fn without_history_the_viewer_keeps_its_own() {
        let mut original = screen(b"1\n2\n3\n4\n5\n6\n7\n8");
        assert!(!original.redraw(false).windows(4).any(|part| part == CLEAR_SCROLLBACK));
        assert_eq!(history(&mut viewed(&mut original, false)).len(), 0);
    }

    #[test]
    fn a_redraw_in_the_middle_of_a_sequence_continues_it() {
        let mut original = screen(b"one \x1b[3");
        let mut viewer = viewed(&mut original, true);
        for screen in [&mut original, &mut viewer] {
            screen.process(b"1mtwo");
        }
        assert_eq!(viewer.parser.screen().contents(), "one two");
        assert_eq!(
            viewer.parser.screen().contents_formatted(),
            original.parser.screen().contents_formatted()
        );
    }

    #[test]
    fn modes_beyond_the_model_are_drawn_again_and_reset() {
        let mut original = screen(b"\x1b[?1004h\x1b[?2031h\x1b[?7l\x1b[>4;2m\x1b[>1u\x1b[>5u");
        let bytes = original.redraw(true);
        let has =
            |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        for part in [&b"\x1b[?1004h"[..], b"\x1b[?2031h", b"\x1b[?7l", b"\x1b[>4;2m", b"\x1b[=5u"] {
            assert!(has(&bytes, part), "{part:?}");
        }
        original.process(b"\x1b[<u");
        assert!(has(&original.redraw(true), b"\x1b[=1u"));
        original.process(b"\x1bc");
        assert!(!has(&original.redraw(true), b"\x1b[?1004h"));
    }

    #[test]
    fn questions_are_answered() {
        let mut screen = screen(b"");
        assert_eq!(
            screen.process(b"ab\x1b[c\x1b[>c\x1b[5n\x1b[6n").answers,
            b"\x1b[?1;2c\x1b[>0;276;0c\x1b[0n\x1b[1;3R"
        );
        assert!(screen.process(&b"\x1b[c".repeat(10_000)).answers.len() <= MAX_ANSWERS + 16);
    }

    #[test]
    fn a_title_is_harmless_and_short() {
        let mut screen = screen(b"");
        assert!(screen.process(b"\x1b]2;a\xe2\x80\xae\tb\xff\x07").title);
        assert_eq!(screen.title(), "ab\u{fffd}");
        screen.process(&[&b"\x1b]0;"[..], &vec![b'x'; 3 << 20], b"\x07"].concat());
        assert!(screen.title().len() <= MAX_SHOWN);
    }

    #[test]
    fn sizes_are_held_in_range() {
        let mut screen = screen(b"hello world \xe6\xbc\xa2\xe5\xad\x97");
        for (cols, rows) in [(0, 0), (1, 1), (65535, 65535), (2, 500), (1000, 1), (80, 24)] {
            screen.resize(Size::clamped(cols, rows));
            screen.process("\x1b[10;10Hx漢\n\n\x1b[?1049hy\x1b[?1049l".as_bytes());
            assert!(!screen.redraw(true).is_empty());
        }
        assert_eq!(screen.size(), Size::clamped(80, 24));
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(
            pieces in proptest::collection::vec((proptest::arbitrary::any::<Vec<u8>>(), 0_u16..90, 0_u16..40), 0..6),
        ) {
            let mut screen = Screen::new(Size::clamped(10, 3));
            for (bytes, cols, rows) in pieces {
                screen.process(&bytes);
                screen.resize(Size::clamped(cols, rows));
                drop(screen.redraw(true));
            }
        }
    }
}
