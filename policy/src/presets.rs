//! The three policies that a first run offers.

use std::fmt::Write as _;

use crate::name::Name;

/// A starting point for the administrator's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preset {
    /// The whole public internet; private ranges stay closed.
    Open,
    /// What Claude Code needs, GitHub, and this computer's package registries.
    Balanced,
    /// Claude Code alone: no host that takes uploads.
    Locked,
}

/// What Claude Code needs to answer and to log in.
const CLAUDE: &[&str] = &["api.anthropic.com", "platform.claude.com", "claude.ai"];
/// Git over HTTPS, releases, raw files.
const GITHUB: &[&str] =
    &["github.com", "api.github.com", "codeload.github.com", "*.githubusercontent.com"];

impl Preset {
    /// All of them, most open first.
    pub const ALL: [Preset; 3] = [Self::Open, Self::Balanced, Self::Locked];

    /// The word in the window and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Balanced => "balanced",
            Self::Locked => "locked",
        }
    }

    /// The document. `registries` are the hosts that this computer's own package
    /// managers are configured for, with their ports; the source names none.
    pub fn document(self, registries: &[(Name, u16)]) -> String {
        let mut text = String::from(
            "# Hosts that sandboxes on this computer may reach. Everything else is blocked.\n\
             # See network-whitelist.yaml(5). Empty means nothing is allowed.\n\
             version: 1\n\
             defaults:\n  block_rfc1918: true\n",
        );
        let allow_public = self == Self::Open;
        let _ = writeln!(text, "  allow_public: {allow_public}");
        text += "  users_may_add: public    # none | public | private\n";
        text += "whitelist:\n";
        // One entry a host: a registry may be a host that stands there already.
        let mut hosts: Vec<(&str, Vec<u16>)> =
            CLAUDE.iter().map(|host| (*host, vec![443])).collect();
        if self != Self::Locked {
            hosts.extend(GITHUB.iter().map(|host| (*host, vec![443])));
            for (host, port) in registries {
                match hosts.iter_mut().find(|(known, _)| known == &host.as_str()) {
                    Some((_, ports)) if ports.contains(port) => {}
                    Some((_, ports)) => ports.push(*port),
                    None => hosts.push((host.as_str(), vec![*port])),
                }
            }
        }
        for (host, ports) in hosts {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            let _ = writeln!(text, "  - host: \"{host}\"\n    ports: [{}]", ports.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Policy;

    #[test]
    fn every_preset_is_a_valid_policy() {
        let registries = [
            ("mirror.example".parse().unwrap(), 80),
            ("mirror.example".parse().unwrap(), 443),
            ("github.com".parse().unwrap(), 443),
        ];
        for preset in Preset::ALL {
            let policy = Policy::parse(preset.document(&registries).as_bytes()).unwrap();
            assert_eq!(policy.defaults.allow_public, preset == Preset::Open);
            assert!(policy.defaults.block_rfc1918);
            let mirror = policy.entries.iter().any(|e| e.target().to_string() == "mirror.example");
            assert_eq!(mirror, preset != Preset::Locked);
        }
    }
}
