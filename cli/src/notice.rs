//! A line of rcc's own over the last row of a program's screen, for a while.

use std::time::Duration;

use rcc_sandbox::{Size, display};

/// How long it is there: to look up and read it.
pub const SHOWN: Duration = Duration::from_secs(8);

/// Draws it: a bell, the cursor as it was, and colours that no program's are taken for.
pub fn draw(text: &str, size: Size) -> String {
    let columns = usize::from(size.columns.max(12));
    let text = display::line(&format!("rcc: {text}"), columns - 1);
    format!("\x07\x1b7\x1b[{};1H\x1b[0;7m{text}\x1b[K\x1b[0m\x1b8", size.rows)
}

/// Takes it away where nothing will draw over it any more.
pub fn wipe(size: Size) -> String {
    format!("\x1b7\x1b[{};1H\x1b[0m\x1b[2K\x1b8", size.rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_line_and_no_longer_than_the_terminal() {
        let size = Size { columns: 40, rows: 24 };
        let drawn = draw(&format!("two\nlines \x1b[2J {}", "x".repeat(100)), size);
        let text = drawn.split("\x1b[0;7m").nth(1).unwrap().split('\x1b').next().unwrap();
        assert!(text.starts_with("rcc: two") && text.chars().count() < 40, "{text:?}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(drawn.starts_with("\x07\x1b7\x1b[24;1H") && drawn.ends_with("\x1b8"), "{drawn:?}");
    }
}
