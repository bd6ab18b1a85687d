//! A tree of files becomes a .rpm: rpmbuild makes it, and names the libraries that the
//! programs link.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::Compression;
use super::tree::{self, Family, tool};
use crate::run::plan::File;
use crate::workspace;

/// Makes the package of these files and answers where it is.
pub fn make(
    files: &[File],
    programs: &Path,
    version: &str,
    folder: &Path,
    compression: Compression,
) -> anyhow::Result<PathBuf> {
    let work = folder.join(format!("rpm-{version}-{}", std::process::id()));
    let made = build(files, programs, version, &work)
        .and_then(|spec| pack(&spec, version, folder, &work, compression));
    let removed = fs::remove_dir_all(&work);
    let package = made?;
    removed.with_context(|| format!("remove {}", work.display()))?;
    Ok(package)
}

/// Lays the files out; answers where the description of the package is.
fn build(files: &[File], programs: &Path, version: &str, work: &Path) -> anyhow::Result<PathBuf> {
    let tree = work.join("tree");
    fs::create_dir_all(&tree).with_context(|| format!("make {}", tree.display()))?;
    tree::fill(files, programs, &tree, Family::Fedora)?;
    let template = fs::read_to_string(workspace::root().join("packaging/rpm/rcc-sandbox.spec"))?;
    let date = tool(Command::new("date").args(["-u", "+%a %b %d %Y"]).env("LC_ALL", "C"))?;
    let text = template
        .replace("@VERSION@", version)
        .replace("@DATE@", date.trim())
        .replace("@FOLDERS@", &folders(files))
        .replace("@FILES@", &list(files));
    let spec = work.join("rcc-sandbox.spec");
    fs::write(&spec, text)?;
    Ok(spec)
}

fn pack(
    spec: &Path,
    version: &str,
    folder: &Path,
    work: &Path,
    compression: Compression,
) -> anyhow::Result<PathBuf> {
    let define = |name: &str, value: &Path| format!("{name} {}", value.display());
    let payload = match compression {
        Compression::Small => "w6.xzdio",
        Compression::Fast => "w1.gzdio",
    };
    tool(
        Command::new("rpmbuild")
            .args(["-bb", "--define", &define("_topdir", &work.join("top"))])
            .args(["--define", &define("_rpmdir", folder)])
            .args(["--define", &define("rcc_tree", &work.join("tree"))])
            .args(["--define", "_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm"])
            .args(["--define", &format!("_binary_payload {payload}")])
            .arg(spec),
    )?;
    let architecture = workspace::says("rpm", &["--eval", "%{_target_cpu}"]).context("ask rpm")?;
    Ok(folder.join(format!("rcc-sandbox-{version}-1.{architecture}.rpm")))
}

/// Folders of Fedora's `filesystem`, and of what the package requires. All others are the
/// package's own, too, or they would stay when it goes.
const OTHERS: &[&str] = &[
    "/",
    "/etc",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib/systemd",
    "/usr/lib/systemd/system",
    "/usr/lib/sysusers.d",
    "/usr/share",
    "/usr/share/applications",
    "/usr/share/dbus-1",
    "/usr/share/dbus-1/system-services",
    "/usr/share/dbus-1/system.d",
    "/usr/share/doc",
    "/usr/share/icons",
    "/usr/share/licenses",
    "/usr/share/man",
    "/usr/share/man/man1",
    "/usr/share/man/man5",
    "/usr/share/man/man8",
    "/usr/share/polkit-1",
    "/usr/share/polkit-1/actions",
];

/// Every folder of the package's own, as `%files` wants it.
fn folders(files: &[File]) -> String {
    let places: Vec<_> = files.iter().map(|file| Family::Fedora.place(file)).collect();
    let above = |place| Path::new(place).ancestors().skip(1).filter_map(Path::to_str);
    let all: BTreeSet<&str> = places.iter().flat_map(above).collect();
    // GTK brings hicolor's.
    let theirs = |folder: &str| OTHERS.contains(&folder) || folder.starts_with("/usr/share/icons/");
    let own = all.iter().filter(|folder| !theirs(folder));
    own.map(|folder| format!("%dir {folder}\n")).collect()
}

/// Every file, the same.
fn list(files: &[File]) -> String {
    let line = |file: &File| {
        let to = Family::Fedora.place(file);
        let to = if file.is_compressed() { format!("{to}.gz") } else { to };
        let word = match &*to {
            to if to.starts_with("/etc/") => "%config(noreplace) ",
            to if to.starts_with("/usr/share/licenses/") => "%license ",
            to if to.starts_with("/usr/share/doc/") || to.starts_with("/usr/share/man/") => "%doc ",
            _ => "",
        };
        format!("%attr({}, root, root) {word}{to}\n", file.mode)
    };
    files.iter().map(line).collect()
}
