//! What has to be there and how it gets there, as data: nothing in here looks at
//! the machine or changes it.

use std::fmt::Write;

use anyhow::Context;
use serde::Deserialize;

/// Distributions that share names of packages and a package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Debian,
    Fedora,
    Arch,
}

impl Family {
    /// By the text of os-release(5).
    pub fn of(release: &str) -> Option<Self> {
        let ids = [field(release, "ID"), field(release, "ID_LIKE")];
        ids.into_iter()
            .flatten()
            .flat_map(|ids| ids.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .find_map(|id| match id.as_str() {
                "debian" | "ubuntu" => Some(Self::Debian),
                "fedora" => Some(Self::Fedora),
                "arch" => Some(Self::Arch),
                _ => None,
            })
    }

    /// What the sandboxes and the firewall need to run.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Debian => &[
                "podman",
                "crun",
                "uidmap",
                "nftables",
                "dbus",
                "polkitd",
                "mmdebstrap",
                "iproute2",
                "util-linux",
                "procps",
                "ca-certificates",
            ],
            Self::Fedora => &[
                "podman",
                "crun",
                "shadow-utils",
                "nftables",
                "dbus-daemon",
                "polkit",
                "mmdebstrap",
                "iproute",
                "util-linux",
                "procps-ng",
                "ca-certificates",
            ],
            // mmdebstrap is not among its own packages.
            Self::Arch => &[
                "podman",
                "crun",
                "shadow",
                "nftables",
                "dbus",
                "polkit",
                "iproute2",
                "util-linux",
                "procps-ng",
                "ca-certificates",
            ],
        }
    }

    /// What the window needs to be built.
    pub fn window_packages(self) -> &'static [&'static str] {
        match self {
            Self::Debian => &[
                "build-essential",
                "pkg-config",
                "libwebkit2gtk-4.1-dev",
                "librsvg2-dev",
                "libxdo-dev",
                "libssl-dev",
            ],
            Self::Fedora => &[
                "gcc",
                "gcc-c++",
                "make",
                "pkgconf-pkg-config",
                "webkit2gtk4.1-devel",
                "librsvg2-devel",
                "libxdo-devel",
                "openssl-devel",
            ],
            Self::Arch => &["base-devel", "webkit2gtk-4.1", "librsvg", "xdotool", "openssl"],
        }
    }

    /// The package manager with its arguments, without questions.
    pub fn install(self) -> &'static str {
        match self {
            Self::Debian => "apt-get install -y --no-install-recommends",
            Self::Fedora => "dnf install -y",
            Self::Arch => "pacman -S --needed --noconfirm",
        }
    }

    /// Asks whether a package is there.
    pub fn query(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Debian => ("dpkg-query", &["-W", "-f", "${Status}"]),
            Self::Fedora => ("rpm", &["-q"]),
            Self::Arch => ("pacman", &["-Q"]),
        }
    }
}

/// A value of os-release(5).
pub fn field(release: &str, name: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// The machine, as far as the plan depends on it.
#[derive(Debug, Clone)]
pub struct System {
    pub name: String,
    pub family: Option<Family>,
    pub root: bool,
    pub systemd: bool,
    pub selinux: bool,
    pub firewalld: bool,
    /// Who asked.
    pub user: String,
}

/// One file of `packaging/files.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// In the project.
    pub from: String,
    /// On the machine.
    pub to: String,
    /// Octal.
    pub mode: String,
    /// What it belongs to.
    #[serde(default)]
    pub part: Part,
}

/// What a file of the manifest belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Firewall and command line: nothing goes without.
    #[default]
    Base,
    /// The window and its entries in menus.
    Window,
    /// Manual pages, completions, licences.
    Documents,
    /// The administrator's, written where there is none.
    Configuration,
}

impl File {
    /// A compiled one.
    pub fn is_program(&self) -> bool {
        self.mode == "0755"
    }

    /// Distributions ship manuals and long texts compressed.
    pub fn is_compressed(&self) -> bool {
        self.to.starts_with("/usr/share/man/")
            || ["/CHANGELOG.md", "/third-party-licences"].iter().any(|end| self.to.ends_with(end))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    file: Vec<File>,
}

/// Reads the manifest.
///
/// # Errors
/// For a text that is not one, or a path or mode that a shell would take for
/// something else.
pub fn manifest(text: &str) -> anyhow::Result<Vec<File>> {
    let manifest: Manifest = toml::from_str(text).context("packaging/files.toml")?;
    let plain = |path: &str| {
        path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-@".contains(c))
            && !path.split('/').any(|part| part == "..")
    };
    for File { from, to, mode, .. } in &manifest.file {
        anyhow::ensure!(
            plain(from) && plain(to) && (to.starts_with("/usr/") || to.starts_with("/etc/rcc/")),
            "packaging/files.toml: {from} to {to} is not a plain path below /usr or /etc/rcc"
        );
        anyhow::ensure!(
            mode.len() == 4 && mode.chars().all(|c| ('0'..='7').contains(&c)),
            "packaging/files.toml: {mode} is not a mode"
        );
    }
    Ok(manifest.file)
}

/// Where it is written down what was done, so that it can be undone.
pub const RECORD: &str = "/var/lib/rcc/installed-by-xtask";
/// The administrator's list.
pub const POLICY: &str = "/etc/rcc/network-whitelist.yaml";
/// The command, where no other package has the name.
const LINK: &str = "/usr/bin/rcc";
/// What rcc asks of SELinux's policy.
const POLICY_MODULE: &str = "/usr/share/selinux/packages/rcc.cil";
const UNITS: [&str; 2] = ["rcc-firewall.service", "rcc-whitelist-update.timer"];

/// What has to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Packages that are missing.
    pub packages: Vec<String>,
    /// Files that are missing or differ.
    pub files: Vec<File>,
    /// The user has no ranges of subordinate ids.
    pub ids_for: Option<String>,
    /// There is no list of allowed hosts yet; this file becomes it.
    pub policy: Option<String>,
    /// Nobody has the short name of the command.
    pub link: bool,
    /// The firewall's units do not run.
    pub units: bool,
}

impl Plan {
    /// Nothing is left to do as root.
    pub fn is_done(&self) -> bool {
        *self == Self::default()
    }

    /// For the person, line by line.
    pub fn words(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.packages.is_empty() {
            lines.push(format!("install the packages {}", self.packages.join(" ")));
        }
        if let Some(user) = &self.ids_for {
            lines.push(format!("give {user} a range of ids in /etc/subuid and /etc/subgid"));
        }
        for file in &self.files {
            lines.push(format!("put {} at {}", file.from, file.to));
        }
        if self.link {
            lines.push(format!("make {LINK} a link to rcc-sandbox"));
        }
        if self.policy.is_some() {
            lines.push(format!("write the preset Balanced to {POLICY}"));
        }
        if self.units {
            lines.push(format!("start {} now and at boot", UNITS.join(" and ")));
        }
        lines
    }

    /// What root runs, for sh(1). `root` is the project, `target` what
    /// `target/...` in the manifest stands for. Running it again goes on where
    /// it was broken off.
    pub fn script(&self, system: &System, family: Family, root: &str, target: &str) -> String {
        let mut text = format!(
            "set -eu\n\
             mkdir -p {folder}\n\
             touch {RECORD}\n\
             note() {{ grep -qxF \"$*\" {RECORD} || echo \"$*\" >> {RECORD}; }}\n",
            folder = RECORD.rsplit_once('/').map_or("", |(folder, _)| folder),
        );
        if !self.packages.is_empty() {
            let packages = self.packages.join(" ");
            if family == Family::Debian {
                text += "export DEBIAN_FRONTEND=noninteractive\napt-get update -q\n";
            }
            let _ = writeln!(text, "{} {packages}", family.install());
            for package in &self.packages {
                let _ = writeln!(text, "note package {package}");
            }
        }
        if let Some(user) = &self.ids_for {
            let user = quoted(user);
            let _ = writeln!(
                text,
                "start=$(awk -F: '{{ if ($2 + $3 > m) m = $2 + $3 }} END {{ print (m > 100000 ? m : 100000) }}' /etc/subuid /etc/subgid)\n\
                 range=$start-$((start + 65535))\n\
                 grep -qF {user}: /etc/subuid || usermod --add-subuids $range {user}\n\
                 grep -qF {user}: /etc/subgid || usermod --add-subgids $range {user}\n\
                 note ids {user} $range"
            );
        }
        for File { from, to, mode, .. } in &self.files {
            let from = match from.strip_prefix("target/") {
                Some(built) => format!("{target}/{built}"),
                None => format!("{root}/{from}"),
            };
            // A rename: a program that runs is not written into.
            let _ = writeln!(
                text,
                "note file {to}\n\
                 install -D -m {mode} {} {to}.new\n\
                 mv -f {to}.new {to}",
                quoted(&from)
            );
        }
        if self.link {
            let _ = writeln!(
                text,
                "[ -e {LINK} ] || [ -L {LINK} ] || {{ note link {LINK}; ln -s rcc-sandbox {LINK}; }}"
            );
        }
        if let Some(policy) = &self.policy {
            let _ =
                writeln!(text, "[ -e {POLICY} ] || install -D -m 0644 {} {POLICY}", quoted(policy));
        }
        if !self.files.is_empty() {
            if system.selinux {
                let places: Vec<_> = self.files.iter().map(|file| file.to.as_str()).collect();
                let _ = writeln!(text, "restorecon {}", places.join(" "));
                if places.contains(&POLICY_MODULE) {
                    let _ = writeln!(text, "semodule -X 200 -i {POLICY_MODULE}");
                }
            }
            text += "systemd-sysusers\n\
                     systemctl daemon-reload\n\
                     busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig\n\
                     systemctl try-restart rcc-helper.service\n";
        }
        if self.units || !self.files.is_empty() {
            for unit in UNITS {
                let _ = writeln!(text, "note unit {unit}\nsystemctl enable --now {unit}");
            }
        }
        if system.firewalld && !self.files.is_empty() {
            // Undone by `rcc-helper remove`.
            text += "/usr/lib/rcc/rcc-helper setup firewalld\n";
        }
        text
    }
}

/// What takes back what the record says, for sh(1), and what stays, in words.
pub fn undo(record: &str) -> (String, Vec<String>) {
    let mut script = String::from("set -u\n");
    let (mut files, mut packages, mut stays) = (Vec::new(), Vec::new(), Vec::new());
    for line in record.lines() {
        match line.split_once(' ') {
            Some(("unit", unit)) => {
                let _ = writeln!(script, "systemctl disable --now {}", quoted(unit));
            }
            Some(("file" | "link", path)) if path.starts_with("/usr/") => files.push(path),
            Some(("package", package)) => packages.push(package),
            Some(("ids", who)) => {
                stays.push(format!("the range of ids of {who} in /etc/subuid and /etc/subgid"));
            }
            _ => {}
        }
    }
    if files.contains(&"/usr/lib/rcc/rcc-helper") {
        script += "systemctl stop rcc-helper.service\n/usr/lib/rcc/rcc-helper remove\n";
    }
    if files.contains(&POLICY_MODULE) {
        script += "[ ! -e /sys/fs/selinux/enforce ] || semodule -X 200 -r rcc\n";
    }
    for path in &files {
        let _ = writeln!(script, "rm -f {}", quoted(path));
    }
    if !files.is_empty() {
        script += "rmdir --ignore-fail-on-non-empty /usr/lib/rcc\n\
                   systemctl daemon-reload\n\
                   busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig\n\
                   getent passwd rcc-resolver >/dev/null && userdel rcc-resolver\n";
    }
    let _ = writeln!(script, "rm -f {RECORD}\ntrue");
    if !packages.is_empty() {
        stays.push(format!("the packages {}", packages.join(" ")));
    }
    stays.push("/etc/rcc with the administrator's list".into());
    (script, stays)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn system() -> System {
        System {
            name: "x".into(),
            family: Some(Family::Debian),
            root: false,
            systemd: true,
            selinux: false,
            firewalld: false,
            user: "ann".into(),
        }
    }

    fn full() -> Plan {
        Plan {
            packages: vec!["podman".into()],
            files: vec![File {
                from: "target/release/rcc-helper".into(),
                to: "/usr/lib/rcc/rcc-helper".into(),
                mode: "0755".into(),
                part: Part::Base,
            }],
            ids_for: Some("ann".into()),
            policy: Some("/x/it's/policy.yaml".into()),
            link: true,
            units: true,
        }
    }

    /// Whether sh(1) can read it; nothing of it is run.
    fn is_shell(script: &str) -> bool {
        let mut child = Command::new("sh").args(["-n"]).stdin(Stdio::piped()).spawn().expect("sh");
        std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), script.as_bytes())
            .expect("write");
        child.wait().expect("sh").success()
    }

    #[test]
    fn distributions_are_known_by_themselves_or_their_parents() {
        assert_eq!(Family::of("ID=debian\n"), Some(Family::Debian));
        assert_eq!(Family::of("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), Some(Family::Debian));
        assert_eq!(Family::of("ID=\"nobara\"\nID_LIKE=\"fedora\"\n"), Some(Family::Fedora));
        assert_eq!(Family::of("ID=manjaro\nID_LIKE=arch\n"), Some(Family::Arch));
        assert_eq!(Family::of("ID=void\n"), None);
        assert_eq!(field("VERSION_ID=\"12\"\nID=debian", "ID").as_deref(), Some("debian"));
    }

    #[test]
    fn every_family_names_its_packages_once_and_plainly() {
        for family in [Family::Debian, Family::Fedora, Family::Arch] {
            let mut all: Vec<_> =
                family.packages().iter().chain(family.window_packages()).collect();
            let plain =
                |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
            assert!(all.iter().all(|name| plain(name)));
            let count = all.len();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), count, "{family:?}");
            assert!(family.packages().contains(&"podman"));
        }
    }

    #[test]
    fn the_manifest_is_sound_and_what_it_names_is_there() {
        let root = crate::workspace::root();
        let text = std::fs::read_to_string(root.join("packaging/files.toml")).expect("read");
        let files = manifest(&text).expect("a manifest");
        for file in &files {
            let exists = root.join(&file.from).exists();
            assert!(exists || file.from.starts_with("target/"), "{} is not there", file.from);
        }
        assert!(files.iter().any(|file| file.to == "/usr/lib/rcc/rcc-helper"));
        for bad in [
            "[[file]]\nfrom='a'\nto='/etc/passwd'\nmode='0644'",
            "[[file]]\nfrom='a'\nto='/usr/x;y'\nmode='0644'",
            "[[file]]\nfrom='../a'\nto='/usr/x'\nmode='0644'",
            "[[file]]\nfrom='a'\nto='/usr/x'\nmode='u+s'",
        ] {
            assert!(manifest(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_script_installs_before_it_starts_and_writes_down_first() {
        let script = full().script(&system(), Family::Debian, "/p", "/p/target");
        assert!(is_shell(&script), "{script}");
        let at = |what: &str| script.find(what).unwrap_or_else(|| panic!("{what}: {script}"));
        assert!(at("apt-get install -y --no-install-recommends podman") < at("usermod"));
        assert!(
            at("note file /usr/lib/rcc/rcc-helper")
                < at("install -D -m 0755 '/p/target/release/rcc-helper'")
        );
        assert!(at("systemctl daemon-reload") < at("systemctl enable --now rcc-firewall.service"));
        assert!(script.contains("'/x/it'\\''s/policy.yaml'"));
        assert!(!script.contains("restorecon") && !script.contains("setup firewalld"));
        let fedora = System { selinux: true, firewalld: true, ..system() };
        let mut plan = full();
        plan.files.push(File {
            from: "packaging/selinux/rcc.cil".into(),
            to: POLICY_MODULE.into(),
            ..plan.files[0].clone()
        });
        let script = plan.script(&fedora, Family::Fedora, "/p", "/p/target");
        assert!(is_shell(&script));
        assert!(script.contains("restorecon /usr/lib/rcc/rcc-helper"));
        assert!(script.contains(&format!("semodule -X 200 -i {POLICY_MODULE}\n")));
        assert!(
            script.contains("rcc-helper setup firewalld")
                && script.contains("dnf install -y podman")
        );
        assert!(!script.contains("apt-get"));
    }

    #[test]
    fn nothing_to_do_does_nothing() {
        let plan = Plan::default();
        assert!(plan.is_done() && plan.words().is_empty());
        let script = plan.script(&system(), Family::Debian, "/p", "/p/target");
        assert!(!script.contains("systemctl") && !script.contains("install "));
        assert_eq!(full().words().len(), 6);
        assert!(!full().is_done());
    }

    #[test]
    fn everything_that_was_written_down_is_undone_or_named() {
        let record = "package podman\nids ann 100000-165535\nfile /usr/lib/rcc/rcc-helper\n\
                      link /usr/bin/rcc\nunit rcc-firewall.service\nfile /etc/passwd\n";
        let (script, stays) = undo(record);
        assert!(is_shell(&script), "{script}");
        let at = |what: &str| script.find(what).unwrap_or_else(|| panic!("{what}: {script}"));
        assert!(at("systemctl disable --now 'rcc-firewall.service'") < at("rcc-helper remove"));
        assert!(at("rcc-helper remove") < at("rm -f '/usr/lib/rcc/rcc-helper'"));
        assert!(script.contains("rm -f '/usr/bin/rcc'") && !script.contains("/etc/passwd"));
        assert!(stays.iter().any(|line| line.contains("podman")));
        assert!(stays.iter().any(|line| line.contains("100000-165535")));
    }

    /// In a mount namespace whose /usr, /etc and /var are its own, with programs
    /// that only write down what they are asked.
    #[test]
    fn what_the_script_does_the_other_takes_back() {
        let overlays = "set -e
            mount --make-rprivate /
            mount -t tmpfs none /mnt
            for place in usr etc var; do
              mkdir -p /mnt/$place/upper /mnt/$place/work
              mount -t overlay -o lowerdir=/$place,upperdir=/mnt/$place/upper,workdir=/mnt/$place/work none /$place
            done
            mkdir /mnt/bin
            for name in apt-get systemctl busctl systemd-sysusers userdel firewall-cmd restorecon; do
              printf '#!/bin/sh\\necho \"%s $*\" >> /mnt/calls\\n' $name > /mnt/bin/$name
              chmod +x /mnt/bin/$name
            done
            PATH=/mnt/bin:$PATH
            useradd --no-create-home rcc-plan-test
            sed -i /rcc-plan-test/d /etc/subuid /etc/subgid
            ls -A /usr/bin /usr/lib > /mnt/before
            mkdir -p /mnt/project/release; echo '#!/bin/sh' > /mnt/project/release/rcc-helper";
        let possible = Command::new("unshare")
            .args(["-m", "sh", "-c", overlays])
            .stderr(Stdio::null())
            .status();
        if !possible.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: overlay mounts in a namespace need root");
            return;
        }
        let plan = Plan { ids_for: Some("rcc-plan-test".into()), policy: None, ..full() };
        let script = plan.script(&system(), Family::Debian, "/mnt/project", "/mnt/project");
        let check = format!(
            "test -x /usr/lib/rcc/rcc-helper
             test ! -e /usr/lib/rcc/rcc-helper.new
             test $(grep -c '^rcc-plan-test:[0-9]*:65536$' /etc/subuid) = 1
             test $(grep -c '^rcc-plan-test:[0-9]*:65536$' /etc/subgid) = 1
             grep -qx 'file /usr/lib/rcc/rcc-helper' {RECORD}
             grep -q 'apt-get install' /mnt/calls
             grep -q 'systemctl enable --now rcc-firewall.service' /mnt/calls"
        );
        let twice = format!("( {script} )\n( {script} )\nset -e\n{check}\n");
        let (undo, _) = undo(
            "file /usr/lib/rcc/rcc-helper\nlink /usr/bin/rcc-not-there\nunit rcc-firewall.service\n",
        );
        let whole = format!(
            "{overlays}\n{twice}\n( {undo} )\nset -e\ntest ! -e /usr/lib/rcc\ntest ! -e {RECORD}\n\
             grep -q 'systemctl disable --now rcc-firewall.service' /mnt/calls\n\
             rm -f /usr/bin/rcc\nls -A /usr/bin /usr/lib | cmp - /mnt/before\n"
        );
        let output =
            Command::new("unshare").args(["-m", "sh", "-c", &whole]).output().expect("unshare");
        assert!(
            output.status.success(),
            "{}{}\n{whole}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
