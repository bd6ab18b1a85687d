//! `cargo xtask mutate`: takes one defence away at a time, in a copy of the project,
//! and runs the test that must turn red then. A test that stays green tests nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::child::{self, End};
use crate::{test, workspace};

const BUILD: Duration = Duration::from_secs(1_800);

/// A test that hangs without its defence has turned red.
const TEST: Duration = Duration::from_secs(600);

/// The window is built with it, and git does not know it.
const PAGE: &str = "ui/dist";

#[derive(Debug, Clone, Deserialize)]
struct Mutation {
    row: String,
    file: String,
    from: String,
    to: String,
    test: Test,
}

/// Package, kind and filter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Test(String, String, String);

#[derive(Deserialize)]
struct List {
    mutation: Vec<Mutation>,
}

#[derive(Debug, Serialize)]
struct Line {
    row: String,
    test: String,
    outcome: &'static str,
    seconds: f64,
    /// What the first test that turned red says.
    why: Option<String>,
}

fn list() -> anyhow::Result<Vec<Mutation>> {
    let path = workspace::root().join("xtask/mutations.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let list: List = toml::from_str(&text).with_context(|| format!("read {}", path.display()))?;
    Ok(list.mutation)
}

/// Takes away what `wanted` names (a part of a row; everything without one), in `jobs`
/// copies at once. Answers 1 when a test stayed green.
pub fn run(wanted: &[String], jobs: u8) -> anyhow::Result<u8> {
    let asked = |one: &Mutation| {
        wanted.is_empty() || wanted.iter().any(|part| one.row.contains(part.as_str()))
    };
    let mutations: Vec<Mutation> = list()?.into_iter().filter(asked).collect();
    ensure!(!mutations.is_empty(), "no row fits; they stand in xtask/mutations.toml");
    let copies = (1..=jobs).map(Copy::make).collect::<anyhow::Result<Vec<_>>>()?;

    let mut suites: BTreeMap<(&str, &str), BTreeSet<&Test>> = BTreeMap::new();
    for Mutation { test, .. } in &mutations {
        suites.entry((&test.0, &test.1)).or_default().insert(test);
    }
    let suites: Vec<Vec<&Test>> = suites.into_values().map(|of| of.into_iter().collect()).collect();
    eprintln!("… {} programs of tests, unchanged", suites.len());
    let sound = Mutex::new(BTreeSet::new());
    each(&copies, &suites, |copy, tests| {
        let good = copy.sound(tests)?;
        locked(&sound).extend(good);
        Ok(())
    })?;
    let sound = sound.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());

    let path = workspace::outputs().join("mutate.json");
    let lines = Mutex::new(Vec::new());
    each(&copies, &mutations, |copy, one| {
        let begun = Instant::now();
        let (outcome, why) = match sound.contains(&one.test) {
            true => copy.without(one)?,
            // It says nothing: it is red, or does not run, without any change.
            false => (Outcome::NotRun, None),
        };
        let line = Line {
            row: one.row.clone(),
            test: one.test.name(),
            outcome: outcome.word(),
            seconds: begun.elapsed().as_secs_f64(),
            why,
        };
        let mut lines = locked(&lines);
        println!("{:<11}  {:<62}  {}", line.outcome, line.row, line.test);
        if let Some(why) = &line.why {
            println!("             {why}");
        }
        lines.push(line);
        // After each one: hours may be broken off.
        fs::write(&path, serde_json::to_string_pretty(&*lines)?)?;
        Ok(())
    })?;
    let lines = lines.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let red = lines.iter().filter(|line| line.outcome == Outcome::Red.word()).count();
    println!("{red} of {} defences are missed by a test when they are gone", lines.len());
    println!("as JSON: {}", path.display());
    Ok(u8::from(red < lines.len()))
}

/// Has each copy take the next of `work` until there is none left, or something cannot
/// be done at all.
fn each<T: Sync>(
    copies: &[Copy],
    work: &[T],
    done: impl Fn(&Copy, &T) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let hand = |copy| {
        while let Some(one) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = done(copy, one) {
                next.store(work.len(), Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let hands: Vec<_> = copies.iter().map(|copy| scope.spawn(|| hand(copy))).collect();
        let ends = hands.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("a bug")));
        ends.fold(Ok(()), anyhow::Result::and)
    })
}

/// What one of them panicked over does not make the others' lines wrong.
fn locked<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Green,
    Red,
    /// The change itself cannot be built: its row says nothing.
    NotBuilt,
    /// It ran no test, or was skipped.
    NotRun,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Green => "GREEN",
            Self::Red => "red",
            Self::NotBuilt => "not built",
            Self::NotRun => "not run",
        }
    }
}

impl Test {
    fn name(&self) -> String {
        format!("{}::{}::{}", self.0, self.1, self.2)
    }
}

/// The project as it is checked out, in a folder of its own that keeps what was built.
struct Copy {
    folder: PathBuf,
}

impl Copy {
    fn make(number: u8) -> anyhow::Result<Self> {
        let folder = workspace::outputs().join("mutate").join(number.to_string());
        fs::create_dir_all(&folder)?;
        let copy = Self { folder };
        let files = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(workspace::root())
            .output()?;
        ensure!(files.status.success(), "git ls-files failed");
        for name in files.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let name = std::str::from_utf8(name)?;
            let from = workspace::root().join(name);
            // Deleted and not committed yet.
            let Ok(bytes) = fs::read(&from) else { continue };
            copy.write(name, &bytes)?;
        }
        copy.take(Path::new(PAGE))?;
        Ok(copy)
    }

    /// Takes over what is below a folder, if there is one.
    fn take(&self, folder: &Path) -> anyhow::Result<()> {
        let Ok(entries) = fs::read_dir(workspace::root().join(folder)) else { return Ok(()) };
        for entry in entries {
            let entry = entry?;
            let name = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.take(&name)?;
            } else {
                self.write(&name.to_string_lossy(), &fs::read(entry.path())?)?;
            }
        }
        Ok(())
    }

    /// Writes a file unless it is the same already: cargo goes by the time.
    fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
    }

    fn without(&self, one: &Mutation) -> anyhow::Result<(Outcome, Option<String>)> {
        // Of the copy, whatever the project becomes meanwhile.
        let path = self.folder.join(&one.file);
        let text = fs::read_to_string(&path)?;
        let changed = replaced(&text, one)?;
        self.write(&one.file, changed.as_bytes())?;
        let outcome = self.try_test(&one.test);
        self.write(&one.file, text.as_bytes())?;
        outcome
    }

    fn cargo(&self) -> Command {
        let mut cargo = workspace::cargo();
        cargo.current_dir(&self.folder).env("CARGO_TARGET_DIR", self.folder.join("target"));
        cargo
    }

    /// Those of one program's tests that pass as they are: all at once, and what does
    /// not pass then alone.
    fn sound<'a>(&self, tests: &[&'a Test]) -> anyhow::Result<Vec<&'a Test>> {
        let mut said = String::new();
        let filters: Vec<&str> = tests.iter().map(|test| test.2.as_str()).collect();
        if let Some(Test(package, kind, _)) = tests.first()
            && kind != "container"
            && self.build(package, kind)?
        {
            self.run(self.tests(package, kind, &filters))?;
            said = fs::read_to_string(self.output("test")).unwrap_or_default();
            said += &fs::read_to_string(self.skipped()).unwrap_or_default();
        }
        let mut good = Vec::new();
        for test in tests {
            if passed(&said, &test.2) {
                good.push(*test);
                continue;
            }
            let (end, why) = self.try_test(test)?;
            if end == Outcome::Green {
                good.push(*test);
            } else {
                // Its rows say nothing; the others still do.
                let why = why.unwrap_or_default();
                eprintln!("{} is {} without any change: {why}", test.name(), end.word());
            }
        }
        Ok(good)
    }

    /// How it ended, and what the first test that failed says.
    fn try_test(&self, test: &Test) -> anyhow::Result<(Outcome, Option<String>)> {
        let Test(package, kind, filter) = test;
        if kind == "container" {
            return self.try_containers(package, filter);
        }
        if !self.build(package, kind)? {
            return Ok((Outcome::NotBuilt, None));
        }
        self.run(self.tests(package, kind, &[filter]))
    }

    /// A program of tests, and the programs that it starts.
    fn build(&self, package: &str, kind: &str) -> anyhow::Result<bool> {
        if package == "rcc-tests" {
            let mut programs = self.cargo();
            programs.args(["build", "--package", "rcc-helper", "--package", "rcc-tests", "--bins"]);
            if kind == "end_to_end" {
                programs.args(["--package", "rcc-cli"]);
            }
            if self.end(&mut programs, "build", BUILD)? != End::Good {
                return Ok(false);
            }
        }
        let mut build = self.tests(package, kind, &[]);
        build.arg("--no-run");
        Ok(self.end(&mut build, "build", BUILD)? == End::Good)
    }

    fn tests(&self, package: &str, kind: &str, filters: &[&str]) -> Command {
        let mut tests = self.cargo();
        tests.args(["test", "--package", package]);
        match kind {
            "bin" => tests.arg("--bins"),
            "lib" => tests.arg("--lib"),
            suite => tests.args(["--test", suite]),
        };
        if !filters.is_empty() {
            tests.arg("--").args(filters);
        }
        tests
    }

    /// One of the engine's tests of containers, by the ordinary user of a lab.
    fn try_containers(
        &self,
        package: &str,
        filter: &str,
    ) -> anyhow::Result<(Outcome, Option<String>)> {
        let mut programs = self.cargo();
        programs.args(["build", "--bins", "--package", "rcc-cli", "--package", "rcc-helper"]);
        programs.args(["--package", "rcc-tests"]);
        let mut tests = self.cargo();
        tests.args(["test", "--no-run", "--package", package, "--test", "container"]);
        for build in [&mut programs, &mut tests] {
            if self.end(build, "build", BUILD)? != End::Good {
                return Ok((Outcome::NotBuilt, None));
            }
        }
        let mut run = self.cargo();
        run.args(["test", "--package", "rcc-tests", "--test", "end_to_end", "--"])
            .arg("the_container_tests_of_the_sandbox_crate")
            .env("RCC_CONTAINER_TEST", filter);
        self.run(run)
    }

    fn run(&self, mut run: Command) -> anyhow::Result<(Outcome, Option<String>)> {
        let skipped = self.skipped();
        let _ = fs::remove_file(&skipped);
        run.env("RCC_SKIPPED", &skipped);
        if let Ok(inside) = test::built_inside() {
            run.env("RCC_INSIDE", inside);
        }
        let end = self.end(&mut run, "test", TEST)?;
        let said = fs::read_to_string(self.output("test")).unwrap_or_default();
        let ran = said
            .lines()
            .any(|line| line.starts_with("test result:") && !line.contains(" 0 passed; 0 failed"));
        Ok(match end {
            _ if skipped.exists() || !ran => (Outcome::NotRun, None),
            End::Good => (Outcome::Green, None),
            End::Late(after) => (Outcome::Red, Some(format!("not done after {after:?}"))),
            End::Bad(how) => (Outcome::Red, Some(panicked(&said).unwrap_or(how))),
        })
    }

    fn output(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{what}.log"))
    }

    /// Where tests say that they did not run.
    fn skipped(&self) -> PathBuf {
        self.folder.join("skipped.txt")
    }

    fn end(&self, command: &mut Command, what: &str, patience: Duration) -> anyhow::Result<End> {
        child::run(command, &self.output(what), patience)
    }
}

/// Whether, of all tests that cargo names in `said`, some fit the filter, and each of
/// these passed and did not say that it was skipped.
fn passed(said: &str, filter: &str) -> bool {
    let ends = said.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
    let mut of_it = ends.filter(|(name, _)| name.contains(filter)).peekable();
    let skipped = |line: &str| line.starts_with("SKIPPED ") && line.contains(filter);
    of_it.peek().is_some() && of_it.all(|(_, end)| end == "ok") && !said.lines().any(skipped)
}

/// The first assertion that failed: the line after `thread '…' panicked at …`.
fn panicked(output: &str) -> Option<String> {
    let mut lines = output.lines().skip_while(|line| !line.contains(" panicked at "));
    let place = lines.next()?.rsplit_once(" panicked at ")?.1;
    let said: String = lines.next()?.chars().take(160).collect();
    Some(format!("{place} {said}"))
}

fn replaced(text: &str, one: &Mutation) -> anyhow::Result<String> {
    let count = text.matches(&one.from).count();
    if count != 1 {
        bail!(
            "{}: what is to go stands {count} times in {}",
            one.row,
            Path::new(&one.file).display()
        );
    }
    Ok(text.replacen(&one.from, &one.to, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sound_ran_and_passed() {
        let said = "running 4 tests\ntest a::n1_x ... ok\ntest a::n1_y ... ok\n\
                    test a::n2_ ... FAILED\ntest a::n3_ ... ok\nSKIPPED a::n3_: no root\n";
        assert!(passed(said, "n1_"));
        for not in ["n2_", "n3_", "n4_", "a::"] {
            assert!(!passed(said, not), "{not}");
        }
    }

    #[test]
    fn every_defence_that_is_taken_away_is_there() {
        let list = list().expect("the list");
        assert!(list.len() >= 25, "{}", list.len());
        for one in &list {
            let path = workspace::root().join(&one.file);
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", one.file));
            replaced(&text, one).expect("exactly once");
        }
        let rows: BTreeSet<&str> = list.iter().map(|one| one.row.as_str()).collect();
        assert_eq!(rows.len(), list.len(), "each row has a name of its own");
    }
}
