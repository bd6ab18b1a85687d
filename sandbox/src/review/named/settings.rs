//! Settings of Git, as far as their text says (git-config(1), "Syntax").

use std::iter::Peekable;
use std::str::Chars;

/// Sections and names in lower case; subsections, as of `includeIf`, are left out.
pub(super) fn settings(text: &str) -> Vec<(String, String)> {
    // What Windows' editors leave: Git passes over it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut section = String::new();
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        match first {
            '#' | ';' => skip_line(&mut chars),
            '[' => section = head(&mut chars),
            _ if first.is_whitespace() => {}
            _ => {
                let mut name = String::from(first);
                while let Some(c) = chars.next_if(|c| !matches!(c, '=' | '\n' | '#' | ';')) {
                    name.push(c);
                }
                // A setting without a value is a yes.
                if chars.next_if_eq(&'=').is_some() {
                    let name = name.trim().to_ascii_lowercase();
                    found.push((format!("{section}.{name}"), value(&mut chars)));
                }
            }
        }
    }
    found
}

fn skip_line(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| *c != '\n').is_some() {}
}

/// A section's name. Its subsection may have brackets in quotes.
fn head(chars: &mut Peekable<Chars<'_>>) -> String {
    let (mut name, mut is_name, mut quoted) = (String::new(), true, false);
    while let Some(c) = chars.next_if(|c| *c != '\n') {
        match c {
            ']' if !quoted => break,
            '\\' if quoted => drop(chars.next()),
            '"' => (is_name, quoted) = (false, !quoted),
            '.' => is_name = false,
            _ if c.is_whitespace() => is_name = false,
            _ if is_name => name.push(c.to_ascii_lowercase()),
            _ => {}
        }
    }
    if name == "includeif" { "include".into() } else { name }
}

fn value(chars: &mut Peekable<Chars<'_>>) -> String {
    let (mut value, mut quoted) = (String::new(), false);
    // Blanks at the end that are not in quotes begin here.
    let mut end = 0;
    while let Some(c) = chars.next_if(|c| *c != '\n') {
        match c {
            '"' => quoted = !quoted,
            '#' | ';' if !quoted => {
                skip_line(chars);
                continue;
            }
            ' ' | '\t' | '\r' if !quoted => {
                if !value.is_empty() {
                    value.push(c);
                }
                continue;
            }
            '\\' => match chars.next() {
                // The value goes on in the next line.
                Some('\n') | None => {}
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some('b') => value.push('\u{8}'),
                Some(escaped) => value.push(escaped),
            },
            _ => value.push(c),
        }
        end = value.len();
    }
    value.truncate(end);
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What Git itself reads in `text`: none where it refuses the file.
    fn as_git_reads(text: &str) -> Option<Vec<(String, String)>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        std::fs::write(&file, text).unwrap();
        let mut git = std::process::Command::new("git");
        git.args(["config", "--null", "--list", "--file"]).arg(&file).current_dir(dir.path());
        git.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", dir.path());
        let said = git.output().expect("git");
        if !said.status.success() {
            return None;
        }
        let said = String::from_utf8(said.stdout).expect("text");
        // One without a value has no line break.
        let settings = said.split_terminator('\0').filter_map(|one| one.split_once('\n'));
        let flat = |(key, value): (&str, &str)| {
            // Git takes settings above the first section, too, and uses none.
            let section = key.split_once('.').map_or("", |(section, _)| section);
            let name = key.rsplit_once('.').map_or(key, |(_, name)| name);
            (format!("{section}.{name}"), value.to_string())
        };
        Some(settings.map(flat).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn what_git_takes_is_read_as_git_reads_it(
            lines in prop::collection::vec(
                r#"(\[[a-c]{1,2}( "[a-c\\"\]\[ ]{0,3}")?\])?[a-c]{0,2} ?=?[a-c "\\;#=\t\r\]\[nt]{0,8}"#,
                0..6,
            )
        ) {
            let text = lines.join("\n");
            if let Some(expected) = as_git_reads(&text) {
                prop_assert_eq!(settings(&text), expected, "{:?}", text);
            }
        }

        #[test]
        fn garbage_never_panics(text in any::<String>()) {
            let found = settings(&text);
            let length: usize = found.iter().map(|(_, value)| value.len()).sum();
            prop_assert!(length <= text.len());
        }
    }

    #[test]
    fn settings_are_read_as_git_reads_them() {
        let text = "; a comment\n[Core] Pager=less # ours\n\tbare\n\teditor = \"vi \\\"x;y\\\" #z\" \n\
                    [includeIf \"gitdir:[x]\\\"/\"]path = a\\\n  b\n[diff.doc]\n textConv = c\n[x";
        let expected = [
            ("core.pager", "less"),
            ("core.editor", "vi \"x;y\" #z"),
            ("include.path", "a  b"),
            ("diff.textconv", "c"),
        ];
        let expected = expected.map(|(key, value)| (key.to_string(), value.to_string()));
        assert_eq!(settings(text), expected);
    }

    #[test]
    fn f2_settings_that_windows_wrote_and_blanks_in_quotes_are_read_as_git_reads_them() {
        let text = "\u{feff}[core]\r\n pager = x\\\r\n y \r\n\
                    [a]b = \" c \" \t# d\n e = \"x\" y  \n f = \" \"\n g = \u{a0}h\r\n i=j\\bk";
        let expected = [
            ("core.pager", "x y"),
            ("a.b", " c "),
            ("a.e", "x y"),
            ("a.f", " "),
            ("a.g", "\u{a0}h"),
            ("a.i", "j\u{8}k"),
        ];
        let expected = expected.map(|(key, value)| (key.to_string(), value.to_string()));
        assert_eq!(settings(text), expected);
    }
}
