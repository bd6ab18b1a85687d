//! The sandbox's end of its link.
//!
//! The helper puts `eth0` into the container's network namespace; address and
//! routes are set here, by the owner of the namespace. That needs a process
//! that joins the container's user and network namespace, and joining a user
//! namespace needs a process with one thread: this program starts itself again,
//! see [`run_if_asked`].

mod child;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::Duration;

use rcc_dbus::Attachment;
use rcc_inside::filter::HELD_NAME;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use crate::selinux;

pub use child::run_if_asked;

/// Setting up one interface takes a few milliseconds.
const CHILD_PATIENCE: Duration = Duration::from_secs(10);

/// The walls of a container stand within milliseconds of its start.
const WALLS_PATIENCE: Duration = Duration::from_secs(2);

/// How long the last words of a first process that ended are waited for.
const WORDS_PATIENCE: Duration = Duration::from_secs(1);

/// The namespaces of one running container, held open.
#[derive(Debug)]
pub struct Namespaces {
    net: OwnedFd,
    user: OwnedFd,
}

impl Namespaces {
    /// Opens them and makes sure that they are the container's.
    ///
    /// # Errors
    /// [`Code::Link`] when the container's first process is gone.
    pub async fn of(engine: &Engine, container: &str) -> Result<Self> {
        let held = Held::of(engine, container, Code::Link).await?;
        let namespaces = Self::open(&held)?;
        held.confirm(engine, container).await?;
        Ok(namespaces)
    }

    fn open(held: &Held) -> Result<Self> {
        let open = |name| held.open(name, OFlags::RDONLY);
        Ok(Self { net: open("ns/net")?, user: open("ns/user")? })
    }

    /// What the helper gets.
    pub fn net(&self) -> BorrowedFd<'_> {
        self.net.as_fd()
    }

    /// Sets address, routes and neighbour on the sandbox's end.
    ///
    /// # Errors
    /// [`Code::Link`] names the step that failed.
    pub async fn configure(&self, attachment: &Attachment) -> Result<()> {
        let failed = |why: String| Error::new(Code::Link, why);
        let plan = child::Plan::from(attachment);
        let plan = serde_json::to_string(&plan)
            .map_err(|e| failed(format!("The link cannot be described: {e}.")))?;
        let copy = |fd: &OwnedFd| {
            fd.try_clone()
                .map(Stdio::from)
                .map_err(|e| failed(format!("A namespace cannot be handed on: {e}.")))
        };
        // The namespaces travel as stdin and stdout: nothing has to be inherited by number.
        let child = tokio::process::Command::new("/proc/self/exe")
            .arg(child::ARGUMENT)
            .arg(plan)
            .env_clear()
            .stdin(copy(&self.user)?)
            .stdout(copy(&self.net)?)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| {
                failed(format!("rcc could not start itself for setting up the link: {e}."))
            })?;
        let output = tokio::time::timeout(CHILD_PATIENCE, child.wait_with_output())
            .await
            .map_err(|_| {
                failed("Setting up the sandbox's end of the link took more than 10 seconds.".into())
            })?
            .map_err(|e| {
                failed(format!("Setting up the sandbox's end of the link was interrupted: {e}."))
            })?;
        if output.status.success() {
            return Ok(());
        }
        let words = crate::display::line(&String::from_utf8_lossy(&output.stderr), 300);
        Err(failed(format!("The sandbox's end of the link could not be set up: {}.", words.trim())))
    }
}

/// What a container that just started is made of, held open.
#[derive(Debug)]
pub(crate) struct FirstProcess {
    /// The project's folder, with everything that is mounted into it.
    pub(crate) workspace: OwnedFd,
    pub(crate) namespaces: Namespaces,
}

impl FirstProcess {
    /// Opens it and makes sure that it is the container's.
    ///
    /// The first process is rcc's own and stays in the folder that it is started
    /// in. Its root folder would not do: an image on FUSE is closed to the host.
    pub(crate) async fn of(engine: &Engine, container: &str) -> Result<Self> {
        let error = match Self::look(engine, container).await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        // It ends by itself when it does not find rcc's filter, and says so; the
        // engine's monitor may write that down a moment after it is gone.
        let deadline = std::time::Instant::now() + WORDS_PATIENCE;
        let mut log = engine.log_tail(container).await;
        while log.trim().is_empty() && std::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
            log = engine.log_tail(container).await;
        }
        if log.trim().is_empty() {
            let runs = engine.state(container).await.is_ok_and(|state| state.running);
            let gone = "Its first program ended at once, and said nothing.";
            let ended = Error::new(Code::SandboxStart, gone).with_detail(error.to_string());
            return Err(if runs { error } else { ended });
        }
        Err(Error::new(Code::SandboxStart, "Its first program ended at once.")
            .with_detail(format!("{log}\n{error}")))
    }

    async fn look(engine: &Engine, container: &str) -> Result<Self> {
        let held = Held::of(engine, container, Code::SandboxStart).await?;
        let workspace = held.open("cwd", OFlags::PATH | OFlags::DIRECTORY)?;
        let namespaces = Namespaces::open(&held)?;
        held.confirm(engine, container).await?;
        // The engine says that it started a moment before the last wall is up.
        let deadline = std::time::Instant::now() + WALLS_PATIENCE;
        while let Err(missing) = check_walls(&held.read("status")?) {
            if std::time::Instant::now() > deadline {
                return Err(missing);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if engine.info().selinux() {
            check_label(
                &selinux::label(&held.pid.to_string()).unwrap_or_default(),
                &selinux::label("self").unwrap_or_default(),
            )?;
            held.confirm(engine, container).await?;
        }
        Ok(Self { workspace, namespaces })
    }
}

/// Holds what the kernel says about the first process (`proc_pid_status(5)`)
/// against what the engine was asked for: what it starts has no more.
fn check_walls(status: &str) -> Result<()> {
    let value = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    // 2: SECCOMP_MODE_FILTER. Whether the filter is rcc's the first process finds
    // out, and says so in its name; nothing of the agent's runs yet.
    let walls = [("Seccomp", "2"), ("NoNewPrivs", "1"), ("Name", HELD_NAME)];
    let none = "0000000000000000";
    let capabilities = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| (name, none));
    match walls.iter().chain(&capabilities).find(|(name, wanted)| value(name) != Some(wanted)) {
        None => Ok(()),
        Some((name, wanted)) => Err(Error::new(
            Code::SandboxStart,
            format!(
                "The container lacks a wall that was asked for: {name} is {} instead of {wanted}.",
                value(name).unwrap_or("not there")
            ),
        )
        .hint_is(
            "Look for settings in containers.conf that weaken containers, and take them out.",
        )),
    }
}

/// Where the engine says that it gives containers SELinux labels, this one must confine.
fn check_label(label: &str, own: &str) -> Result<()> {
    if selinux::is_confined(label, own) {
        return Ok(());
    }
    let label = if label.is_empty() { "not there" } else { label };
    Err(Error::new(
        Code::SandboxStart,
        format!("The container lacks a wall that was asked for: its SELinux label is {label}."),
    )
    .hint_is("Look for `label` in containers.conf and in the image, and take it out."))
}

/// A container's first process, held by a pidfd before anything of it is opened;
/// the engine is asked again after.
struct Held {
    pid: i32,
    pidfd: OwnedFd,
    /// Of the error when it is not there.
    code: Code,
}

impl Held {
    async fn of(engine: &Engine, container: &str, code: Code) -> Result<Self> {
        let first = engine.state(container).await?;
        let pid = Pid::from_raw(first.pid)
            .filter(|_| first.running)
            .ok_or_else(|| Error::new(code, "The sandbox has ended already."))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| {
            let pid = first.pid;
            Error::new(code, format!("The sandbox's first process {pid} cannot be held: {e}."))
        })?;
        Ok(Self { pid: first.pid, pidfd, code })
    }

    fn open(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        let path = format!("/proc/{}/{name}", self.pid);
        rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::new(self.code, format!("{path} cannot be opened: {e}.")))
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.pid);
        std::fs::read_to_string(&path)
            .map_err(|e| Error::new(self.code, format!("{path} cannot be read: {e}.")))
    }

    async fn confirm(&self, engine: &Engine, container: &str) -> Result<()> {
        if has_ended(self.pidfd.as_fd()) || engine.state(container).await?.pid != self.pid {
            return Err(Error::new(self.code, "The sandbox ended while it was looked at."));
        }
        Ok(())
    }
}

/// Whether the network namespace of a process has a default route: the last but
/// one thing that is set up (proc_pid_net(5)).
pub(crate) fn is_configured(pid: i32) -> bool {
    let routes = std::fs::read_to_string(format!("/proc/{pid}/net/route")).unwrap_or_default();
    has_default_route(&routes)
}

/// Whether a process has no network interface but `lo`, as the kernel says it.
pub(crate) fn has_none(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/net/dev")).is_ok_and(|text| has_only_lo(&text))
}

/// Two lines of headings, then one line for each interface.
fn has_only_lo(interfaces: &str) -> bool {
    interfaces
        .lines()
        .skip(2)
        .all(|line| line.split(':').next().is_some_and(|name| name.trim() == "lo"))
}

fn has_default_route(routes: &str) -> bool {
    routes.lines().skip(1).any(|line| line.split_whitespace().nth(1) == Some("00000000"))
}

/// A pidfd becomes readable when its process ends, pidfd_open(2).
fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut fds, Some(&now)), Ok(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_without_a_wall_is_refused() {
        let good = "Name:\trcc-held\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
                    CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n\
                    CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        assert!(check_walls(good).is_ok());
        for (from, to) in [
            ("Seccomp:\t2", "Seccomp:\t0"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("CapBnd:\t0000000000000000", "CapBnd:\t00000000800405fb"),
            ("CapEff", "Other"),
            // Another filter than rcc's.
            ("Name:\trcc-held", "Name:\tinside"),
        ] {
            assert!(check_walls(&good.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn a_container_without_a_label_is_refused() {
        let own = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023";
        assert!(check_label("unconfined_u:unconfined_r:container_t:s0:c1,c2", own).is_ok());
        for label in [own, "unconfined_u:unconfined_r:spc_t:s0", ""] {
            assert!(check_label(label, own).is_err(), "{label}");
        }
    }

    #[test]
    fn a_default_route_is_recognised() {
        let head = "Iface\tDestination\tGateway\tFlags\n";
        assert!(!has_default_route(head));
        assert!(!has_default_route(&format!("{head}eth0\t0101FEA9\t00000000\t0005\n")));
        assert!(has_default_route(&format!("{head}eth0\t00000000\t0101FEA9\t0003\n")));
    }

    #[test]
    fn another_interface_than_lo_is_seen() {
        let head = "Inter-|   Receive\n face |bytes\n    lo:  0 0\n";
        assert!(has_only_lo(head));
        assert!(!has_only_lo(&format!("{head}  eth0:  0 0\n")));
        assert!(!has_none(-1));
    }

    #[test]
    fn a_process_that_ended_is_seen() {
        let mut child = std::process::Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        assert!(!has_ended(pidfd.as_fd()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_ended(pidfd.as_fd()));
    }
}
