//! Claude Code itself: proprietary, so it is taken from the person's own
//! install or fetched on their computer, from the npm registry that this
//! computer's npm is configured for.

mod fetch;
mod npm;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};
use crate::host::Host;
use crate::progress::{Cancel, Reporter, or_cancelled};

/// Where the program is inside.
pub const PROGRAM_INSIDE: &str = "/usr/local/bin/claude";

/// Versions of rcc's own that are kept.
const KEPT: usize = 2;

/// A program that can be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claude {
    /// The file on the host, canonical.
    pub path: PathBuf,
    /// Its version, as far as the place of the file tells it.
    pub version: Option<String>,
    /// Fetched by rcc, not installed by the person.
    pub fetched: bool,
}

impl Claude {
    /// Whether `version` is a newer one; where nobody knows which this is, it may be.
    pub fn is_older_than(&self, version: &str) -> bool {
        self.version.as_deref().and_then(parse) < parse(version)
    }
}

/// Finds Claude Code on this computer: the person's install first, then the
/// newest that rcc fetched.
pub fn find(host: &Host) -> Option<Claude> {
    installed(host).or_else(|| newest_fetched(host))
}

/// Finds it, or fetches the newest version.
///
/// # Errors
/// [`Code::ClaudeFetch`], [`Code::ClaudeHash`], [`Code::ClaudePlatform`],
/// [`Code::Cancelled`]. Versions that were there stay.
pub async fn find_or_fetch(host: &Host, report: &Reporter, cancel: &Cancel) -> Result<Claude> {
    match find(host) {
        Some(claude) => Ok(claude),
        None => fetch(host, None, report, cancel).await,
    }
}

/// Fetches `version`, or the newest, and makes it the one that new sessions get.
///
/// # Errors
/// As [`find_or_fetch`].
pub async fn fetch(
    host: &Host,
    version: Option<&str>,
    report: &Reporter,
    cancel: &Cancel,
) -> Result<Claude> {
    let request = request(host, version, report, cancel).await?;
    let version = blocking(move || fetch::run(&request)).await?;
    forget_old(host, &version);
    newest_fetched(host)
        .ok_or_else(|| Error::new(Code::ClaudeFetch, "The program was unpacked and is not usable."))
}

async fn request(
    host: &Host,
    version: Option<&str>,
    report: &Reporter,
    cancel: &Cancel,
) -> Result<fetch::Request> {
    Ok(fetch::Request {
        registry: npm::registry(host).await?,
        package: package()?,
        version: version.map(str::to_string),
        store: store(host),
        report: report.clone(),
        cancel: cancel.clone(),
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(Error::new(Code::ClaudeFetch, format!("The download ended unexpectedly: {e}.")))
    })
}

/// The newest version that the registry has.
///
/// # Errors
/// [`Code::ClaudeFetch`], [`Code::ClaudePlatform`], [`Code::Cancelled`].
pub async fn newest(host: &Host, cancel: &Cancel) -> Result<String> {
    let request = request(host, None, &Reporter::silent(), cancel).await?;
    blocking(move || fetch::newest(&request)).await
}

/// What an update came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Updated {
    /// The person's own install is used, and is theirs to update.
    Own(Claude),
    /// There is nothing newer.
    Newest(Claude),
    /// New sessions get this one.
    Fetched(Claude),
}

/// Fetches the newest version where rcc fetched the one that is used.
///
/// # Errors
/// As [`find_or_fetch`].
pub async fn update(host: &Host, report: &Reporter, cancel: &Cancel) -> Result<Updated> {
    let before = find(host);
    match before {
        Some(own) if !own.fetched => return Ok(Updated::Own(own)),
        Some(before) => {
            let newest = or_cancelled(cancel, newest(host, cancel)).await?;
            if !before.is_older_than(&newest) {
                return Ok(Updated::Newest(before));
            }
        }
        None => {}
    }
    Ok(Updated::Fetched(fetch(host, None, report, cancel).await?))
}

impl Updated {
    /// What the person is told.
    pub fn words(&self) -> String {
        let version = |claude: &Claude| claude.version.clone().unwrap_or_default();
        match self {
            Self::Own(claude) => format!(
                "Claude Code is your own install, {}; update it as you installed it.",
                crate::display::line(&claude.path.display().to_string(), 200)
            ),
            Self::Newest(claude) => format!("Claude Code {} is the newest.", version(claude)),
            Self::Fetched(claude) => {
                format!("Claude Code {} is there; new sessions use it.", version(claude))
            }
        }
    }
}

/// The package with the program for this kind of computer.
fn package() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("@anthropic-ai/claude-code-linux-x64"),
        "aarch64" => Ok("@anthropic-ai/claude-code-linux-arm64"),
        other => Err(Error::new(Code::ClaudePlatform, format!("This one is {other}."))),
    }
}

/// The npm registry of this computer, for programs inside.
pub(crate) async fn npm_registry(host: &Host) -> Option<String> {
    npm::registry(host).await.ok().map(|registry| registry.url)
}

fn store(host: &Host) -> PathBuf {
    host.data.join("claude")
}

fn installed(host: &Host) -> Option<Claude> {
    let on_path = crate::programs::find("claude").and_then(|path| usable(&path));
    let versions = host.home.join(".local/share/claude/versions");
    let path = on_path
        .or_else(|| by_version(&versions).into_iter().find_map(|(path, _)| usable(&path)))?;
    let version = path
        .file_name()
        .and_then(|name| name.to_str())
        .filter(|name| parse(name).is_some())
        .map(str::to_string);
    Some(Claude { path, version, fetched: false })
}

fn newest_fetched(host: &Host) -> Option<Claude> {
    by_version(&store(host)).into_iter().find_map(|(folder, version)| {
        usable(&folder.join("claude")).map(|path| Claude {
            path,
            version: Some(version),
            fetched: true,
        })
    })
}

/// Entries that are named like a version, newest first.
fn by_version(folder: &Path) -> Vec<(PathBuf, String)> {
    let names = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok());
    let mut found: Vec<_> = names
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((parse(&name)?, entry.path(), name))
        })
        .collect();
    found.sort_by_key(|(version, ..)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, path, name)| (path, name)).collect()
}

/// `2.1.330` as numbers that sort. Anything else is not a version of Claude Code.
pub(crate) fn parse(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let parsed = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(parsed)
}

/// A program for glibc, as the images have it: a native install for musl or a
/// script for node would not start in them.
fn usable(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let meta = path.metadata().ok()?;
    if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 {
        return None;
    }
    let mut head = Vec::new();
    fs::File::open(&path).ok()?.take(64 << 10).read_to_end(&mut head).ok()?;
    let glibc = head.windows(8).any(|window| window == b"ld-linux");
    (head.starts_with(b"\x7fELF") && glibc).then_some(path)
}

/// Takes away what is older than the newest two. A running session keeps its
/// program: the mount holds the file.
fn forget_old(host: &Host, current: &str) {
    for (path, version) in by_version(&store(host)).into_iter().skip(KEPT) {
        if version != current {
            // It costs only disk space if this fails.
            let _ = fs::remove_dir_all(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"\x7fELF....../lib64/ld-linux-x86-64.so.2...").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn versions_sort_as_numbers_and_only_versions_count() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::testing::host(dir.path());
        for version in ["2.1.9", "2.1.10", "2.1.100", ".new-7", "2.1", "2.1.x"] {
            program(&store(&host).join(version).join("claude"));
        }
        assert_eq!(newest_fetched(&host).unwrap().version.as_deref(), Some("2.1.100"));
        forget_old(&host, "2.1.100");
        let left: Vec<_> =
            by_version(&store(&host)).into_iter().map(|(_, version)| version).collect();
        assert_eq!(left, ["2.1.100", "2.1.10"]);
    }

    #[test]
    fn only_a_higher_version_is_newer() {
        let there = |version: &str| Claude {
            path: "/claude".into(),
            version: Some(version.into()),
            fetched: true,
        };
        assert!(there("2.1.9").is_older_than("2.1.10"));
        // What the registry says of itself brings nobody back.
        for other in ["2.1.9", "2.1.10", "nonsense", ""] {
            assert!(!there("2.1.10").is_older_than(other), "{other}");
        }
        assert!(Claude { version: None, ..there("") }.is_older_than("2.1.9"));
    }

    #[test]
    fn a_script_or_another_libc_is_not_usable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("claude");
        program(&path);
        assert_eq!(usable(&path), Some(path.canonicalize().unwrap()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(usable(&path), None);
        for other in [&b"#!/usr/bin/env node"[..], b"\x7fELF.../lib/ld-musl-x86_64.so.1"] {
            program(&path);
            fs::write(&path, other).unwrap();
            assert_eq!(usable(&path), None);
        }
    }
}
