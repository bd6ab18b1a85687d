//! `cargo xtask fuzz`: libFuzzer over the targets of `fuzz/`, guided by what the code does.
//!
//! The flags are those of cargo-fuzz without a sanitizer, which a stable compiler takes:
//! nothing that is tried here has unsafe code of ours in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::child::{self, End};
use crate::workspace;

const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];
/// Longest input, in bytes, that is tried, and that is kept.
const LONGEST: &str = "8192";
const LONGEST_KEPT: &str = "2048";
/// Most inputs that are stored for one target.
const MOST_KEPT: usize = 64;

#[derive(Debug, clap::Args)]
pub struct Wanted {
    /// Only these; all without one
    targets: Vec<String>,
    /// For how long each: 90s, 10m, 2h
    #[arg(long = "for", value_name = "TIME", default_value = "1m", value_parser = time)]
    long: Duration,
    /// Take what reached new code into fuzz/corpus
    #[arg(long)]
    keep: bool,
}

/// Answers 1 when something was found.
pub fn run(wanted: &Wanted) -> anyhow::Result<u8> {
    let targets = chosen(&wanted.targets)?;
    let program = build()?;
    let mut found = Vec::new();
    for target in &targets {
        println!("{target}: {} s", wanted.long.as_secs());
        let run = search(&program, target, wanted.long)?;
        println!("  {}", run.line);
        for file in &run.findings {
            println!("  FOUND {}", file.display());
        }
        if wanted.keep && run.findings.is_empty() {
            println!("  {} inputs are stored", keep(&program, target)?);
        }
        found.extend(run.findings);
    }
    println!("{} targets, {} findings.", targets.len(), found.len());
    if !found.is_empty() {
        println!(
            "Mend what falls, then put the input into fuzz/corpus/TARGET: it is tried in each run."
        );
    }
    Ok(u8::from(!found.is_empty()))
}

fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time such as 90s, 10m or 2h");
    let units = [("s", 1), ("m", 60), ("h", 3_600)];
    let parts = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (number, factor) = parts.ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(number.saturating_mul(*factor).clamp(1, 7 * 24 * 3_600)))
}

fn corpus() -> PathBuf {
    workspace::root().join("fuzz/corpus")
}

fn outputs() -> PathBuf {
    workspace::outputs().join("fuzz")
}

fn chosen(wanted: &[String]) -> anyhow::Result<Vec<String>> {
    let folder = corpus();
    let mut all: Vec<String> = fs::read_dir(&folder)
        .with_context(|| format!("read {}", folder.display()))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    all.sort();
    if let Some(unknown) = wanted.iter().find(|one| !all.contains(one)) {
        bail!("there is no target {unknown}; there are: {}", all.join(", "));
    }
    if !wanted.is_empty() {
        all.retain(|one| wanted.contains(one));
    }
    Ok(all)
}

fn build() -> anyhow::Result<PathBuf> {
    let triple = workspace::host_triple().context("rustc does not say what this machine is")?;
    let target = outputs().join("target");
    let mut command = workspace::cargo();
    // With a target of its own, build scripts and macros are not built with the flags.
    command
        .args(["build", "--release", "--locked", "--target", &triple, "--target-dir"])
        .arg(&target)
        .arg("--manifest-path")
        .arg(workspace::root().join("fuzz/libfuzzer/Cargo.toml"))
        .env("RUSTFLAGS", FLAGS.join(" "));
    println!("building with libFuzzer; the first time takes some minutes");
    let log = outputs().join("build.log");
    let end = child::run(&mut command, &log, Duration::from_secs(30 * 60))?;
    ensure!(end == End::Good, "it cannot be built:\n{}", child::tail(&log, 40));
    Ok(target.join(triple).join("release/rcc-libfuzzer"))
}

struct Search {
    line: String,
    findings: Vec<PathBuf>,
}

fn search(program: &Path, target: &str, long: Duration) -> anyhow::Result<Search> {
    let learnt = outputs().join("corpus").join(target);
    let findings = outputs().join("findings").join(target);
    // What was found the last time is there to be looked at, not to be counted again.
    let _ = fs::remove_dir_all(&findings);
    for folder in [&learnt, &findings] {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let mut command = Command::new(program);
    command
        .env("RCC_FUZZ_TARGET", target)
        .arg(format!("-max_total_time={}", long.as_secs()))
        .arg(format!("-max_len={LONGEST}"))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg(&learnt)
        .arg(corpus().join(target));
    let log = outputs().join(format!("{target}.log"));
    let end = child::run(&mut command, &log, long + Duration::from_secs(120))?;
    let found: Vec<PathBuf> =
        fs::read_dir(&findings)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let text = child::tail(&log, 4_000);
    if end != End::Good && found.is_empty() {
        bail!("{target} could not be tried: {end:?}\n{}", child::last_lines(&text, 30));
    }
    let runs = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let covered = text.lines().rev().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "cov:")?;
        words.get(at + 1).copied()
    });
    let line = format!(
        "{} runs, {} places of the code reached",
        runs.unwrap_or("?").trim(),
        covered.unwrap_or("?")
    );
    Ok(Search { line, findings: found })
}

/// Adds to the stored inputs those that reach what none of them reaches; answers how many
/// there are.
fn keep(program: &Path, target: &str) -> anyhow::Result<usize> {
    let stored = corpus().join(target);
    let mut command = Command::new(program);
    command
        .env("RCC_FUZZ_TARGET", target)
        .args(["-merge=1", &format!("-max_len={LONGEST_KEPT}")])
        .arg(&stored)
        .arg(outputs().join("corpus").join(target));
    let log = outputs().join(format!("{target}-merge.log"));
    let end = child::run(&mut command, &log, Duration::from_secs(600))?;
    ensure!(end == End::Good, "nothing was taken over:\n{}", child::tail(&log, 20));
    // Of those that libFuzzer names by their sums; names of people's stay.
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(&stored)? {
        let entry = entry?;
        files.push((entry.metadata()?.len(), entry.path()));
    }
    files.sort();
    let is_sum = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let by_sum: Vec<&PathBuf> =
        files.iter().map(|(_, path)| path).filter(|path| is_sum(path)).collect();
    let room = MOST_KEPT.saturating_sub(files.len() - by_sum.len());
    // Short and long ones alike.
    let step = by_sum.len().div_ceil(room.max(1)).max(1);
    for (number, path) in by_sum.iter().enumerate() {
        if room == 0 || number % step != 0 {
            fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(fs::read_dir(&stored)?.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(time("2h"), Ok(Duration::from_secs(7_200)));
        for wrong in ["", "m", "10", "-1m", "1d", "é"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
