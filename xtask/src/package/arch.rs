//! A folder with what makepkg needs: PKGBUILD, the script for install and removal, and
//! the source.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::tree::tool;
use crate::workspace;

/// Writes the folder and answers where it is.
pub fn make(version: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let folder = folder.join("arch");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let name = format!("rcc-sandbox-{version}");
    let source = folder.join(format!("{name}.tar.gz"));
    tool(
        Command::new("git")
            .arg("-C")
            .arg(workspace::root())
            .args(["archive", "--format=tar.gz", &format!("--prefix={name}/"), "--output"])
            .arg(&source)
            .arg("HEAD"),
    )?;
    let sum = tool(Command::new("sha256sum").arg(&source))?;
    let sum = sum.split_whitespace().next().unwrap_or_default();
    ensure!(sum.len() == 64, "sha256sum said {sum}");
    let own = workspace::root().join("packaging/arch");
    let text = fs::read_to_string(own.join("PKGBUILD"))?;
    let text = text.replace("@VERSION@", version).replace("@SUM@", sum);
    fs::write(folder.join("PKGBUILD"), text)?;
    fs::copy(own.join("rcc-sandbox.install"), folder.join("rcc-sandbox.install"))?;
    Ok(folder)
}
