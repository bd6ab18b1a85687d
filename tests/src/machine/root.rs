//! The root file system that machines start from: made once, by mmdebstrap, from
//! the package sources of this computer, and kept.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use super::people;

/// Where they are kept, one for each release: 1.5 GB, 1.4 and 1.2.
pub const MACHINES: &str = "/var/tmp/rcc-machine-cache";

/// What a machine is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// This computer's own, and the programs that install other distributions' packages.
    Own,
    /// Debian 13, where this computer's own is another.
    Debian13,
    /// The same as a whole computer ([`crate::Vm`]) on which SELinux is enforcing. Debian 12
    /// will not do: its policy knows no containers.
    Labelled,
}

/// Of [`Release::Debian13`] and [`Release::Labelled`].
const TRIXIE: &str = "trixie";

/// What a computer has on which somebody installs rcc: the package's own dependencies, since
/// there is no network to fetch them by.
const PACKAGES: &[&str] = &[
    "apt",
    "ca-certificates",
    "crun",
    "dbus",
    "dbus-user-session",
    "iproute2",
    "libpam-systemd",
    "libwebkit2gtk-4.1-0",
    "mmdebstrap",
    "nftables",
    "pkexec",
    "podman",
    "polkitd",
    "procps",
    "sudo",
    "systemd",
    "systemd-sysv",
    "uidmap",
    "util-linux",
    "xdg-utils",
];

/// Debian 12 and 13 have it under two names.
const GTK: &str = "libgtk-3-0";
const GTK_OF_13: &str = "libgtk-3-0t64";

/// What tests want to try on each release: other firewalls, a program to run inside.
const TRIED_PACKAGES: &[&str] = &[
    "busybox-static",
    "docker.io",
    "firewalld",
    "fuse-overlayfs",
    "git",
    "iptables",
    "iputils-ping",
    "python3",
    "slirp4netns",
    "ufw",
];

/// What [`Release::Own`] has besides.
const OWN_PACKAGES: &[&str] = &[
    "apparmor",
    "initramfs-tools",
    // makepkg packs with its bsdtar.
    "libarchive-tools",
    // A kernel for whole computers (crate::vm).
    "linux-image-cloud-amd64",
    // Other distributions' packages, by their own programs.
    "makepkg",
    "pacman-package-manager",
    "rpm",
    "wireguard-tools",
    "zstd",
];

/// What Debian 13 has apart from its Docker.
const DOCKER_OF_13: &[&str] = &["docker-cli"];

/// What [`Release::Labelled`] has besides.
const LABELLED_PACKAGES: &[&str] = &[
    "busybox-static",
    "initramfs-tools",
    "linux-image-cloud-amd64",
    "policycoreutils",
    "selinux-policy-default",
    "selinux-utils",
];

/// Packages that lie there without being installed.
const ASIDE: &[&str] = &["qtchooser"];

/// In the new root, as its root. Firewalls are there and off.
fn customise(release: Release) -> String {
    let mut script = "set -e
         echo machine > /etc/hostname
         systemctl mask -q apt-daily.timer apt-daily-upgrade.timer podman-auto-update.timer e2scrub_all.timer fstrim.timer
         mkdir -p /etc/containers /opt/rcc-test /opt/aside
         printf '[containers]\\npids_limit = 0\\n' > /etc/containers/containers.conf\n"
        .to_owned();
    if release != Release::Labelled {
        script += &format!(
            "systemctl disable -q firewalld ufw nftables docker.service docker.socket containerd
             cd /opt/aside
             apt-get download {}
             cd /\n",
            ASIDE.join(" ")
        );
    }
    if release != Release::Debian13 {
        script += WHOLE;
    }
    if release == Release::Labelled {
        script += ENFORCING;
    }
    for (uid, name) in [people::ANN, people::BOB, people::CAROL] {
        let groups = if name == people::CAROL.1 { "--groups sudo" } else { "" };
        script += &format!(
            "useradd --create-home --shell /bin/bash --uid {uid} {groups} {name}
             echo '{name}:{}' | chpasswd\n",
            people::PASSWORD
        );
    }
    if release == Release::Labelled {
        script += LABEL;
    }
    script
}

/// What a whole computer needs besides: how its disk is found, and somebody who runs what
/// comes over its port (see [`crate::Vm`]): a number and a script in base64, a line
/// each; the answer is the number, the exit code and what the script wrote.
const WHOLE: &str = r#"
echo 'MODULES=list' > /etc/initramfs-tools/conf.d/rcc
printf 'virtio_pci\nvirtio_blk\next4\n' >> /etc/initramfs-tools/modules
update-initramfs -u
cat > /usr/local/sbin/test-port <<'SCRIPT'
#!/bin/sh
exec 3<>/dev/virtio-ports/rcc
while read -r id text <&3; do
  (
    printf %s "$text" | base64 -d > "/run/test-port.$id"
    sh "/run/test-port.$id" </dev/null >"/run/test-port.$id.out" 2>&1 3>&-
    code=$?
    flock 3
    printf '%s %s %s\n' "$id" "$code" "$(base64 -w0 "/run/test-port.$id.out")" >&3
  ) &
done
SCRIPT
chmod 755 /usr/local/sbin/test-port
cat > /etc/systemd/system/test-port.service <<'UNIT'
[Unit]
BindsTo=dev-virtio\x2dports-rcc.device
After=dev-virtio\x2dports-rcc.device
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/local/sbin/test-port
# The other side may come later.
Restart=always
RestartSec=500ms
[Install]
WantedBy=dev-virtio\x2dports-rcc.device
UNIT
systemctl enable -q test-port
"#;

/// Whatever the policy refuses is written down, each time.
const ENFORCING: &str = "
printf 'SELINUX=enforcing\\nSELINUXTYPE=default\\n' > /etc/selinux/config
echo kernel.printk_ratelimit=0 > /etc/sysctl.d/rcc-test.conf
";

/// Gives every file the label that its policy has for its path, as an installer does. It
/// passes over those that have theirs already.
pub(crate) const LABEL: &str = "
setfiles -F -e /proc -e /sys -e /dev -e /run /etc/selinux/default/contexts/files/file_contexts /
";

/// The root of machines of a release, or why this computer cannot make one.
pub fn find_or_make(release: Release) -> anyhow::Result<Result<PathBuf, String>> {
    let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |name: &str| {
        os.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_matches('"').to_owned()))
    };
    if value("ID=").as_deref() != Some("debian") {
        return Ok(Err(
            "machines are made from this computer's own release, and it is not Debian".into()
        ));
    }
    let own = value("VERSION_CODENAME=").context("os-release has no VERSION_CODENAME")?;
    let (suite, mut packages) = match release {
        Release::Debian13 if own == TRIXIE => {
            return Ok(Err("this computer is a Debian 13, as are all its machines".into()));
        }
        Release::Own => (own.as_str(), [PACKAGES, TRIED_PACKAGES, OWN_PACKAGES].concat()),
        Release::Debian13 => (TRIXIE, [PACKAGES, TRIED_PACKAGES].concat()),
        Release::Labelled => (TRIXIE, [PACKAGES, LABELLED_PACKAGES].concat()),
    };
    if suite == TRIXIE {
        packages.push(GTK_OF_13);
        if release != Release::Labelled {
            packages.extend(DOCKER_OF_13);
        }
    } else {
        packages.push(GTK);
    }
    let name = if release == Release::Labelled { "labelled" } else { suite };
    let script = customise(release);
    let mut hasher = DefaultHasher::new();
    (suite, &packages, &script).hash(&mut hasher);
    let cache = Path::new(MACHINES);
    fs::create_dir_all(cache).with_context(|| format!("make {}", cache.display()))?;
    let root = cache.join(format!("{name}-{:016x}", hasher.finish()));
    // One makes it, the others wait.
    let turn = fs::File::create(cache.join(format!("{name}.turn")))?;
    let _turn = nix::fcntl::Flock::lock(turn, nix::fcntl::FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("wait for another test")?;
    if root.is_dir() {
        return Ok(Ok(root));
    }
    // Of another list, or of a run that was ended.
    let same = |entry: &fs::DirEntry| {
        entry.path().is_dir()
            && entry.file_name().to_string_lossy().starts_with(&format!("{name}-"))
    };
    for old in fs::read_dir(cache)?.flatten().filter(same) {
        fs::remove_dir_all(old.path())
            .with_context(|| format!("remove {}", old.path().display()))?;
    }
    make(suite, &packages, &script, &sources(&own, suite), &root)
}

fn make(
    suite: &str,
    packages: &[&str],
    script: &str,
    sources: &str,
    root: &Path,
) -> anyhow::Result<Result<PathBuf, String>> {
    let fresh = root.with_extension("new");
    let hook = root.with_extension("sh");
    fs::write(&hook, script)?;
    let log = root.with_extension("log");
    let file = fs::File::create(&log)?;
    let mut child = Command::new("mmdebstrap")
        .args(["--mode=root", "--variant=minbase", "--skip=cleanup/apt/lists"])
        // Stays in the root. Nobody cuts the power while dpkg writes there.
        .arg("--dpkgopt=force-unsafe-io")
        .arg(format!("--include={}", packages.join(",")))
        .arg(format!("--customize-hook=chroot \"$1\" sh -s < {}", hook.display()))
        .arg(suite)
        .arg(&fresh)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .context("start mmdebstrap")?;
    child.stdin.take().context("no input")?.write_all(sources.as_bytes())?;
    if !child.wait()?.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let last: Vec<_> = text.lines().rev().take(5).collect();
        return Ok(Err(format!(
            "mmdebstrap cannot make a Debian {suite} here: {}",
            last.join(" / ")
        )));
    }
    fs::rename(&fresh, root)?;
    Ok(Ok(root.to_path_buf()))
}

/// This computer's own sources of Debian's packages, as its apt tells them, for a
/// release.
fn sources(own: &str, suite: &str) -> String {
    let format = "$(ORIGIN)|deb $(SITE) $(RELEASE) $(COMPONENT)";
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", format, "Created-By: Packages"])
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    let lines = text.lines().filter_map(|line| line.strip_prefix("Debian|"));
    let mut lines: Vec<_> =
        lines.map(|line| line.replace(&format!(" {own}"), &format!(" {suite}"))).collect();
    lines.sort();
    lines.dedup();
    lines.join("\n") + "\n"
}
