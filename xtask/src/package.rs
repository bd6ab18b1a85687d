//! `cargo xtask package`: a package of everything that `packaging/files.toml` names.

mod arch;
mod deb;
mod generate;
mod rpm;
mod tree;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};

use crate::run::plan::{self, File};
use crate::{test, workspace};

pub use generate::write as generate;

/// Kinds of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// For Debian and Ubuntu
    Deb,
    /// For Fedora and its like
    Rpm,
    /// A folder for makepkg, which builds from the source of the last commit
    Arch,
    /// The files in a folder `tree`, as Arch places them
    Tree,
}

/// How the contents are packed.
#[derive(Debug, Clone, Copy)]
enum Compression {
    /// To be published.
    Small,
    /// To be tried.
    Fast,
}

/// What can be asked for.
#[derive(Debug, Clone, Args)]
pub struct Wanted {
    /// What kind of package
    #[arg(long, value_enum, default_value = "deb")]
    pub kind: Kind,
    /// Take the programs of a debug build that are there, and build nothing: for tests
    #[arg(long)]
    pub debug: bool,
    /// Give it the number of another release than this one: for tests
    #[arg(long, value_name = "VERSION")]
    pub number: Option<String>,
    /// Where the package goes
    #[arg(long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
}

/// See the module; answers the exit code.
pub fn run(wanted: &Wanted) -> anyhow::Result<u8> {
    let needed: &[(&str, &str)] = match wanted.kind {
        Kind::Deb => &[("dpkg-deb", "dpkg"), ("dpkg-shlibdeps", "dpkg-dev")],
        Kind::Rpm => &[("rpmbuild", "rpm; rpm-build on Fedora"), ("rpm", "rpm")],
        Kind::Arch => &[("git", "git"), ("sha256sum", "coreutils")],
        Kind::Tree => &[],
    };
    let always = [("strip", "binutils"), ("gzip", "gzip")];
    for (program, package) in needed.iter().chain(&always) {
        ensure!(
            workspace::find(program).is_some(),
            "a package cannot be made here: {program} is missing (package {package})"
        );
    }
    let version = wanted.number.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"));
    let folder =
        wanted.output.clone().unwrap_or_else(|| workspace::outputs().with_file_name("package"));
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    if wanted.kind == Kind::Arch {
        println!("{}", arch::make(version, &folder)?.display());
        return Ok(0);
    }
    let programs = if wanted.debug { workspace::programs() } else { build()? };
    generate()?;
    let compression = if wanted.debug { Compression::Fast } else { Compression::Small };
    let files = files()?;
    let made = match wanted.kind {
        Kind::Rpm => rpm::make(&files, &programs, version, &folder, compression)?,
        Kind::Tree | Kind::Arch => {
            let tree = folder.join("tree");
            tree::fill(&files, &programs, &tree, tree::Family::Arch)?;
            tree
        }
        Kind::Deb => deb::make(&files, &programs, version, &folder, compression)?,
    };
    println!("{}", made.display());
    Ok(0)
}

/// The list of files.
pub fn files() -> anyhow::Result<Vec<File>> {
    let path = workspace::root().join("packaging/files.toml");
    plan::manifest(&fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?)
}

/// Where a file of the list stands; `programs` are those of one build.
fn source(file: &File, programs: &std::path::Path) -> anyhow::Result<PathBuf> {
    Ok(match file.from.split_once('/') {
        Some(("target", built)) => match built.split_once('/') {
            Some(("release", program)) => programs.join(program),
            Some(("inside", _)) => test::built_inside()?,
            Some(("generated", name)) => generate::folder().join(name),
            _ => anyhow::bail!("packaging/files.toml: {} is built by nobody", file.from),
        },
        _ => workspace::root().join(&file.from),
    })
}

fn build() -> anyhow::Result<PathBuf> {
    if let Some(reason) = workspace::without_webkit() {
        anyhow::bail!("the window cannot be built: {reason}");
    }
    workspace::build_page().map_err(|reason| anyhow::anyhow!("the window's page: {reason}"))?;
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--package", "rcc-cli", "--package", "rcc-helper"]);
    cargo.args(["--package", "rcc-desktop"]);
    let (mut inside, _) = test::static_inside()?;
    for (command, what) in [(&mut cargo, "rcc"), (&mut inside, "the program that runs inside")] {
        ensure!(status(command)?, "{what} does not build");
    }
    Ok(workspace::programs().with_file_name("release"))
}

fn status(command: &mut Command) -> anyhow::Result<bool> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    Ok(status.success())
}
