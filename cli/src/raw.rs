//! The person's terminal in raw mode, and back on every way out.

use std::io::{IsTerminal, Write};

use rcc_sandbox::Size;
use rustix::stdio;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// What programs may leave switched on: the mouse in each of its ways, reports of focus,
/// colour scheme and size, bracketed paste, key encodings however often they were set, line
/// feeds that are two characters, a hidden cursor, colours. The terminal would type some of
/// it into the person's shell.
const MODES_OFF: &str = "\x1b[?9l\x1b[?1000l\x1b[?1001l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1016l\x1b[?1004l\x1b[?2004l\x1b[?2031l\x1b[?2048l\x1b[20l\x1b[<99u\x1b[>4;0m\x1b[?25h\x1b[!p\x1b(B\x0f\x1b[?2026l\x1b[0m";

/// The other screen, without moving the cursor where there was none.
const MAIN_SCREEN: &str = "\x1b[?1047l";

/// Raw mode for as long as it lives; a panic restores it, too.
pub struct Raw {
    before: Termios,
    /// The program did not end by itself and may have left its screen behind.
    pub broken_off: bool,
    /// What else is to be undone: see [`crate::filter::Filter::undo`].
    pub undo: String,
}

impl Raw {
    /// Switches stdin to raw mode.
    pub fn begin() -> std::io::Result<Self> {
        let before = tcgetattr(stdio::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdio::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self { before, broken_off: true, undo: String::new() })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let mut stdout = std::io::stdout();
        // Nothing can be done about a terminal that is gone.
        let _ = stdout.write_all(MODES_OFF.as_bytes());
        let _ = stdout.write_all(self.undo.as_bytes());
        if self.broken_off {
            let _ = stdout.write_all(MAIN_SCREEN.as_bytes());
        }
        let _ = stdout.flush();
        let _ = tcsetattr(stdio::stdin(), OptionalActions::Flush, &self.before);
    }
}

/// Both ends are a person's terminal.
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Size of the person's terminal.
pub fn size() -> Size {
    match tcgetwinsize(stdio::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            Size { columns: size.ws_col, rows: size.ws_row }
        }
        _ => Size::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t1_what_the_filter_lets_a_program_set_is_undone_at_the_end() {
        // The mouse, reports that arrive as keys, the stack of key encodings.
        for undone in [9, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 2031, 2048]
            .map(|mode| format!("\x1b[?{mode}l"))
            .into_iter()
            .chain(["\x1b[<99u", "\x1b[20l", "\x1b[?25h", "\x1b[0m"].map(str::to_owned))
        {
            assert!(MODES_OFF.contains(&undone), "{undone:?}");
        }
    }
}
