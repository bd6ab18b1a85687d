//! SELinux, as the kernel tells of it: whether it is on (selinux(8)), and what a process
//! may do (`/proc/PID/attr/current`).

use std::fs;

/// What it does on this computer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The kernel runs without it.
    Off,
    /// It writes down what it would refuse, and refuses nothing.
    Permissive,
    /// It refuses.
    Enforcing,
}

/// Asks the kernel.
pub fn mode() -> Mode {
    of(fs::read_to_string("/sys/fs/selinux/enforce").ok().as_deref())
}

fn of(enforce: Option<&str>) -> Mode {
    match enforce.map(str::trim) {
        None => Mode::Off,
        Some("1") => Mode::Enforcing,
        Some(_) => Mode::Permissive,
    }
}

/// The label of a process, `user:role:domain:level`, if it can be read.
pub(crate) fn label(pid: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/attr/current")).ok()?;
    Some(text.trim_end_matches(['\0', '\n']).to_owned()).filter(|label| label.contains(':'))
}

/// Whether `label` keeps its process from what belongs to other containers, and to who
/// has the label `own`: another domain, and categories in its level.
pub(crate) fn is_confined(label: &str, own: &str) -> bool {
    let fields = |label: &str| {
        let mut fields = label.splitn(4, ':').skip(2).map(str::to_owned);
        Some((fields.next()?, fields.next()?))
    };
    let (Some((domain, level)), Some((own, _))) = (fields(label), fields(own)) else {
        return false;
    };
    domain != own && level.split_once(':').is_some_and(|(_, categories)| !categories.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_domain_of_its_own_with_categories_confines() {
        let own = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023";
        assert!(is_confined("unconfined_u:unconfined_r:container_t:s0:c12,c873", own));
        for label in [
            own,
            // As `label=disable` gives it.
            "unconfined_u:unconfined_r:spc_t:s0",
            "unconfined_u:unconfined_r:container_t:s0",
            "unconfined_u:unconfined_r:container_t:s0:",
            "unconfined_u:unconfined_r:unconfined_t:s0:c12,c873",
            // AppArmor's.
            "containers-default-0.50.1 (enforce)",
            "unconfined",
            "",
        ] {
            assert!(!is_confined(label, own), "{label}");
        }
        assert!(!is_confined("u:r:container_t:s0:c1,c2", "unconfined"));
    }

    #[test]
    fn the_kernel_says_what_it_does() {
        assert_eq!(of(Some("1\n")), Mode::Enforcing);
        assert_eq!(of(Some("0")), Mode::Permissive);
        assert_eq!(of(None), Mode::Off);
    }
}
