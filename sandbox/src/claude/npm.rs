//! Which npm registry this computer uses. The name of no registry stands in
//! this source: npm is asked, or its configuration is read.

use std::env;
use std::fs;
use std::time::Duration;

use crate::error::{Code, Error, Result};
use crate::host::Host;

/// npm starts in a second or so.
const PATIENCE: Duration = Duration::from_secs(20);

/// A registry and, for a private one, what it wants to see.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Registry {
    /// With a slash at the end.
    pub(super) url: String,
    /// The value of the Authorization header.
    pub(super) authorization: Option<String>,
}

/// Asks the environment, then npm, then the person's `.npmrc`.
pub(super) async fn registry(host: &Host) -> Result<Registry> {
    let npmrc = fs::read_to_string(
        env::var_os("NPM_CONFIG_USERCONFIG").map_or_else(|| host.home.join(".npmrc"), Into::into),
    )
    .unwrap_or_default();
    let from_environment =
        ["NPM_CONFIG_REGISTRY", "npm_config_registry"].iter().find_map(|name| env::var(name).ok());
    let url = match setting(&npmrc, "@anthropic-ai:registry").or(from_environment) {
        Some(url) => Some(url),
        None => match ask_npm(host).await {
            Some(url) => Some(url),
            None => setting(&npmrc, "registry"),
        },
    };
    let url = url.filter(|url| url.starts_with("https://") || url.starts_with("http://")).ok_or_else(|| {
        Error::new(Code::ClaudeFetch, "This computer has no npm that names a registry, and no Claude Code of its own.")
            .hint_is("Install Claude Code for yourself, or npm, or set NPM_CONFIG_REGISTRY; then try again.")
    })?;
    let url = format!("{}/", url.trim_end_matches('/'));
    Ok(Registry { authorization: authorization(&npmrc, &url), url })
}

/// Run in the home folder: a project's own `.npmrc` must not choose where the
/// host fetches programs from (THREATS F5).
async fn ask_npm(host: &Host) -> Option<String> {
    let npm = crate::programs::find("npm")?;
    let asked = crate::programs::command(&npm)
        .args(["config", "get", "registry"])
        .current_dir(&host.home)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let url = text.lines().map(str::trim).find(|line| line.starts_with("http"))?;
    output.status.success().then(|| url.to_string())
}

/// The last `key = value` of an ini file, quotes and `${VARIABLE}` resolved.
fn setting(npmrc: &str, key: &str) -> Option<String> {
    let line = npmrc
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once('='))
        .rfind(|(name, _)| name.trim() == key)?;
    let value = line.1.trim().trim_matches('"');
    match value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        Some(variable) => env::var(variable).ok(),
        None => Some(value.to_string()),
    }
    .filter(|value| !value.is_empty())
}

/// `//host/path/:_authToken` for the longest prefix of the registry's address.
fn authorization(npmrc: &str, url: &str) -> Option<String> {
    let (_, rest) = url.split_once(':')?;
    let mut scope = rest;
    while scope.len() > 2 {
        if let Some(token) = setting(npmrc, &format!("{scope}:_authToken")) {
            return Some(format!("Bearer {token}"));
        }
        if let Some(basic) = setting(npmrc, &format!("{scope}:_auth")) {
            return Some(format!("Basic {basic}"));
        }
        let shorter = scope.trim_end_matches('/');
        scope = &shorter[..=shorter.rfind('/')?];
    }
    None
}

/// Without the token: an error or log must not show it.
impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("url", &self.url).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_npm_reads_them() {
        let npmrc = "; old\nregistry = http://a.example/x/ \n#registry=no\nregistry=\"http://b.example\"\nempty=\n";
        assert_eq!(setting(npmrc, "registry").as_deref(), Some("http://b.example"));
        assert_eq!(setting(npmrc, "empty"), None);
        assert_eq!(setting(npmrc, "other"), None);
        assert_eq!(
            setting("a=${CARGO_PKG_NAME}", "a").as_deref(),
            env::var("CARGO_PKG_NAME").ok().as_deref()
        );
    }

    #[test]
    fn a_token_goes_only_to_its_own_registry() {
        let npmrc = "//a.example/npm/:_authToken=one\n//b.example/:_auth=two\n";
        let to = |url: &str| authorization(npmrc, url);
        assert_eq!(to("https://a.example/npm/").as_deref(), Some("Bearer one"));
        assert_eq!(to("https://a.example/npm/group/").as_deref(), Some("Bearer one"));
        assert_eq!(to("https://b.example/any/").as_deref(), Some("Basic two"));
        assert_eq!(to("https://a.example/"), None);
        assert_eq!(to("https://a.example.evil/npm/"), None);
    }
}
