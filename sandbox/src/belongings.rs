//! What rcc keeps of a person's on this computer, and taking it away. What belongs to
//! the computer (the package, the firewall, the administrator's list) is not here.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::engine::{Engine, KeptImage};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::login;
use crate::session::STOP_PATIENCE_S;

/// The window's own folders have its application's id.
const WINDOW: &str = "dev.rcc.Desktop";

/// Kinds of what is kept, in the order in which it is taken away: what uses something
/// goes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Containers, also those that run.
    Sandboxes,
    /// Volumes: the agents' homes, with conversations and logins.
    Homes,
    /// Images that rcc built, and layers on them.
    Images,
    /// Claude Code, as far as rcc fetched it.
    Claude,
    /// The login of all projects, in the desktop's secret store.
    Login,
    /// Logs of blocked hosts, and what the review compares with.
    Records,
    /// What the window keeps: where it stood, what was open.
    Window,
    /// Allowed hosts and projects' settings.
    Settings,
}

impl Kind {
    /// A stable word for programs.
    pub fn key(self) -> &'static str {
        match self {
            Self::Sandboxes => "sandboxes",
            Self::Homes => "homes",
            Self::Images => "images",
            Self::Claude => "claude",
            Self::Login => "login",
            Self::Records => "records",
            Self::Window => "window",
            Self::Settings => "settings",
        }
    }

    /// As the person reads it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Sandboxes => "Sandboxes",
            Self::Homes => "Homes of agents, with their conversations and logins",
            Self::Images => "Images",
            Self::Claude => "Claude Code, fetched by rcc",
            Self::Login => "The login for all projects",
            Self::Records => "Logs of blocked hosts, records of the review",
            Self::Window => "What the window remembers",
            Self::Settings => "Allowed hosts and settings of your projects",
        }
    }
}

/// Something that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belonging {
    /// What it is.
    pub kind: Kind,
    /// Names for the engine, or folders.
    pub names: Vec<String>,
    /// Bytes, as far as they may be counted; 0 where nobody says.
    pub size: u64,
}

/// Everything that is there. Without an engine what it keeps is not looked for.
///
/// # Errors
/// [`crate::Code::Engine`] when the engine does not say what it has.
pub async fn find(host: &Host, engine: Option<&Engine>) -> Result<Vec<Belonging>> {
    let mut found = Vec::new();
    let mut add = |kind, names: Vec<String>, size| {
        if !names.is_empty() {
            found.push(Belonging { kind, names, size });
        }
    };
    if let Some(engine) = engine {
        let containers = engine.find(None).await?;
        add(Kind::Sandboxes, containers.into_iter().map(|one| one.id).collect(), 0);
        let homes = engine.homes().await?;
        let size = homes.iter().map(|(_, folder)| size_of(folder)).sum();
        add(Kind::Homes, homes.into_iter().map(|(name, _)| name).collect(), size);
        let mut images = engine.images("localhost/rcc-").await?;
        images.retain(|image| is_ours(&image.name));
        let size = layers(&images).values().sum();
        add(Kind::Images, images.into_iter().map(|image| image.name).collect(), size);
    }
    if login::is_kept().await == Some(true) {
        add(Kind::Login, vec!["Claude login for rcc".into()], 0);
    }
    for kind in [Kind::Claude, Kind::Records, Kind::Window, Kind::Settings] {
        let folders: Vec<_> = folders(host, kind)
            .into_iter()
            .filter(|path| path.symlink_metadata().is_ok())
            .collect();
        let size = folders.iter().map(|folder| size_of(folder)).sum();
        add(kind, folders.iter().map(|path| path.display().to_string()).collect(), size);
    }
    Ok(found)
}

/// Takes one away, for good.
///
/// # Errors
/// As the engine, the secret store or the disk says it; what could be taken away is gone.
pub async fn remove(host: &Host, engine: Option<&Engine>, belonging: &Belonging) -> Result<()> {
    let mut failed = None;
    let mut note = |result: Result<()>| failed = failed.take().or(result.err());
    match (belonging.kind, engine) {
        (Kind::Login, _) => note(login::forget().await),
        (Kind::Sandboxes | Kind::Homes | Kind::Images, None) => {}
        (Kind::Sandboxes, Some(engine)) => {
            for name in &belonging.names {
                note(engine.remove(name, STOP_PATIENCE_S).await);
            }
        }
        (Kind::Homes, Some(engine)) => {
            for name in &belonging.names {
                note(engine.remove_volume(name).await);
            }
        }
        (Kind::Images, Some(engine)) => {
            for name in &belonging.names {
                note(engine.remove_image(name).await);
            }
        }
        (kind, _) => {
            for folder in folders(host, kind) {
                match fs::remove_dir_all(&folder) {
                    Err(e) if e.kind() != ErrorKind::NotFound => {
                        note(Err(Error::io("remove", &folder, e)));
                    }
                    _ => {}
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Names that rcc gives, as [`crate::image`] and its builds do: with a hash, or the number of
/// a process. A person may have an image whose name only begins alike, or with a tag of
/// their own.
fn is_ours(image: &str) -> bool {
    const OURS: [&str; 7] =
        ["dev", "small", "dev-with", "small-with", "replaced", "unfinished", "unfinished-layer"];
    let is_hash = |tag: &str| {
        tag.len() == 12 && tag.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_number = |tag: &str| !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_digit());
    let name = image.strip_prefix("localhost/rcc-").and_then(|rest| rest.split_once(':'));
    name.is_some_and(|(name, tag)| {
        OURS.contains(&name)
            && if name.starts_with("unfinished") { is_number(tag) } else { is_hash(tag) }
    })
}

fn folders(host: &Host, kind: Kind) -> Vec<PathBuf> {
    let beside = |folder: &Path| folder.parent().map(|base| base.join(WINDOW));
    match kind {
        Kind::Claude => vec![host.data.clone()],
        Kind::Records => vec![host.state.clone()],
        Kind::Settings => vec![host.config.clone()],
        Kind::Window => beside(&host.data).into_iter().chain([host.cache.join(WINDOW)]).collect(),
        Kind::Sandboxes | Kind::Homes | Kind::Images | Kind::Login => vec![],
    }
}

/// Bytes of each layer: what images have in common the engine keeps once.
fn layers(images: &[KeptImage]) -> HashMap<&str, u64> {
    let mut all = HashMap::new();
    for image in images {
        let layers = image.layers.iter().map(String::as_str);
        all.extend(layers.zip(image.sizes.iter().rev().copied()));
    }
    all
}

/// What a folder takes on the disk. Links are not followed; what may not be read
/// counts nothing.
fn size_of(path: &Path) -> u64 {
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    let below = if meta.is_dir() {
        fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size_of(&entry.path())).sum()
    } else {
        0
    };
    // st_blocks counts in units of 512 bytes, stat(2).
    meta.blocks() * 512 + below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_in_a_persons_folders_is_found_and_taken_away_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        let beside = host.config.parent().unwrap().join("other");
        for file in [host.config.join("hosts.yaml"), host.data.join("claude/2.1.1/claude")] {
            crate::host::write_atomically(&file, &[b'x'; 10_000]).unwrap();
        }
        crate::host::write_atomically(&beside.join("kept"), b"").unwrap();
        // What is a link is taken away, not where it leads to.
        fs::create_dir_all(host.state.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&beside, host.data.join("link")).unwrap();

        // Never the login: that of whoever runs this test would be a real one.
        let find = async || {
            let mut found = find(&host, None).await.unwrap();
            found.retain(|one| one.kind != Kind::Login);
            found
        };
        let found = find().await;
        let kinds: Vec<_> = found.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [Kind::Claude, Kind::Settings]);
        assert!(found.iter().all(|one| (10_000..100_000).contains(&one.size)), "{found:?}");
        for belonging in &found {
            remove(&host, None, belonging).await.unwrap();
        }
        assert!(!host.config.exists() && !host.data.exists());
        assert!(beside.join("kept").exists());
        assert_eq!(find().await, []);
    }

    #[test]
    fn an_image_of_the_persons_own_stays() {
        for ours in [
            "dev:0123456789ab",
            "small-with:aabbccddeeff",
            "replaced:012345678901",
            "unfinished:7",
            "unfinished-layer:4711",
        ] {
            assert!(is_ours(&format!("localhost/rcc-{ours}")), "{ours}");
        }
        for other in [
            "localhost/rcc-mine:0123456789ab",
            "localhost/rcc-dev",
            "localhost/rcc-dev:mine",
            "localhost/rcc-dev:0123456789AB",
            "localhost/rcc-unfinished:",
            "host.example/rcc-dev:0123456789ab",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn a_layer_of_two_images_counts_once() {
        let image = |sizes: &[u64], layers: &[&str]| KeptImage {
            name: String::new(),
            sizes: sizes.into(),
            layers: layers.iter().map(|layer| (*layer).into()).collect(),
        };
        let images = [image(&[100], &["1"]), image(&[40, 100], &["1", "2"])];
        assert_eq!(layers(&images).values().sum::<u64>(), 140);
    }
}
