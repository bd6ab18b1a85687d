//! Child processes that end in time. Their output goes to a file: with a pipe, a
//! grandchild that outlives its parent would hold the reader up for ever.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;

/// How often a child is looked after.
const TICK: Duration = Duration::from_millis(50);

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With 0.
    Good,
    /// With another code, or by a signal.
    Bad(String),
    /// It was ended after so long.
    Late(Duration),
}

/// Runs `command` with everything that it writes in `output`.
///
/// # Errors
/// When the program cannot be started, or the file not be written.
pub fn run(command: &mut Command, output: &Path, patience: Duration) -> anyhow::Result<End> {
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let file = fs::File::create(output).with_context(|| format!("write {}", output.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { End::Good } else { End::Bad(status.to_string()) });
        }
        if start.elapsed() > patience {
            for pid in family(child.id()) {
                // One that has ended meanwhile needs nothing more.
                let _ = Command::new("kill")
                    .args(["-KILL", &pid.to_string()])
                    .stderr(Stdio::null())
                    .status();
            }
            child.wait()?;
            return Ok(End::Late(patience));
        }
        sleep(TICK);
    }
}

/// A process and what descends from it, parents first.
pub fn family(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = parent(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        all.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    all
}

/// The parent's id of a line of proc(5) `stat`. The name before it may hold
/// blanks and brackets.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// The last lines of a file.
pub fn tail(path: &Path, lines: usize) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&bytes), lines)
}

/// The last lines of a text.
pub fn last_lines(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A file for the output of a step.
pub fn output_of(step: &str) -> PathBuf {
    let name: String =
        step.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    crate::workspace::outputs().join(format!("{name}.log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, patience: u64) -> (End, String) {
        let name = format!("selftest-{}", script.len());
        let file = output_of(&name);
        let mut command = Command::new("sh");
        let end =
            run(command.args(["-c", script]), &file, Duration::from_secs(patience)).expect("run");
        let text = tail(&file, 3);
        let _ = fs::remove_file(file);
        (end, text)
    }

    #[test]
    fn a_child_ends_well_badly_or_late() {
        assert_eq!(sh("echo yes", 20), (End::Good, "yes".into()));
        assert!(matches!(sh("echo no >&2; exit 3", 20), (End::Bad(_), text) if text == "no"));
        let start = Instant::now();
        let (end, _) = sh("sh -c 'sleep 97 & sleep 98; true' ; echo never", 1);
        assert_eq!(end, End::Late(Duration::from_secs(1)));
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_grandchild_that_stays_does_not_hold_up() {
        let start = Instant::now();
        let (end, text) = sh("sleep 15 & echo gone", 60);
        assert_eq!((end, text.as_str()), (End::Good, "gone"));
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn names_of_processes_may_hold_brackets() {
        assert_eq!(parent("12 (a) b (c)) S 7 12 12 0"), Some(7));
        assert_eq!(parent("nothing"), None);
    }
}
