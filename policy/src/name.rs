//! Host names: what may stand in a rule and what a question may ask for.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Longest name in characters without the trailing dot (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;
/// Longest label (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// Why a text is not a host name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing there.
    #[error("the name is empty")]
    Empty,
    /// More than 253 characters.
    #[error("the name is longer than 253 characters")]
    TooLong,
    /// A label is empty, longer than 63, or starts or ends with a hyphen.
    #[error("`{0}` is not a valid label")]
    Label(String),
    /// Something other than letters, digits, hyphen and underscore.
    #[error("the name contains a character that host names cannot have")]
    Character,
    /// Not valid under IDNA.
    #[error("`{0}` is not a valid international name")]
    Idna(String),
    /// Looks like an address; programs would not ask DNS for it.
    #[error("`{0}` is an address; write it as `ip:`")]
    Address(String),
    /// Always the machine itself (RFC 6761 §6.3).
    #[error("`localhost` is always the sandbox itself and cannot be allowed")]
    Localhost,
    /// `*` alone or in the middle.
    #[error("a wildcard is `*.` followed by a name, for instance `*.example.com`")]
    Wildcard,
    /// A wildcard over a public suffix such as `*.com`.
    #[error("`*.{0}` would allow every name that anyone can register")]
    PublicSuffix(String),
    /// A wildcard over a single label without `private: true`.
    #[error("`*.{0}` covers a whole top-level name; only entries with `private: true` may do that")]
    TopLevel(String),
}

/// A host name in canonical form: ASCII (punycode), lower case, no trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The labels, leftmost first.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }

    /// True when this name is a proper ancestor of `other`, as `example.com` is
    /// of `www.example.com`.
    pub fn is_ancestor_of(&self, other: &Name) -> bool {
        is_below(&other.0, &self.0)
    }
}

/// `name` ends in `.base` at a label boundary.
fn is_below(name: &str, base: &str) -> bool {
    name.len() > base.len()
        && name.ends_with(base)
        && name.as_bytes()[name.len() - base.len() - 1] == b'.'
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        // A bound before IDNA, whose work grows with the length.
        if text.len() > MAX_NAME * 4 {
            return Err(NameError::TooLong);
        }
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii_strict(text)
                .map_err(|_| NameError::Idna(text.escape_default().take(80).collect()))?
        };
        if ascii.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        for label in ascii.split('.') {
            check_label(label)?;
        }
        let last = ascii.rsplit('.').next().unwrap_or_default();
        // WHATWG URL §3.5 "ends in a number": every client takes these for IPv4.
        let hex = last
            .strip_prefix("0x")
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if hex || last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NameError::Address(ascii));
        }
        if last == "localhost" {
            return Err(NameError::Localhost);
        }
        Ok(Self(ascii))
    }
}

fn check_label(label: &str) -> Result<(), NameError> {
    if !label
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    {
        return Err(NameError::Character);
    }
    if label.is_empty() || label.len() > MAX_LABEL || label.starts_with('-') || label.ends_with('-')
    {
        return Err(NameError::Label(label.chars().take(80).collect()));
    }
    Ok(())
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One name, or everything below one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// Just this name.
    Exact(Name),
    /// Every name below this one, at any depth, not the name itself.
    Below(Name),
}

impl HostPattern {
    /// Parses `name` or `*.name`. A wildcard over a single label, such as
    /// `*.internal`, needs `private`.
    pub fn parse(text: &str, private: bool) -> Result<Self, NameError> {
        let Some(base) = text.strip_prefix("*.") else {
            if text.contains('*') {
                return Err(NameError::Wildcard);
            }
            return Ok(Self::Exact(text.parse()?));
        };
        if base.contains('*') {
            return Err(NameError::Wildcard);
        }
        let base: Name = base.parse()?;
        if is_registry_suffix(base.as_str()) {
            return Err(NameError::PublicSuffix(base.0));
        }
        if !private && base.labels().count() == 1 {
            return Err(NameError::TopLevel(base.0));
        }
        Ok(Self::Below(base))
    }

    /// Exact labels, never a prefix or suffix of text.
    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Self::Exact(own) => own == name,
            Self::Below(base) => base.is_ancestor_of(name),
        }
    }

    /// The name, or the name that the wildcard stands before.
    pub fn base(&self) -> &Name {
        match self {
            Self::Exact(name) | Self::Below(name) => name,
        }
    }
}

/// Under this name anyone can register with a registry. Suffixes that companies
/// entered for their customers' sites (`githubusercontent.com`) are not meant:
/// those belong to one owner and are wanted in rules.
fn is_registry_suffix(base: &str) -> bool {
    psl::suffix(base.as_bytes()).is_some_and(|suffix| {
        suffix.as_bytes() == base.as_bytes() && suffix.typ() == Some(psl::Type::Icann)
    })
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn names_become_canonical() {
        assert_eq!(name("API.Anthropic.COM.").as_str(), "api.anthropic.com");
        assert_eq!(name("bücher.example").as_str(), "xn--bcher-kva.example");
        // A Cyrillic look-alike is another name and shows as one.
        assert_ne!(name("аpi.anthropic.com"), name("api.anthropic.com"));
    }

    #[test]
    fn n16_hostile_names_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            "allowed.com\0.evil.com",
            "a b.com",
            "a/b.com",
            "-a.com",
            "a-.com",
            "127.0.0.1",
            "1.2.3.4.",
            "0x7f.1",
            "a.0x7f",
            "localhost",
            "x.localhost",
            "[::1]",
            &"a".repeat(64),
            &vec!["abcdefgh"; 40].join("."),
            "user@host.com",
            "host.com:443",
            "\u{202e}moc.elgoog",
            "a\n.com",
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn n16_patterns_match_whole_labels() {
        let exact = HostPattern::parse("allowed.com", false).unwrap();
        assert!(exact.matches(&name("ALLOWED.com.")));
        for other in
            ["evil.com.allowed.com", "allowed.com.evil.com", "notallowed.com", "a.allowed.com"]
        {
            assert!(!exact.matches(&name(other)), "{other}");
        }
        let below = HostPattern::parse("*.allowed.com", false).unwrap();
        assert!(below.matches(&name("a.allowed.com")) && below.matches(&name("a.b.allowed.com")));
        for other in ["allowed.com", "notallowed.com", "x.notallowed.com", "a.allowed.com.evil.com"]
        {
            assert!(!below.matches(&name(other)), "{other}");
        }
    }

    #[test]
    fn n16_what_looks_alike_is_another_name() {
        let allowed = HostPattern::parse("allowed.com", false).unwrap();
        // A letter that is Cyrillic, Greek, Komi, Cyrillic, and an upper case i.
        for text in [
            "\u{430}llowed.com",
            "all\u{3bf}wed.com",
            "allowe\u{501}.com",
            "allowed.c\u{43e}m",
            "alIowed.com",
        ] {
            for pattern in [text.to_owned(), format!("*.{text}")] {
                let pattern = HostPattern::parse(&pattern, false).unwrap();
                let shown = pattern.to_string();
                assert!(shown.contains("xn--") || shown.contains("aliowed"), "{shown}");
                for other in ["allowed.com", "www.allowed.com"] {
                    assert!(!pattern.matches(&name(other)), "{shown} opens {other}");
                }
            }
            assert!(!allowed.matches(&name(text)), "allowed.com opens {text}");
        }
        // Written otherwise, the same name for every client.
        let wide = HostPattern::parse("\u{ff41}llowed\u{3002}com", false).unwrap();
        assert_eq!(wide.to_string(), "allowed.com");
        // Of no length does it take long.
        let start = std::time::Instant::now();
        for letter in ["a", "\u{430}", "\u{430}.", "*.", "xn--a."] {
            let long = letter.repeat(4 << 20);
            assert!(HostPattern::parse(&long, false).is_err(), "{letter} and so on");
        }
        assert!(start.elapsed() < std::time::Duration::from_secs(1), "{:?}", start.elapsed());
    }

    #[test]
    fn wildcards_over_public_suffixes_are_refused() {
        for bad in [
            "*",
            "*.",
            "*.*",
            "*.com",
            "*.co.uk",
            "a.*.com",
            "*a.com",
            "*.*.example.com",
            "*.internal",
        ] {
            assert!(HostPattern::parse(bad, false).is_err(), "{bad}");
        }
        assert!(HostPattern::parse("*.githubusercontent.com", false).is_ok());
        assert!(HostPattern::parse("*.internal", true).is_ok());
        assert!(HostPattern::parse("*.com", true).is_err());
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails_and_parsing_is_idempotent(text in "\\PC{0,300}") {
            if let Ok(name) = text.parse::<Name>() {
                prop_assert!(name.as_str().len() <= MAX_NAME);
                prop_assert_eq!(name.as_str().parse::<Name>().unwrap(), name);
            }
        }
    }
}
