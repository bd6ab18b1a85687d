//! Network namespaces, and threads that live in them.
//!
//! Entering a namespace needs CAP_SYS_ADMIN, which the helper gives up before it
//! speaks to anybody. So threads enter at the start and stay: whatever they make
//! (sockets, child processes) belongs to their namespace.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::privileges;

/// The gate's namespace, where `ip netns` looks for it too.
pub const GATE_PATH: &str = "/run/netns/rcc";

/// A namespace could not be made or entered.
#[derive(Debug, Error)]
pub enum NetnsError {
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    Call {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The thread is gone, which it never is unless the process ends.
    #[error("the thread in the namespace ended")]
    Gone,
}

fn failed(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> NetnsError {
    let what = what.into();
    move |errno| NetnsError::Call { what, source: errno.into() }
}

/// Device and inode of the nsfs file: tells namespaces that are alive apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct NetnsId {
    /// Device of the nsfs.
    pub device: u64,
    /// Inode; what `stat -L /proc/PID/ns/net` shows.
    pub inode: u64,
}

/// Which namespace a descriptor is of.
pub fn identify(namespace: impl AsFd) -> Result<NetnsId, NetnsError> {
    let stat = nix::sys::stat::fstat(namespace).map_err(failed("look at the namespace"))?;
    Ok(NetnsId { device: stat.st_dev, inode: stat.st_ino })
}

/// The namespace of the calling thread.
pub fn current() -> Result<File, NetnsError> {
    open(Path::new("/proc/thread-self/ns/net"))
}

/// The gate's namespace; fails when there is none.
pub fn gate() -> Result<File, NetnsError> {
    open(Path::new(GATE_PATH))
}

fn open(path: &Path) -> Result<File, NetnsError> {
    File::open(path)
        .map_err(|source| NetnsError::Call { what: format!("open {}", path.display()), source })
}

/// Makes a namespace and leaves it at [`GATE_PATH`], the way `ip netns add` does.
pub fn create_gate() -> Result<(), NetnsError> {
    let path = Path::new(GATE_PATH);
    let parent = path.parent().unwrap_or(Path::new("/"));
    let io = |what: &str| {
        let what = format!("{what} {}", path.display());
        move |source| NetnsError::Call { what, source }
    };
    std::fs::create_dir_all(parent).map_err(io("make the folder of"))?;
    // A mount of its own that others see, so that what is mounted in it reaches
    // every mount namespace that follows the host's.
    let shared = || {
        mount(
            None::<&str>,
            parent,
            None::<&str>,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            None::<&str>,
        )
    };
    if shared().is_err() {
        mount(Some(parent), parent, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .map_err(failed("mount /run/netns"))?;
        shared().map_err(failed("share /run/netns"))?;
    }
    File::create(path).map_err(io("create"))?;
    let made = thread::spawn(move || -> Result<(), NetnsError> {
        unshare(CloneFlags::CLONE_NEWNET).map_err(failed("make a network namespace"))?;
        let own = Path::new("/proc/thread-self/ns/net");
        mount(Some(own), Path::new(GATE_PATH), None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(failed("keep the network namespace"))
    });
    let result = made.join().unwrap_or(Err(NetnsError::Gone));
    if result.is_err() {
        let _ = std::fs::remove_file(path);
    }
    result
}

/// Takes the gate away; what still holds it keeps it alive, unreachable.
pub fn remove_gate() -> Result<(), NetnsError> {
    let _ = umount2(GATE_PATH, MntFlags::MNT_DETACH);
    match std::fs::remove_file(GATE_PATH) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(NetnsError::Call { what: format!("remove {GATE_PATH}"), source: error })
        }
        _ => Ok(()),
    }
}

/// A job that panics must not leave a service without its thread: the process
/// ends, the walls stand, and it is started anew.
struct EndWithThread;

impl Drop for EndWithThread {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::exit(70);
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that lives in a network namespace and does what it is given, one
/// thing after the other.
#[derive(Clone)]
pub struct Room {
    jobs: mpsc::Sender<Job>,
}

impl Room {
    /// A thread in the namespace behind the descriptor.
    pub fn in_namespace(name: &str, namespace: File) -> Result<Self, NetnsError> {
        Self::start(name, move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)
                .map_err(failed("enter the network namespace"))
        })
    }

    /// A thread in a namespace of its own with nothing in it.
    pub fn empty(name: &str) -> Result<Self, NetnsError> {
        Self::start(name, || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(failed("make an empty network namespace"))
        })
    }

    /// A thread in the namespace of the caller.
    pub fn here(name: &str) -> Result<Self, NetnsError> {
        Self::start(name, || Ok(()))
    }

    fn start(
        name: &str,
        enter: impl FnOnce() -> Result<(), NetnsError> + Send + 'static,
    ) -> Result<Self, NetnsError> {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (ready, entered) = mpsc::channel();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let result = enter();
                // Capabilities belong to threads: this one gives its own up.
                let result = result.and_then(|()| {
                    privileges::drop_to_service().map_err(|source| NetnsError::Call {
                        what: "give up capabilities".into(),
                        source,
                    })
                });
                let _end = EndWithThread;
                let go_on = result.is_ok();
                let _ = ready.send(result);
                if go_on {
                    for job in todo {
                        job();
                    }
                }
            })
            .map_err(|source| NetnsError::Call { what: "start a thread".into(), source })?;
        entered.recv().map_err(|_| NetnsError::Gone)??;
        Ok(Self { jobs })
    }

    /// Runs `job` there and waits for it.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NetnsError> {
        let (done, result) = oneshot::channel();
        self.jobs
            .send(Box::new(move || {
                let _ = done.send(job());
            }))
            .map_err(|_| NetnsError::Gone)?;
        result.await.map_err(|_| NetnsError::Gone)
    }

    /// [`Room::run`] for callers outside the runtime.
    pub fn run_blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NetnsError> {
        let (done, result) = mpsc::channel();
        self.jobs
            .send(Box::new(move || {
                let _ = done.send(job());
            }))
            .map_err(|_| NetnsError::Gone)?;
        result.recv().map_err(|_| NetnsError::Gone)
    }
}

/// The number of a descriptor, for netlink attributes.
pub fn raw(namespace: impl AsFd) -> i32 {
    namespace.as_fd().as_raw_fd()
}
