//! The process that reads what strangers send: what is left to it once it is taken over.

use std::os::unix::fs::MetadataExt;

use super::*;

/// `CAP_KILL`, `CAP_SETGID`, `CAP_SETUID`, `CAP_NET_ADMIN` (linux/capability.h).
const SERVICE: u64 = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 12;

#[test]
fn the_resolver_has_no_rights() {
    let Some((lab, _ann, sandbox)) = start(POLICY, &[]) else { return };
    sandbox.resolve("allowed.example").expect("it works");
    let place = format!("/proc/{}", lab.resolver().expect("a resolver"));
    let status = std::fs::read_to_string(format!("{place}/status")).expect("its status");
    let says = |field: &str| -> Vec<&str> {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {field} in {status}")).split_whitespace().collect()
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(says(set), ["0000000000000000"], "{set}");
    }
    // What it could never get in any case: no more than what the service itself has.
    let bound = u64::from_str_radix(says("CapBnd")[0], 16).expect("a set");
    assert_eq!(bound & !SERVICE, 0, "{bound:x}");
    // Real, effective, saved, for files: one of its own, and in no other group.
    assert_eq!(says("Uid"), ["4900"; 4]);
    assert_eq!(says("Gid"), ["4900"; 4]);
    assert!(says("Groups").is_empty(), "{status}");
    assert_eq!(says("NoNewPrivs"), ["1"]);
    // SECCOMP_MODE_FILTER; what the filter lets through, helper/src/seccomp.rs tries. It is
    // the calling thread's, and there is no other.
    assert_eq!(says("Seccomp"), ["2"]);
    assert_eq!(says("Threads"), ["1"]);
    // Another process of that user could otherwise look into it.
    let owner = std::fs::metadata(format!("{place}/environ")).expect("its files").uid();
    assert_eq!(owner, 0, "it can be looked into");
    let devices = std::fs::read_to_string(format!("{place}/net/dev")).expect("its network");
    let links: Vec<_> = devices.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    assert_eq!(links.iter().map(|link| link.trim()).collect::<Vec<_>>(), ["lo"]);
    let routes = std::fs::read_to_string(format!("{place}/net/route")).expect("its routes");
    assert_eq!(routes.lines().skip(1).count(), 0, "below the heading: {routes}");
    // Standard output and error are those of the service; by the device of the gate come the
    // packets whose hello it reads.
    for entry in std::fs::read_dir(format!("{place}/fd")).expect("its descriptors").flatten() {
        let number: u32 = entry.file_name().to_string_lossy().parse().expect("a number");
        let what = std::fs::read_link(entry.path()).unwrap_or_default();
        let what = what.to_string_lossy();
        let own = what.starts_with("socket:") || what.starts_with("anon_inode:");
        let known = [1, 2].contains(&number) || what == "/dev/net/tun";
        assert!(own || known, "{number}: {what}");
    }
}
