//! `cargo xtask screenshots`: pictures of every page of the window, on its fake,
//! in light and dark and at two sizes. They are there to be looked at.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, ensure};

use crate::{child, workspace};

/// Takes them; answers 0, or 1 when a page could not be reached.
pub fn run(folder: Option<PathBuf>, pages: &[String]) -> anyhow::Result<u8> {
    let folder = folder.unwrap_or_else(|| workspace::outputs().join("screenshots"));
    // The script runs in the page's folder.
    let folder = std::path::absolute(folder)?;
    let path = match workspace::node() {
        Ok(path) => path,
        Err(reason) => bail!("no pictures can be taken: {reason}"),
    };
    let npm = |arguments: &[&str]| {
        let mut npm = Command::new("npm");
        npm.args(arguments).env("PATH", &path).current_dir(workspace::root().join("ui"));
        npm
    };
    let mut steps = vec![("page npm ci", npm(&["ci", "--no-audit", "--no-fund"]))];
    if workspace::page_is_installed() {
        steps.clear();
    }
    let mut take = npm(&["run", "screenshots", "--"]);
    take.arg(&folder).args(pages);
    steps.push(("screenshots", take));
    for (name, mut command) in steps {
        println!("… {name}");
        let output = child::output_of(name);
        let end = child::run(&mut command, &output, Duration::from_secs(1_200))?;
        let said = child::tail(&output, 30);
        ensure!(end == child::End::Good, "{name} failed; the end of {}:\n{said}", output.display());
    }
    println!("pictures: {}", folder.display());
    Ok(0)
}
