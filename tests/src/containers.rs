//! A lab in which ann has rootless Podman, the image `small` and Claude Code,
//! so that `rcc` does there what it does for a person.
//!
//! Image and program are made by rcc itself, with the network of the machine,
//! and kept in [`CACHE`] for the next time. Everything after that happens in
//! the lab, which has no way out.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};

use crate::internet::Zone;
use crate::lab::{ANN, Lab, Options, Skip, built, zone};
use crate::played_api::{self, PlayedApi};

/// Ann's home, between runs. It belongs to root; people reach it only in a lab.
pub const CACHE: &str = "/var/tmp/rcc-lab-cache";
/// Where it is in the lab.
const HOME: &str = "/run/rcc-lab/home/ann";
/// In the environment of everything that ann starts, so that all of it can be
/// ended with the lab.
const MARK: &str = "RCC_LAB";
/// Image and program come over the network the first time.
const PREPARATION: Duration = Duration::from_secs(900);
/// Another lab may be preparing.
const TURN: Duration = Duration::from_secs(1_200);
/// One command of ann's.
const COMMAND: Duration = Duration::from_secs(180);
/// What a machine behind a proxy or with a registry of its own sets.
const PASSED_ON: [&str; 12] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "NPM_CONFIG_CAFILE",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// How a command of ann's ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit code; 124 when it did not end in time.
    pub code: i32,
    /// What it wrote.
    pub out: String,
    /// What it complained about.
    pub err: String,
}

/// See the module.
pub struct Workshop {
    /// Host, gate and internet.
    pub lab: Lab,
    /// Claude's API.
    pub api: PlayedApi,
    /// The machine's own network, name servers and registry.
    outside: Outside,
    /// One home, one lab at a time.
    _turn: fs::File,
}

struct Outside {
    network: fs::File,
    servers: Vec<u8>,
    registry: Option<String>,
}

impl Workshop {
    /// Makes the calling thread the host of a lab with containers. `policy` is
    /// the administrator's file.
    pub fn start(policy: &str) -> anyhow::Result<Result<Self, Skip>> {
        if let Some(reason) = missing() {
            return Ok(Err(Skip(reason)));
        }
        let turn = turn()?;
        // Of a run that was ended from outside: the turn is this one's alone.
        end_everything();
        // The machine's own network and name servers, while this thread has them.
        let outside = Outside {
            network: fs::File::open("/proc/thread-self/ns/net")?,
            servers: fs::read("/etc/resolv.conf").unwrap_or_default(),
            registry: npm_registry(),
        };
        let options = Options { policy: Some(policy.to_owned()), ..Options::default() };
        let lab = match Lab::start(options)? {
            Ok(lab) => lab,
            Err(skip) => return Ok(Err(skip)),
        };
        lab.dns.set(world());
        home()?;
        control_groups()?;
        programs()?;
        let api = PlayedApi::start(Path::new("/run/rcc-lab"))?;
        fs::set_permissions(api.authority(), fs::Permissions::from_mode(0o644))?;
        let workshop = Self { lab, api, outside, _turn: turn };
        if let Some(reason) = workshop.without_podman()? {
            return Ok(Err(Skip(reason)));
        }
        match workshop.prepare()? {
            Some(reason) => Ok(Err(Skip(reason))),
            None => Ok(Ok(workshop)),
        }
    }

    /// A new, empty folder of ann's.
    pub fn project(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = Path::new(HOME).join("projects").join(name);
        for folder in [path.parent().unwrap_or(&path), &path] {
            match fs::create_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.with_context(|| format!("make {}", folder.display()))?,
            }
            chown(folder, Some(ANN.0), Some(ANN.0))?;
        }
        Ok(path)
    }

    /// Runs `rcc` as ann in a folder, with the played API's key and authority.
    pub fn rcc(&self, folder: &Path, arguments: &[&str]) -> anyhow::Result<Ended> {
        let program = Lab::program("rcc");
        let mut command = self.ann(folder, &program.to_string_lossy(), arguments);
        self.end(&mut command, COMMAND)
    }

    /// Ann's home.
    pub fn home(&self) -> &Path {
        Path::new(HOME)
    }

    /// Runs any program as ann.
    pub fn run(&self, folder: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<Ended> {
        self.end(&mut self.ann(folder, program, arguments), COMMAND)
    }

    /// A program of ann's that is not started yet, with nothing of this process's
    /// environment.
    pub fn ann(&self, folder: &Path, program: &str, arguments: &[&str]) -> Command {
        let id = ANN.0.to_string();
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", &id, "--regid", &id, "--init-groups", "--"])
            .arg(program)
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .env("HOME", HOME)
            .env("USER", ANN.1)
            .env("LOGNAME", ANN.1)
            .env("SHELL", "/bin/sh")
            .env("LANG", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("XDG_RUNTIME_DIR", format!("/run/user/{id}"))
            .env("ANTHROPIC_API_KEY", played_api::KEY)
            .env("NODE_EXTRA_CA_CERTS", self.api.authority())
            .env("CLAUDE_CODE_MAX_RETRIES", "1")
            .env(MARK, "1");
        command
    }

    /// Everything that ann started and what that started, containers with it.
    pub fn processes(&self) -> Vec<i32> {
        marked()
    }

    /// Starts what [`Workshop::ann`] made and waits for its end.
    pub fn finish(&self, command: &mut Command) -> anyhow::Result<Ended> {
        self.end(command, COMMAND)
    }

    fn end(&self, command: &mut Command, patience: Duration) -> anyhow::Result<Ended> {
        // Files: a service that stays would hold a pipe open.
        let (out, err) = (self.lab.folder().join("out"), self.lab.folder().join("err"));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out)?)
            .stderr(fs::File::create(&err)?)
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let deadline = Instant::now() + patience;
        let code = loop {
            if let Some(status) = child.try_wait()? {
                break status.code().unwrap_or(128);
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                break 124;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let text = |path: &Path| -> anyhow::Result<String> {
            Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
        };
        Ok(Ended { code, out: text(&out)?, err: text(&err)? })
    }

    /// Runs `rcc` as ann with the network of the machine, for what has to come
    /// over it: images, packages, Claude Code.
    pub fn rcc_outside(&self, folder: &Path, arguments: &[&str]) -> anyhow::Result<Ended> {
        let in_lab = fs::read("/etc/resolv.conf")?;
        // The engine's service keeps the network that it was started in.
        end_everything();
        fs::write("/etc/resolv.conf", &self.outside.servers)?;
        let program = Lab::program("rcc");
        let mut command = self.ann(folder, &program.to_string_lossy(), arguments);
        command.env_remove("NODE_EXTRA_CA_CERTS");
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(registry) = &self.outside.registry {
            command.env("NPM_CONFIG_REGISTRY", registry);
        }
        let ended = std::thread::scope(|scope| {
            let run = || -> anyhow::Result<Ended> {
                setns(&self.outside.network, CloneFlags::CLONE_NEWNET)?;
                self.end(&mut command, PREPARATION)
            };
            scope.spawn(run).join().map_err(|_| anyhow::anyhow!("the thread outside panicked"))
        })??;
        fs::write("/etc/resolv.conf", in_lab)?;
        end_everything();
        Ok(ended)
    }

    /// Why this machine cannot have containers of an ordinary user; asked of
    /// Podman itself, so that a fault of rcc's is not taken for one of the machine.
    fn without_podman(&self) -> anyhow::Result<Option<String>> {
        let ended = self.run(Path::new("/"), "podman", &["unshare", "true"])?;
        let reason = || format!("rootless Podman does not work here: {}", ended.err.trim());
        Ok((ended.code != 0).then(reason))
    }

    /// Image and program by `rcc init`; answers why they cannot be had here.
    fn prepare(&self) -> anyhow::Result<Option<String>> {
        let folder = self.project("prepared")?;
        let arguments = ["--json", "init", "--yes", "--image", "small"];
        let ended = self.rcc_outside(&folder, &arguments)?;
        if ended.code == 0 {
            // What was learnt about the machine stays; the project was a pretext.
            fs::remove_dir_all(Path::new(HOME).join(".config/rcc/projects"))?;
            fs::remove_dir_all(&folder)?;
            return Ok(None);
        }
        let unreachable = ["RCC-E302", "RCC-E401"].iter().find(|code| ended.err.contains(**code));
        let end: Vec<_> = ended.err.lines().rev().take(12).collect();
        let end = end.into_iter().rev().map(str::trim).collect::<Vec<_>>().join(" ");
        match unreachable {
            Some(_) => Ok(Some(format!("image or Claude Code cannot be had here: {end}"))),
            None => bail!("`rcc init` failed with {}: {end}", ended.code),
        }
    }
}

/// Ends what ann started in a lab, and what that started.
fn end_everything() {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let marked = marked();
        if marked.is_empty() || Instant::now() > deadline {
            return;
        }
        for pid in marked {
            let pid = nix::unistd::Pid::from_raw(pid);
            // One that ended meanwhile needs nothing more.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = self.rcc(Path::new("/"), &["stop", "--all"]);
        let _ = self.run(Path::new("/"), "podman", &["rm", "--all", "--force", "--time", "0"]);
        let _ = self.run(Path::new("/"), "podman", &["volume", "prune", "--force"]);
        end_everything();
        let _ = fs::remove_dir_all(Path::new(HOME).join("projects"));
        // So that the folder can be removed while another lab has the same home.
        let _ = umount2(HOME, MntFlags::MNT_DETACH);
    }
}

/// Names of the played internet, with Claude's API.
pub fn world() -> Zone {
    zone().name(played_api::NAME, &[played_api::ADDRESS])
}

/// Processes with the mark in their environment, and their descendants: a
/// container's own have another environment.
fn marked() -> Vec<i32> {
    let mark = format!("{MARK}=1");
    let processes: Vec<(i32, i32, bool)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
            // A process that nobody has collected yet cannot be ended again.
            let alive = fields.next()? != "Z";
            let parent = fields.next()?.parse().ok()?;
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let own = environment.split(|byte| *byte == 0).any(|line| line == mark.as_bytes())
                || monitors(&fs::read(entry.path().join("cmdline")).unwrap_or_default());
            alive.then_some((pid, parent, own))
        })
        .collect();
    let mut all: Vec<i32> =
        processes.iter().filter(|(.., own)| *own).map(|(pid, ..)| *pid).collect();
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        next += 1;
        for (pid, of, _) in &processes {
            if *of == parent && !all.contains(pid) {
                all.push(*pid);
            }
        }
    }
    all
}

/// Podman's monitor of a container in ann's home: it does not get her environment.
fn monitors(command: &[u8]) -> bool {
    let mut words = command.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    words.next().is_some_and(|program| program.ends_with("conmon"))
        && words.any(|word| word.starts_with(HOME))
}

/// What the machine lacks, in words.
fn missing() -> Option<String> {
    for (program, package) in [
        ("/usr/bin/podman", "podman"),
        ("/usr/bin/newuidmap", "uidmap"),
        ("/usr/bin/mmdebstrap", "mmdebstrap"),
        ("/usr/bin/setpriv", "util-linux"),
    ] {
        if !Path::new(program).exists() {
            return Some(format!("{program} is not installed (package {package})"));
        }
    }
    built("rcc").and_then(|_| inside()).err().map(|error| error.to_string())
}

/// The static program that runs inside: `RCC_INSIDE`, or beside the others.
fn inside() -> anyhow::Result<PathBuf> {
    let path = match std::env::var_os("RCC_INSIDE") {
        Some(path) => PathBuf::from(path),
        None => built("inside").context("`cargo xtask test` builds it")?,
    };
    let bytes = fs::read(&path).with_context(|| {
        format!("{}: the static program; `cargo xtask test` builds it", path.display())
    })?;
    let dynamic = bytes.windows(9).any(|window| window == b"/ld-linux");
    ensure!(!dynamic, "{} is not static; `cargo xtask test` builds it", path.display());
    Ok(path)
}

/// Makes [`CACHE`], or sees that it is root's alone.
pub fn cache() -> anyhow::Result<()> {
    match fs::create_dir(CACHE) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.with_context(|| format!("make {CACHE}"))?,
    }
    let meta = fs::symlink_metadata(CACHE)?;
    ensure!(
        meta.is_dir() && meta.uid() == 0,
        "{CACHE} is not a folder of root's; remove it and try again"
    );
    Ok(fs::set_permissions(CACHE, fs::Permissions::from_mode(0o700))?)
}

fn turn() -> anyhow::Result<fs::File> {
    cache()?;
    let file = fs::File::create(Path::new(CACHE).join("lock"))?;
    let deadline = Instant::now() + TURN;
    while let Err(error) = file.try_lock() {
        ensure!(
            matches!(error, fs::TryLockError::WouldBlock) && Instant::now() < deadline,
            "another lab with containers holds {CACHE}/lock: {error}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(file)
}

fn home() -> anyhow::Result<()> {
    let kept = Path::new(CACHE).join("home");
    fs::create_dir_all(&kept)?;
    chown(&kept, Some(ANN.0), Some(ANN.0))?;
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o700))?;
    mount(Some(&kept), HOME, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    // Settings of an earlier run must not decide anything.
    match fs::remove_file(Path::new(HOME).join(".config/containers/containers.conf")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    for old in [".config/rcc", ".local/state/rcc", "projects"] {
        match fs::remove_dir_all(Path::new(HOME).join(old)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let settings = Path::new(HOME).join(".config/containers");
    fs::create_dir_all(&settings)?;
    // Without it old releases take a driver that copies every layer.
    fs::write(settings.join("storage.conf"), "[storage]\ndriver = \"overlay\"\n")?;
    for folder in [".config", ".config/containers", ".config/containers/storage.conf"] {
        chown(Path::new(HOME).join(folder), Some(ANN.0), Some(ANN.0))?;
    }
    Ok(())
}

/// The container runtime refuses a mixture of both kinds of control groups.
fn control_groups() -> anyhow::Result<()> {
    // Rootless Podman wants to pass mounts on.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>)?;
    const PLACE: &str = "/sys/fs/cgroup";
    let mounts = fs::read_to_string("/proc/thread-self/mounts")?;
    let below = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|path| path.starts_with(PLACE));
    for path in below.collect::<Vec<_>>().into_iter().rev() {
        umount2(path, MntFlags::MNT_DETACH).with_context(|| format!("unmount {path}"))?;
    }
    mount(Some("cgroup2"), PLACE, Some("cgroup2"), MsFlags::empty(), None::<&str>)
        .context("mount cgroup2")
}

fn programs() -> anyhow::Result<()> {
    for (from, name) in [(built("rcc")?, "rcc"), (inside()?, "inside")] {
        let to = Lab::program(name);
        fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Root's npm may be configured where ann's would not look.
fn npm_registry() -> Option<String> {
    let output =
        Command::new("npm").args(["config", "get", "registry"]).current_dir("/").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().map(str::trim).find(|line| line.starts_with("http")).map(str::to_owned)
}
