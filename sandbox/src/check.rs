//! Reading a list of allowed hosts as the firewall service would, without putting it
//! in force.

use rcc_policy::{Policy, UsersMayAdd};

use crate::error::{Code, Error, Result};

/// What a list allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Each entry, and what to know about it.
    pub entries: Vec<(String, Option<&'static str>)>,
    /// Sentences about the defaults.
    pub defaults: Vec<String>,
}

/// Reads a document.
///
/// # Errors
/// [`Code::Settings`] with line and column of the first mistake. `name` says whose
/// document it is.
pub fn check(name: &str, document: &[u8]) -> Result<Checked> {
    let policy = Policy::parse(document)
        .map_err(|error| Error::new(Code::Settings, format!("{name}: {error}.")))?;
    let note = |entry: &rcc_policy::Entry| {
        if entry.tunnel_possible() {
            Some(
                "tunnel possible: whoever runs the name servers below it reads the names asked for",
            )
        } else if entry.private() {
            Some("may have a private address")
        } else {
            None
        }
    };
    let entries = policy.entries.iter().map(|entry| (entry.to_string(), note(entry))).collect();
    let mut defaults: Vec<&str> = Vec::new();
    if policy.defaults.allow_public {
        defaults.push("The whole public internet is open.");
    }
    if !policy.defaults.block_rfc1918 {
        defaults.push("Private networks are not blocked by themselves.");
    }
    defaults.push(match policy.defaults.users_may_add {
        UsersMayAdd::None => "People may add nothing for their projects.",
        UsersMayAdd::Public => "People may add public hosts for their projects.",
        UsersMayAdd::Private => "People may add public and private hosts for their projects.",
    });
    let mut defaults: Vec<String> = defaults.into_iter().map(str::to_owned).collect();
    if let Some(interface) = &policy.defaults.uplink {
        defaults.push(format!("What sandboxes send leaves the computer by {interface} alone."));
    }
    Ok(Checked { entries, defaults })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_has_a_place_and_a_wildcard_a_warning() {
        let wrong = b"version: 1\nwhitelist:\n  - host: a.example\n    ports: []\n";
        let error = check("list.yaml", wrong).unwrap_err();
        assert!(error.body().starts_with("list.yaml: line 3"), "{}", error.body());
        let right = b"version: 1\nwhitelist:\n  - host: \"*.a.example\"\n    ports: [443]\n";
        let checked = check("list.yaml", right).unwrap();
        assert!(checked.entries[0].1.is_some_and(|note| note.contains("tunnel possible")));
        assert_eq!(checked.defaults.len(), 1);
        let bound = check("list.yaml", b"version: 1\ndefaults:\n  uplink: wg0\n").unwrap();
        assert!(bound.defaults[1].ends_with("by wg0 alone."), "{:?}", bound.defaults);
    }
}
