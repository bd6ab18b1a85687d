//! A whole computer: QEMU in software, with Debian's own kernel, from the same root file
//! system as a [`Machine`](crate::Machine). Here memory is limited, a security module
//! is on, kernel modules are loaded when they are needed, and the power can be cut.
//! It is slow: a boot takes the better part of a minute.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::lab::{Skip, shell};
use crate::machine::{LABEL, Release, Seat, find_or_make_root, session};

/// Programs at their place on a Debian, with their packages.
const TOOLS: [(&str, &str); 3] = [
    ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
    ("/usr/bin/mmdebstrap", "mmdebstrap"),
    ("/usr/sbin/mke2fs", "e2fsprogs"),
];
/// In software, on a computer that has other work, too.
const BOOT: Duration = Duration::from_secs(360);
/// One command.
const COMMAND: Duration = Duration::from_secs(240);
/// The disk's size; what nobody writes takes no room.
const DISK: &str = "4G";

/// What the kernel holds programs to, besides users and their rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// This computer's own release, as it boots by itself.
    AppArmor,
    /// Debian 13 with SELinux enforcing.
    SeLinux,
}

impl Security {
    fn release(self) -> Release {
        match self {
            Self::AppArmor => Release::Own,
            Self::SeLinux => Release::Labelled,
        }
    }

    /// For the kernel's command line.
    fn words(self) -> &'static str {
        match self {
            Self::AppArmor => "",
            Self::SeLinux => " security=selinux selinux=1 enforcing=1",
        }
    }

    /// Runs in the new root when everything is in it.
    fn label(self) -> &'static str {
        match self {
            Self::AppArmor => "",
            Self::SeLinux => LABEL,
        }
    }

    /// The script as it is run: confined programs may write to a pipe, and not to the file
    /// of whoever runs what comes over the port.
    fn script(self, script: &str, number: &str) -> String {
        match self {
            Self::AppArmor => script.to_owned(),
            Self::SeLinux => {
                let code = format!("/run/test-port.{number}.code");
                format!("{{ (\n{script}\n); echo $? > {code}; }} 2>&1 | cat\nexit $(cat {code})")
            }
        }
    }
}

/// See the module.
pub struct Vm {
    security: Security,
    folder: tempfile::TempDir,
    qemu: Child,
    port: BufReader<UnixStream>,
    monitor: BufReader<UnixStream>,
    count: u32,
    line: Vec<u8>,
}

/// What a command wrote, and its exit code.
#[derive(Debug)]
pub struct Said {
    /// 0 is good.
    pub code: i32,
    /// Output and complaints, as they came.
    pub text: String,
}

impl Said {
    /// What it wrote, when it was good.
    pub fn good(self) -> anyhow::Result<String> {
        ensure!(self.code == 0, "exit code {}: {}", self.code, self.text);
        Ok(self.text)
    }
}

impl Vm {
    /// Boots one with `memory_mib`. `files` (from here, to there) are put on its disk before,
    /// then `script` runs in it, as root, while nothing of it is up.
    pub fn start(
        security: Security,
        memory_mib: u32,
        files: &[(PathBuf, &str)],
        script: &str,
    ) -> anyhow::Result<Result<Self, Skip>> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Err(Skip("the disk of a whole computer is made by root".into())));
        }
        for (program, package) in TOOLS {
            if !Path::new(program).exists() {
                let reason = format!("{program} is not installed (package {package})");
                return Ok(Err(Skip(reason)));
            }
        }
        let root = match find_or_make_root(security.release())? {
            Ok(root) => root,
            Err(reason) => return Ok(Err(Skip(reason))),
        };
        let folder = tempfile::Builder::new().prefix("rcc-vm").tempdir_in("/var/tmp")?;
        make_disk(&root, folder.path(), files, &format!("{script}\n{}", security.label()))?;
        let qemu = power_on(&root, folder.path(), memory_mib, security)?;
        let port = connect(&folder.path().join("port"))?;
        let monitor = connect(&folder.path().join("monitor"))?;
        let mut vm = Self { security, folder, qemu, port, monitor, count: 0, line: Vec::new() };
        vm.monitor("qmp_capabilities")?;
        vm.booted()?;
        Ok(Ok(vm))
    }

    /// Runs a script as root.
    pub fn root(&mut self, script: &str) -> anyhow::Result<Said> {
        self.said(script, COMMAND)?.context("no answer in time")
    }

    /// Runs a script as a person with a session at the screen.
    pub fn user(&mut self, who: (u32, &str), script: &str) -> anyhow::Result<Said> {
        let mut words = session(who, Seat::Here);
        let environment = format!("--setenv=XDG_RUNTIME_DIR=/run/user/{}", who.0);
        words.insert(words.len() - 1, environment);
        words.extend(["sh", "-c", script].map(str::to_owned));
        let quoted = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
        self.root(&quoted.collect::<Vec<_>>().join(" "))
    }

    /// Starts a script as root that nobody waits for.
    pub fn begin(&mut self, script: &str) -> anyhow::Result<()> {
        self.ask(script).map(drop)
    }

    /// Takes the power away, whatever is being written, gives it back, and waits for
    /// the boot. What the kernel had not sent to the disk is lost.
    pub fn cut_power(&mut self) -> anyhow::Result<()> {
        self.monitor("system_reset")?;
        self.line.clear();
        self.booted()
    }

    /// Lets it sleep for so long: its memory stays, its processors and its clocks stand
    /// still, but for the one that has a battery.
    pub fn sleep(&mut self, time: Duration) -> anyhow::Result<()> {
        // Nobody hears what came of it before it is awake.
        self.ask("echo mem > /sys/power/state")?;
        self.heard("SUSPEND", Duration::from_secs(60))?;
        std::thread::sleep(time);
        self.monitor("system_wakeup")
    }

    /// What it wrote on its screen, for a test that failed.
    pub fn console(&self) -> String {
        let text = fs::read(self.folder.path().join("console")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn booted(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + BOOT;
        let state = loop {
            // A line that was sent while the machine went down is lost.
            let wait = "systemctl is-system-running --wait";
            if let Some(said) = self.said(wait, Duration::from_secs(60))? {
                break said.text.trim().to_owned();
            }
            let (late, console) = (Instant::now() > end, self.console());
            ensure!(!late && !console.contains("Kernel panic"), "it does not boot: {console}");
        };
        if state != "running" {
            let failed =
                self.root("systemctl --failed --no-legend; journalctl -b -p err --no-pager")?;
            bail!("units failed at boot ({state}): {}", failed.text);
        }
        Ok(())
    }

    fn ask(&mut self, script: &str) -> anyhow::Result<String> {
        self.count += 1;
        let number = self.count.to_string();
        let script = self.security.script(script, &number);
        let line = format!("{number} {}\n", BASE64.encode(script));
        self.port.get_mut().write_all(line.as_bytes()).context("write to the computer's port")?;
        Ok(number)
    }

    /// `None`: no answer in time.
    fn said(&mut self, script: &str, patience: Duration) -> anyhow::Result<Option<Said>> {
        let number = self.ask(script)?;
        let end = Instant::now() + patience;
        while let Some(left) =
            end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            self.port.get_ref().set_read_timeout(Some(left))?;
            match self.port.read_until(b'\n', &mut self.line) {
                Ok(0) => bail!("the computer ended: {}", self.console()),
                Ok(_) => {}
                Err(error)
                    if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) =>
                {
                    continue;
                }
                Err(error) => return Err(error).context("read from the computer's port"),
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            let mut words = line.split_whitespace();
            // Of one that nobody waits for, or half of one.
            if words.next() != Some(&number) {
                continue;
            }
            let code = words.next().context("no exit code")?.parse()?;
            let text = BASE64.decode(words.next().unwrap_or_default())?;
            let text = String::from_utf8_lossy(&text).into_owned();
            return Ok(Some(Said { code, text }));
        }
        Ok(None)
    }

    /// Waits until the monitor tells of an event.
    fn heard(&mut self, event: &str, patience: Duration) -> anyhow::Result<()> {
        self.monitor.get_ref().set_read_timeout(Some(patience))?;
        loop {
            let mut line = String::new();
            let read = self.monitor.read_line(&mut line).with_context(|| event.to_owned())?;
            ensure!(read > 0, "the monitor is gone");
            if line.contains(&format!("\"event\": \"{event}\"")) {
                return Ok(());
            }
        }
    }

    /// The machine's own monitor, which answers in JSON, one object a line.
    fn monitor(&mut self, command: &str) -> anyhow::Result<()> {
        writeln!(self.monitor.get_mut(), "{{\"execute\": \"{command}\"}}")?;
        self.monitor.get_ref().set_read_timeout(Some(Duration::from_secs(30)))?;
        loop {
            let mut line = String::new();
            ensure!(self.monitor.read_line(&mut line)? > 0, "the monitor is gone");
            ensure!(!line.starts_with("{\"error\""), "{command}: {line}");
            if line.starts_with("{\"return\"") {
                return Ok(());
            }
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let console = self.console();
            let lines: Vec<_> = console.lines().rev().take(30).collect();
            eprintln!("its screen, the last line first:\n{}", lines.join("\n"));
        }
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// A file system with everything in it, in a mount namespace that ends with the script.
fn make_disk(
    root: &Path,
    folder: &Path,
    files: &[(PathBuf, &str)],
    script: &str,
) -> anyhow::Result<()> {
    const MAKE: &str = r#"
set -e
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" disk "$2/merged"
chroot "$2/merged" sh -e < "$2/script"
mke2fs -q -t ext4 -E lazy_itable_init=1,lazy_journal_init=1 -d "$2/merged" "$2/disk" "$3"
"#;
    let upper = folder.join("upper");
    for name in ["upper", "work", "merged"] {
        fs::create_dir(folder.join(name))?;
    }
    for (from, to) in files {
        let to = upper.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a file has a folder")?)?;
        fs::copy(from, &to).with_context(|| format!("copy {}", from.display()))?;
    }
    fs::write(folder.join("script"), script)?;
    shell(
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", MAKE, "sh"])
            .args([root, folder])
            .arg(DISK)
            .env_clear()
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    )
    .context("make the disk")?;
    fs::remove_dir_all(upper)?;
    Ok(())
}

fn power_on(
    root: &Path,
    folder: &Path,
    memory_mib: u32,
    security: Security,
) -> anyhow::Result<Child> {
    let boot = |prefix: &str| -> anyhow::Result<PathBuf> {
        fs::read_dir(root.join("boot"))?
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path())
            .with_context(|| format!("the root has no {prefix}"))
    };
    let place = |name: &str| folder.join(name).display().to_string();
    let log = fs::File::create(folder.join("qemu.log"))?;
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", TOOLS[0].0])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-smp", "2"])
        .args(["-m", &memory_mib.to_string()])
        .arg("-kernel")
        .arg(boot("vmlinuz-")?)
        .arg("-initrd")
        .arg(boot("initrd.img-")?)
        .args(["-append", &format!("root=/dev/vda rw console=ttyS0{}", security.words())])
        .args(["-drive", &format!("file={},format=raw,if=virtio", place("disk"))])
        .args(["-serial", &format!("file:{}", place("console"))])
        .args(["-device", "virtio-serial"])
        .args(["-chardev", &format!("socket,id=port,path={},server=on,wait=off", place("port"))])
        .args(["-device", "virtserialport,chardev=port,name=rcc"])
        .args(["-qmp", &format!("unix:{},server=on,wait=off", place("monitor"))])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("start qemu")
}

fn connect(path: &Path) -> anyhow::Result<BufReader<UnixStream>> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(BufReader::new(stream)),
            Err(error) if Instant::now() > end => {
                let log = path.with_file_name("qemu.log");
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(error).with_context(|| format!("qemu does not start: {said}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
