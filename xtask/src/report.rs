//! What ran, what did not and why: read from what cargo's tests print.

use std::fmt::Write;

use serde::Serialize;

/// A test that could not run here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The test program, for instance `network`.
    pub suite: String,
    pub test: String,
    pub reason: String,
}

/// Counts of the tests of one or more programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tests {
    pub passed: usize,
    pub failed: Vec<String>,
    /// Those that failed once, and passed each time when they were run again, alone.
    pub unsteady: Vec<String>,
    pub skipped: Vec<Skipped>,
    /// Programs and how many of their tests really ran.
    pub suites: Vec<(String, usize)>,
}

impl Tests {
    /// Reads the output of `cargo test -- --show-output`. A test says that it
    /// skips itself by a line `SKIPPED…: reason`; to cargo it has passed.
    pub fn read(output: &str) -> Self {
        let mut tests = Self::default();
        let mut suite = String::new();
        let mut section: Option<String> = None;
        let mut here: Vec<Skipped> = Vec::new();
        for line in output.lines() {
            if let Some(name) = running(line) {
                suite = name;
            } else if let Some(name) = between(line, "---- ", " stdout ----") {
                section = Some(name.to_owned());
            } else if line == "successes:" || line == "failures:" {
                section = None;
            } else if let (Some(test), Some(rest)) = (&section, line.strip_prefix("SKIPPED")) {
                let reason = rest.split_once(": ").map_or(rest, |(_, reason)| reason);
                if !here.iter().any(|skipped| skipped.test == *test) {
                    here.push(Skipped {
                        suite: suite.clone(),
                        test: test.clone(),
                        reason: reason.trim().to_owned(),
                    });
                }
            } else if let Some(test) = between(line, "test ", " ... FAILED") {
                tests.failed.push(format!("{suite}: {test}"));
            } else if let Some(rest) = line.strip_prefix("test result: ") {
                let (passed, ignored) = (count(rest, " passed"), count(rest, " ignored"));
                let ran = passed.saturating_sub(here.len());
                tests.passed += ran;
                tests.suites.push((suite.clone(), ran + count(rest, " failed")));
                tests.skipped.append(&mut here);
                tests.skipped.extend((0..ignored).map(|_| Skipped {
                    suite: suite.clone(),
                    test: "a test marked #[ignore]".into(),
                    reason: "run it with `cargo test -- --ignored`".into(),
                }));
                section = None;
            }
        }
        tests
    }

    /// A failed test that passed when it was run again is unsteady.
    pub fn again(&mut self, passed: impl Fn(&str) -> bool) {
        let name =
            |failed: &String| failed.split_once(": ").map_or("", |(_, name)| name).to_owned();
        let (unsteady, failed): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.failed).into_iter().partition(|one| passed(&name(one)));
        (self.unsteady, self.failed) = (unsteady, failed);
    }

    /// How many programs have a failed test.
    pub fn failed_suites(&self) -> usize {
        let suites = self.failed.iter().filter_map(|one| one.split_once(": "));
        suites.map(|(suite, _)| suite).collect::<std::collections::BTreeSet<_>>().len()
    }

    /// The names of those that failed, without their program's.
    pub fn names_of_failed(&self) -> Vec<String> {
        let parts = self.failed.iter().filter_map(|one| one.split_once(": "));
        parts.map(|(_, name)| name.to_owned()).collect()
    }
}

/// What cargo wants to be given to run the programs again that failed:
/// ``    `-p rcc-tests --test network` `` below `error: 2 targets failed:`.
pub fn failed_targets(output: &str) -> Vec<Vec<String>> {
    let after = output.lines().skip_while(|line| {
        !(line.starts_with("error: ") && line.ends_with(" failed:") && line.contains(" target"))
    });
    let named = after.skip(1).map_while(|line| between(line.trim(), "`", "`"));
    named.map(|target| target.split_whitespace().map(str::to_owned).collect()).collect()
}

/// True for the test of a row of docs/threat-model.md, such as `rules::n10_…`. An attack
/// that got through once got through: it is not tried again.
pub fn is_an_attack(name: &str) -> bool {
    let own = name.rsplit("::").next().unwrap_or(name);
    let row = own.split('_').next().unwrap_or(own);
    row.strip_prefix(['n', 'h', 'f', 't', 'c', 'r'])
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The programs of `wanted` of which no test ran: all were skipped, or it is not there.
pub fn silent(suites: &[(String, usize)], wanted: &[String]) -> Vec<String> {
    let ran = |name: &&String| suites.iter().any(|(suite, ran)| suite == *name && *ran > 0);
    wanted.iter().filter(|name| !ran(name)).cloned().collect()
}

/// The number of failed tests that node counts at the end; none when it did not get there.
pub fn failed_in_tap(output: &str) -> Option<usize> {
    output.lines().rev().find_map(|line| line.strip_prefix("# fail "))?.trim().parse().ok()
}

/// Whether a test of this name passed in such an output of cargo's or node's, and none
/// of the name failed.
pub fn passed(output: &str, name: &str) -> bool {
    let is = |line: &str, good: bool| {
        let line = line.trim_start();
        let cargo = between(line, "test ", if good { " ... ok" } else { " ... FAILED" });
        let start = if good { "ok " } else { "not ok " };
        let node = line.strip_prefix(start).and_then(|rest| rest.split_once(" - "));
        cargo == Some(name) || node.is_some_and(|(_, rest)| rest == name)
    };
    output.lines().any(|line| is(line, true)) && !output.lines().any(|line| is(line, false))
}

/// Reads the output of `node --test` in the TAP form.
pub fn read_tap(suite: &str, output: &str) -> Tests {
    let mut tests = Tests::default();
    let mut lines = output.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(passed) = line.strip_prefix("# pass ") {
            tests.passed = passed.trim().parse().unwrap_or(0);
        }
        let line = line.trim_start();
        let Some((_, rest)) = line.split_once(" - ") else { continue };
        if line.starts_with("not ok ") {
            // A group fails with its tests; it is not one itself.
            let mut group = false;
            while let Some(detail) = lines.next_if(|line| line.trim() != "...") {
                group |= detail.contains("subtestsFailed");
            }
            if !group {
                tests.failed.push(format!("{suite}: {rest}"));
            }
        } else if let Some((test, reason)) = rest.split_once(" # SKIP") {
            tests.skipped.push(Skipped {
                suite: suite.into(),
                test: test.into(),
                reason: reason.trim().into(),
            });
        }
    }
    tests.suites.push((suite.into(), tests.passed + tests.failed.len()));
    tests
}

/// What the tests that failed said, of either kind of output, at most `lines` of each:
/// its first and its last ones. Empty when no test failed.
pub fn what_failed(output: &str, lines: usize) -> String {
    let mut parts: Vec<Vec<&str>> = Vec::new();
    // Those of cargo stand between a line `failures:` and the names that follow it.
    let (mut failures, mut within) = (false, false);
    for line in output.lines() {
        let trimmed = line.trim_start();
        if line == "failures:" {
            (failures, within) = (!failures, false);
        } else if line.starts_with("test result: ") || line == "successes:" {
            (failures, within) = (false, false);
        } else if failures && between(line, "---- ", " stdout ----").is_some() {
            within = true;
            parts.push(vec![line]);
        } else if trimmed.starts_with("not ok ") {
            (failures, within) = (false, true);
            parts.push(vec![line]);
        } else if within && let Some(part) = parts.last_mut() {
            part.push(line);
            within = trimmed != "...";
        }
    }
    // A group of the page's fails with its tests and says nothing itself.
    parts.retain(|part| !part.iter().any(|line| line.contains("subtestsFailed")));
    let mut text = String::new();
    for part in parts {
        let left_out = part.len().saturating_sub(lines);
        for (index, line) in part.iter().enumerate() {
            if left_out > 0 && index == lines / 2 {
                let _ = writeln!(text, "… {left_out} lines …");
            }
            if index < lines / 2 || index >= lines / 2 + left_out {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    text
}

/// `     Running tests/network.rs (target/debug/deps/network-0123abcd)`
fn running(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(krate) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{krate} (doc)"));
    }
    let rest = line.strip_prefix("Running ")?;
    let file = between(rest, "(", ")").or_else(|| rest.rsplit_once('(')?.1.strip_suffix(')'))?;
    let name = file.rsplit('/').next()?;
    Some(name.rsplit_once('-').map_or(name, |(name, _)| name).to_owned())
}

fn between<'a>(line: &'a str, start: &str, end: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix(end)
}

/// The number before a word: `3 passed; 1 failed; …`.
fn count(text: &str, word: &str) -> usize {
    let before = text.split(word).next().filter(|before| before.len() < text.len());
    before.and_then(|before| before.rsplit([' ', ';']).next()?.parse().ok()).unwrap_or(0)
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ran,
    Skipped(String),
    Failed(String),
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    pub name: String,
    pub outcome: Outcome,
    pub seconds: f64,
    /// Its output, if it has one.
    pub output: Option<String>,
    pub tests: Option<Tests>,
}

/// Everything.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub steps: Vec<Step>,
    pub passed: usize,
    pub failed: usize,
    pub unsteady: usize,
    pub skipped: usize,
}

impl Report {
    /// Adds up.
    pub fn count(&mut self) {
        let tests = || self.steps.iter().filter_map(|step| step.tests.as_ref());
        let passed = tests().map(|tests| tests.passed).sum();
        let skipped: usize = tests().map(|tests| tests.skipped.len()).sum();
        let failed: usize = tests().map(|tests| tests.failed.len()).sum();
        self.unsteady = tests().map(|tests| tests.unsteady.len()).sum();
        let is_skipped = |step: &&Step| matches!(step.outcome, Outcome::Skipped(_));
        let skipped = skipped + self.steps.iter().filter(is_skipped).count();
        // A step that failed without a failed test, for instance by not compiling.
        let bare = |step: &&Step| {
            matches!(step.outcome, Outcome::Failed(_))
                && step.tests.as_ref().is_none_or(|tests| tests.failed.is_empty())
        };
        let failed = failed + self.steps.iter().filter(bare).count();
        (self.passed, self.failed, self.skipped) = (passed, failed, skipped);
    }

    /// The table, and below it each test that was skipped or failed.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let width = self.steps.iter().map(|step| step.name.len()).max().unwrap_or(0);
        for step in &self.steps {
            let word = match &step.outcome {
                Outcome::Ran => match &step.tests {
                    Some(tests) => format!("ran: {} tests", tests.passed),
                    None => "ran".into(),
                },
                Outcome::Skipped(reason) => format!("skipped: {reason}"),
                Outcome::Failed(reason) => format!("FAILED: {reason}"),
            };
            let _ = writeln!(text, "{:width$}  {:>6.1} s  {word}", step.name, step.seconds);
        }
        for tests in self.steps.iter().filter_map(|step| step.tests.as_ref()) {
            for test in &tests.failed {
                let _ = writeln!(text, "failed   {test}");
            }
            for test in &tests.unsteady {
                let _ = writeln!(text, "unsteady {test}: failed once, passed each time alone");
            }
            for Skipped { suite, test, reason } in &tests.skipped {
                let _ = writeln!(text, "skipped  {suite}: {test}: {reason}");
            }
        }
        text
    }

    /// The last line, for programs to read.
    pub fn line(&self) -> String {
        let Self { passed, failed, unsteady, skipped, .. } = self;
        format!("{passed} passed, {failed} failed, {unsteady} unsteady, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
     Running unittests src/lib.rs (target/debug/deps/rcc_policy-00ff)

running 2 tests
test one ... ok
test two ... ok

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/network.rs (/somewhere/debug/deps/network-12ab)
test n1 ... ok
test n2 ... ok
test n3 ... FAILED

successes:

---- n1 stdout ----
SKIPPED n1: the lab needs root, for namespaces

---- n2 stdout ----
SKIPPED is what another test does


successes:
    n1
    n2

failures:

---- n3 stdout ----
thread 'n3' panicked

failures:
    n3

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s
   Doc-tests rcc_policy
test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn skipped_tests_are_not_passed_ones() {
        let tests = Tests::read(OUTPUT);
        assert_eq!(tests.passed, 2);
        assert_eq!(tests.failed, ["network: n3"]);
        let names: Vec<_> = tests.skipped.iter().map(|skipped| skipped.test.as_str()).collect();
        assert_eq!(names, ["a test marked #[ignore]", "n1", "n2"]);
        assert_eq!(tests.skipped[1].reason, "the lab needs root, for namespaces");
        assert_eq!(tests.suites[1], ("network".into(), 1));
    }

    #[test]
    fn a_program_of_which_nothing_ran_is_named() {
        let wanted = ["network".to_owned(), "machine".to_owned(), "rcc_policy".to_owned()];
        assert_eq!(silent(&Tests::read(OUTPUT).suites, &wanted), ["machine"]);
        // Its one other test, of three, was skipped.
        let skipped = OUTPUT.replace("2 passed; 1 failed", "1 passed; 0 failed");
        assert_eq!(silent(&Tests::read(&skipped).suites, &wanted), ["network", "machine"]);
    }

    #[test]
    fn tests_of_the_page_count_too() {
        let tap = "TAP version 13\n# Subtest: folders\n    ok 1 - opens\n    ok 2 - closes # SKIP Chromium is not installed\n    not ok 3 - sinks\n      ---\n      failureType: 'testCodeFailure'\n      ...\nnot ok 1 - folders\n  ---\n  failureType: 'subtestsFailed'\n  ...\n# tests 3\n# pass 1\n# fail 1\n# skipped 1\n";
        let tests = read_tap("page", tap);
        assert_eq!((tests.passed, tests.failed.len(), tests.skipped.len()), (1, 1, 1));
        assert_eq!(tests.skipped[0].reason, "Chromium is not installed");
    }

    #[test]
    fn what_failed_is_run_again_by_its_name() {
        let mut tests = Tests::read(OUTPUT);
        let end = "error: 2 targets failed:\n    `-p rcc-tests --test network`\n    `-p rcc-helper --lib`\n\nmore `x`";
        assert_eq!(
            failed_targets(end),
            [vec!["-p", "rcc-tests", "--test", "network"], vec!["-p", "rcc-helper", "--lib"]]
        );
        assert_eq!(failed_targets(OUTPUT), Vec::<Vec<String>>::new());
        assert_eq!(tests.names_of_failed(), ["n3"]);
        assert!(passed(OUTPUT, "n2") && !passed(OUTPUT, "n3") && !passed(OUTPUT, "n4"));
        assert!(passed("    ok 2 - closes\n", "closes"));
        assert!(!passed("    ok 2 - closes # SKIP no\n    not ok 3 - sinks", "closes"));
        assert!(!passed("    ok 2 - sinks\n    not ok 3 - sinks", "sinks"));
        tests.again(|name| name == "other");
        assert_eq!((tests.failed.len(), tests.unsteady.len()), (1, 0));
        tests.again(|name| name == "n3");
        assert_eq!(
            (tests.failed.len(), tests.unsteady.as_slice()),
            (0, ["network: n3".to_owned()].as_slice())
        );
    }

    #[test]
    fn attacks_and_what_is_no_test_are_not_excused() {
        for name in ["rules::n10_no_packet", "h2_only", "a::b::r1_a_flood", "f9_x"] {
            assert!(is_an_attack(name), "{name}");
        }
        for name in ["names_rotate", "package::the_package_serves", "n_x", "not2_x", "links of"] {
            assert!(!is_an_attack(name), "{name}");
        }
        assert_eq!(Tests::read(OUTPUT).failed_suites(), 1);
        assert_eq!(failed_in_tap("# pass 1\n# fail 2\n"), Some(2));
        assert_eq!(failed_in_tap("    not ok 1 - broken off"), None);
    }

    #[test]
    fn what_a_failed_test_said_is_shown_and_nothing_else() {
        let said = what_failed(OUTPUT, 60);
        assert!(said.contains("---- n3 stdout") && said.contains("thread 'n3' panicked"), "{said}");
        assert!(!said.contains("n1") && !said.contains("    n3"), "{said}");
        let tap = "    not ok 3 - sinks\n      ---\n      error: 'no sink'\n      ...\n    ok 4 - swims\nnot ok 1 - folders\n  ---\n  failureType: 'subtestsFailed'\n  ...\n";
        assert_eq!(
            what_failed(tap, 60),
            "    not ok 3 - sinks\n      ---\n      error: 'no sink'\n      ...\n"
        );
        assert_eq!(what_failed(tap, 2), "    not ok 3 - sinks\n… 2 lines …\n      ...\n");
        assert_eq!(what_failed("test result: ok. 3 passed; 0 failed", 60), "");
    }

    #[test]
    fn a_step_that_failed_without_a_test_counts() {
        let step =
            |outcome, tests| Step { name: "x".into(), outcome, seconds: 0.0, output: None, tests };
        let mut report = Report {
            steps: vec![
                step(Outcome::Failed("clippy".into()), None),
                step(Outcome::Failed("1 test".into()), Some(Tests::read(OUTPUT))),
                step(Outcome::Skipped("no node".into()), None),
                step(Outcome::Ran, None),
            ],
            ..Report::default()
        };
        report.count();
        assert_eq!(report.line(), "2 passed, 2 failed, 0 unsteady, 4 skipped");
        assert!(report.table().contains("no node"));
    }
}
