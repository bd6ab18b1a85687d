//! The documents and units are held against what is there.

use std::path::{Path, PathBuf};
use std::process::Command;

use rcc_tests::{Skip, skip};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(project().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A test: where it stands, word by word, and its name.
struct Found {
    place: Vec<String>,
    name: String,
}

impl Found {
    /// Whether it stands at that place.
    fn is_of(&self, place: &str) -> bool {
        place.split("::").all(|part| self.place.iter().any(|word| word == part))
    }

    /// Whether `named` means it: `network::n1_…` is each test of that beginning in a file or
    /// folder of that name, without `…` the name is whole.
    fn is_meant_by(&self, named: &str) -> bool {
        let (place, name) = named.rsplit_once("::").unwrap_or(("", named));
        let begins = name.strip_suffix('…').map(|begin| self.name.starts_with(begin));
        (place.is_empty() || self.is_of(place)) && begins.unwrap_or(self.name == name)
    }
}

/// Every test of the project, those of the window's page too (`page::` and the title).
fn all_tests() -> Vec<Found> {
    let mut found = Vec::new();
    let mut folders = vec![project()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() && !["target", "node_modules", "dist", ".git"].contains(&&*name) {
                folders.push(path);
            } else if name.ends_with(".rs") || name.ends_with(".test.js") {
                tests_in(&path, &mut found);
            }
        }
    }
    found
}

fn tests_in(path: &Path, found: &mut Vec<Found>) {
    let text = std::fs::read_to_string(path).expect("a file");
    let inside = path.strip_prefix(project()).expect("in the project").with_extension("");
    let words = inside.iter().map(|word| word.to_string_lossy().into_owned());
    let place: Vec<String> = words.collect();
    if path.extension().is_some_and(|end| end == "js") {
        for title in text.split("describe(\"").skip(1) {
            let name = title.split('"').next().unwrap_or_default().to_owned();
            found.push(Found { place: vec!["page".into()], name });
        }
        return;
    }
    // `#[test]`, `#[tokio::test]`; what follows it may have attributes of its own.
    for rest in text.split("test]\n").skip(1) {
        let name = rest.split_once("fn ").and_then(|(_, rest)| rest.split_once('('));
        let name = name.map_or("", |(name, _)| name).to_owned();
        found.push(Found { place: place.clone(), name });
    }
}

/// What stands between backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The rows of the threat model and what must hold them.
const ROWS: [(&str, u32); 6] = [("N", 22), ("H", 9), ("F", 9), ("T", 3), ("C", 2), ("R", 3)];

#[test]
fn every_threat_has_a_test_or_is_a_known_issue() {
    let (table, issues) = (read("docs/threat-model.md"), read("docs/known-issues.md"));
    let tests = all_tests();
    assert!(tests.len() > 500, "{}", tests.len());
    let mut wrong = Vec::new();
    let mut wanted: Vec<String> = ROWS
        .iter()
        .flat_map(|(letter, last)| (1..=*last).map(move |number| format!("{letter}{number}")))
        .collect();
    for line in table.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let ids: Vec<&str> = cells[0].split(", ").collect();
        if !ids.iter().all(|id| wanted.iter().any(|one| one == id)) {
            continue;
        }
        let held = cells.last().expect("a cell");
        let named: Vec<&str> = code(held).filter(|word| word.contains("::")).collect();
        for one in &named {
            if !tests.iter().any(|test| test.is_meant_by(one)) {
                wrong.push(format!("{}: {one} is no test", cells[0]));
            }
        }
        let known = held.contains("known issue")
            && ids.iter().all(|id| issues.contains(&format!("({id})")));
        if named.is_empty() && !known {
            wrong.push(format!("{}: neither a test nor a known issue: {held}", cells[0]));
        }
        wanted.retain(|one| !ids.contains(&one.as_str()));
    }
    assert!(wanted.is_empty(), "without a row: {wanted:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_test_that_the_documents_name_is_there() {
    let tests = all_tests();
    let mut wrong = Vec::new();
    for document in ["docs/threat-model.md", "docs/security.md"] {
        let text = read(document);
        let mut names = 0;
        for word in code(&text) {
            // In a list of places `…::` is what the one before it begins with; `page::` alone
            // is explained.
            let named = word.strip_prefix("…::").unwrap_or(word);
            let is_there = if named.ends_with('…') {
                tests.iter().any(|test| test.is_meant_by(named))
            } else if word.contains("::") && !word.ends_with("::") {
                // All tests of a place, or the whole name of one.
                tests.iter().any(|test| test.is_of(named) || test.is_meant_by(named))
            } else {
                continue;
            };
            names += 1;
            if !is_there {
                wrong.push(format!("{document}: {word} is no test"));
            }
        }
        assert!(names > 30, "{document} names {names}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn as_many_defences_are_taken_away_as_is_said() {
    let count = read("xtask/mutations.toml").matches("[[mutation]]").count();
    let said = format!("takes each of {count} defences away");
    assert!(read("docs/security.md").contains(&said), "docs/security.md does not say: {said}");
}

#[test]
fn every_check_of_the_firewall_is_mended_or_says_itself_how() {
    // What is never bad, and what says in its own text what to do.
    let told = ["ipv6", "shared-addresses", "host-output", "host-users"];
    let named = ["host-firewall", "network-login"];
    let (checks, doctor) = (read("helper/src/diagnose.rs"), read("sandbox/src/doctor.rs"));
    let hints = doctor.split_once("fn mending").expect("hints").1;
    let hints = hints.split_once("_ => return None").expect("hints").0;
    let mut names: Vec<_> = checks
        .split("check(")
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 10, "{names:?}");
    for name in &names {
        let mended = hints.contains(&format!("\"{name}\""));
        let own = told.contains(name) || named.contains(name);
        assert!(mended != own, "{name}: is there something to do when it is bad?");
    }
}

#[test]
fn the_exit_code_of_what_looks_names_each_command_that_looks() {
    let arguments = read("cli/src/arguments.rs");
    let told = arguments.split_once("FOUND,").expect("the code").1;
    let told = told.split('"').nth(1).expect("why");
    let commands: Vec<_> =
        told.split(", ").filter_map(|part| part.split_whitespace().next()).collect();
    let folder = project().join("cli/src/commands");
    let files = std::fs::read_dir(folder).expect("the commands").flatten();
    let files: Vec<_> =
        files.map(|file| std::fs::read_to_string(file.path()).expect("a file")).collect();
    let looks: Vec<_> = files
        .iter()
        .filter(|text| text.contains("exit::found(") || text.contains("exit::FOUND"))
        .collect();
    assert_eq!(looks.len(), commands.len(), "{told}");
    for command in commands {
        let own = format!("pub async fn {command}(");
        assert!(looks.iter().any(|text| text.contains(&own)), "{command} in: {told}");
    }
    for text in &files {
        assert!(!text.contains("u8::from(") && !text.contains("Ok(1)"), "a code without a name");
    }
}

#[test]
fn every_error_code_is_in_the_troubleshooting() {
    let (source, text) = (read("sandbox/src/error.rs"), read("docs/troubleshooting.md"));
    let codes: Vec<_> = source.split("=> \"RCC-E").skip(1).map(|rest| &rest[..3]).collect();
    assert!(codes.len() > 25, "{codes:?}");
    for code in &codes {
        assert_eq!(text.matches(&format!("| RCC-E{code} |")).count(), 1, "RCC-E{code}");
    }
    assert_eq!(text.matches("| RCC-E").count(), codes.len(), "and no other");
}

#[test]
fn the_helpers_unit_is_exposed_no_more_than_promised() {
    let unit = project().join("packaging/systemd/rcc-helper.service");
    let analyze = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=30", "--no-pager"])
        .arg(unit)
        .output();
    match analyze {
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("unrecognized option") => {
            skip(&Skip("systemd-analyze is older than 250".into()));
        }
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let last = text.lines().last().unwrap_or_default();
            assert!(output.status.success(), "{last} {}", String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => skip(&Skip(format!("systemd-analyze cannot be run: {error}"))),
    }
}

#[test]
fn the_packaged_list_names_files_that_exist() {
    let list = read("packaging/files.toml");
    let mut count = 0;
    for line in list.lines() {
        let Some(from) = line.strip_prefix("from = \"") else { continue };
        let from = from.trim_end_matches('"');
        count += 1;
        if !from.starts_with("target/") {
            assert!(project().join(from).is_file(), "{from}");
        }
    }
    assert!(count >= 10);
}
