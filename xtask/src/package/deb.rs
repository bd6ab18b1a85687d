//! A tree of files becomes a .deb: dpkg-deb makes it, dpkg-shlibdeps names the
//! libraries that the programs link.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::Compression;
use super::tree::{self, Family, tool};
use crate::run::plan::File;
use crate::workspace;

/// Maintainer scripts, as they are.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Makes the package of these files and answers where it is.
pub fn make(
    files: &[File],
    programs: &Path,
    version: &str,
    folder: &Path,
    compression: Compression,
) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let tree = folder.join(format!("tree-{version}-{}", std::process::id()));
    let made = tree::fill(files, programs, &tree, Family::Debian)
        .and_then(|()| control(files, version, &tree))
        .and_then(|architecture| pack(&tree, folder, version, &architecture, compression));
    let removed = fs::remove_dir_all(&tree);
    let package = made?;
    removed.with_context(|| format!("remove {}", tree.display()))?;
    Ok(package)
}

/// Writes what dpkg reads; answers the architecture.
fn control(files: &[File], version: &str, tree: &Path) -> anyhow::Result<String> {
    let packaging = workspace::root().join("packaging/debian");
    let place = tree.join("DEBIAN");
    fs::create_dir(&place)?;
    let architecture = workspace::says("dpkg", &["--print-architecture"]).context("ask dpkg")?;
    let template = fs::read_to_string(packaging.join("control"))?;
    let size = installed_size(tree)?;
    let text = template
        .replace("@VERSION@", version)
        .replace("@ARCHITECTURE@", &architecture)
        .replace("@SIZE@", &size.to_string())
        .replace("@LIBRARIES@", &libraries(files, tree)?);
    fs::write(place.join("control"), text)?;
    for script in SCRIPTS {
        let to = place.join(script);
        fs::copy(packaging.join(script), &to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    let kept: String = files
        .iter()
        .filter(|file| file.to.starts_with("/etc/"))
        .map(|file| format!("{}\n", file.to))
        .collect();
    fs::write(place.join("conffiles"), kept)?;
    for (text, to) in [
        (
            fs::read_to_string(packaging.join("lintian-overrides"))?,
            "usr/share/lintian/overrides/rcc-sandbox",
        ),
        (changelog(version, &template)?, "usr/share/doc/rcc-sandbox/changelog"),
    ] {
        let to = tree.join(to);
        fs::create_dir_all(to.parent().unwrap_or(tree))?;
        fs::write(&to, text)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o644))?;
    }
    tool(
        Command::new("gzip")
            .args(["-9", "-n"])
            .arg(tree.join("usr/share/doc/rcc-sandbox/changelog")),
    )?;
    let sums = "find . -type f ! -path './DEBIAN/*' ! -path './etc/*' -printf '%P\\0' | sort -z | xargs -0 md5sum > DEBIAN/md5sums";
    tool(Command::new("sh").args(["-c", sums]).current_dir(tree))?;
    Ok(architecture)
}

/// The form that Debian's tools read; the text for people is CHANGELOG.md.
fn changelog(version: &str, control: &str) -> anyhow::Result<String> {
    let maintainer = control.lines().find_map(|line| line.strip_prefix("Maintainer: "));
    let maintainer = maintainer.context("packaging/debian/control has no Maintainer")?;
    let root = workspace::root().to_string_lossy().into_owned();
    let date = workspace::says("git", &["-C", &root, "log", "-1", "--format=%cD"])
        .or_else(|| workspace::says("date", &["-R"]))
        .context("ask git or date for the date")?;
    Ok(format!(
        "rcc-sandbox ({version}) unstable; urgency=medium\n\n  * See CHANGELOG.md.gz.\n\n -- {maintainer}  {date}\n"
    ))
}

/// Packages of the libraries that the programs link, with their versions. It
/// wants to stand in a source package.
fn libraries(files: &[File], tree: &Path) -> anyhow::Result<String> {
    let source = tree.join("DEBIAN/source");
    fs::create_dir_all(source.join("debian"))?;
    fs::write(
        source.join("debian/control"),
        "Source: rcc-sandbox\n\nPackage: rcc-sandbox\nArchitecture: any\n",
    )?;
    let mut command = Command::new("dpkg-shlibdeps");
    command.arg("-O").current_dir(&source);
    for file in files.iter().filter(|file| file.is_program()) {
        command.arg(format!("-e{}", tree.join(file.to.trim_start_matches('/')).display()));
    }
    let text = tool(&mut command)?;
    fs::remove_dir_all(&source)?;
    let list = text.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    Ok(list.context("dpkg-shlibdeps names no library")?.to_owned())
}

/// As dpkg counts it, in units of 1,024 bytes.
fn installed_size(folder: &Path) -> anyhow::Result<u64> {
    let mut size = 1;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        size +=
            if meta.is_dir() { installed_size(&entry.path())? } else { meta.len().div_ceil(1_024) };
    }
    Ok(size)
}

fn pack(
    tree: &Path,
    folder: &Path,
    version: &str,
    architecture: &str,
    compression: Compression,
) -> anyhow::Result<PathBuf> {
    let package = folder.join(format!("rcc-sandbox_{version}_{architecture}.deb"));
    // Folders are made with this process's umask.
    tool(Command::new("find").arg(tree).args(["-type", "d", "-exec", "chmod", "0755", "{}", "+"]))?;
    tool(
        Command::new("dpkg-deb")
            .arg("--root-owner-group")
            .args(match compression {
                Compression::Small => ["-Zxz", "-z6"],
                Compression::Fast => ["-Zgzip", "-z1"],
            })
            .arg("--build")
            .arg(tree)
            .arg(&package),
    )?;
    Ok(package)
}
