//! What holds a running sandbox, asked from the kernel about its first process
//! (proc_pid_status(5), namespaces(7)), not from what was wished for.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::Session;
use crate::error::Result;

/// One look at the first process, whose limits every other inherits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walls {
    /// Its users and its mounts are not the host's.
    pub own_view: bool,
    /// It can have no capability, nor get one by a program.
    pub no_privileges: bool,
    /// A filter of system calls is in force.
    pub filter: bool,
}

impl Session {
    /// What holds it now.
    ///
    /// # Errors
    /// `Code::Engine` when the engine does not know it any more.
    pub async fn walls(&self) -> Result<Walls> {
        let pid = self.engine.state(&self.found.id).await?.pid;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let apart = |name: &str| {
            let inode = |whose: &str| {
                fs::metadata(format!("/proc/{whose}/ns/{name}")).ok().map(|m| m.ino())
            };
            let theirs = inode(&pid.to_string());
            pid > 0 && theirs.is_some() && theirs != inode("self")
        };
        Ok(Walls { own_view: apart("user") && apart("mnt"), ..of(&status) })
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
    }
}

#[cfg(test)]
mod tests {
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
}
