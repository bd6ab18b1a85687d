//! Where things are, and what this machine has.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::child;

/// The workspace's folder.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The folder of this program, where the workspace's programs are, too. A test
/// is one folder further down.
pub fn programs() -> PathBuf {
    let own = env::current_exe().ok();
    own.as_deref()
        .and_then(Path::parent)
        .map(|folder| if folder.ends_with("deps") { folder.join("..") } else { folder.into() })
        .and_then(|folder| folder.canonicalize().ok())
        .unwrap_or_else(|| root().join("target/debug"))
}

/// Where outputs go.
pub fn outputs() -> PathBuf {
    programs().parent().map_or_else(|| root().join("target/xtask"), |target| target.join("xtask"))
}

/// The cargo that started this program.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).env("CARGO_TERM_COLOR", "never");
    command
}

/// The program in a folder of `PATH`, or where administrators' programs are.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Whether a short command succeeds.
pub fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let quiet = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

/// What a short command says.
pub fn says(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Why the window cannot be built here.
pub fn without_webkit() -> Option<String> {
    if find("pkg-config").is_none() {
        return Some("pkg-config is not installed".into());
    }
    (!succeeds("pkg-config", &["--exists", "webkit2gtk-4.1"]))
        .then(|| "the package libwebkit2gtk-4.1-dev is not installed".into())
}

/// Why the window's page cannot be built here.
pub fn without_node() -> Option<String> {
    let Some(version) = says("node", &["--version"]) else {
        return Some("node is not installed".into());
    };
    if !recent(&version) {
        return Some(format!("node is {version}; the page needs 20.19 or newer"));
    }
    find("npm").is_none().then(|| "npm is not installed".into())
}

fn recent(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split('.').map(|part| part.parse::<u32>().ok());
    let version = (parts.next().flatten(), parts.next().flatten());
    version >= (Some(20), Some(19))
}

/// Whether `npm ci` would change nothing in the page's folder.
pub fn page_is_installed() -> bool {
    let ui = root().join("ui");
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let stamp = changed(&ui.join("node_modules/.package-lock.json"));
    stamp.is_some() && stamp >= changed(&ui.join("package-lock.json"))
}

/// Builds the window's page, or says why not.
pub fn build_page() -> Result<(), String> {
    if let Some(reason) = without_node() {
        return Err(reason);
    }
    let mut steps = vec![["run", "build"].as_slice()];
    if !page_is_installed() {
        steps.insert(0, &["ci", "--no-audit", "--no-fund"]);
    }
    for step in steps {
        let output = child::output_of(&format!("page {}", step.join(" ")));
        let mut npm = Command::new("npm");
        npm.args(step).current_dir(root().join("ui"));
        match child::run(&mut npm, &output, Duration::from_secs(600)) {
            Ok(child::End::Good) => {}
            _ => return Err(format!("npm {} failed, see {}", step.join(" "), output.display())),
        }
    }
    Ok(())
}

/// What this machine is to the compiler.
pub fn host_triple() -> Option<String> {
    let text = says("rustc", &["-vV"])?;
    text.lines().find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_node_compare_as_numbers() {
        assert!(
            recent("v20.19.0") && recent("v20.20.2") && recent("v22.1.0") && recent("v100.0.0")
        );
        assert!(!recent("v20.9.0") && !recent("v18.20.4") && !recent("v9.99.0") && !recent("?"));
    }

    #[test]
    fn the_root_is_the_workspace() {
        assert!(root().join("Cargo.lock").is_file());
    }
}
