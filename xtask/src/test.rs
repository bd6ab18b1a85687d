//! `cargo xtask test`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::child::{self, End};
use crate::report::{self, Outcome, Report, Step, Tests};
use crate::workspace;

const MINUTE: Duration = Duration::from_secs(60);

/// What is done again and again: its name, `RCC_TURNS`, the suite, and the tests.
const REPEATED: [(&str, &str, &str, &[&str]); 3] = [
    (
        "a thousand times",
        "1000",
        "network",
        &[
            "n7_names_that_rotate",
            "n11_killed",
            "n11_refused",
            "n15_taking",
            "r2_sandboxes",
            "the_kernel_decides",
        ],
    ),
    ("ten thousand connections", "10000", "network", &["n20_many"]),
    ("a hundred rounds of fifty containers", "100", "end_to_end", &["r2_real_sandboxes"]),
];

/// More failed tests than this are no chance, and not tried again.
const MOST_AGAIN: usize = 8;

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All that a machine without patience can.
    Usual,
    /// Only what needs a whole computer.
    Vm,
    /// Everything, for as long as it takes.
    Long,
}

/// Builds and checks; answers 0, or 1 when something failed.
pub fn run(json: Option<&Path>, extent: Extent) -> anyhow::Result<u8> {
    let mut all = All { report: Report::default(), window: workspace::without_webkit() };
    if extent != Extent::Vm {
        all.page()?;
    }
    if all.build()? {
        all.inside()?;
        if extent != Extent::Vm {
            all.checks()?;
            all.tests()?;
        }
        if extent != Extent::Usual {
            all.vm()?;
        }
        if extent == Extent::Long {
            all.long()?;
        }
    }
    all.report.count();
    print!("\n{}\n{}\n", all.report.table(), all.report.line());
    let text = serde_json::to_string_pretty(&all.report)?;
    let own = workspace::outputs().join("test.json");
    for path in [Some(own.as_path()), json].into_iter().flatten() {
        fs::write(path, &text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(u8::from(all.report.failed > 0))
}

/// How the program that runs inside each sandbox is built, without any library
/// to load, and what puts it beside the others then.
pub fn static_inside() -> anyhow::Result<(Command, impl Fn() -> anyhow::Result<()>)> {
    let triple = workspace::host_triple().context("rustc does not say what this machine is")?;
    let built = built_inside()?;
    let mut command = workspace::cargo();
    command
        .args(["build", "--release", "--package", "rcc-inside", "--bin", "rcc-inside"])
        .args(["--target", &triple, "--target-dir"])
        .arg(static_target())
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    let place = move || {
        let to = workspace::programs().join("inside");
        // A new file: the old one may be running.
        let _ = fs::remove_file(&to);
        fs::copy(&built, &to)
            .map(drop)
            .with_context(|| format!("copy {} to {}", built.display(), to.display()))
    };
    Ok((command, place))
}

/// Where [`static_inside`] leaves it.
pub fn built_inside() -> anyhow::Result<PathBuf> {
    let triple = workspace::host_triple().context("rustc does not say what this machine is")?;
    Ok(static_target().join(triple).join("release/rcc-inside"))
}

fn static_target() -> PathBuf {
    workspace::outputs().join("static")
}

struct All {
    report: Report,
    /// Why the window is left out.
    window: Option<String>,
}

impl All {
    fn page(&mut self) -> anyhow::Result<()> {
        const NAME: &str = "window's page";
        let path = match workspace::node() {
            Ok(path) => path,
            Err(reason) => {
                self.skip(NAME, &reason);
                let built = workspace::root().join("ui/dist/index.html").exists();
                if !built && self.window.is_none() {
                    self.window = Some(format!("its page is not built: {reason}"));
                }
                return Ok(());
            }
        };
        let npm = |arguments: &[&str]| {
            let mut command = Command::new("npm");
            command.env("PATH", &path).args(arguments).current_dir(workspace::root().join("ui"));
            command
        };
        // What stands there already is what the lock file says, unless it is older.
        if !workspace::page_is_installed() {
            let install = npm(&["ci", "--no-audit", "--no-fund"]);
            if !self.step("page: npm ci", install, 10 * MINUTE)? {
                self.window.get_or_insert_with(|| "its page cannot be built".into());
                return Ok(());
            }
        }
        self.step("page: check", npm(&["run", "check"]), 5 * MINUTE)?;
        if has_script("build:fake") {
            self.page_tests(npm(&["run", "build:fake"]), &path)?;
        }
        if !self.step("page: build", npm(&["run", "build"]), 5 * MINUTE)? {
            self.window.get_or_insert_with(|| "its page cannot be built".into());
        }
        Ok(())
    }

    /// Named one by one: node 20 knows no patterns.
    fn page_tests(&mut self, build: Command, path: &OsStr) -> anyhow::Result<()> {
        const NAME: &str = "page: tests";
        let ui = workspace::root().join("ui");
        let mut files: Vec<_> = fs::read_dir(ui.join("tests"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().ends_with(".test.js"))
            .collect();
        files.sort();
        if files.is_empty() || !self.step("page: build with its fake", build, 5 * MINUTE)? {
            return Ok(());
        }
        let tests = || {
            let mut tests = Command::new("node");
            tests
                .args(["--test", "--test-concurrency=1", "--test-reporter=tap"])
                .env("PATH", path)
                .current_dir(&ui);
            tests
        };
        let mut all = tests();
        all.args(&files);
        self.step(NAME, all, 15 * MINUTE)?;
        let text = output_text(NAME);
        let tests_of = report::read_tap("page", &text);
        let told = report::failed_in_tap(&text) == Some(tests_of.failed.len());
        self.judge(tests_of, told, |names| {
            let mut again = tests();
            again
                .args(names.iter().map(|name| format!("--test-name-pattern=^{}$", plain(name))))
                .args(&files);
            vec![again]
        })
    }

    /// Keeps what the tests of the last step did. What failed is run again, alone and
    /// three times: a test that passes each time met something of this computer's, which
    /// is said and does not fail the whole. Only where the failed tests are `all` that
    /// failed, not where a program crashed or was not done, and never for an attack.
    fn judge(
        &mut self,
        mut tests: Tests,
        all: bool,
        again: impl Fn(&[String]) -> Vec<Command>,
    ) -> anyhow::Result<()> {
        const TIMES: usize = 3;
        let failed = tests.names_of_failed();
        let attacked = failed.iter().any(|name| report::is_an_attack(name));
        if all && !attacked && (1..=MOST_AGAIN).contains(&failed.len()) {
            eprintln!("… again, {TIMES} times: {}", failed.join(", "));
            let mut outputs = Vec::new();
            for _ in 0..TIMES {
                let mut all = String::new();
                for mut command in again(&failed) {
                    child::run(&mut command, &child::output_of("again"), 10 * MINUTE)?;
                    all += &output_text("again");
                }
                outputs.push(all);
            }
            tests.again(|name| outputs.iter().all(|output| report::passed(output, name)));
        }
        if let Some(step) = self.report.steps.last_mut() {
            if tests.failed.is_empty() && !tests.unsteady.is_empty() {
                step.outcome = Outcome::Ran;
            }
            step.tests = Some(tests);
        }
        Ok(())
    }

    fn build(&mut self) -> anyhow::Result<bool> {
        if let Some(reason) = self.window.clone() {
            self.skip("window", &reason);
        }
        let mut build = workspace::cargo();
        build.arg("build").args(self.packages());
        self.step("build", build, 30 * MINUTE)
    }

    fn inside(&mut self) -> anyhow::Result<()> {
        let (build, place) = static_inside()?;
        if self.step("build inside, static", build, 20 * MINUTE)? {
            place()?;
        }
        Ok(())
    }

    fn checks(&mut self) -> anyhow::Result<()> {
        let mut format = workspace::cargo();
        format.args(["fmt", "--all", "--check"]);
        self.step("format", format, 2 * MINUTE)?;
        let mut clippy = workspace::cargo();
        clippy.arg("clippy").args(self.packages()).args(["--all-targets", "--", "-D", "warnings"]);
        self.step("clippy", clippy, 30 * MINUTE)?;
        self.dependencies()?;
        self.exposure()
    }

    fn dependencies(&mut self) -> anyhow::Result<()> {
        const NAME: &str = "dependencies";
        if !workspace::succeeds("cargo", &["deny", "--version"]) {
            self.skip(NAME, "cargo-deny is not installed; `cargo install --locked cargo-deny`");
        } else if !workspace::root().join("deny.toml").exists() {
            self.skip(NAME, "there is no deny.toml");
        } else {
            let deny = |what: &[&str]| {
                let mut deny = workspace::cargo();
                deny.args(["deny", "--all-features", "check"]).args(what);
                deny
            };
            self.step(NAME, deny(&["bans", "licenses", "sources"]), 10 * MINUTE)?;
            self.advisories(deny(&["advisories"]))?;
        }
        Ok(())
    }

    /// Their list comes over the network; without one nothing can be said.
    fn advisories(&mut self, mut deny: Command) -> anyhow::Result<()> {
        const NAME: &str = "advisories";
        let output = child::output_of(NAME);
        let start = Instant::now();
        let end = child::run(&mut deny, &output, 10 * MINUTE)?;
        let text = fs::read(&output).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let unreachable = ["unable to access", "failed to fetch advisory database"];
        let outcome = match end {
            End::Good => Outcome::Ran,
            _ if unreachable.iter().any(|words| text.contains(words)) => {
                Outcome::Skipped("the list of advisories cannot be fetched here".into())
            }
            _ => Outcome::Failed(format!("see {}", output.display())),
        };
        self.report.steps.push(Step {
            name: NAME.into(),
            outcome,
            seconds: start.elapsed().as_secs_f64(),
            output: Some(output.display().to_string()),
            tests: None,
        });
        Ok(())
    }

    /// DESIGN 4: at most 3.0.
    fn exposure(&mut self) -> anyhow::Result<()> {
        const NAME: &str = "exposure of the helper's unit";
        let unit = workspace::root().join("packaging/systemd/rcc-helper.service");
        if !unit.exists() {
            self.skip(NAME, "there is no packaging/systemd/rcc-helper.service");
        } else if workspace::find("systemd-analyze").is_none() {
            self.skip(NAME, "systemd-analyze is not installed");
        } else {
            let mut analyze = Command::new("systemd-analyze");
            analyze.args(["security", "--no-pager", "--offline=yes", "--threshold=30"]).arg(unit);
            self.step(NAME, analyze, MINUTE)?;
        }
        Ok(())
    }

    fn tests(&mut self) -> anyhow::Result<()> {
        let test = || {
            let mut test = workspace::cargo();
            test.arg("test")
                .env("RCC_SKIPPED", workspace::outputs().join("skipped.txt"))
                .env("RCC_INSIDE", workspace::programs().join("inside"));
            test
        };
        let mut all = test();
        all.args(self.packages()).args(["--no-fail-fast", "--", "--show-output"]);
        self.step("tests", all, 40 * MINUTE)?;
        let text = output_text("tests");
        let tests = Tests::read(&text);
        let mut wanted = suites_of(&["Lab::", "Workshop::", "Machine::"]);
        // One needs the network of packages, and the window's own is left out with it: both
        // say so.
        wanted.retain(|name| name != "packages" && (self.window.is_none() || name != "click"));
        let silent = report::silent(&tests.suites, &wanted);
        let targets = report::failed_targets(&text);
        let all = targets.len() == tests.failed_suites();
        self.judge(tests, all, |names| {
            let run = |target: &Vec<String>| {
                let mut again = test();
                again.args(target).args(["--", "--show-output", "--exact"]).args(names);
                again
            };
            targets.iter().map(run).collect()
        })?;
        if !silent.is_empty()
            && std::env::var_os("CI").is_some_and(|ci| !ci.is_empty())
            && let Some(step) = self.report.steps.last_mut()
        {
            let silent = silent.join(", ");
            step.outcome = Outcome::Failed(format!("every test was skipped of: {silent}"));
        }
        Ok(())
    }

    /// One after the other: each takes all cores.
    fn vm(&mut self) -> anyhow::Result<()> {
        const NAME: &str = "a whole computer";
        let mut test = workspace::cargo();
        test.args(["test", "--package", "rcc-tests", "--test", "vm"])
            .args(["--", "--show-output", "--test-threads=1"])
            .env("RCC_VM", "1")
            .env("RCC_SKIPPED", workspace::outputs().join("skipped.txt"));
        self.step(NAME, test, 40 * MINUTE)?;
        let text = output_text(NAME);
        if let Some(step) = self.report.steps.last_mut() {
            step.tests = Some(Tests::read(&text));
        }
        print!("{text}");
        Ok(())
    }

    /// What takes hours: what the usual run tries a few times, a thousand times; the
    /// parsers for ten minutes each; every defence taken away.
    fn long(&mut self) -> anyhow::Result<()> {
        for (name, turns, suite, filters) in REPEATED {
            let mut test = workspace::cargo();
            test.args(["test", "--package", "rcc-tests", "--test", suite, "--"])
                .args(["--show-output", "--test-threads=1"])
                .args(filters)
                .env("RCC_TURNS", turns)
                .env("RCC_SKIPPED", workspace::outputs().join("skipped.txt"));
            self.step(name, test, 8 * 60 * MINUTE)?;
            let text = output_text(name);
            if let Some(step) = self.report.steps.last_mut() {
                step.tests = Some(Tests::read(&text));
            }
        }
        let own = |arguments: &[&str]| -> anyhow::Result<Command> {
            let mut own = Command::new(std::env::current_exe()?);
            own.args(arguments).current_dir(workspace::root());
            Ok(own)
        };
        self.step("fuzz", own(&["fuzz", "--for", "10m"])?, 8 * 60 * MINUTE)?;
        self.step("mutate", own(&["mutate"])?, 12 * 60 * MINUTE)?;
        Ok(())
    }

    fn packages(&self) -> Vec<&'static str> {
        let mut packages = vec!["--workspace"];
        if self.window.is_some() {
            packages.extend(["--exclude", "rcc-desktop"]);
        }
        packages
    }

    fn step(
        &mut self,
        name: &str,
        mut command: Command,
        patience: Duration,
    ) -> anyhow::Result<bool> {
        eprintln!("… {name}");
        let output = child::output_of(name);
        let start = Instant::now();
        let outcome = match child::run(&mut command, &output, patience)? {
            End::Good => Outcome::Ran,
            End::Bad(how) => Outcome::Failed(how),
            End::Late(after) => Outcome::Failed(format!("not done after {} s", after.as_secs())),
        };
        let good = outcome == Outcome::Ran;
        if !good {
            let text = fs::read(&output).unwrap_or_default();
            match report::what_failed(&String::from_utf8_lossy(&text), 80) {
                none if none.is_empty() => {
                    let end = child::tail(&output, 60);
                    eprintln!("✗ {name}; the end of {}:\n{end}", output.display());
                }
                said => eprintln!("✗ {name}; what failed in {}:\n{said}", output.display()),
            }
        }
        self.report.steps.push(Step {
            name: name.into(),
            outcome,
            seconds: start.elapsed().as_secs_f64(),
            output: Some(output.display().to_string()),
            tests: None,
        });
        Ok(good)
    }

    fn skip(&mut self, name: &str, reason: &str) {
        self.report.steps.push(Step {
            name: name.into(),
            outcome: Outcome::Skipped(reason.into()),
            seconds: 0.0,
            output: None,
            tests: None,
        });
    }
}

/// What a step wrote.
fn output_text(step: &str) -> String {
    let text = fs::read(child::output_of(step)).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

/// A pattern that only this text fits.
fn plain(text: &str) -> String {
    let special = |c: char| (!c.is_alphanumeric() && c != ' ').then_some('\\');
    text.chars().flat_map(|c| special(c).into_iter().chain([c])).collect()
}

/// The programs of tests, files and folders, in which one of these words stands.
fn suites_of(words: &[&str]) -> Vec<String> {
    fn text_of(path: &Path) -> String {
        if path.is_dir() {
            let files = fs::read_dir(path).into_iter().flatten().flatten();
            return files.map(|file| text_of(&file.path())).collect();
        }
        fs::read_to_string(path).unwrap_or_default()
    }
    let folder = workspace::root().join("tests/tests");
    let all = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut names: Vec<String> = all
        .filter(|path| words.iter().any(|word| text_of(path).contains(word)))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

fn has_script(name: &str) -> bool {
    let text = fs::read(workspace::root().join("ui/package.json")).unwrap_or_default();
    let package: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    package["scripts"][name].is_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_tests_are_found_in_files_and_folders() {
        let found = suites_of(&["Lab::", "Workshop::", "Machine::"]);
        assert_eq!(found, ["bus", "click", "end_to_end", "machine", "network", "packages"]);
        assert_eq!(suites_of(&["Vm::"]), ["vm"]);
    }

    #[test]
    fn what_is_repeated_is_there() {
        for (_, _, suite, filters) in REPEATED {
            let folder = workspace::root().join("tests/tests").join(suite);
            let files = fs::read_dir(folder).expect("the suite").flatten();
            let text: String =
                files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect();
            for filter in filters {
                assert!(text.contains(&format!("fn {filter}")), "{filter}");
            }
        }
    }
}
