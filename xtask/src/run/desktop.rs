//! On a desktop with systemd: one script as root, the rest as the person.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

use super::plan::{self, Family, Part, Plan, System};
use super::{DECLINED, UNSUPPORTED, Wanted, agreed};
use crate::{package, test, workspace};

/// The sample project, below the home folder.
const SAMPLE: &str = "rcc-sample";

/// See the module; answers the exit code.
pub fn run(wanted: &Wanted, system: &System, family: Family) -> anyhow::Result<u8> {
    println!("{}, {}: rcc is installed on this computer.", system.name, system.user);
    if packaged(family) {
        eprintln!(
            "xtask: the package rcc-sandbox is installed; remove it first, it has the same files."
        );
        return Ok(UNSUPPORTED);
    }
    // A plan can only compare what is built.
    if !wanted.check {
        build()?;
    }
    let plan = plan(system, family, wanted)?;
    for line in plan.words() {
        println!("  to do: {line}");
    }
    if wanted.check {
        return Ok(if plan.is_done() { 0 } else { DECLINED });
    }
    if !plan.is_done() {
        println!("  undo:  cargo xtask uninstall");
        if !agreed("Do this? It asks for the administrator's password.", wanted.yes, false)? {
            return Ok(DECLINED);
        }
        let target = target();
        let script = plan.script(
            system,
            family,
            &workspace::root().to_string_lossy(),
            &target.to_string_lossy(),
        );
        as_root(&script)?;
    }
    start(wanted)
}

/// Takes back what was installed, from the record.
pub fn uninstall(yes: bool) -> anyhow::Result<u8> {
    let record = fs::read_to_string(plan::RECORD).unwrap_or_default();
    for (cache, what) in [
        (rcc_tests::CACHE, "image and Claude Code of the lab"),
        (rcc_tests::MACHINES, "the Debian that tests boot"),
    ] {
        let cache = Path::new(cache);
        if !nix::unistd::Uid::effective().is_root() || !cache.exists() {
            continue;
        }
        println!("  to do: remove {} ({what})", cache.display());
        if !agreed("Remove it?", yes, false)? {
            return Ok(DECLINED);
        }
        fs::remove_dir_all(cache).with_context(|| format!("remove {}", cache.display()))?;
    }
    if record.is_empty() {
        println!("Nothing was installed by `cargo xtask run`.");
        return Ok(0);
    }
    let (script, stays) = plan::undo(&record);
    for line in record.lines() {
        println!("  was done: {line}");
    }
    for line in &stays {
        println!("  stays:    {line}");
    }
    if !agreed("Undo the rest? It asks for the administrator's password.", yes, false)? {
        return Ok(DECLINED);
    }
    as_root(&script)?;
    println!(
        "rcc is removed. Your sandboxes' images and settings are your own: `podman images`, ~/.config/rcc, ~/.local/share/rcc."
    );
    Ok(0)
}

fn build() -> anyhow::Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--package", "rcc-cli", "--package", "rcc-helper"]);
    succeed(&mut cargo, "build rcc")?;
    let (mut inside, _) = test::static_inside()?;
    succeed(&mut inside, "build the program that runs inside")?;
    let to = target().join("inside");
    fs::create_dir_all(&to)?;
    fs::copy(test::built_inside()?, to.join("rcc-inside")).context("copy rcc-inside")?;
    package::generate()
}

fn plan(system: &System, family: Family, wanted: &Wanted) -> anyhow::Result<Plan> {
    // Built after its packages came, so it is installed by the next run.
    let with_window = !wanted.cli && target().join("release/rcc-desktop").exists();
    let files = package::files()?.into_iter().filter(|file| {
        let wanted = match file.part {
            Part::Base | Part::Documents => true,
            Part::Window => with_window,
            // Written once, below.
            Part::Configuration => false,
        };
        if !wanted {
            return false;
        }
        let from = match file.from.strip_prefix("target/") {
            Some(built) => target().join(built),
            None => workspace::root().join(&file.from),
        };
        fs::read(from).ok() != fs::read(&file.to).ok() || !Path::new(&file.to).exists()
    });
    let window: &[&str] = if wanted.cli { &[] } else { family.window_packages() };
    let packages = family.packages().iter().chain(window);
    let ids = ["/etc/subuid", "/etc/subgid"].iter().all(|file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines().any(|line| line.split(':').next() == Some(&system.user))
    });
    let policy = Path::new(plan::POLICY);
    Ok(Plan {
        packages: packages
            .filter(|package| !installed(family, package))
            .map(|package| (*package).to_owned())
            .collect(),
        files: files.collect(),
        ids_for: (!ids).then(|| system.user.clone()),
        policy: if policy.exists() { None } else { Some(preset()?) },
        link: fs::symlink_metadata("/usr/bin/rcc").is_err(),
        units: !workspace::succeeds("systemctl", &["is-active", "--quiet", "rcc-firewall.service"]),
    })
}

/// The first list of allowed hosts; which registries a person's package managers
/// use is asked and allowed by rcc itself.
fn preset() -> anyhow::Result<String> {
    let path = workspace::outputs().join("network-whitelist.yaml");
    fs::create_dir_all(workspace::outputs())?;
    fs::write(&path, rcc_policy::Preset::Balanced.document(&[]))?;
    Ok(path.to_string_lossy().into_owned())
}

fn installed(family: Family, package: &str) -> bool {
    let (program, arguments) = family.query();
    let said = workspace::says(program, &[arguments, &[package]].concat());
    match family {
        Family::Debian => said.as_deref() == Some("install ok installed"),
        _ => said.is_some(),
    }
}

fn packaged(family: Family) -> bool {
    installed(family, "rcc-sandbox")
}

fn target() -> PathBuf {
    let programs = workspace::programs();
    programs.parent().map_or(programs.clone(), Path::to_path_buf)
}

/// One question for a password.
fn as_root(script: &str) -> anyhow::Result<()> {
    let path = workspace::outputs().join("as-root.sh");
    fs::create_dir_all(workspace::outputs())?;
    fs::write(&path, script).with_context(|| format!("write {}", path.display()))?;
    let tool = ["sudo", "pkexec"].iter().find(|tool| workspace::find(tool).is_some());
    let Some(tool) = tool else {
        bail!("neither sudo nor pkexec is here; as root run: sh {}", path.display());
    };
    // The file is the person's own until the password is in: what was shown is
    // handed over as an argument, not read again.
    let status = Command::new(tool).args(["sh", "-c", script]).status()?;
    ensure!(
        status.success(),
        "a step failed ({status}); the next run goes on there. The script is {}",
        path.display()
    );
    Ok(())
}

/// As the person, from the places where everything now is.
fn start(wanted: &Wanted) -> anyhow::Result<u8> {
    let folder = match &wanted.path {
        Some(path) => path.clone(),
        None => {
            let home = std::env::var_os("HOME").context("HOME is not set")?;
            let sample = Path::new(&home).join(SAMPLE);
            if !sample.exists() {
                let question = format!("Make the sample project {}?", sample.display());
                if !agreed(&question, wanted.yes, false)? {
                    println!("rcc is installed. `cd` to a project and run `rcc claude`.");
                    return Ok(0);
                }
                fs::create_dir(&sample)?;
                fs::write(sample.join("README.md"), "# A sample for rcc\n")?;
            }
            sample
        }
    };
    let rcc = |arguments: &[&str]| {
        let mut command = Command::new("/usr/bin/rcc-sandbox");
        command.args(arguments).current_dir(&folder);
        command
    };
    succeed(&mut rcc(&["init", "--yes"]), "prepare the project")?;
    println!("Installed. To undo it: cargo xtask uninstall");
    let window = if wanted.cli { Err("--cli".into()) } else { window() };
    let display =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    let status = match window {
        Ok(window) if display => Command::new(window).status()?,
        Ok(_) => {
            println!("There is no display, so it is the terminal.");
            rcc(&["claude"]).status()?
        }
        Err(reason) => {
            println!("The window is left out: {reason}.");
            rcc(&["claude"]).status()?
        }
    };
    Ok(u8::from(!status.success()))
}

/// Built by the person, once its packages are there; or why it cannot be.
fn window() -> Result<PathBuf, String> {
    if let Some(reason) = workspace::without_webkit() {
        return Err(reason);
    }
    workspace::build_page()?;
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "--package", "rcc-desktop"]);
    succeed(&mut cargo, "build the window").map_err(|error| error.to_string())?;
    Ok(target().join("release/rcc-desktop"))
}

fn succeed(command: &mut Command, what: &str) -> anyhow::Result<()> {
    println!("… {what}");
    let status = command.status().with_context(|| format!("{what}: {command:?}"))?;
    ensure!(status.success(), "could not {what}: {status}");
    Ok(())
}
