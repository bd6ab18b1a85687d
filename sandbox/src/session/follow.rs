//! Lists that a person edits by hand take effect in the sandboxes that run, for
//! as long as a process of rcc's follows them.

use std::collections::HashMap;
use std::fs;

use rcc_policy::{Entry, UserRules};

use super::rules::{DroppedRule, refresh_of};
use crate::engine::Engine;
use crate::error::Result;
use crate::host::Host;
use crate::levels::Watch;
use crate::network::Network;

/// The person's lists, as they were and as they become.
pub struct Follow {
    host: Host,
    watch: Watch,
    /// None is the list of all projects, else a project's id.
    known: HashMap<Option<String>, Vec<Entry>>,
}

/// One list that is another one now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// None is the list of all projects, else a project's id.
    pub level: Option<String>,
    /// What it had. None: it cannot be read now, and what it had holds on.
    before: Option<Vec<Entry>>,
}

impl Follow {
    /// Begins to listen.
    ///
    /// # Errors
    /// `Code::Io` when the kernel gives no watch.
    pub fn begin(host: &Host) -> Result<Self> {
        // First the watch: what is written between the two is heard of.
        let watch = Watch::begin(host)?;
        let mut follow = Self { host: host.clone(), watch, known: HashMap::new() };
        let projects = fs::read_dir(host.config.join("projects")).into_iter().flatten().flatten();
        let ids = projects.filter_map(|entry| {
            entry.file_name().to_str()?.strip_suffix(".yaml").map(str::to_string)
        });
        for level in ids.map(Some).chain([None]) {
            if let Some(entries) = follow.read(level.as_deref()) {
                follow.known.insert(level, entries);
            }
        }
        Ok(follow)
    }

    /// The next edits; `None` when the kernel ended the watch.
    pub async fn next(&mut self) -> Option<Vec<Edited>> {
        let changed = self.watch.next().await?;
        Some(changed.into_iter().map(|level| self.take(level)).collect())
    }

    fn take(&mut self, level: Option<String>) -> Edited {
        let Some(now) = self.read(level.as_deref()) else { return Edited { level, before: None } };
        let before = self.known.insert(level.clone(), now).unwrap_or_default();
        Edited { level, before: Some(before) }
    }

    /// Its entries; none when somebody is in the middle of writing it, or it is
    /// not valid.
    fn read(&self, project: Option<&str>) -> Option<Vec<Entry>> {
        let path = match project {
            Some(id) => self.host.config.join("projects").join(format!("{id}.yaml")),
            None => self.host.config.join("hosts.yaml"),
        };
        let text = crate::levels::document(&path).ok()?;
        if text.trim().is_empty() {
            return Some(Vec::new());
        }
        UserRules::parse(text.as_bytes()).ok().map(|rules| rules.entries)
    }
}

impl Edited {
    /// Brings it to the sandboxes that run: what the list had and has no more
    /// goes and its flows are cut, what it has now comes.
    ///
    /// # Errors
    /// As [`super::allow`].
    pub async fn apply(
        &self,
        host: &Host,
        engine: &Engine,
        network: &Network,
    ) -> Result<Vec<DroppedRule>> {
        match &self.before {
            Some(before) => refresh_of(host, engine, network, self.level.as_deref(), before).await,
            None => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::write_atomically;

    #[tokio::test]
    async fn an_edit_by_hand_is_told_with_what_was_there_and_a_mistake_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        let all = host.config.join("hosts.yaml");
        let list =
            |name: &str| format!("version: 1\nwhitelist:\n  - host: {name}\n    ports: [443]\n");
        write_atomically(&all, list("a.example.org").as_bytes()).unwrap();
        let mut follow = Follow::begin(&host).unwrap();
        let entry = |name: &str| crate::levels::parse_host(name, false).unwrap();

        write_atomically(&all, b"version: 1\nwhitelst: []\n").unwrap();
        let edited = follow.next().await.unwrap();
        assert_eq!(edited, [Edited { level: None, before: None }]);
        write_atomically(&all, list("b.example.org").as_bytes()).unwrap();
        let edited = follow.next().await.unwrap();
        assert_eq!(edited, [Edited { level: None, before: Some(vec![entry("a.example.org")]) }]);
        fs::remove_file(&all).unwrap();
        let edited = follow.next().await.unwrap();
        assert_eq!(edited, [Edited { level: None, before: Some(vec![entry("b.example.org")]) }]);

        let own = host.config.join("projects/0123456789abcdef.yaml");
        write_atomically(&own, list("c.example.org").as_bytes()).unwrap();
        let level = Some("0123456789abcdef".to_string());
        assert_eq!(follow.next().await.unwrap(), [Edited { level, before: Some(Vec::new()) }]);
    }
}
