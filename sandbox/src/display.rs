//! Text from inside a sandbox or from the network, made harmless for people.

/// One line of at most `limit` characters: control characters, line breaks and
/// characters that turn the direction of writing or are invisible are taken out
/// (a host name must not be able to move the cursor or to read backwards).
pub fn line(text: &str, limit: usize) -> String {
    let mut shown: String = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !hidden(*c))
        .take(limit + 1)
        .collect();
    if shown.chars().count() > limit {
        shown = shown.chars().take(limit.saturating_sub(1)).collect();
        shown.push('…');
    }
    shown
}

fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A host name for display: as [`line`], but letters outside ASCII are shown as
/// escapes, since a look-alike would be read as the name it imitates.
pub fn host(name: &str) -> String {
    let mut shown = String::new();
    for c in line(name, 253).chars() {
        if c.is_ascii_graphic() || c == '…' {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_codes_and_direction_marks_are_gone() {
        assert_eq!(line("a\x1b]0;x\x07b\u{202e}c\nd", 80), "a]0;xbc d");
        assert_eq!(host("exаmple.org"), "ex\\u{430}mple.org");
        assert_eq!(line("abcdef", 4), "abc…");
    }

    proptest! {
        #[test]
        fn a_host_is_printable_ascii(name in any::<String>()) {
            prop_assert!(host(&name).chars().all(|c| c.is_ascii_graphic() || c == '…'));
        }

        #[test]
        fn a_line_has_no_control_characters(text in any::<String>(), limit in 1usize..100) {
            let shown = line(&text, limit);
            prop_assert!(shown.chars().count() <= limit);
            prop_assert!(!shown.chars().any(|c| c.is_control() || hidden(c)));
        }
    }
}
