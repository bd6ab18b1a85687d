//! Which system calls a sandbox may make: `packaging/seccomp`, as the engine
//! takes it (a file of the host's that the engine reads when it makes the
//! container). Decision 4 has the reasons and the method.

use serde_json::Value;

/// Default deny; what is allowed and refused, with reasons.
const SANDBOX: &str = include_str!("../../../packaging/seccomp/sandbox.json");

/// What a project is allowed besides, whose programs may make namespaces of
/// their own.
const USER_NAMESPACES: &str = include_str!("../../../packaging/seccomp/user-namespaces.json");

/// The profile of a sandbox. What `user_namespaces` allows replaces what the
/// first file says of the same calls.
pub(crate) fn profile(user_namespaces: bool) -> serde_json::Result<String> {
    if !user_namespaces {
        return Ok(SANDBOX.to_string());
    }
    let mut profile: Value = serde_json::from_str(SANDBOX)?;
    let more: Value = serde_json::from_str(USER_NAMESPACES)?;
    let more = more["syscalls"].as_array().cloned().unwrap_or_default();
    let replaced: Vec<Value> = more.iter().flat_map(names).collect();
    if let Some(rules) = profile["syscalls"].as_array_mut() {
        for rule in rules.iter_mut() {
            if let Some(names) = rule["names"].as_array_mut() {
                names.retain(|name| !replaced.contains(name));
            }
        }
        rules.retain(|rule| !names(rule).is_empty());
        rules.extend(more);
    }
    serde_json::to_string(&profile)
}

fn names(rule: &Value) -> Vec<Value> {
    rule["names"].as_array().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcc_inside::filter::{MARK_ERROR, MARK_FAMILY};

    const ALLOWED: i64 = 0;
    const EPERM: i64 = 1;
    const ENOSYS: i64 = 38;

    fn parsed(user_namespaces: bool) -> Value {
        serde_json::from_str(&profile(user_namespaces).unwrap()).unwrap()
    }

    /// What the profile answers: the meaning of the format (containers/common,
    /// libseccomp), for rules that cannot contradict each other.
    fn answer(profile: &Value, call: &str, arguments: [u64; 3]) -> i64 {
        let mut answers: Vec<i64> = profile["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|rule| names(rule).contains(&call.into()) && matches(rule, arguments))
            .map(|rule| match rule["action"].as_str().unwrap() {
                "SCMP_ACT_ALLOW" => ALLOWED,
                "SCMP_ACT_ERRNO" => rule["errnoRet"].as_i64().unwrap(),
                other => panic!("{other}"),
            })
            .collect();
        answers.dedup();
        assert!(answers.len() < 2, "{call}({arguments:?}) is answered in two ways");
        answers.first().copied().unwrap_or(profile["defaultErrnoRet"].as_i64().unwrap())
    }

    fn matches(rule: &Value, arguments: [u64; 3]) -> bool {
        let Some(conditions) = rule["args"].as_array() else { return true };
        let number = |value: &Value| value.as_u64().unwrap();
        let holds = |condition: &Value| {
            assert_eq!(condition["op"], "SCMP_CMP_MASKED_EQ");
            let index = usize::try_from(number(&condition["index"])).unwrap();
            arguments[index] & number(&condition["value"]) == number(&condition["valueTwo"])
        };
        let mut indexes: Vec<u64> = conditions.iter().map(|one| number(&one["index"])).collect();
        indexes.dedup();
        // Engines disagree: one of them is enough, all are needed, six are read (crun).
        assert_eq!(indexes.len(), conditions.len(), "{rule}");
        conditions.iter().all(holds)
    }

    #[test]
    fn what_is_not_named_is_unknown_here() {
        let profile = parsed(false);
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        for call in [
            "clone3",
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "keyctl",
            "add_key",
            "request_key",
            "fsopen",
            "fsconfig",
            "open_tree",
            "move_mount",
            "mount_setattr",
            "vmsplice",
            "memfd_secret",
            "mq_open",
            "mq_notify",
            "io_setup",
            "a_call_of_the_next_kernel",
        ] {
            assert_eq!(answer(&profile, call, [0; 3]), ENOSYS, "{call}");
        }
    }

    #[test]
    fn what_needs_rights_is_refused_as_the_kernel_would() {
        let profile = parsed(false);
        for call in [
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "unshare",
            "setns",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "open_by_handle_at",
            "name_to_handle_at",
            "init_module",
            "finit_module",
            "kexec_load",
            "modify_ldt",
            "iopl",
            "syslog",
            "pidfd_getfd",
        ] {
            assert_eq!(answer(&profile, call, [0; 3]), EPERM, "{call}");
        }
    }

    #[test]
    fn no_other_architecture_is_let_in_and_no_rule_is_for_some_alone() {
        let profile = parsed(false);
        for architecture in profile["archMap"].as_array().unwrap() {
            assert_eq!(architecture["subArchitectures"].as_array().unwrap().len(), 0);
        }
        for rule in profile["syscalls"].as_array().unwrap() {
            assert!(rule.get("includes").is_none() && rule.get("excludes").is_none(), "{rule}");
        }
    }

    /// `CLONE_NEW*` of linux/sched.h that clone(2) takes.
    const NAMESPACES: [u64; 7] =
        [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

    #[test]
    fn threads_are_made_and_namespaces_only_where_a_project_may() {
        let (usual, wider) = (parsed(false), parsed(true));
        // What glibc asks for a thread, and for a process.
        for flags in [0x003d_0f00, 0x0120_0011] {
            assert_eq!(answer(&usual, "clone", [flags, 0, 0]), ALLOWED);
            assert_eq!(answer(&wider, "clone", [flags, 0, 0]), ALLOWED);
        }
        for flag in NAMESPACES {
            assert_eq!(answer(&usual, "clone", [flag | 17, 0, 0]), EPERM, "{flag:#x}");
            assert_eq!(answer(&wider, "clone", [flag | 17, 0, 0]), ALLOWED, "{flag:#x}");
        }
        for call in ["unshare", "setns", "mount", "umount2", "pivot_root", "chroot"] {
            assert_eq!(answer(&wider, call, [0; 3]), ALLOWED, "{call}");
        }
        for call in ["clone3", "fsopen", "open_tree", "keyctl", "io_uring_setup"] {
            assert_eq!(answer(&wider, call, [0; 3]), ENOSYS, "{call}");
        }
        for call in ["bpf", "perf_event_open", "userfaultfd", "open_by_handle_at"] {
            assert_eq!(answer(&wider, call, [0; 3]), EPERM, "{call}");
        }
    }

    #[test]
    fn sockets_are_of_the_families_that_programs_need() {
        let profile = parsed(false);
        let socket = |family, kind, protocol| answer(&profile, "socket", [family, kind, protocol]);
        const FLAGS: u64 = 0o2_004_000; // SOCK_CLOEXEC, SOCK_NONBLOCK
        for (family, kind, protocol) in [
            (1, 1, 0),
            (1, 5, 0),
            (2, 1, 6),
            (2, 2, 17),
            (2, 2, 1),
            (10, 1, 0),
            (10, 2, 58),
            (16, 3, 0),
        ] {
            assert_eq!(socket(family, kind | FLAGS, protocol), ALLOWED, "{family} {kind}");
            // What a register holds above the 32 bits that the kernel reads.
            assert_eq!(socket(family | 1 << 32, kind, protocol), ALLOWED);
        }
        for family in (0..64).filter(|family| ![1, 2, 10, 16].contains(family)) {
            for (kind, protocol) in [(1, 0), (2, 0), (3, 3), (5, 0)] {
                assert_eq!(socket(family, kind, protocol), ENOSYS, "{family}");
            }
            let pair = answer(&profile, "socketpair", [family, 1, 0]);
            assert_eq!(pair, ENOSYS, "{family}");
        }
        // Raw packets, SCTP, DCCP, the firewall's netlink.
        for (family, kind, protocol) in [
            (2, 3, 255),
            (10, 3, 58),
            (2, 1, 132),
            (2, 5, 132),
            (2, 6, 33),
            (16, 3, 12),
            (16, 3, 6),
        ] {
            assert_eq!(socket(family, kind, protocol), ENOSYS, "{family} {kind} {protocol}");
        }
        assert_eq!(socket(u64::from(MARK_FAMILY), 1, 0), i64::from(MARK_ERROR));
    }

    #[test]
    fn every_personality_but_three_is_unknown() {
        let profile = parsed(false);
        let personality = |persona| answer(&profile, "personality", [persona, 0, 0]);
        for persona in [0, 0x0004_0000, 0xffff_ffff] {
            assert_eq!(personality(persona), ALLOWED);
        }
        for persona in [0x8, 0x0040_0000, 0x0010_0000, 0x0002_0000] {
            assert_eq!(personality(persona), ENOSYS, "{persona:#x}");
        }
    }

    /// TIOCSTI, TIOCLINUX, TIOCSETD (asm-generic/ioctls.h).
    const REFUSED: [u64; 3] = [0x5412, 0x541c, 0x5423];

    #[test]
    fn a_terminal_is_used_and_nothing_is_typed_into_it() {
        let profile = parsed(false);
        let ioctl = |number| answer(&profile, "ioctl", [0, number, 0]);
        for refused in REFUSED {
            for above in [0, 1 << 32, 0xffff_ffff_0000_0000] {
                assert_eq!(ioctl(refused | above), ENOSYS, "{refused:#x}");
            }
        }
        // TCGETS, TIOCGWINSZ, FIONREAD, TIOCGPTPEER, and one as musl gives it: its sign is kept.
        for number in [0x5401, 0x5413, 0x541b, 0x5441, 0xffff_ffff_8004_5430] {
            assert_eq!(ioctl(number), ALLOWED, "{number:#x}");
        }
    }

    proptest! {
        #[test]
        fn every_other_ioctl_is_allowed(number in prop_oneof![0u64..0x1_0000, any::<u64>()]) {
            let refused = REFUSED.contains(&(number & 0xffff_ffff));
            let wanted = if refused { ENOSYS } else { ALLOWED };
            prop_assert_eq!(answer(&parsed(false), "ioctl", [0, number, 0]), wanted);
        }
    }
}
