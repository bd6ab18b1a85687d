//! The package registries that this computer's own package managers are
//! configured for: allowed for the person's projects and handed in, so that a
//! company's mirror is used inside as it is outside. The name of no registry
//! stands in this source; the programs are asked (DESIGN 3).

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rcc_policy::{Entry, Protocol};
use serde::{Deserialize, Serialize};

use crate::claude;
use crate::error::{Code, Error, Result};
use crate::host::{Host, write_atomically};
use crate::levels::{self, Level};

/// A package manager answers in a second or two.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a Python program prints about pip: configured address or the default,
/// and where files of the default come from.
const ASK_PIP: &str = "\
import subprocess, sys
try:
    from pip._internal.models.index import PyPI
except Exception:
    sys.exit(1)
asked = subprocess.run([sys.executable, '-m', 'pip', 'config', 'get', 'global.index-url'], capture_output=True, text=True)
if asked.returncode == 0 and asked.stdout.strip():
    print(asked.stdout.strip())
else:
    print(PyPI.simple_url)
    print('https://' + PyPI.file_storage_domain + '/')
";

/// What was found, written to `$XDG_CONFIG_HOME/rcc/registries.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registries {
    /// npm's.
    pub npm: Option<String>,
    /// pip's index first, then where its files come from.
    pub pip: Vec<String>,
    /// Go's proxies.
    pub go: Vec<String>,
}

impl Registries {
    /// What was found the last time; nothing when nobody looked.
    ///
    /// # Errors
    /// [`Code::Settings`] for a file that is not valid.
    pub fn known(host: &Host) -> Result<Option<Self>> {
        let path = file(host);
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(None);
        };
        toml::from_str(&text).map(Some).map_err(|e| {
            Error::new(Code::Settings, format!("{} is not valid.", path.display()))
                .with_detail(e.to_string())
        })
    }

    /// Asks the package managers, remembers their answers, and allows their
    /// hosts for all projects of this person.
    ///
    /// # Errors
    /// [`Code::Settings`], [`Code::Io`]. A package manager that is not there or
    /// does not answer is passed over.
    pub async fn learn(host: &Host) -> Result<Self> {
        let (npm, pip, go) = tokio::join!(
            claude::npm_registry(host),
            ask(host, "python3", &["-I", "-c", ASK_PIP]),
            ask(host, "go", &["env", "GOPROXY"]),
        );
        let addresses = |text: Option<String>, separators: &[char]| -> Vec<String> {
            let text = text.unwrap_or_default();
            text.split(separators)
                .map(str::trim)
                .filter(|url| entry(url).is_some())
                .map(str::to_string)
                .collect()
        };
        let found = Self {
            npm: npm.filter(|url| entry(url).is_some()),
            pip: addresses(pip, &['\n']),
            go: addresses(go, &[',', '|']),
        };
        for entry in found.entries() {
            levels::add(&Level::All, host, &entry)?;
        }
        let path = file(host);
        let text = toml::to_string(&found).map_err(|e| Error::io("write", &path, e))?;
        write_atomically(&path, text.as_bytes())?;
        Ok(found)
    }

    /// Their hosts.
    pub fn entries(&self) -> Vec<Entry> {
        self.npm.iter().chain(&self.pip).chain(&self.go).filter_map(|url| entry(url)).collect()
    }

    /// Variables that make the package managers inside ask the same places.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = Vec::new();
        if let Some(npm) = &self.npm {
            variables.push(("NPM_CONFIG_REGISTRY", npm.clone()));
        }
        if let Some(index) = self.pip.first() {
            variables.push(("PIP_INDEX_URL", index.clone()));
        }
        if !self.go.is_empty() {
            variables.push(("GOPROXY", self.go.join(",")));
        }
        variables
    }
}

fn file(host: &Host) -> PathBuf {
    host.config.join("registries.toml")
}

/// Run in the home folder: a project's own settings must not choose (THREATS F5).
async fn ask(host: &Host, program: &str, arguments: &[&str]) -> Option<String> {
    let program = crate::programs::find(program)?;
    let asked = crate::programs::command(&program)
        .args(arguments)
        .current_dir(&host.home)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()
}

/// The host of an address, as something to allow. One with a password in it is
/// left out: it would be handed to the agent.
fn entry(url: &str) -> Option<Entry> {
    let (rest, port) = match url.strip_prefix("https://") {
        Some(rest) => (rest, 443),
        None => (url.strip_prefix("http://")?, 80),
    };
    let authority =
        rest.split(['/', '?', '#']).next().filter(|authority| !authority.contains('@'))?;
    match authority.rsplit_once(':') {
        Some((host, port)) => Entry::host(host, &[port.parse().ok()?], Protocol::Tcp, false).ok(),
        None => Entry::host(authority, &[port], Protocol::Tcp, false).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_hosts_with_ports_and_passwords_stay_outside() {
        let shown = |url: &str| entry(url).map(|entry| entry.to_string());
        assert_eq!(
            shown("https://npm.example.org/group/").as_deref(),
            Some("npm.example.org tcp/443")
        );
        assert_eq!(
            shown("http://mirror.example.org:8081").as_deref(),
            Some("mirror.example.org tcp/8081")
        );
        for bad in [
            "https://ann:secret@npm.example.org/",
            "off",
            "direct",
            "file:///x",
            "https://",
            "http://a.example:x/",
        ] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_was_learnt_is_known_and_handed_in() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        assert_eq!(Registries::known(&host).unwrap(), None);
        let found = Registries {
            npm: Some("https://npm.example.org/".into()),
            pip: vec!["https://pip.example.org/simple".into(), "https://files.example.org/".into()],
            go: vec![],
        };
        write_atomically(&file(&host), toml::to_string(&found).unwrap().as_bytes()).unwrap();
        assert_eq!(Registries::known(&host).unwrap(), Some(found.clone()));
        assert_eq!(found.entries().len(), 3);
        assert_eq!(
            found.variables(),
            [
                ("NPM_CONFIG_REGISTRY", "https://npm.example.org/".to_string()),
                ("PIP_INDEX_URL", "https://pip.example.org/simple".to_string())
            ]
        );
    }
}
