//! The files of a package where they will stand, in a folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::child;
use crate::run::plan::File;
use crate::workspace;

/// Whose habits a package follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Debian, Ubuntu.
    Debian,
    /// Fedora and its like.
    Fedora,
    /// Arch.
    Arch,
}

impl Family {
    /// Where a file of the list stands there.
    pub fn place(self, file: &File) -> String {
        if self == Self::Debian {
            return file.to.clone();
        }
        match file.to.as_str() {
            // In the form that Debian wants; elsewhere the texts themselves stand, see `fill`.
            "/usr/share/doc/rcc-sandbox/copyright" => {
                "/usr/share/licenses/rcc-sandbox/copyright".to_owned()
            }
            other => other.replace("/zsh/vendor-completions/", "/zsh/site-functions/"),
        }
    }
}

/// Puts all files into `tree`, with their modes, stripped and compressed.
pub fn fill(files: &[File], programs: &Path, tree: &Path, family: Family) -> anyhow::Result<()> {
    for file in files {
        let from = super::source(file, programs)?;
        let to = tree.join(family.place(file).trim_start_matches('/'));
        put(&from, &to, &file.mode)?;
        if file.is_program() {
            // What dh_strip takes out.
            let strip = ["--strip-unneeded", "--remove-section=.comment", "--remove-section=.note"];
            tool(Command::new("strip").args(strip).arg(&to))?;
        }
        if file.is_compressed() {
            tool(Command::new("gzip").args(["-9", "-n"]).arg(&to))?;
        }
    }
    if family != Family::Debian {
        for text in ["LICENSE-MIT", "LICENSE-APACHE"] {
            let to = tree.join("usr/share/licenses/rcc-sandbox").join(text);
            put(&workspace::root().join(text), &to, "0644")?;
        }
    }
    // Folders are made with this process's umask.
    tool(Command::new("find").arg(tree).args(["-type", "d", "-exec", "chmod", "0755", "{}", "+"]))?;
    Ok(())
}

fn put(from: &Path, to: &Path, mode: &str) -> anyhow::Result<()> {
    fs::create_dir_all(to.parent().context("a file without a folder")?)?;
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(u32::from_str_radix(mode, 8)?))?;
    Ok(())
}

/// Runs it and answers what it writes.
pub fn tool(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        child::last_lines(&String::from_utf8_lossy(&output.stderr), 10)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
