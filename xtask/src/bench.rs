//! `cargo xtask bench`: the figures of DESIGN 7 that one machine can tell, each
//! beside what it is compared with, from one run. Everything happens in labs.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rcc_policy::Preset;
use rcc_tests::{ANN, Actor, Lab, Options, Workshop, world};
use serde::Serialize;

use crate::{child, test, workspace};

const POLICY: &str = "version: 1
whitelist:
  - host: allowed.example
    ports: [443]
  - ip: 203.0.113.0/24
    ports: [5201]
";

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
pub fn run() -> anyhow::Result<u8> {
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--workspace", "--exclude", "rcc-desktop", "--bins"]);
    succeed(&mut build, "bench build")?;
    let (mut inside, _) = test::static_inside()?;
    succeed(&mut inside, "bench build inside")?;
    let release = workspace::programs().with_file_name("release");
    let status = Command::new(release.join("xtask"))
        .arg("measure")
        .env("RCC_INSIDE", test::built_inside()?)
        .status()
        .context("start the optimised build")?;
    Ok(u8::from(!status.success()))
}

/// Measures; to be run from the optimised build.
pub fn measure() -> anyhow::Result<u8> {
    let mut lines = Vec::new();
    // A lab belongs to its thread.
    for part in [network, sessions] {
        let done = std::thread::scope(|scope| scope.spawn(|| part(&mut lines)).join());
        done.map_err(|_| anyhow::anyhow!("a measurement panicked"))??;
    }
    print!("{}", table(&lines));
    let path = workspace::outputs().join("bench.json");
    fs::create_dir_all(workspace::outputs())?;
    fs::write(&path, serde_json::to_string_pretty(&lines)?)?;
    println!("raw figures: {}", path.display());
    Ok(0)
}

fn network(lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let options = Options { policy: Some(POLICY.to_owned()), ..Options::default() };
    let lab = match Lab::start(options)? {
        Ok(lab) => lab,
        Err(reason) => {
            lines.push(skipped("attach, throughput, resolver", &reason.0));
            return Ok(());
        }
    };
    let mut ann = lab.person(ANN)?;
    throughput(&lab, &mut ann, lines)?;
    resolver(&lab, &mut ann, lines)?;
    attach(&lab, &mut ann, lines)
}

fn attach(lab: &Lab, ann: &mut Actor, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    for others in [0, 49] {
        let standing = ann.list()?.len();
        for _ in standing..others {
            lab.sandbox(ann, &[])?;
        }
        let mut raw = Vec::new();
        for _ in 0..30 {
            let bare = lab.bare_sandbox(ann)?;
            let start = Instant::now();
            let offer = ann.attach(bare.pid, &[])?;
            raw.push(milliseconds(start));
            ann.detach(offer.id)?;
            ann.end_namespace(bare.pid)?;
        }
        lines.push(Line {
            what: format!("attach as sandbox {}, ms", others + 1),
            measured: Some(median(&raw)),
            against: None,
            ratio: None,
            goal: "at most 15 ms".into(),
            skipped: None,
            raw,
        });
    }
    Ok(())
}

fn throughput(lab: &Lab, ann: &mut Actor, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    if workspace::find("iperf3").is_none() {
        lines.push(skipped("throughput", "iperf3 is not installed"));
        return Ok(());
    }
    let server = world::SERVERS[0];
    let sandbox = lab.sandbox(ann, &[])?;
    let client = format!("timeout 10 iperf3 -c {server} -t 3 -J");
    let others = [
        (
            "slirp4netns",
            format!(
                "unshare -n sleep 20 & inner=$!; sleep 0.3
                 slirp4netns --configure --mtu=65520 $inner tap0 >/dev/null 2>&1 & slirp=$!
                 sleep 1; nsenter -t $inner -n {client}; code=$?
                 kill $slirp $inner; exit $code"
            ),
        ),
        (
            "pasta",
            format!(
                "timeout 15 setpriv --reuid {} --regid {} --clear-groups pasta --config-net --quiet -- {client}",
                ANN.0, ANN.0
            ),
        ),
    ];
    let on_host = |command: &str| served(|| lab.on_host(command));
    let mut host = Vec::new();
    let mut inside = Vec::new();
    let mut other: [Vec<f64>; 2] = Default::default();
    let mut why = [String::new(), String::new()];
    // In turns: what else the machine does hits all alike.
    for _ in 0..3 {
        host.push(on_host(&client)?);
        inside.push(served(|| sandbox.shell(&client))?);
        for (number, (program, command)) in others.iter().enumerate() {
            if workspace::find(program).is_none() {
                why[number] = format!("{program} is not installed");
            } else if why[number].is_empty() {
                match on_host(command) {
                    Ok(figure) => other[number].push(figure),
                    Err(error) => why[number] = format!("{error:#}").replace('\n', " "),
                }
            }
        }
    }
    let programs = others.map(|(program, _)| program);
    let name = "throughput of a sandbox, one TCP stream, Gbit/s";
    lines.push(compared(name, inside.clone(), "the host itself", &host, "at least 0.90"));
    for ((program, figures), why) in programs.into_iter().zip(other).zip(why) {
        if figures.is_empty() {
            lines.push(skipped(&format!("throughput against {program}"), &why));
        } else {
            lines.push(compared(name, inside.clone(), program, &figures, "at least 3"));
        }
    }
    Ok(())
}

/// What a client gets from a server of its own: one that lost a client stays busy.
fn served(client: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<f64> {
    let mut server = Command::new("ip")
        .args(["netns", "exec", "internet", "iperf3", "-s", "-1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let listening = || {
        let asked = Command::new("ip")
            .args(["netns", "exec", "internet", "ss", "-Hltn", "sport = :5201"])
            .output();
        asked.is_ok_and(|said| !said.stdout.is_empty())
    };
    let measured =
        rcc_tests::wait_for(listening).and_then(|()| client()).and_then(|said| gigabits(&said));
    server.kill()?;
    server.wait()?;
    measured
}

fn resolver(lab: &Lab, ann: &mut Actor, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    const QUESTIONS: usize = 500;
    // A sandbox that asks without a pause is held back; that is not what is measured.
    const PAUSE: Duration = Duration::from_millis(10);
    let sandbox = lab.sandbox(ann, &[])?;
    let ask = |server: SocketAddr| -> anyhow::Result<Vec<f64>> {
        let mut raw = Vec::new();
        for _ in 0..QUESTIONS {
            let start = Instant::now();
            rcc_tests::ask(server, "allowed.example", "A", false).map_err(anyhow::Error::msg)?;
            raw.push(milliseconds(start));
            std::thread::sleep(PAUSE);
        }
        Ok(raw)
    };
    let direct = ask(SocketAddr::from((world::ROUTER, 53)))?;
    let gate = SocketAddr::from(([169, 254, 1, 1], 53));
    let through = sandbox.run(|| ask(gate))?;
    for (part, goal) in [(50, "at most 0.5 ms more"), (99, "at most 2 ms more")] {
        let (with, without) = (percentile(&through, part), percentile(&direct, part));
        lines.push(Line {
            what: format!("resolver, added to a question, p{part}, ms"),
            measured: Some(with - without),
            against: Some(("the upstream asked directly".into(), without)),
            ratio: None,
            goal: goal.into(),
            skipped: None,
            raw: vec![with, without],
        });
    }
    Ok(())
}

fn sessions(lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let workshop = match Workshop::start(&Preset::Locked.document(&[]))? {
        Ok(workshop) => workshop,
        Err(reason) => {
            lines.push(skipped("session start", &reason.0));
            return Ok(());
        }
    };
    let project = workshop.project("bench")?;
    let image =
        workshop.run(&project, "podman", &["images", "--format", "{{.Repository}}:{{.Tag}}"])?;
    let image = image.out.lines().find(|line| line.contains("rcc-small")).context("no image")?;
    let volume = format!("{}:/workspace", project.display());
    let podman = [
        "run",
        "--rm",
        "--network=none",
        "--userns=keep-id",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--read-only",
        "--tmpfs=/tmp",
        "-v",
        &volume,
        image,
        "true",
    ];
    let rcc = ["run", "--yes", "--image", "small", "--", "true"];
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for round in 0..10 {
        let start = Instant::now();
        let ended = workshop.rcc(&project, &rcc)?;
        let took = milliseconds(start);
        ensure!(ended.code == 0, "rcc run: {}", ended.err);
        ensure!(workshop.rcc(&project, &["stop"])?.code == 0, "rcc stop");
        let start = Instant::now();
        let ended = workshop.run(&project, "podman", &podman)?;
        ensure!(ended.code == 0, "podman run: {}", ended.err);
        // The first round of each warms up.
        if round > 0 {
            own.push(took);
            others.push(milliseconds(start));
        }
    }
    let goal = "at most 1.15";
    lines.push(compared(
        "session start to the end of `true`, ms",
        own,
        "podman run --network=none, hardened alike",
        &others,
        goal,
    ));
    let mut again = Vec::new();
    for round in 0..10 {
        let start = Instant::now();
        ensure!(workshop.rcc(&project, &rcc)?.code == 0, "rcc run");
        if round > 0 {
            again.push(milliseconds(start));
        }
    }
    lines.push(Line {
        what: "another program in a running sandbox, ms".into(),
        measured: Some(median(&again)),
        against: None,
        ratio: None,
        goal: "none".into(),
        skipped: None,
        raw: again,
    });
    Ok(())
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

fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        if let Some(reason) = &line.skipped {
            let _ = writeln!(text, "{}: skipped: {reason}", line.what);
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

/// What the sender of `iperf3 -J` got through.
fn gigabits(json: &str) -> anyhow::Result<f64> {
    let start = json.find('{').context("iperf3 wrote no JSON")?;
    let said: serde_json::Value = serde_json::from_str(&json[start..])?;
    let bits = said["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.with_context(|| format!("iperf3: {}", said["error"]))? / 1e9)
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
        assert!(text.contains("ratio 0.90") && text.contains("other: skipped: no iperf3"));
        let json = r#"warning {"end":{"sum_received":{"bits_per_second":2.5e9}}}"#;
        assert!((gigabits(json).expect("a figure") - 2.5).abs() < 1e-9);
        assert!(gigabits(r#"{"error":"no route"}"#).is_err());
    }
}
