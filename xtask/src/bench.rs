//! `cargo xtask bench`: the figures of DESIGN 7 that one machine can tell, each
//! beside what it is compared with, from one run. Everything happens in labs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use rcc_tests::{ANN, Actor, Lab, Options};
use serde::Serialize;

use crate::{child, test, workspace};

pub mod client;
mod large;
mod network;
mod peer;
mod sessions;
mod window;

const POLICY: &str = "version: 1
whitelist:
  - host: allowed.example
    ports: [443]
  - ip: 203.0.113.0/24
    ports: [5201]
  - ip: 198.51.100.7
    ports: [443]
";

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// One TCP stream, against the host itself, slirp4netns and pasta.
    Throughput,
    /// What the resolver adds to a question.
    Resolver,
    /// What a look at a TLS hello adds to a connection.
    Hellos,
    /// Attach alone.
    Attach,
    /// A list of 10,000 hosts: parse, check, apply.
    Lists,
    /// One TCP stream past 100,000 elements.
    Elements,
    /// What an answer costs, and what nothing costs.
    Costs,
    /// How many questions are answered in a second.
    Answers,
    /// A session, against `podman run`; Claude's screen.
    Sessions,
    /// The jobs that sandbox-runtime from npm can do, too, beside it.
    Peer,
    /// First paint, memory, terminals and keys of the window.
    Window,
}

impl Part {
    fn word(self) -> String {
        self.to_possible_value().map(|word| word.get_name().to_owned()).unwrap_or_default()
    }
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Line {
    what: String,
    /// In the unit that `what` names.
    measured: Option<f64>,
    /// What it is compared with, and its figure.
    against: Option<(String, f64)>,
    ratio: Option<f64>,
    goal: String,
    /// Why there is no figure.
    skipped: Option<String>,
    raw: Vec<f64>,
}

/// Builds with optimisation and starts the measuring in that build.
pub fn run(parts: &[Part]) -> anyhow::Result<u8> {
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--workspace", "--exclude", "rcc-desktop", "--bins"]);
    succeed(&mut build, "bench build")?;
    if parts.is_empty() || parts.contains(&Part::Window) {
        window::build()?;
    }
    let (mut inside, _) = test::static_inside()?;
    succeed(&mut inside, "bench build inside")?;
    let release = workspace::programs().with_file_name("release");
    let status = Command::new(release.join("xtask"))
        .arg("measure")
        .args(parts.iter().map(|part| part.word()))
        .env("RCC_INSIDE", test::built_inside()?)
        .status()
        .context("start the optimised build")?;
    Ok(u8::from(!status.success()))
}

/// Measures; to be run from the optimised build.
pub fn measure(parts: &[Part]) -> anyhow::Result<u8> {
    let mut lines = Vec::new();
    let asked = |part: &Part| parts.is_empty() || parts.contains(part);
    for part in Part::value_variants().iter().filter(|part| asked(part)) {
        let measure = match part {
            Part::Throughput => in_a_lab(network::throughput),
            Part::Resolver => in_a_lab(network::resolver),
            Part::Hellos => in_a_lab(network::hellos),
            Part::Attach => in_a_lab(network::attach),
            Part::Lists => in_a_lab(large::lists),
            Part::Elements => in_a_lab(large::elements),
            Part::Costs => in_a_lab(large::costs),
            Part::Answers => in_a_lab(large::answers),
            Part::Sessions => Box::new(sessions::measure),
            Part::Peer => Box::new(peer::measure),
            Part::Window => Box::new(window::measure),
        };
        // A lab belongs to its thread.
        let done = std::thread::scope(|scope| scope.spawn(|| measure(&mut lines)).join());
        done.map_err(|_| anyhow::anyhow!("a measurement panicked"))??;
    }
    if parts.is_empty() {
        lines.push(skipped(
            "memory given back after a sandbox frees 1 GB",
            "limits of memory need a whole computer: `cargo xtask test --vm` measures it",
        ));
    }
    print!("{}", table(&lines));
    let path = workspace::outputs().join("bench.json");
    fs::create_dir_all(workspace::outputs())?;
    fs::write(&path, serde_json::to_string_pretty(&lines)?)?;
    println!("raw figures: {}", path.display());
    Ok(0)
}

type InLab = fn(&Lab, &mut Actor, &mut Vec<Line>) -> anyhow::Result<()>;
type Measure = Box<dyn Fn(&mut Vec<Line>) -> anyhow::Result<()> + Send + Sync>;

fn in_a_lab(part: InLab) -> Measure {
    Box::new(move |lines| {
        let options = Options { policy: Some(POLICY.to_owned()), ..Options::default() };
        let lab = match Lab::start(options)? {
            Ok(lab) => lab,
            Err(reason) => {
                lines.push(skipped("attach, throughput, resolver", &reason.0));
                return Ok(());
            }
        };
        let mut ann = lab.person(ANN)?;
        part(&lab, &mut ann, lines)
    })
}

fn alone(what: &str, raw: Vec<f64>, goal: &str) -> Line {
    Line {
        what: what.into(),
        measured: Some(median(&raw)),
        against: None,
        ratio: None,
        goal: goal.into(),
        skipped: None,
        raw,
    }
}

fn compared(what: &str, raw: Vec<f64>, with: &str, others: &[f64], goal: &str) -> Line {
    let (own, other) = (median(&raw), median(others));
    Line {
        what: what.into(),
        measured: Some(own),
        against: Some((with.into(), other)),
        ratio: Some(own / other),
        goal: goal.into(),
        skipped: None,
        raw: raw.into_iter().chain(others.iter().copied()).collect(),
    }
}

fn skipped(what: &str, reason: &str) -> Line {
    Line {
        what: what.into(),
        measured: None,
        against: None,
        ratio: None,
        goal: String::new(),
        skipped: Some(reason.into()),
        raw: Vec::new(),
    }
}

/// Figures, or why there are none.
type Figures = anyhow::Result<Vec<f64>>;

/// Figures until the first failure, which is then the reason why there are none.
fn more(all: &mut Figures, next: Figures) {
    match (all.as_mut(), next) {
        (Ok(all), Ok(next)) => all.extend(next),
        (Ok(_), Err(error)) => *all = Err(error),
        (Err(_), _) => {}
    }
}

/// Two at the same work; when the other one cannot be measured here, the reason.
fn beside(what: &str, own: Vec<f64>, with: &str, other: Figures, goal: &str) -> Vec<Line> {
    match other {
        Ok(other) => vec![compared(what, own, with, &other, goal)],
        Err(error) => {
            vec![alone(what, own, goal), skipped(&format!("{what}: {with}"), &in_a_line(&error))]
        }
    }
}

fn in_a_line(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A computer lets everybody open it; where that is not so, the lab alone gets one.
fn open_tun(lab: &Lab) -> anyhow::Result<()> {
    let device = "mknod -m 666 /run/rcc-lab/tun c 10 200";
    lab.on_host(&format!("{device} && mount --bind /run/rcc-lab/tun /dev/net/tun")).map(drop)
}

fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        if let Some(reason) = &line.skipped {
            let _ = writeln!(text, "{}: not measured: {reason}", line.what);
            continue;
        }
        let _ = write!(text, "{}: {:.3}", line.what, line.measured.unwrap_or_default());
        if let Some((with, figure)) = &line.against {
            let _ = write!(text, "; {with}: {figure:.3}");
        }
        if let Some(ratio) = line.ratio {
            let _ = write!(text, "; ratio {ratio:.2}");
        }
        let _ = writeln!(text, "; goal: {}", line.goal);
    }
    text
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn median(figures: &[f64]) -> f64 {
    percentile(figures, 50)
}

/// By the nearest rank.
fn percentile(figures: &[f64], part: usize) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * part).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

fn succeed(command: &mut Command, what: &str) -> anyhow::Result<()> {
    println!("… {what}");
    let output = child::output_of(what);
    let end = child::run(command, &output, Duration::from_secs(1_800))?;
    let shown = |path: &Path| format!("{}:\n{}", path.display(), child::tail(path, 40));
    ensure!(end == child::End::Good, "{what} failed; the end of {}", shown(&output));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_figures() {
        let figures = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert!((median(&figures) - 3.0).abs() < f64::EPSILON);
        assert!((percentile(&figures, 99) - 5.0).abs() < f64::EPSILON);
        assert!((percentile(&figures, 1) - 1.0).abs() < f64::EPSILON);
        assert!(percentile(&[], 50).is_nan());
    }

    #[test]
    fn ratios_and_reasons_are_in_the_table() {
        let text = table(&[
            compared("speed", vec![9.0], "the host", &[10.0], "at least 0.90"),
            skipped("other", "no iperf3"),
        ]);
        assert!(text.contains("ratio 0.90") && text.contains("other: not measured: no iperf3"));
    }

    #[test]
    fn a_failure_is_the_reason_why_there_are_no_figures() {
        let mut all: Figures = Ok(vec![4.0]);
        more(&mut all, Ok(vec![6.0]));
        let text = table(&beside("speed", vec![2.0], "the other", Ok(vec![4.0]), "none"));
        assert!(text.contains("speed: 2.000; the other: 4.000; ratio 0.50"), "{text}");
        more(&mut all, Err(anyhow::anyhow!("no\nway")));
        more(&mut all, Ok(vec![8.0]));
        let text = table(&beside("speed", vec![2.0], "the other", all, "none"));
        assert!(text.contains("speed: 2.000; goal: none"), "{text}");
        assert!(text.contains("speed: the other: not measured: no way"), "{text}");
    }
}
