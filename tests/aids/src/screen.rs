//! Displays that nobody sees, for tests of the window.

use std::fs;
use std::io::{BufRead, BufReader, Error, Result};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A compositor on a busy machine takes a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest time for a picture.
const PICTURE: &str = "20";

/// A process and its group; they end together.
pub struct Group(Child);

impl Group {
    /// Starts it as the first of a group of its own.
    ///
    /// # Errors
    /// The system's.
    pub fn start(command: &mut Command) -> Result<Self> {
        command.process_group(0).spawn().map(Self)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.0.id()) {
            let group = Pid::from_raw(id);
            // What is gone needs nothing more.
            let _ = killpg(group, Signal::SIGTERM);
            std::thread::sleep(Duration::from_millis(300));
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}

/// A display. It ends when this is dropped.
pub struct Screen {
    kind: Kind,
    _group: Group,
}

enum Kind {
    /// The display's name.
    X11(String),
    /// The display's socket.
    Wayland(PathBuf),
}

impl Screen {
    /// An X11 display of 1280 by 900, without a window manager.
    ///
    /// # Errors
    /// Xvfb cannot be started.
    pub fn x11() -> Result<Self> {
        let mut command = Command::new("Xvfb");
        command
            .args([
                "-displayfd",
                "1",
                "-screen",
                "0",
                "1280x900x24",
                "-nolisten",
                "tcp",
                "-noreset",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut group = Group::start(&mut command)?;
        let mut number = String::new();
        // It closes the pipe when it cannot start.
        if let Some(out) = group.0.stdout.take() {
            BufReader::new(out).read_line(&mut number)?;
        }
        match number.trim() {
            "" => Err(Error::other("Xvfb did not start")),
            number => Ok(Self { kind: Kind::X11(format!(":{number}")), _group: group }),
        }
    }

    /// A Wayland compositor with an output of 1280 by 900, and a keyboard. `sway` is the
    /// command that starts it without arguments, as the person whose folder for sockets
    /// is `runtime`; wtype has to be installed beside it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn wayland(mut sway: Command, runtime: &Path) -> Result<Self> {
        let configuration = runtime.join("sway.conf");
        fs::write(&configuration, SWAY)?;
        sway.arg("--config")
            .arg(&configuration)
            .env("XDG_RUNTIME_DIR", runtime)
            .env("WLR_BACKENDS", "headless")
            .env("WLR_LIBINPUT_NO_DEVICES", "1")
            .env("WLR_RENDERER", "pixman")
            .env_remove("WAYLAND_DISPLAY")
            .env_remove("DISPLAY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(runtime.join("sway.log"))?);
        let group = Group::start(&mut sway)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut files = fs::read_dir(runtime)?.flatten().map(|entry| entry.path());
            let socket = files.find(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("wayland-") && !name.ends_with(".lock")
            });
            if let Some(socket) = socket {
                return Ok(Self { kind: Kind::Wayland(socket), _group: group });
            }
            if Instant::now() > deadline {
                let log = fs::read_to_string(runtime.join("sway.log")).unwrap_or_default();
                return Err(Error::other(format!("sway did not start: {log}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Has a program show its windows here, and nowhere else.
    pub fn show(&self, program: &mut Command) {
        match &self.kind {
            Kind::X11(name) => {
                program.env("DISPLAY", name).env("GDK_BACKEND", "x11");
                program.env_remove("WAYLAND_DISPLAY");
            }
            Kind::Wayland(socket) => {
                program.env("WAYLAND_DISPLAY", socket).env("GDK_BACKEND", "wayland");
                program.env_remove("DISPLAY");
            }
        }
    }

    /// Presses one key while others are held, as a keyboard does; names are wtype(1)'s.
    /// Answers no on X11, where WebDriver can do it.
    ///
    /// # Errors
    /// wtype cannot be run.
    pub fn press(&self, held: &[&str], key: &str) -> Result<bool> {
        let Kind::Wayland(socket) = &self.kind else { return Ok(false) };
        let mut wtype = Command::new("wtype");
        wtype.env("WAYLAND_DISPLAY", socket);
        for held in held {
            wtype.args(["-M", held]);
        }
        wtype.args(["-k", key]);
        wtype.status().map(|pressed| pressed.success())
    }

    /// What sway says to a command of swaymsg(1).
    ///
    /// # Errors
    /// On X11, and where swaymsg cannot be run.
    pub fn swaymsg(&self, arguments: &[&str]) -> Result<String> {
        let Kind::Wayland(socket) = &self.kind else { return Err(Error::other("not sway")) };
        let runtime = socket.parent().unwrap_or(Path::new("/"));
        let mut files = fs::read_dir(runtime)?.flatten().map(|entry| entry.path());
        let own = files.find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("sway-ipc."))
        });
        let own = own.ok_or_else(|| Error::other("sway has no socket"))?;
        let said = Command::new("swaymsg").arg("-s").arg(own).args(arguments).output()?;
        Ok(String::from_utf8_lossy(&said.stdout).into_owned())
    }

    /// A picture of all of it, as PNG.
    ///
    /// # Errors
    /// ImageMagick's `import` or `grim` is not there, or fails.
    pub fn picture(&self, to: &Path) -> Result<()> {
        let mut command = Command::new("timeout");
        command.arg(PICTURE);
        match &self.kind {
            Kind::X11(name) => {
                command.args(["import", "-display", name, "-window", "root"]);
            }
            Kind::Wayland(socket) => {
                command.arg("grim").env("WAYLAND_DISPLAY", socket);
            }
        }
        let taken = command.arg(to).stdin(Stdio::null()).stderr(Stdio::null()).status()?;
        if taken.success() { Ok(()) } else { Err(Error::other(format!("a picture: {taken}"))) }
    }
}

/// A window fills the output, as the only one on a desktop would be shown. Without a
/// keyboard no window has the focus: wtype plays one for as long as it waits.
const SWAY: &str = "xwayland disable
output * resolution 1280x900
default_border none
exec wtype -s 2000000000
";
