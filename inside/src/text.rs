//! Text that the agent wrote and a person will read.

/// The most characters of a title, question or message that are kept.
pub const MAX_SHOWN: usize = 140;

/// Makes one harmless line of at most `max` characters out of text that the agent chose.
///
/// Control characters and white space become single spaces. Characters that turn the writing direction, hide, or have
/// no place in one line (bidirectional overrides and isolates, zero-width characters, tags, private use, byte order
/// mark) are taken out, since with them a title can look like another one. Zero-width joiner and variation selectors
/// go too: an emoji may fall apart into its parts, which misleads nobody.
#[must_use]
pub fn clean(text: &str, max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max * 4));
    let mut length = 0;
    let mut gap = false;
    for c in text.chars() {
        if c.is_control() || c.is_whitespace() {
            gap = length > 0;
            continue;
        }
        if is_invisible(c) {
            continue;
        }
        let wanted = if gap { 2 } else { 1 };
        if length + wanted > max {
            break;
        }
        if gap {
            line.push(' ');
            gap = false;
        }
        line.push(c);
        length += wanted;
    }
    line
}

/// Characters of Unicode's general categories Cf, Co and Cn that change how the text around them is seen.
fn is_invisible(c: char) -> bool {
    matches!(
        u32::from(c),
        0x00AD
            | 0x034F
            | 0x0600..=0x0605
            | 0x061C
            | 0x115F..=0x1160
            | 0x17B4..=0x17B5
            | 0x180B..=0x180F
            | 0x200B..=0x200F
            | 0x2028..=0x202E
            | 0x2060..=0x206F
            | 0x3164
            | 0xE000..=0xF8FF
            | 0xFE00..=0xFE0F
            | 0xFEFF
            | 0xFFA0
            | 0xFFF0..=0xFFFB
            | 0xE0000..=0xE0FFF
            | 0xF0000..=0x10FFFF
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_one_space() {
        assert_eq!(clean("  a\u{1b}[31m\r\n\tb\u{9b}c \u{0}", 140), "a [31m b c");
    }

    #[test]
    fn direction_overrides_are_taken_out() {
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{200f}d\u{feff}", 140), "abcd");
    }

    #[test]
    fn length_counts_characters() {
        assert_eq!(clean("ééé", 2), "éé");
        assert_eq!(clean("ab cd", 3), "ab");
        assert_eq!(clean(&"x ".repeat(1000), MAX_SHOWN).chars().count(), 139);
    }

    #[test]
    fn ordinary_text_stays() {
        assert_eq!(clean("✳ Claude Code – größer?", 140), "✳ Claude Code – größer?");
    }
}
