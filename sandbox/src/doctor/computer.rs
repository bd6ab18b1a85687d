//! What rcc needs of the computer and the login, beside engine and firewall.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::statvfs::statvfs;

use super::{Health, Line};
use crate::host::Host;
use crate::selinux::Mode;

/// Free space below which an image may not fit any more, and nothing may, in bytes.
const LITTLE: u64 = 5 << 30;
const TOO_LITTLE: u64 = 1 << 30;
/// Longest wait for the session bus.
const PATIENCE: Duration = Duration::from_secs(2);

/// The ranges of ids that a container's users come from.
pub fn ids(host: &Host) -> Line {
    let missing: Vec<_> = ["/etc/subuid", "/etc/subgid"]
        .into_iter()
        .filter(|file| {
            let text = fs::read_to_string(file).unwrap_or_default();
            !has_range(&text, &host.user, host.uid)
        })
        .collect();
    if missing.is_empty() {
        return Line::new("ids", Health::Good, "Your user has ranges of subordinate ids.");
    }
    // They may come from elsewhere (nsswitch); the engine's line says whether they do.
    let text = format!("{} names no range for {}.", missing.join(" and "), host.user);
    Line::new("ids", Health::Note, text).hint(format!(
        "If the engine complains: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}`, then `podman system migrate`.",
        host.user
    ))
}

fn has_range(text: &str, user: &str, uid: u32) -> bool {
    let uid = uid.to_string();
    text.lines().any(|line| {
        let mut fields = line.split(':');
        let whose = fields.next().is_some_and(|name| name == user || name == uid);
        let count = fields.nth(1).and_then(|count| count.trim().parse::<u32>().ok());
        whose && count.is_some_and(|count| count >= 1_000)
    })
}

/// Whether programs of ordinary users may make user namespaces. Ubuntu's
/// restriction is left on: its packages of Podman are exempt from it.
pub fn user_namespaces() -> Line {
    let setting = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).ok();
    let is = |name: &str, value: &str| setting(name).is_some_and(|text| text.trim() == value);
    if is("kernel/unprivileged_userns_clone", "0") || is("user/max_user_namespaces", "0") {
        return Line::new("namespaces", Health::Bad, "This computer lets nobody but root make user namespaces.")
            .hint("Ask the administrator: `sudo sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000`.");
    }
    if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        return Line::new(
            "namespaces",
            Health::Note,
            "AppArmor restricts user namespaces; the distribution's Podman is exempt. The restriction can stay on.",
        );
    }
    Line::new("namespaces", Health::Good, "Ordinary users may make user namespaces.")
}

/// Whether SELinux keeps sandboxes apart. Nothing where the kernel runs without it.
pub fn labels(mode: Mode, used: bool) -> Option<Line> {
    Some(match (mode, used) {
        (Mode::Off, _) => return None,
        (Mode::Enforcing, true) => Line::new(
            "selinux",
            Health::Good,
            "SELinux is enforcing; each sandbox has a label of its own.",
        ),
        (Mode::Permissive, true) => Line::new(
            "selinux",
            Health::Note,
            "SELinux is permissive: it writes down what sandboxes should not do, and refuses nothing.",
        )
        .hint("`sudo setenforce 1`, and SELINUX=enforcing in /etc/selinux/config."),
        (_, false) => Line::new(
            "selinux",
            Health::Note,
            "SELinux is on, and Podman gives containers no label: it does not hold sandboxes.",
        )
        .hint("Look for `label = false` in containers.conf, and take it out."),
    })
}

/// How the engine stores images.
pub fn storage(driver: &str) -> Line {
    match driver {
        "vfs" => Line::new(
            "storage",
            Health::Note,
            "Podman stores images as whole copies (vfs): slow, and several GB for each.",
        )
        .hint("Write `[storage]` and `driver = \"overlay\"` to ~/.config/containers/storage.conf, then `podman system reset`. It removes all containers and images of yours."),
        "" => Line::new("storage", Health::Note, "Podman does not say how it stores images."),
        driver => Line::new("storage", Health::Good, format!("Podman stores images as {driver}.")),
    }
}

/// Whether the firewall is put up at boot.
pub fn boot() -> Line {
    let wanted = "etc/systemd/system/multi-user.target.wants/rcc-firewall.service";
    if fs::symlink_metadata(Path::new("/").join(wanted)).is_ok() {
        Line::new("boot", Health::Good, "The firewall is put up at boot.")
    } else {
        Line::new(
            "boot",
            Health::Note,
            "The firewall is put up when it is first needed, not at boot.",
        )
        .hint("`rcc setup boot` changes that; it asks for an administrator's password.")
    }
}

/// Whether sandboxes outlive the login.
pub fn lingering(host: &Host) -> Line {
    if Path::new("/var/lib/systemd/linger").join(&host.user).exists() {
        Line::new("logout", Health::Good, "Sandboxes go on when you log out.")
    } else {
        Line::new("logout", Health::Note, "Sandboxes end when you log out.")
            .hint("`loginctl enable-linger` lets them go on.")
    }
}

/// Whether the desktop shows icons of programs.
pub async fn tray() -> Line {
    let ask = async {
        let bus = zbus::Connection::session().await.ok()?;
        let bus = zbus::fdo::DBusProxy::new(&bus).await.ok()?;
        bus.name_has_owner("org.kde.StatusNotifierWatcher".try_into().ok()?).await.ok()
    };
    match tokio::time::timeout(PATIENCE, ask).await.ok().flatten() {
        Some(true) => Line::new("tray", Health::Good, "The desktop shows the tray icon."),
        Some(false) => Line::new(
            "tray",
            Health::Note,
            "This desktop shows no tray icons; closing the window ends the window.",
        )
        .hint("On GNOME the extension AppIndicator shows them."),
        None => Line::new("tray", Health::Note, "There is no desktop session here."),
    }
}

/// Free space for images and projects' homes.
pub fn disk(host: &Host) -> Line {
    let Ok(space) = statvfs(&host.home) else {
        return Line::new("disk", Health::Note, "The free space of your home folder is not known.");
    };
    let free = space.blocks_available() * space.fragment_size();
    let text = format!("{} GB are free in your home folder.", free >> 30);
    match free {
        _ if free < TOO_LITTLE => Line::new("disk", Health::Bad, text)
            .hint("`podman image prune` removes images that nobody uses."),
        _ if free < LITTLE => Line::new("disk", Health::Note, text)
            .hint("An image takes 1 GB; `podman image prune` removes those that nobody uses."),
        _ => Line::new("disk", Health::Good, text),
    }
}

/// What `rcc` means here.
pub fn short_name() -> Line {
    let own = |path: &str| fs::read_link(path).is_ok_and(|to| to.ends_with("rcc-sandbox"));
    if own("/usr/bin/rcc") {
        Line::new("name", Health::Good, "`rcc` and `rcc-sandbox` are the same program.")
    } else if Path::new("/usr/bin/rcc").exists() {
        Line::new("name", Health::Note, "`rcc` is another program here, Qt's: say `rcc-sandbox`.")
    } else {
        Line::new(
            "name",
            Health::Note,
            "There is no command `rcc` in /usr/bin: rcc was not installed as a package.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_belong_to_a_name_or_a_number() {
        let text = "bob:100000:65536\n1000:165536:65536\nann:231072:10\n";
        assert!(has_range(text, "bob", 7) && has_range(text, "x", 1_000));
        assert!(!has_range(text, "ann", 7), "ten are too few");
        assert!(!has_range(text, "bo", 100) && !has_range("", "bob", 7));
    }

    #[test]
    fn slow_storage_is_said() {
        assert_eq!(storage("overlay").health, Health::Good);
        assert_eq!(storage("vfs").health, Health::Note);
        assert!(storage("vfs").hint.is_some());
    }
}
