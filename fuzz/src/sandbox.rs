//! What comes out of a sandbox.

use rcc_inside::frame::{Decoder, Frame, FrameError, Reply, Request};
use rcc_inside::hooks;
use rcc_inside::probes::{MAX_SEEN, read_outcomes};
use rcc_inside::text::{MAX_SHOWN, clean};

use crate::filter::Filter;
use crate::plain::Plain;
use crate::program::screen::{Screen, Size};

/// Where to cut the rest in two: the first byte says, in 256ths.
fn cut(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((at, rest)) = bytes.split_first() else { return (&[], &[]) };
    rest.split_at(rest.len() * usize::from(*at) / 256)
}

/// Frames, in two pieces and in one: the same comes of it.
pub fn frames(bytes: &[u8]) {
    let (first, second) = cut(bytes);
    let decode = |pieces: &[&[u8]]| {
        let mut decoder = Decoder::new();
        let mut found: Vec<Result<Frame, FrameError>> = Vec::new();
        for piece in pieces {
            found.extend(decoder.push(piece));
        }
        // An error is said again for each piece.
        found.dedup_by(|a, b| a.is_err() && a == b);
        found
    };
    let whole = decode(&[&[first, second].concat()]);
    assert_eq!(decode(&[first, second]), whole);
    for frame in whole.iter().flatten() {
        if let Ok(request) = Request::decode(frame) {
            let again = request.to_frame().expect("it came in one frame");
            assert_eq!(Request::decode(&again).ok(), Some(request));
        }
        let Ok(reply) = Reply::decode(frame) else { continue };
        // What is shown to a person is one harmless line.
        let shown: Vec<&str> = match &reply {
            Reply::Terminals(all) => {
                all.iter().flat_map(|one| [&*one.name, &*one.argv0, &*one.title]).collect()
            }
            Reply::Title { title, .. } => vec![title],
            Reply::Event { event, .. } => vec![&event.name],
            Reply::Error { message, .. } => vec![message],
            _ => Vec::new(),
        };
        shown.into_iter().for_each(harmless);
        if let Ok(again) = reply.to_frame() {
            assert_eq!(Reply::decode(&again).ok(), Some(reply));
        }
    }
}

fn harmless(text: &str) {
    assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
    assert_eq!(clean(text, usize::MAX / 8), text);
}

/// What Claude Code writes to a hook, cut off anywhere.
pub fn hook(bytes: &[u8]) {
    let Some(event) = hooks::parse(bytes) else { return };
    let optional = [event.notification_type, event.tool, event.source, event.error, event.detail];
    for text in optional.into_iter().flatten().chain([event.name]) {
        assert!((1..=MAX_SHOWN).contains(&text.chars().count()));
        harmless(&text);
    }
}

/// What `rcc verify` hears from inside.
pub fn probes(bytes: &[u8]) {
    for count in 0..4 {
        for outcome in read_outcomes(bytes, count).unwrap_or_default() {
            assert!(outcome.seen.chars().count() <= MAX_SEEN);
            harmless(&outcome.seen);
        }
    }
}

/// A program's output on a small screen, which is then drawn for a viewer.
pub fn screen(bytes: &[u8]) {
    let [cols, rows, bytes @ ..] = bytes else { return };
    let (first, second) = cut(bytes);
    let size = Size::clamped(u16::from(cols % 100), u16::from(rows % 50));
    let mut screen = Screen::new(size);
    let effects = screen.process(first);
    // Each question has a short answer.
    assert!(effects.answers.len() <= 64 + 32 * first.len(), "{} bytes", effects.answers.len());
    screen.resize(Size::clamped(u16::from(*rows), u16::from(*cols)));
    screen.process(second);
    assert!(screen.title().chars().count() <= MAX_SHOWN);
    harmless(screen.title());
    let drawn = screen.redraw(true);
    let mut viewer = Screen::new(screen.size());
    // A drawing asks the viewer's terminal nothing: the answer would be typed in.
    let asked = viewer.process(&drawn);
    assert!(asked.answers.is_empty(), "{:?}", asked.answers);
}

/// What of a terminal's output reaches the person's, in two pieces and in one.
pub fn terminal_filter(bytes: &[u8]) {
    let (first, second) = cut(bytes);
    let mut filter = Filter::default();
    let pieces = [filter.pass(first), filter.pass(second)].concat();
    // Of rcc's own words, each once.
    assert!(filter.undo().len() < 100);
    let whole = Filter::default().pass(&[first, second].concat());
    assert_eq!(pieces, whole);
    // Nothing in it is anything else when it is read once more.
    assert_eq!(Filter::default().pass(&whole), whole);
    let text = String::from_utf8_lossy(&whole);
    for forbidden in ["\x1bP", "\x1b_", "\x1b^", "\x1bX", "\u{90}", "\u{9d}"] {
        assert!(!text.contains(forbidden), "{forbidden:?} in {text:?}");
    }
    for command in text.split("\x1b]").skip(1) {
        let command = command.split_once("\x1b\\").map_or(command, |(command, _)| command);
        if let Some(clipboard) = command.strip_prefix("52;") {
            assert!(!clipboard.contains('?'), "{command:?}");
        }
    }
}

/// The output of a program without a terminal, in two pieces and in one.
pub fn plain_output(bytes: &[u8]) {
    let (first, second) = cut(bytes);
    let mut plain = Plain::default();
    let pieces = [plain.pass(first), plain.pass(second)].concat();
    let whole = Plain::default().pass(&[first, second].concat());
    assert_eq!(pieces, whole);
    assert_eq!(Plain::default().pass(&whole), whole);
    let text = String::from_utf8_lossy(&whole);
    for sequence in text.split('\x1b').skip(1) {
        let end = sequence.find(|c: char| c.is_ascii_alphabetic());
        assert_eq!(end.map(|end| &sequence[end..=end]), Some("m"), "{text:?}");
    }
}
