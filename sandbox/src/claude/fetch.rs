//! Fetching the program: metadata, archive, fingerprint, one file, one rename.
//! Blocking; runs on a thread of its own.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use sha2::{Digest, Sha512};

use super::npm::Registry;
use crate::error::{Code, Error, Result};
use crate::host::make_dirs;
use crate::progress::{Cancel, Progress, Reporter, Step};

/// Most bytes of metadata; the whole history of a package is a few MB.
const MAX_METADATA: u64 = 64 << 20;
/// Most bytes of the archive; it has about 180 MB.
const MAX_ARCHIVE: u64 = 2 << 30;
/// Most bytes of the program; it has about 380 MB.
const MAX_PROGRAM: u64 = 4 << 30;
/// Path of the program in the archive.
const MEMBER: &str = "package/claude";

/// What to fetch, and where to.
pub(super) struct Request {
    pub(super) registry: Registry,
    pub(super) package: &'static str,
    /// `None`: the newest.
    pub(super) version: Option<String>,
    pub(super) store: PathBuf,
    pub(super) report: Reporter,
    pub(super) cancel: Cancel,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "dist-tags", default)]
    tags: std::collections::HashMap<String, String>,
    #[serde(default)]
    versions: std::collections::HashMap<String, Version>,
}

#[derive(Deserialize)]
struct Version {
    dist: Dist,
}

#[derive(Deserialize)]
struct Dist {
    tarball: String,
    #[serde(default)]
    integrity: Option<String>,
}

/// A folder that goes away unless it was kept by a rename.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Answers the version, which is then in `store/<version>/claude`.
pub(super) fn run(request: &Request) -> Result<String> {
    make_dirs(&request.store)?;
    let agent = agent();
    let (version, dist) = choose(&agent, request)?;
    let target = request.store.join(&version);
    // Two faces that fetch at once: the second finds what the first has put there.
    let _lock = alone(&request.store, &request.cancel)?;
    if target.join("claude").is_file() {
        return Ok(version);
    }
    let scratch = Scratch(request.store.join(format!(".new-{}", std::process::id())));
    // Left by a process of the same number that was killed.
    let _ = fs::remove_dir_all(&scratch.0);
    make_dirs(&scratch.0)?;
    let archive = download(&agent, request, &dist, &scratch.0)?;
    request.report.report(Progress::Doing(Step::Claude, "unpacking".into()));
    let folder = scratch.0.join("unpacked");
    make_dirs(&folder)?;
    unpack(archive, &folder.join("claude"), &request.cancel)?;
    // Somebody may have put a broken folder there; the new one is whole.
    let _ = fs::remove_dir_all(&target);
    fs::rename(&folder, &target).map_err(|e| Error::io("put in place", &target, e))?;
    Ok(version)
}

/// The version that `run` would fetch.
pub(super) fn newest(request: &Request) -> Result<String> {
    choose(&agent(), request).map(|(version, _)| version)
}

/// Held until it is dropped, or the process ends in whatever way.
fn alone(store: &Path, cancel: &Cancel) -> Result<Flock<File>> {
    // The folder itself is locked, so that nothing is left in it.
    let mut file = File::open(store).map_err(|e| Error::io("lock", store, e))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((back, Errno::EWOULDBLOCK)) => file = back,
            Err((_, e)) => return Err(Error::io("lock", store, e)),
        }
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        std::thread::sleep(Duration::from_millis(25));
    }
}

fn agent() -> ureq::Agent {
    let tls = ureq::tls::TlsConfig::builder()
        // The computer's own certificates: a company's registry has its own CA.
        .root_certs(ureq::tls::RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_recv_body(Some(Duration::from_secs(3600)))
        .user_agent("rcc")
        .build()
        .into()
}

fn choose(agent: &ureq::Agent, request: &Request) -> Result<(String, Dist)> {
    let url = format!("{}{}", request.registry.url, request.package.replace('/', "%2f"));
    let mut answer =
        get(agent, request, &url, "application/vnd.npm.install-v1+json, application/json")?;
    let metadata: Metadata = answer
        .body_mut()
        .with_config()
        .limit(MAX_METADATA)
        .read_json()
        .map_err(|e| failed(&url, &e.to_string()))?;
    let wanted = match &request.version {
        Some(version) => version.clone(),
        None => metadata
            .tags
            .get("latest")
            .cloned()
            .ok_or_else(|| failed(&url, "it names no latest version"))?,
    };
    // It becomes the name of a folder.
    if super::parse(&wanted).is_none() {
        return Err(failed(
            &url,
            &format!("`{}` is not a version", crate::display::line(&wanted, 40)),
        ));
    }
    let mut versions = metadata.versions;
    let version = versions
        .remove(&wanted)
        .ok_or_else(|| failed(&url, &format!("it has no version {wanted}")))?;
    Ok((wanted, version.dist))
}

/// Downloads into `scratch` and compares the fingerprint while the bytes come.
fn download(agent: &ureq::Agent, request: &Request, dist: &Dist, scratch: &Path) -> Result<File> {
    let url = &dist.tarball;
    let expected = dist.integrity.as_deref().and_then(sha512_of).ok_or_else(|| {
        Error::new(
            Code::ClaudeHash,
            "The registry publishes no SHA-512 fingerprint for it; nothing was downloaded.",
        )
    })?;
    let mut answer = get(agent, request, url, "*/*")?;
    let total = answer.body().content_length();
    let path = scratch.join("archive");
    let mut file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|e| Error::io("write", &path, e))?;
    let mut body = answer.body_mut().with_config().limit(MAX_ARCHIVE).reader();
    let mut hash = Sha512::new();
    let mut done = 0;
    let mut buffer = vec![0; 256 << 10];
    loop {
        if request.cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        let count = body.read(&mut buffer).map_err(|e| failed(url, &e.to_string()))?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(|e| Error::io("write", &path, e))?;
        done += count as u64;
        request.report.report(Progress::Amount { step: Step::Claude, done, total });
    }
    if total.is_some_and(|total| total != done) {
        return Err(failed(url, &format!("the connection ended after {done} bytes")));
    }
    if hash.finalize().as_slice() != expected {
        return Err(Error::new(
            Code::ClaudeHash,
            format!("It was fetched from {}.", crate::display::line(url, 200)),
        ));
    }
    file.seek(SeekFrom::Start(0)).map_err(|e| Error::io("read", &path, e))?;
    Ok(file)
}

/// The strongest hash of a subresource-integrity text, if it is SHA-512.
fn sha512_of(integrity: &str) -> Option<Vec<u8>> {
    let encoded = integrity.split_whitespace().find_map(|part| part.strip_prefix("sha512-"))?;
    BASE64_STANDARD.decode(encoded.split('?').next()?).ok().filter(|hash| hash.len() == 64)
}

fn get(
    agent: &ureq::Agent,
    request: &Request,
    url: &str,
    accept: &str,
) -> Result<ureq::http::Response<ureq::Body>> {
    let mut call = agent.get(url).header("accept", accept);
    // The token belongs to the registry, not to wherever an archive may lie.
    if let Some(authorization) = &request.registry.authorization
        && url.starts_with(&request.registry.url)
    {
        call = call.header("authorization", authorization);
    }
    call.call().map_err(|e| failed(url, &e.to_string()))
}

fn failed(url: &str, why: &str) -> Error {
    Error::new(
        Code::ClaudeFetch,
        format!(
            "{}: {}.",
            crate::display::line(url, 200),
            crate::display::line(why.trim_end_matches('.'), 200)
        ),
    )
}

/// Takes the one file out of the archive: no path, link or mode in it is used.
fn unpack(archive: File, target: &Path, cancel: &Cancel) -> Result<()> {
    let broken = |why: String| {
        Error::new(Code::ClaudeFetch, format!("The archive cannot be unpacked: {why}."))
    };
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archive));
    let members = archive.entries().map_err(|e| broken(e.to_string()))?;
    for member in members {
        let member = member.map_err(|e| broken(e.to_string()))?;
        let wanted = member.path().is_ok_and(|path| path == Path::new(MEMBER));
        if !wanted || !member.header().entry_type().is_file() {
            continue;
        }
        let mut file = File::options()
            .create_new(true)
            .write(true)
            .mode(0o755)
            .open(target)
            .map_err(|e| Error::io("write", target, e))?;
        let size = member.size();
        let mut limited = member.take(MAX_PROGRAM);
        let mut buffer = vec![0; 1 << 20];
        let mut written = 0;
        loop {
            if cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            let count = limited.read(&mut buffer).map_err(|e| broken(e.to_string()))?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(|e| Error::io("write", target, e))?;
            written += count as u64;
        }
        if written != size {
            return Err(broken(format!("the program has {size} bytes and {written} came")));
        }
        return file.sync_all().map_err(|e| Error::io("write", target, e));
    }
    Err(broken(format!("it has no {MEMBER}")))
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
