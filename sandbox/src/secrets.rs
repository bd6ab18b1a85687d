//! Credentials and addresses that go from the person's environment into a
//! terminal: never on a command line, never in a container's settings, only in
//! the request that starts the program (THREATS C1).

use std::env;

/// Variables whose values are secret. They are also kept from the engine's own
/// service, which would hold them for as long as it lives.
pub const NAMES: &[&str] =
    &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];

/// Variables that steer Claude Code and are not secret; handed in when set.
const PLAIN: &[&str] = &[
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "CLAUDE_CODE_MAX_RETRIES",
    "CLAUDE_CODE_DISABLE_ALTERNATE_SCREEN",
    "NODE_EXTRA_CA_CERTS",
];

/// Where the certificates of `NODE_EXTRA_CA_CERTS` are inside.
pub const EXTRA_CERTIFICATES: &str = "/etc/rcc/extra-ca.pem";

/// What is handed in from the caller's environment.
#[derive(Clone, Default)]
pub struct Handed {
    variables: Vec<(String, String)>,
}

impl Handed {
    /// Picks the known variables out of this process's environment.
    pub fn from_environment() -> Self {
        let variables = NAMES
            .iter()
            .chain(PLAIN)
            .filter_map(|name| env::var(name).ok().map(|value| ((*name).to_string(), value)))
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| {
                // The file is the host's; inside it stands where it was mounted.
                if name == "NODE_EXTRA_CA_CERTS" {
                    (name, EXTRA_CERTIFICATES.to_string())
                } else {
                    (name, value)
                }
            })
            .collect();
        Self { variables }
    }

    /// Adds or replaces one, for instance a token from the desktop's secret store.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(existing, _)| existing != name);
        self.variables.push((name.into(), value.into()));
    }

    /// Name and value of each.
    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// Whether Claude is told who the person is.
    pub fn has_login(&self) -> bool {
        self.variables.iter().any(|(name, _)| NAMES.contains(&name.as_str()))
    }

    /// The API key, whose last characters Claude Code wants to see approved.
    pub(crate) fn api_key(&self) -> Option<&str> {
        self.variables
            .iter()
            .find(|(name, _)| name == "ANTHROPIC_API_KEY")
            .map(|(_, value)| value.as_str())
    }
}

/// Names only: a value must not reach a log through `{:?}`.
impl std::fmt::Debug for Handed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.variables.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_value() {
        let mut handed = Handed::default();
        handed.set("ANTHROPIC_API_KEY", "sk-secret");
        handed.set("ANTHROPIC_API_KEY", "sk-other");
        assert_eq!(handed.api_key(), Some("sk-other"));
        let shown = format!("{handed:?}");
        assert!(shown.contains("ANTHROPIC_API_KEY") && !shown.contains("sk-"), "{shown}");
        assert!(handed.has_login() && !Handed::default().has_login());
    }
}
