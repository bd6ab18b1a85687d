//! The YAML documents. Every error names line and column of the place that is
//! wrong: checks happen while the value is being read, where the parser still
//! knows where it is.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

use crate::entry::{Entry, EntryError, Protocol, Target};
use crate::interface::{Interface, InterfaceError};
use crate::name::HostPattern;

/// Largest document in bytes. 100,000 entries take about 7 MB.
pub const MAX_DOCUMENT: usize = 16 * 1024 * 1024;

/// A document that is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {message}")]
pub struct PolicyError {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// A sentence without the place.
    pub message: String,
}

/// What a user may add for their own projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UsersMayAdd {
    /// Nothing.
    None,
    /// Public addresses, and names that resolve to such.
    #[default]
    Public,
    /// Private ranges too.
    Private,
}

/// Who may plug a link into a sandbox of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum MayAttach {
    /// Every person (uid ≥ `UID_MIN`).
    #[default]
    Persons,
    /// Members of this group.
    Group(String),
    /// Nobody: sandboxes are offline.
    Nobody,
}

/// The `defaults` block.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// Private ranges are closed unless an entry names them.
    pub block_rfc1918: bool,
    /// The whole public internet is open.
    pub allow_public: bool,
    /// Bounds for users' own rules.
    pub users_may_add: UsersMayAdd,
    /// Who may attach.
    pub attach: MayAttach,
    /// What sandboxes send leaves the host by this interface alone; by any without one.
    #[serde(deserialize_with = "uplink")]
    pub uplink: Option<Interface>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            block_rfc1918: true,
            allow_public: false,
            users_may_add: UsersMayAdd::Public,
            attach: MayAttach::Persons,
            uplink: None,
        }
    }
}

/// The administrator's file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// The `defaults` block.
    pub defaults: Defaults,
    /// The `whitelist`, in the order of the file.
    pub entries: Vec<Entry>,
}

/// One level of a user's own rules: `version` and `whitelist`, no `defaults`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserRules {
    /// In the order of the file.
    pub entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyDocument {
    #[serde(rename = "version")]
    _version: Version,
    #[serde(default)]
    defaults: Option<Defaults>,
    #[serde(default)]
    whitelist: Entries,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserDocument {
    #[serde(rename = "version")]
    _version: Version,
    #[serde(default)]
    whitelist: Entries,
}

impl Policy {
    /// Reads the administrator's file.
    pub fn parse(document: &[u8]) -> Result<Self, PolicyError> {
        let document: PolicyDocument = read(document)?;
        Ok(Self { defaults: document.defaults.unwrap_or_default(), entries: document.whitelist.0 })
    }
}

impl UserRules {
    /// Reads a user's file.
    pub fn parse(document: &[u8]) -> Result<Self, PolicyError> {
        let document: UserDocument = read(document)?;
        Ok(Self { entries: document.whitelist.0 })
    }
}

fn read<T: de::DeserializeOwned>(document: &[u8]) -> Result<T, PolicyError> {
    let whole = |message: String| PolicyError { line: 1, column: 1, message };
    if document.len() > MAX_DOCUMENT {
        return Err(whole(format!("the document is larger than {} MB", MAX_DOCUMENT >> 20)));
    }
    let text = std::str::from_utf8(document).map_err(|error| {
        let before = &document[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        PolicyError { line, column, message: "this byte is not UTF-8 text".into() }
    })?;
    serde_yaml::from_str(text).map_err(|error| {
        let message = error.to_string();
        let Some(location) = error.location() else {
            return whole(message);
        };
        // The library writes the place behind its message; ours stands before it.
        let message = match message.rfind(" at line ") {
            Some(end) => message[..end].to_owned(),
            None => message,
        };
        PolicyError { line: location.line(), column: location.column(), message }
    })
}

/// `version: 1`.
struct Version;

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, "the number 1", |value| match value {
            Scalar::Number(1) => Ok(Version),
            _ => Err("this release reads `version: 1`".to_owned()),
        })
    }
}

impl<'de> Deserialize<'de> for MayAttach {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, "persons, group NAME, or nobody", |value| match value {
            Scalar::Text("persons") => Ok(Self::Persons),
            Scalar::Text("nobody") => Ok(Self::Nobody),
            Scalar::Text(text) => match text.strip_prefix("group ").map(str::trim) {
                Some(group) if !group.is_empty() => Ok(Self::Group(group.to_owned())),
                _ => Err(format!("`{text}` is not persons, group NAME, or nobody")),
            },
            Scalar::Number(_) => Err("expected persons, group NAME, or nobody".to_owned()),
        })
    }
}

/// A key without a value is a mistake: it would mean that any interface will do.
fn uplink<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Interface>, D::Error> {
    let checked = scalar(deserializer, "the name of a network interface", |value| match value {
        Scalar::Text(text) => text.parse().map_err(|error: InterfaceError| error.to_string()),
        Scalar::Number(number) => Err(format!("write the name `{number}` in quotes")),
    });
    checked.map(Some)
}

/// A scalar whose check runs while the parser knows its place.
enum Scalar<'a> {
    Text(&'a str),
    Number(u64),
}

fn scalar<'de, D, T, F>(deserializer: D, expecting: &'static str, check: F) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    F: FnOnce(Scalar<'_>) -> Result<T, String>,
{
    struct Check<F, T>(&'static str, F, PhantomData<T>);

    impl<T, F: FnOnce(Scalar<'_>) -> Result<T, String>> Visitor<'_> for Check<F, T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            (self.1)(Scalar::Text(text)).map_err(E::custom)
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
            (self.1)(Scalar::Number(number)).map_err(E::custom)
        }
    }

    deserializer.deserialize_any(Check(expecting, check, PhantomData))
}

struct Port(u16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, "a port from 1 to 65535", |value| match value {
            Scalar::Number(number) => match u16::try_from(number) {
                Ok(port) if port > 0 => Ok(Port(port)),
                _ => Err(format!("{number} is not a port; ports are 1 to 65535")),
            },
            Scalar::Text(text) => {
                Err(format!("`{text}` is not a port; ports are numbers from 1 to 65535"))
            }
        })
    }
}

struct Host(String);

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, "a host name", |value| match value {
            // Whether the entry is private is not known yet; the entry checks again.
            Scalar::Text(text) => match HostPattern::parse(text, true) {
                Ok(_) => Ok(Host(text.to_owned())),
                Err(error) => Err(error.to_string()),
            },
            Scalar::Number(number) => Err(format!("{number} is not a host name")),
        })
    }
}

struct Net(String);

impl<'de> Deserialize<'de> for Net {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, "an address or network", |value| match value {
            Scalar::Text(text) => match Entry::net(text, &[1], Protocol::Tcp, false) {
                Ok(_) => Ok(Net(text.to_owned())),
                Err(error) => Err(error.to_string()),
            },
            Scalar::Number(number) => Err(format!("{number} is not an address or network")),
        })
    }
}

struct ProtocolField(Protocol);

impl<'de> Deserialize<'de> for ProtocolField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer, "tcp or udp", |value| match value {
            Scalar::Text(text) => {
                text.parse().map(ProtocolField).map_err(|e: EntryError| e.to_string())
            }
            Scalar::Number(number) => Err(format!("{number} is not a protocol; write tcp or udp")),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryFields {
    host: Option<Host>,
    ip: Option<Net>,
    ports: Option<Vec<Port>>,
    protocol: Option<ProtocolField>,
    private: Option<bool>,
}

impl EntryFields {
    fn check(self) -> Result<Entry, String> {
        let ports: Vec<u16> = match self.ports {
            Some(ports) => ports.into_iter().map(|port| port.0).collect(),
            None => {
                return Err("`ports` is missing; an entry without ports would allow nothing".into());
            }
        };
        let protocol = self.protocol.map_or(Protocol::Tcp, |field| field.0);
        let private = self.private.unwrap_or(false);
        match (self.host, self.ip) {
            (Some(_), Some(_)) => Err("an entry has `host` or `ip`, not both".into()),
            (None, None) => Err("an entry needs `host` or `ip`".into()),
            (Some(host), None) => {
                Entry::host(&host.0, &ports, protocol, private).map_err(|e| e.to_string())
            }
            (None, Some(_)) if self.private.is_some() => Err(EntryError::PrivateNet.to_string()),
            (None, Some(net)) => {
                Entry::net(&net.0, &ports, protocol, false).map_err(|e| e.to_string())
            }
        }
    }
}

/// The `whitelist`. Missing, empty, or nothing but comments: nothing is allowed.
#[derive(Default)]
struct Entries(Vec<Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Entries, E> {
        Ok(Entries::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        while let Some(entry) = seq.next_element_seed(EntrySeed { seen: &mut seen })? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

struct EntrySeed<'a> {
    seen: &'a mut HashSet<(Target, Protocol)>,
}

impl<'de> DeserializeSeed<'de> for EntrySeed<'_> {
    type Value = Entry;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entry, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EntrySeed<'_> {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry with `host` or `ip`, and `ports`")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
        let fields = EntryFields::deserialize(MapAccessDeserializer::new(map))?;
        let entry = fields.check().map_err(de::Error::custom)?;
        let key = (entry.target().clone(), entry.protocol());
        if self.seen.insert(key) {
            Ok(entry)
        } else {
            Err(de::Error::custom(format!("`{}` stands there twice", entry.target())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXAMPLE: &str = r#"version: 1
defaults:
  block_rfc1918: true
  allow_public: false
  users_may_add: public
whitelist:
  - host: api.anthropic.com
    ports: [443]
  - host: "*.githubusercontent.com"
    ports: [443]
  - ip: 198.51.100.0/24
    ports: [80, 443]
  - host: db.internal
    ports: [5432]
    protocol: tcp
    private: true
"#;

    fn error(document: &str) -> PolicyError {
        Policy::parse(document.as_bytes()).unwrap_err()
    }

    #[test]
    fn the_example_of_the_design_reads() {
        let policy = Policy::parse(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(policy.entries.len(), 4);
        assert!(policy.defaults.block_rfc1918 && !policy.defaults.allow_public);
        assert!(policy.entries[3].private());
    }

    #[test]
    fn n16_missing_and_empty_lists_allow_nothing() {
        for document in [
            "version: 1",
            "version: 1\nwhitelist: []",
            "version: 1\nwhitelist:\n# - host: a.example\n",
        ] {
            let policy = Policy::parse(document.as_bytes()).unwrap();
            assert_eq!(policy, Policy::default(), "{document}");
            assert!(!policy.defaults.allow_public);
        }
    }

    #[test]
    fn n16_a_list_of_100_000_is_read_whole_or_refused_and_soon() {
        let list = |entries: u32, name: &str| {
            let mut text = "version: 1\nwhitelist:\n".to_owned();
            for number in 0..entries {
                text += &format!("- host: n{number}.{name}\n  ports: [443]\n");
            }
            text
        };
        let start = std::time::Instant::now();
        let policy = Policy::parse(list(100_000, "example").as_bytes()).unwrap();
        assert_eq!(policy.entries.len(), 100_000);
        // One that is wrong, at the end: nothing of it holds.
        let wrong = list(100_000, "example") + "- host: '*'\n  ports: [443]\n";
        assert_eq!(Policy::parse(wrong.as_bytes()).unwrap_err().line, 200_003);
        // More than may be.
        let long = list(100_000, &"long-".repeat(30).replace("-", "x.")) + "# more";
        assert!(long.len() > MAX_DOCUMENT);
        assert!(Policy::parse(long.as_bytes()).unwrap_err().message.contains("larger"));
        // A second or two; what grows by the square of its length takes minutes.
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
    }

    #[test]
    fn errors_name_the_place() {
        let cases = [
            ("", 1, "version"),
            ("version: 2", 1, "version: 1"),
            ("version: 1\nwhitelst: []", 2, "whitelst"),
            ("version: 1\ndefaults:\n  alow_public: true", 3, "alow_public"),
            ("version: 1\ndefaults:\n  allow_public: maybe", 3, "boolean"),
            ("version: 1\nwhitelist:\n  - host: a.example\n    ports: [443, 70000]", 4, "70000"),
            ("version: 1\nwhitelist:\n  - host: a.example\n    ports: [443, -1]", 4, "port"),
            ("version: 1\nwhitelist:\n  - host: a.example\n    ports: []", 3, "at least one port"),
            ("version: 1\nwhitelist:\n  - host: a.example", 3, "`ports` is missing"),
            (
                "version: 1\nwhitelist:\n  - host: a.example\n    ip: 1.1.1.1\n    ports: [1]",
                3,
                "not both",
            ),
            ("version: 1\nwhitelist:\n  - ports: [1]", 3, "needs `host` or `ip`"),
            ("version: 1\nwhitelist:\n  - ip: 127.0.0.1\n    ports: [1]", 3, "never be allowed"),
            ("version: 1\nwhitelist:\n  - ip: 10.0.0.1/8\n    ports: [1]", 3, "10.0.0.0/8"),
            ("version: 1\nwhitelist:\n  - host: '*.com'\n    ports: [1]", 3, "anyone can register"),
            (
                "version: 1\nwhitelist:\n  - host: a.example\n    ports: [1]\n  - host: A.example.\n    ports: [2]",
                5,
                "twice",
            ),
            ("version: 1\nversion: 1", 1, "duplicate field `version`"),
            (
                "version: 1\nwhitelist:\n  - host: a.example\n    ports: [1]\n    protocol: sctp",
                5,
                "sctp",
            ),
            ("version: 1\nwhitelist: yes", 2, "list"),
            ("version: 1\n\twhitelist: []", 2, ""),
        ];
        for (document, line, part) in cases {
            let error = error(document);
            assert_eq!(error.line, line, "{document:?}: {error}");
            assert!(error.message.contains(part), "{document:?}: {error}");
        }
    }

    #[test]
    fn an_uplink_is_one_interface_and_the_administrators_alone() {
        let with = |uplink: &str| format!("version: 1\ndefaults:\n  uplink: {uplink}\n");
        for name in ["wg0", "'0'"] {
            let policy = Policy::parse(with(name).as_bytes()).unwrap();
            let uplink = policy.defaults.uplink.expect("an uplink");
            assert_eq!(uplink.as_str(), name.trim_matches('\''));
        }
        for (bad, column, part) in [
            ("", 10, "the name of a network interface"),
            ("~", 11, "the name of a network interface"),
            ("[wg0]", 11, "the name of a network interface"),
            ("7", 11, "in quotes"),
            ("wg*", 11, "is not the name"),
            ("lo", 11, "does not lead out"),
        ] {
            let error = error(&with(bad));
            assert!(error.message.contains(part), "{bad:?}: {error}");
            assert_eq!((error.line, error.column), (3, column), "{bad:?}: {error}");
        }
        let error = UserRules::parse(with("wg0").as_bytes()).unwrap_err();
        assert_eq!((error.line, error.column), (2, 1));
        assert!(error.message.contains("unknown field `defaults`"), "{error}");
    }

    #[test]
    fn columns_point_at_the_value() {
        let error = error("version: 1\nwhitelist:\n  - host: a.example\n    ports: [443, 70000]");
        assert_eq!((error.line, error.column), (4, 18));
    }

    #[test]
    fn not_utf8_names_the_byte() {
        let error = Policy::parse(b"version: 1\nab\xff").unwrap_err();
        assert_eq!((error.line, error.column), (2, 3));
    }

    #[test]
    fn alias_bombs_are_refused() {
        let mut bomb = String::from("version: 1\na: &a [x]\n");
        for step in 0..30 {
            bomb += &format!("a{step}: &a{} [*a{}, *a{}]\n", step + 1, step, step);
        }
        assert!(Policy::parse(bomb.as_bytes()).is_err());
    }

    #[test]
    fn ten_thousand_hosts_read_in_time() {
        let mut document = String::from("version: 1\nwhitelist:\n");
        for n in 0..10_000 {
            document += &format!("  - host: h{n}.example.com\n    ports: [443]\n");
        }
        assert_eq!(Policy::parse(document.as_bytes()).unwrap().entries.len(), 10_000);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(document in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Policy::parse(&document);
        }

        #[test]
        fn text_like_yaml_never_panics(document in "(version: 1\n)?[a-z:\\-\\[\\] \n&*!\"'{},0-9.]{0,200}") {
            let _ = Policy::parse(document.as_bytes());
        }
    }
}
