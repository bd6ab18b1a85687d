//! As root without systemd: a whole computer is played in namespaces, with real
//! Podman, the real helper and the real Claude Code; Claude's answers are played.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use rcc_policy::Preset;
use rcc_tests::{CACHE, Ended, Workshop};

use super::plan::{Family, System};
use super::{DECLINED, UNSUPPORTED, Wanted, agreed, unsupported, window};
use crate::{child, test, workspace};

/// Says the greeting of a server, or that there was none.
const REACH: &str = "timeout 10 bash -c 'exec 3<>/dev/tcp/other.example/443 && head -n 1 <&3' \
                     || echo unreachable";

/// See the module; answers the exit code.
pub fn run(wanted: &Wanted, system: &System) -> anyhow::Result<u8> {
    println!(
        "A played computer on {}: Claude's API is played, too, and no account is needed.",
        system.name
    );
    let missing = missing(wanted);
    println!(
        "  here:  a lab of namespaces; this computer's users, network and rules stay as they are"
    );
    println!("  keeps: image and Claude Code in {CACHE}; `cargo xtask uninstall` removes it");
    if !missing.is_empty() {
        println!("  to do: install {}", missing.join(" "));
    }
    if wanted.check {
        return Ok(if missing.is_empty() { 0 } else { DECLINED });
    }
    if !missing.is_empty() {
        if system.family != Some(Family::Debian) {
            unsupported(system);
            return Ok(UNSUPPORTED);
        }
        if !agreed("Install them?", wanted.yes, true)? {
            return Ok(DECLINED);
        }
        install(&missing)?;
    }
    build()?;
    let window = if wanted.cli { Err("--cli".to_owned()) } else { window::build() };
    match Workshop::start(&Preset::Locked.document(&[]))? {
        Err(reason) => {
            eprintln!("xtask: the lab cannot start: {}", reason.0);
            Ok(1)
        }
        Ok(workshop) => {
            let code = play(&workshop, wanted, window)?;
            drop(workshop);
            println!("\nThe lab is gone. Kept: {CACHE}; `cargo xtask uninstall` removes it.");
            if !missing.is_empty() {
                println!("Installed, and yours to remove: {}", missing.join(" "));
            }
            Ok(code)
        }
    }
}

fn play(
    workshop: &Workshop,
    wanted: &Wanted,
    window: Result<PathBuf, String>,
) -> anyhow::Result<u8> {
    let project = sample(workshop, wanted.path.as_deref())?;
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if terminal && !wanted.demo {
        println!("Claude Code in its sandbox; write `run: COMMAND` and it runs that. /exit ends.");
        let rcc = rcc_tests::Lab::program("rcc");
        let arguments = ["claude", "--yes", "--image", "small"];
        let status = workshop.ann(&project, &rcc.to_string_lossy(), &arguments).status()?;
        show(workshop)?;
        return Ok(u8::from(!status.success()));
    }
    let good = scripted(workshop, &project)?;
    show(workshop)?;
    match window {
        Err(reason) => println!("The window is left out: {reason}."),
        Ok(program) => match window::show(workshop, &program) {
            Ok(picture) => println!("The window: {}", picture.display()),
            Err(error) => {
                eprintln!("xtask: the window was not shown: {error:#}");
                return Ok(1);
            }
        },
    }
    Ok(u8::from(!good))
}

/// A turn that changes a file, one that is blocked, and the same allowed.
fn scripted(workshop: &Workshop, project: &Path) -> anyhow::Result<bool> {
    let mut transcript = Transcript { workshop, project, good: true };
    let said = transcript.claude("Say hello.")?;
    transcript.check("Claude answers through the gate", said.out.contains("Hello"));
    let command = "echo 'Claude was here.' >> notes.txt; cat notes.txt";
    transcript.claude(&format!("run: {command}"))?;
    let notes = fs::read_to_string(project.join("notes.txt")).unwrap_or_default();
    transcript.check("the project's file is changed", notes.ends_with("Claude was here.\n"));
    let blocked = transcript.claude(&format!("run: {REACH}"))?;
    transcript.check("another host is blocked", blocked.out.contains("unreachable"));
    let log = transcript.rcc(&["log"])?;
    transcript.check("and named in the log", log.out.contains("other.example"));
    transcript.rcc(&["allow", "other.example"])?;
    let reached = transcript.claude(&format!("run: {REACH}"))?;
    transcript.check("after `rcc allow` it is reached", reached.out.contains("from 192.0.2.2"));
    transcript.rcc(&["ls"])?;
    Ok(transcript.good)
}

struct Transcript<'a> {
    workshop: &'a Workshop,
    project: &'a Path,
    good: bool,
}

impl Transcript<'_> {
    fn claude(&mut self, prompt: &str) -> anyhow::Result<Ended> {
        self.rcc(&["claude", "--yes", "--image", "small", "-p", prompt])
    }

    fn rcc(&mut self, arguments: &[&str]) -> anyhow::Result<Ended> {
        println!("\n$ rcc {}", shown(arguments));
        let ended = self.workshop.rcc(self.project, arguments)?;
        print!("{}{}", ended.err, ended.out);
        if ended.code != 0 {
            println!("(exit code {})", ended.code);
            self.good = false;
        }
        Ok(ended)
    }

    fn check(&mut self, what: &str, good: bool) {
        println!("{} {what}", if good { "✓" } else { "✗" });
        self.good &= good;
    }
}

/// As a person would type it.
fn shown(arguments: &[&str]) -> String {
    let plain =
        |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:".contains(c));
    let word = |word: &&str| {
        if plain(word) { (*word).to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    arguments.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// What stands in the kernel, before the lab goes.
fn show(workshop: &Workshop) -> anyhow::Result<()> {
    println!("\n# rcc-helper show");
    let program = rcc_tests::Lab::program("rcc-helper");
    print!("{}", workshop.lab.on_host(&format!("{} show", program.display()))?);
    Ok(())
}

/// A project of ann's: a copy of what was named, or a small one.
fn sample(workshop: &Workshop, path: Option<&Path>) -> anyhow::Result<PathBuf> {
    let name = path.and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or("sample");
    let project = workshop.project(name)?;
    match path {
        Some(path) => {
            let from = path.canonicalize().with_context(|| format!("find {}", path.display()))?;
            println!("A copy of {} is opened; the folder itself is not touched.", from.display());
            succeed(Command::new("cp").arg("-a").arg(from.join(".")).arg(&project), "copy it")?;
        }
        None => fs::write(project.join("notes.txt"), "A sample project.\n")?,
    }
    let id = rcc_tests::ANN.0;
    succeed(Command::new("chown").args(["-hR", &format!("{id}:{id}")]).arg(&project), "own it")?;
    Ok(project)
}

fn missing(wanted: &Wanted) -> Vec<&'static str> {
    let window: &[&str] =
        if wanted.cli { &[] } else { &["libwebkit2gtk-4.1-dev", "xvfb", "dbus-x11"] };
    let there = |package: &&&str| {
        workspace::says("dpkg-query", &["-W", "-f", "${Status}", package]).as_deref()
            == Some("install ok installed")
    };
    let all = Family::Debian.packages().iter().chain(window);
    all.filter(|package| !there(package)).copied().collect()
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    // Lists that cannot be renewed may still do.
    let _ = apt(&["update", "-q"]).status();
    let all = [&["install", "-yq", "--no-install-recommends"], packages].concat();
    succeed(&mut apt(&all), "install what is missing")
}

fn build() -> anyhow::Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--workspace", "--exclude", "rcc-desktop", "--bins"]);
    succeed(&mut cargo, "build")?;
    let (mut inside, place) = test::static_inside()?;
    succeed(&mut inside, "build the program that runs inside")?;
    place()
}

fn succeed(command: &mut Command, what: &str) -> anyhow::Result<()> {
    println!("… {what}");
    let output = child::output_of(&format!("run {what}"));
    let end = child::run(command, &output, std::time::Duration::from_secs(1_800))?;
    ensure!(
        end == child::End::Good,
        "could not {what}; the end of {}:\n{}",
        output.display(),
        child::tail(&output, 40)
    );
    Ok(())
}
