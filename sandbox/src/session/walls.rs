//! What holds a running sandbox, asked from the kernel about its first process
//! (proc_pid_status(5), namespaces(7)), not from what was wished for.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::Session;
use crate::error::Result;
use crate::selinux::{self, Mode};

/// What SELinux makes of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    /// This computer runs without it.
    Off,
    /// The engine gives its containers no labels; this is the one that it has.
    Unused(String),
    /// It should be confined by its label and is not; this is the label.
    Unconfined(String),
    /// Its own domain and categories; refused is nothing.
    Permissive(String),
    /// Its own domain and categories, and the kernel holds it to them.
    Confined(String),
}

/// One look at the first process, whose limits every other inherits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walls {
    /// Its users, mounts, processes and network are not the host's.
    pub own_view: bool,
    /// It can have no capability, nor get one by a program.
    pub no_privileges: bool,
    /// A filter of system calls is in force.
    pub filter: bool,
    /// What SELinux makes of it.
    pub label: Label,
}

impl Session {
    /// What holds it now.
    ///
    /// # Errors
    /// `Code::Engine` when the engine does not know it any more.
    pub async fn walls(&self) -> Result<Walls> {
        let pid = self.engine.state(&self.found.id).await?.pid;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let label = judge(
            selinux::mode(),
            self.engine.info().selinux(),
            selinux::label(&pid.to_string()).unwrap_or_default(),
            &selinux::label("self").unwrap_or_default(),
        );
        Ok(Walls { own_view: pid > 0 && has_own_view(&pid.to_string()), label, ..of(&status) })
    }
}

/// Whether each of a process's namespaces that counts is another one than this process's.
fn has_own_view(pid: &str) -> bool {
    ["user", "mnt", "pid", "net"].into_iter().all(|name| {
        let inode =
            |whose: &str| fs::metadata(format!("/proc/{whose}/ns/{name}")).ok().map(|m| m.ino());
        let theirs = inode(pid);
        theirs.is_some() && theirs != inode("self")
    })
}

fn judge(mode: Mode, used: bool, label: String, own: &str) -> Label {
    match (mode, selinux::is_confined(&label, own)) {
        (Mode::Off, _) => Label::Off,
        (Mode::Permissive, true) => Label::Permissive(label),
        (Mode::Enforcing, true) => Label::Confined(label),
        (_, false) if used => Label::Unconfined(label),
        (_, false) => Label::Unused(label),
    }
}

fn of(status: &str) -> Walls {
    let value = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let none = |name: &str| value(name).is_some_and(|set| set.bytes().all(|byte| byte == b'0'));
    Walls {
        own_view: false,
        no_privileges: ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].into_iter().all(none)
            && value("NoNewPrivs") == Some("1"),
        filter: value("Seccomp") == Some("2"),
        label: Label::Off,
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use super::*;

    const HELD: &str = "Name:\tinside\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
        CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\n\
        NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn a_wall_that_the_kernel_does_not_confirm_does_not_hold() {
        let held = of(HELD);
        assert!(held.no_privileges && held.filter);
        assert!(
            !of(&HELD.replace("CapBnd:\t0000000000000000", "CapBnd:\t00000000a80425fb"))
                .no_privileges
        );
        assert!(!of(&HELD.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0")).no_privileges);
        assert!(!of(&HELD.replace("Seccomp:\t2", "Seccomp:\t0")).filter);
        let unknown = of("");
        assert!(!unknown.no_privileges && !unknown.filter && !unknown.own_view);
    }

    #[test]
    fn n1_one_namespace_of_the_computers_is_no_view_of_its_own() {
        let all = ["--user", "--mount", "--pid", "--net"];
        // The engine's own way into them; the first process in a new namespace of processes
        // is a child of who made it.
        let view = |namespaces: &[&str]| {
            let mut program = Command::new("unshare")
                .args(namespaces)
                .args(["--fork", "--kill-child", "sleep", "60"])
                .stderr(Stdio::null())
                .spawn()
                .ok()?;
            let made = program.id();
            let children = format!("/proc/{made}/task/{made}/children");
            let end = Instant::now() + Duration::from_secs(10);
            let child = loop {
                let child = fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
                let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
                if name.trim() == "sleep" {
                    break Some(child);
                }
                if program.try_wait().unwrap().is_some() || Instant::now() > end {
                    break None;
                }
                sleep(Duration::from_millis(5));
            };
            let view = child.map(|child| has_own_view(&child));
            let _ = program.kill();
            program.wait().unwrap();
            view
        };
        let Some(whole) = view(&all) else {
            rcc_test_aids::skip("namespaces of one's own cannot be made here");
            return;
        };
        assert!(whole);
        for shared in all {
            let others: Vec<&str> = all.into_iter().filter(|one| *one != shared).collect();
            // Without a user namespace only root makes the others.
            match view(&others) {
                Some(view) => assert!(!view, "{shared} is the computer's"),
                None => rcc_test_aids::skip(&format!("{shared} alone takes root")),
            }
        }
        assert!(!has_own_view("0"));
    }

    #[test]
    fn a_label_counts_when_the_kernel_holds_to_it() {
        let own = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023";
        let good = || "unconfined_u:unconfined_r:container_t:s0:c1,c2".to_owned();
        let bad = || own.to_owned();
        assert_eq!(judge(Mode::Enforcing, true, good(), own), Label::Confined(good()));
        assert_eq!(judge(Mode::Permissive, true, good(), own), Label::Permissive(good()));
        assert_eq!(judge(Mode::Enforcing, true, bad(), own), Label::Unconfined(bad()));
        assert_eq!(judge(Mode::Enforcing, false, bad(), own), Label::Unused(bad()));
        assert_eq!(judge(Mode::Off, false, String::new(), ""), Label::Off);
    }
}
