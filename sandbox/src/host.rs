//! This computer and this user: where rcc keeps things, and who is asking.

use std::env;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User};

use crate::error::{Code, Error, Result};

/// The user's folders and ids, read once.
#[derive(Debug, Clone)]
pub struct Host {
    /// The person's home, canonical.
    pub home: PathBuf,
    /// Login name.
    pub user: String,
    /// Never 0.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// `$XDG_CONFIG_HOME/rcc`: settings and allowed hosts.
    pub config: PathBuf,
    /// `$XDG_DATA_HOME/rcc`: Claude Code.
    pub data: PathBuf,
    /// `$XDG_STATE_HOME/rcc`: the log of blocked hosts.
    pub state: PathBuf,
    /// `$XDG_CACHE_HOME`; rcc itself keeps nothing there, its window's web view may.
    pub cache: PathBuf,
    /// `$XDG_RUNTIME_DIR/rcc`: sockets and locks of this login, mode 0700.
    pub runtime: PathBuf,
    /// `$XDG_RUNTIME_DIR` itself.
    pub runtime_root: PathBuf,
}

impl Host {
    /// Reads the environment and makes the runtime folder.
    ///
    /// # Errors
    /// [`Code::RootUser`] for uid 0, [`Code::Environment`] when home or runtime
    /// folder are unknown or belong to somebody else.
    pub fn detect() -> Result<Self> {
        let uid = Uid::effective();
        if uid.is_root() {
            return Err(Error::new(
                Code::RootUser,
                "A container of root's would be root's on this computer, too.",
            ));
        }
        let user = User::from_uid(uid).ok().flatten();
        let home = env::var_os("HOME")
            .map(PathBuf::from)
            .or_else(|| user.as_ref().map(|user| user.dir.clone()))
            .filter(|home| home.is_absolute())
            .ok_or_else(|| Error::new(Code::Environment, "HOME is not set."))?;
        let home =
            fs::canonicalize(&home).map_err(|e| Error::io("find your home folder", &home, e))?;
        let runtime_root = runtime_root(uid)?;
        let runtime = runtime_root.join("rcc");
        private_dir(&runtime)?;
        let base = |variable: &str, fallback: &str| {
            env::var_os(variable)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
                .unwrap_or_else(|| home.join(fallback))
        };
        let host = Self {
            config: base("XDG_CONFIG_HOME", ".config").join("rcc"),
            data: base("XDG_DATA_HOME", ".local/share").join("rcc"),
            state: base("XDG_STATE_HOME", ".local/state").join("rcc"),
            cache: base("XDG_CACHE_HOME", ".cache"),
            user: user.map_or_else(|| uid.to_string(), |user| user.name),
            uid: uid.as_raw(),
            gid: Gid::effective().as_raw(),
            home,
            runtime,
            runtime_root,
        };
        // Every project that is known, before any program is looked for. One whose settings
        // do not read was written down when it was opened.
        crate::programs::distrust_remembered(&host);
        match crate::settings::Settings::all(&host) {
            Ok(all) => {
                all.iter().for_each(|one| crate::programs::distrust(Path::new(&one.path)));
            }
            Err(_) => crate::programs::distrust(Path::new("/")),
        }
        Ok(host)
    }
}

fn runtime_root(uid: Uid) -> Result<PathBuf> {
    let candidates = [
        env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
        Some(PathBuf::from(format!("/run/user/{uid}"))),
    ];
    for path in candidates.into_iter().flatten() {
        if let Ok(meta) = fs::metadata(&path)
            && meta.is_dir()
            && meta.uid() == uid.as_raw()
        {
            return Ok(path);
        }
    }
    Err(Error::new(
        Code::Environment,
        "XDG_RUNTIME_DIR names no folder of yours, and /run/user has none.",
    )
    .hint_is("Log in through a desktop or ssh session, or set XDG_RUNTIME_DIR to a folder of yours with mode 0700."))
}

/// Makes `path` with mode 0700, or checks that it is the caller's and private.
///
/// # Errors
/// [`Code::Io`] when it cannot be made or belongs to somebody else.
pub(crate) fn private_dir(path: &Path) -> Result<()> {
    match fs::DirBuilder::new().mode(0o700).recursive(false).create(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let meta = fs::symlink_metadata(path).map_err(|e| Error::io("look at", path, e))?;
            if !meta.is_dir() || meta.uid() != Uid::effective().as_raw() {
                return Err(Error::io("use", path, "it is not a folder of yours"));
            }
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))
                .map_err(|e| Error::io("make private", path, e))
        }
        Err(e) => Err(Error::io("make", path, e)),
    }
}

/// Makes `path` and its parents, new ones with mode 0700.
///
/// # Errors
/// [`Code::Io`].
pub(crate) fn make_dirs(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(path)
        .map_err(|e| Error::io("make", path, e))
}

/// Writes `bytes` to `path` so that a reader sees the old or the new content,
/// never a mixture, also after a power failure.
///
/// # Errors
/// [`Code::Io`]; the old file is then still there.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let dir = path.parent().unwrap_or(Path::new("/"));
    make_dirs(dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.{}.new", std::process::id()));
    let written = fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|e| {
        // The error of the write is the one that matters.
        let _ = fs::remove_file(&temporary);
        Error::io("write", path, e)
    })
}
