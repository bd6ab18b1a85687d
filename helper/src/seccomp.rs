//! The system calls that the resolver's child keeps: moving bytes over
//! descriptors it has, memory that is not code, time. No `open`, no `socket`, no
//! new process.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

const ALLOWED: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_write,
    libc::SYS_writev,
];

#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[i64] = &[];

/// Everything else fails with `EPERM`, for the calling thread and for good.
pub fn confine() -> Result<(), seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, Vec::new())).collect();
    // Memory, but never code: the third argument is the protection.
    let not_code = SeccompCondition::new(
        2,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64),
        0,
    )?;
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![SeccompRule::new(vec![not_code.clone()])?]);
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        TargetArch::try_from(std::env::consts::ARCH)?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    use super::*;

    /// What somebody would do first who has taken the resolver over.
    fn tries() -> [(&'static str, io::Result<()>); 7] {
        [
            ("read a file", std::fs::File::open("/dev/null").map(drop)),
            ("make a file", std::fs::File::create("/dev/null").map(drop)),
            ("a datagram socket", UdpSocket::bind("127.0.0.1:0").map(drop)),
            ("a stream socket", TcpListener::bind("127.0.0.1:0").map(drop)),
            ("a local socket", UnixStream::pair().map(drop)),
            ("a program", Command::new("/bin/true").status().map(drop)),
            ("a thread", std::thread::Builder::new().spawn(|| ()).map(drop)),
        ]
    }

    #[test]
    fn who_is_confined_opens_nothing_and_starts_nothing() {
        for (what, tried) in tries() {
            assert!(tried.is_ok(), "{what} works before: {tried:?}");
        }
        // For the thread alone: the other tests go on.
        let confined = std::thread::spawn(|| {
            confine().expect("confined");
            tries()
        });
        for (what, tried) in confined.join().expect("no panic") {
            let refused =
                tried.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EPERM));
            assert!(refused, "{what}: {tried:?}");
        }
    }
}
