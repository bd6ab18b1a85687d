//! A computer with a real systemd: a Debian in a container of systemd-nspawn's,
//! with an own network, bus, polkit and logind, in which the package is installed
//! as on a person's. What is played is the internet behind its network card.
//!
//! Not there: memory limits, security modules, udev, an own kernel.

mod root;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::actor::Actor;
use crate::internet::{DnsServer, Echo};
use crate::lab::{Sandbox, Skip, built, links, shell, world};

pub(crate) use root::{LABEL, find_or_make as find_or_make_root};
pub use root::{MACHINES, Release};

/// People of the machine: ann and bob are ordinary, carol is its administrator.
pub mod people {
    /// With her uid.
    pub const ANN: (u32, &str) = (1_000, "ann");
    /// With his uid.
    pub const BOB: (u32, &str) = (1_001, "bob");
    /// In the group sudo.
    pub const CAROL: (u32, &str) = (1_002, "carol");
    /// Everybody's.
    pub const PASSWORD: &str = "correct horse";
}

/// Where the machine sees the folder of [`Machine::shared`].
pub const SHARED: &str = "/opt/rcc-test";
/// Boot takes a second or two; a busy computer gets more.
const BOOT: Duration = Duration::from_secs(60);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Whether a person sits at the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// A session at its screen, as polkit's `allow_active` wants it.
    Here,
    /// Over the network, as ssh's.
    Remote,
}

/// See the module.
pub struct Machine {
    folder: tempfile::TempDir,
    cgroup: PathBuf,
    runner: Child,
    dns: Option<DnsServer>,
    boots: usize,
}

impl Machine {
    /// Boots one. `prepare` may put files into its root before that.
    pub fn start(
        release: Release,
        prepare: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Result<Self, Skip>> {
        if let Some(reason) = missing() {
            return Ok(Err(Skip(reason)));
        }
        let root = match root::find_or_make(release)? {
            Ok(root) => root,
            Err(reason) => return Ok(Err(Skip(reason))),
        };
        let Some(cgroups) = cgroups() else {
            return Ok(Err(Skip("there are no unified control groups here".into())));
        };
        let folder = tempfile::Builder::new().prefix("rcc-machine").tempdir_in("/var/tmp")?;
        for name in ["upper", "work", "merged", "home", "containers", "shared"] {
            fs::create_dir(folder.path().join(name))?;
        }
        // Podman's own overlay needs a file system that is none.
        shell(
            Command::new("cp")
                .args(["-a", "--"])
                .arg(root.join("home/."))
                .arg(folder.path().join("home")),
        )?;
        let shared = folder.path().join("shared");
        fs::copy(built("rcc-actor")?, shared.join("rcc-actor")).context("copy rcc-actor")?;
        prepare(&folder.path().join("upper"))?;
        let name = format!("rcc-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cgroup = cgroups.join(&name);
        let script = folder.path().join("run.sh");
        fs::write(&script, RUN)?;
        let log = fs::File::create(folder.path().join("console"))?;
        let runner = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "setpriv", "--pdeathsig", "KILL", "sh"])
            .arg(&script)
            .arg(&root)
            .arg(folder.path())
            .arg(&cgroup)
            .arg(&name)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start unshare")?;
        let mut machine = Self { folder, cgroup, runner, dns: None, boots: 0 };
        machine.booted()?;
        Ok(Ok(machine))
    }

    /// A folder that the machine sees at [`SHARED`].
    pub fn shared(&self) -> PathBuf {
        self.folder.path().join("shared")
    }

    /// What the machine sees at /home.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The played internet's name server; another one after each boot.
    pub fn dns(&self) -> &DnsServer {
        self.dns.as_ref().expect("a machine that has booted has a network")
    }

    /// What it wrote on its screen, for a test that failed.
    pub fn console(&self) -> String {
        fs::read_to_string(self.folder.path().join("console")).unwrap_or_default()
    }

    /// Runs a command as root, and answers what it wrote.
    pub fn root(&self, command: &str) -> anyhow::Result<String> {
        shell(self.inside(&["sh", "-c", command])?.stdin(Stdio::null()))
    }

    /// Runs a command as a person with a session, and answers what it wrote.
    pub fn user(&self, who: (u32, &str), command: &str) -> anyhow::Result<String> {
        let mut all = session(who, Seat::Here);
        all.extend(["sh", "-c", command].map(str::to_owned));
        shell(self.inside(&all)?.stdin(Stdio::null()))
    }

    /// A person at the bus, in a session.
    pub fn person(&self, who: (u32, &str), seat: Seat) -> anyhow::Result<Actor> {
        let mut all = session(who, seat);
        all.push(format!("{SHARED}/rcc-actor"));
        Actor::from_command(&mut self.inside(&all)?)
    }

    /// A program of an account that is not a person's, at the bus.
    pub fn daemon(&self, uid: u32) -> anyhow::Result<Actor> {
        let (user, group) = (format!("--reuid={uid}"), format!("--regid={uid}"));
        let actor = format!("{SHARED}/rcc-actor");
        Actor::from_command(&mut self.inside(&[
            "setpriv",
            &user,
            &group,
            "--clear-groups",
            &actor,
        ])?)
    }

    /// Plugs a sandbox of `person` in, with these rules.
    pub fn sandbox(&self, person: &mut Actor, rules: &[rcc_dbus::Rule]) -> anyhow::Result<Sandbox> {
        let inside = person.make_namespace()?;
        let offer = person.attach(inside, rules)?;
        let pid = self.outside(inside)?;
        Sandbox { pid, id: 0, address: world::HOST }.configure(offer)
    }

    /// Ends the machine's systemd as `systemctl reboot` does, and waits for the
    /// next one.
    pub fn reboot(&mut self) -> anyhow::Result<()> {
        self.root("systemctl reboot --no-wall || true")?;
        let (exits, boots) = (self.folder.path().join("exits"), self.boots);
        patiently(BOOT, || {
            let text = fs::read_to_string(&exits).unwrap_or_default();
            Ok((text.lines().count() >= boots).then_some(()))
        })
        .context("the machine does not end")?;
        self.booted()
    }

    fn booted(&mut self) -> anyhow::Result<()> {
        self.boots += 1;
        let state = patiently(BOOT, || {
            if let Some(status) = self.runner.try_wait()? {
                bail!("systemd-nspawn ended with {status}: {}", self.console());
            }
            let Ok(mut command) = self.inside(&["systemctl", "is-system-running", "--wait"]) else {
                return Ok(None);
            };
            let output = command.stdin(Stdio::null()).output()?;
            let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Ok(["running", "degraded"].contains(&state.as_str()).then_some(state))
        })
        .with_context(|| format!("the machine does not boot: {}", self.console()))?;
        if state != "running" {
            bail!("units failed at boot: {}", self.root("systemctl --failed --no-legend")?);
        }
        self.plug_network()
    }

    /// A network card with an internet and a LAN behind it.
    fn plug_network(&mut self) -> anyhow::Result<()> {
        self.root(&links())?;
        let leader = self.leader()?;
        let own = PathBuf::from(format!("/proc/{leader}/ns/net"));
        let others = PathBuf::from(format!("/proc/{leader}/root/run/netns"));
        Echo::start(&own, &others)?;
        let server = SocketAddr::from((world::ROUTER, 53));
        self.dns = Some(DnsServer::start(&others.join("internet"), server)?);
        self.root(&format!("echo nameserver {} > /etc/resolv.conf", world::ROUTER))?;
        Ok(())
    }

    /// Enters everything of the machine's.
    fn inside(&self, command: &[impl AsRef<std::ffi::OsStr>]) -> anyhow::Result<Command> {
        let mut all = Command::new("nsenter");
        all.args(["-t", &self.leader()?.to_string(), "-a", "-r", "-w"])
            .args(command)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8");
        Ok(all)
    }

    /// Its process 1, as this computer counts.
    fn leader(&self) -> anyhow::Result<u32> {
        let nspawn = children(self.runner.id()).into_iter().flat_map(children);
        nspawn
            .into_iter()
            .find(|pid| own_number(*pid) == Some(1))
            .context("the machine has no process 1")
    }

    /// The number of a process of the machine's on this computer.
    fn outside(&self, inside: u32) -> anyhow::Result<u32> {
        let space = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = space(self.leader()?);
        processes()
            .find(|pid| own_number(*pid) == Some(inside) && space(*pid) == own)
            .with_context(|| format!("the machine has no process {inside}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let kept = "journalctl -b --no-pager -n 60 -u 'rcc-*' -u dbus -u polkit";
            eprintln!("{}", self.root(kept).unwrap_or_else(|_| self.console()));
        }
        let _ = self.runner.kill();
        let _ = self.runner.wait();
        // Everything of the machine's is in its group; a systemd that lost its
        // nspawn would go on.
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let gone = || {
            let events = fs::read_to_string(self.cgroup.join("cgroup.events")).unwrap_or_default();
            Ok((!events.contains("populated 1")).then_some(()))
        };
        if patiently(Duration::from_secs(10), gone).is_err() {
            eprintln!("processes of a machine stay, in {}", self.cgroup.display());
        }
        let _ = shell(
            Command::new("find")
                .arg(&self.cgroup)
                .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]),
        );
    }
}

/// `$1` the root, `$2` the folder of this machine, `$3` its control group, `$4` its name.
const RUN: &str = r#"
set -e
mkdir "$3"
echo $$ > "$3/cgroup.procs"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" machine "$2/merged"
# 133 is what it ends with when the machine wants to be started again.
while :; do
  code=0
  UNIFIED_CGROUP_HIERARCHY=1 setpriv --pdeathsig KILL systemd-nspawn -q -D "$2/merged" -M "$4" \
    --boot --register=no --keep-unit --private-network --link-journal=no --resolv-conf=off \
    --timezone=off --hostname=machine --bind=/dev/fuse --bind=/dev/net/tun \
    --bind="$2/home:/home" --bind="$2/containers:/var/lib/containers" \
    --bind-ro="$2/shared:/opt/rcc-test" \
    --system-call-filter="add_key keyctl bpf" || code=$?
  echo $code >> "$2/exits"
  [ "$code" = 133 ] || break
done
"#;

/// The words that make the command after them one of a session's.
pub(crate) fn session((uid, name): (u32, &str), seat: Seat) -> Vec<String> {
    let mut words =
        ["systemd-run", "--quiet", "--pipe", "--wait", "--collect"].map(str::to_owned).to_vec();
    words.push(format!("--uid={uid}"));
    words.extend(["-p".to_owned(), "PAMName=login".to_owned()]);
    let home = format!("HOME=/home/{name}");
    let mut environment = vec![home.as_str(), "LANG=C.UTF-8"];
    if seat == Seat::Here {
        environment.extend([
            "XDG_SEAT=seat0",
            "XDG_SESSION_TYPE=wayland",
            "XDG_SESSION_CLASS=user",
        ]);
    }
    for variable in environment {
        words.push(format!("--setenv={variable}"));
    }
    words.push(format!("--working-directory=/home/{name}"));
    words.push("--".to_owned());
    words
}

/// Where unified control groups are mounted.
fn cgroups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    line.split(' ').nth(1).map(PathBuf::from)
}

/// What this computer lacks, in words.
fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("a machine of its own needs root".into());
    }
    for (program, package) in [
        ("/usr/bin/systemd-nspawn", "systemd-container"),
        ("/usr/bin/mmdebstrap", "mmdebstrap"),
        ("/usr/bin/setpriv", "util-linux"),
    ] {
        if !Path::new(program).exists() {
            return Some(format!("{program} is not installed (package {package})"));
        }
    }
    for device in ["/dev/fuse", "/dev/net/tun"] {
        if !Path::new(device).exists() {
            return Some(format!("{device} is not there"));
        }
    }
    built("rcc-actor").err().map(|error| error.to_string())
}

fn processes() -> impl Iterator<Item = u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn children(parent: u32) -> Vec<u32> {
    let of = |pid: &u32| status(*pid, "PPid:").and_then(|words| words.first()?.parse().ok());
    processes().filter(|pid| of(pid) == Some(parent)).collect()
}

/// The number of a process in the innermost namespace that it is in.
fn own_number(pid: u32) -> Option<u32> {
    let numbers = status(pid, "NSpid:")?;
    (numbers.len() > 1).then(|| numbers.last()?.parse().ok())?
}

fn status(pid: u32, field: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_whitespace().map(str::to_owned).collect())
}

/// Tries again until there is an answer.
fn patiently<T>(
    patience: Duration,
    mut attempt: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(answer) = attempt()? {
            return Ok(answer);
        }
        ensure!(Instant::now() < end, "waited {} s", patience.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}
