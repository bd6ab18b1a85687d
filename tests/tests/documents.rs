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

/// Names of the tests in a suite of this crate: a file, or a folder of them.
fn tests_of(suite: &str) -> Vec<String> {
    let folder = project().join("tests/tests").join(suite);
    let text: String = match std::fs::read_dir(&folder) {
        Ok(files) => files
            .flatten()
            .map(|file| std::fs::read_to_string(file.path()).expect("a file of tests"))
            .collect(),
        Err(_) => read(&format!("tests/tests/{suite}.rs")),
    };
    text.split("#[test]")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once("fn ")?.1.split_once('(')?.0.to_owned()))
        .collect()
}

#[test]
fn every_threat_has_a_row() {
    let table = read("docs/threat-model.md");
    let rows = [("N", 21), ("H", 9), ("T", 3), ("C", 2), ("R", 3)];
    for (letter, last) in rows {
        for number in 1..=last {
            assert!(table.contains(&format!("| {letter}{number} |")), "{letter}{number}");
        }
    }
    for files in ["F1", "F2, F3", "F4", "F5", "F6", "F7", "F8", "F9"] {
        assert!(table.contains(&format!("| {files} |")), "{files}");
    }
}

#[test]
fn every_test_that_the_documents_name_is_there() {
    for document in ["docs/threat-model.md", "docs/security.md"] {
        let text = read(document);
        for (prefix, file) in
            [("network::", "network"), ("bus::", "bus"), ("machine::", "machine"), ("vm::", "vm")]
        {
            let tests = tests_of(file);
            assert!(tests.len() > 1, "{file} has tests");
            for rest in text.split(prefix).skip(1) {
                let named: String =
                    rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                assert!(
                    tests.iter().any(|test| test.starts_with(&named)),
                    "{document} names {prefix}{named}, which is no test"
                );
            }
        }
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
