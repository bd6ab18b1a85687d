//! `cargo xtask bench`: the figures of DESIGN 7 that one machine can tell, each
//! beside what it is compared with, from one run. Everything happens in labs.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use rcc_policy::Preset;
use rcc_tests::{ANN, Actor, Lab, Options, Workshop, world};
use serde::Serialize;

use crate::{child, test, workspace};

mod large;
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
    /// A session, against `podman run`.
    Sessions,
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
            Part::Throughput => in_a_lab(throughput),
            Part::Resolver => in_a_lab(resolver),
            Part::Hellos => in_a_lab(hellos),
            Part::Attach => in_a_lab(attach),
            Part::Lists => in_a_lab(large::lists),
            Part::Elements => in_a_lab(large::elements),
            Part::Costs => in_a_lab(large::costs),
            Part::Sessions => Box::new(sessions),
            Part::Window => Box::new(window::measure),
        };
        // A lab belongs to its thread.
        let done = std::thread::scope(|scope| scope.spawn(|| measure(&mut lines)).join());
        done.map_err(|_| anyhow::anyhow!("a measurement panicked"))??;
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
        let what = format!("attach as sandbox {}, ms", others + 1);
        lines.push(alone(&what, raw, "at most 15 ms"));
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
    // A computer lets everybody open it; where that is not so, the lab alone gets one.
    let tun =
        "mknod -m 666 /run/rcc-lab/tun c 10 200 && mount --bind /run/rcc-lab/tun /dev/net/tun";
    lab.on_host(tun)?;
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
                "unshare --pid --fork --mount-proc --kill-child \
                 timeout 15 setpriv --reuid {} --regid {} --clear-groups pasta --config-net --quiet -- {client}",
                ANN.0, ANN.0
            ),
        ),
    ];
    let on_host = |command: &str| on_one_stream(|| lab.on_host(command));
    let mut host = Vec::new();
    let mut inside = Vec::new();
    let mut other: [Vec<f64>; 2] = Default::default();
    let mut why = [String::new(), String::new()];
    // In turns: what else the machine does hits all alike.
    for _ in 0..3 {
        host.push(on_host(&client)?);
        inside.push(on_one_stream(|| sandbox.shell(&client))?);
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

/// Gbit/s of a client of iperf3, with a server of its own: one that lost a client
/// stays busy.
fn on_one_stream(client: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<f64> {
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

/// Connect, hello, first bytes of the answer: to a name, where the hello is looked
/// at, and to an address with a rule of its own, where it is not. In turns.
fn hellos(lab: &Lab, ann: &mut Actor, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    const CONNECTIONS: usize = 300;
    let sandbox = lab.sandbox(ann, &[])?;
    sandbox.resolve("allowed.example").map_err(anyhow::Error::msg)?;
    let hello = rcc_tests::hello::hello_for("allowed.example");
    let connect = |server: std::net::Ipv4Addr| -> anyhow::Result<f64> {
        let start = Instant::now();
        let mut stream = TcpStream::connect((server, 443))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(&hello)?;
        // The played server greets first, and sends back what it heard.
        let mut said = Vec::new();
        while !said.windows(hello.len()).any(|window| window == hello) {
            let mut piece = [0; 2_048];
            let length = stream.read(&mut piece)?;
            ensure!(length > 0, "the server closed the connection");
            said.extend_from_slice(&piece[..length]);
        }
        Ok(milliseconds(start))
    };
    let (looked_at, not) = sandbox.run(|| -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
        let (mut looked_at, mut not) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            looked_at.push(connect(world::SERVERS[0])?);
            not.push(connect(world::SERVERS[3])?);
        }
        Ok((looked_at, not))
    })?;
    for (part, goal) in [(50, "at most 1 ms more"), (99, "none")] {
        let (with, without) = (percentile(&looked_at, part), percentile(&not, part));
        lines.push(Line {
            what: format!("a look at a hello, added to connect and first answer, p{part}, ms"),
            measured: Some(with - without),
            against: Some(("a connection that is not looked at".into(), without)),
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
    let hardened: Vec<&str> = "run --rm --network=none --userns=keep-id --cap-drop=all \
        --security-opt=no-new-privileges --read-only --tmpfs=/tmp -v"
        .split_whitespace()
        .chain([volume.as_str(), image, "sh", "-c", "echo ready"])
        .collect();
    let rcc = ["run", "--yes", "--image", "small", "--", "sh", "-c", "echo ready"];
    let ready = |line: &str| line.contains("ready");
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for round in 0..11 {
        let took = until(&mut workshop.ann(&project, &program("rcc"), &rcc), ready)?;
        ensure!(workshop.rcc(&project, &["stop"])?.code == 0, "rcc stop");
        let other = until(&mut workshop.ann(&project, "podman", &hardened), ready)?;
        // The first round of each warms up.
        if round > 0 {
            own.push(took);
            others.push(other);
        }
    }
    lines.push(compared(
        "session start to the first byte of a shell, ms",
        own,
        "podman run --network=none, hardened alike",
        &others,
        "at most 1.15",
    ));
    let mut again = Vec::new();
    for round in 0..11 {
        let took = until(&mut workshop.ann(&project, &program("rcc"), &rcc), ready)?;
        if round > 0 {
            again.push(took);
        }
    }
    lines.push(alone("another program in a running sandbox, ms", again, "none"));
    claude(&workshop, &project, lines)
}

/// From `rcc claude` to Claude's own sign that it waits for a person, in a new
/// sandbox each time.
fn claude(workshop: &Workshop, project: &Path, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    if workspace::find("script").is_none() {
        lines.push(skipped("rcc claude to Claude's screen", "script (util-linux) is not there"));
        return Ok(());
    }
    let command = format!("{} claude --yes --image small", program("rcc"));
    let typed = ["-qfec", command.as_str(), "/dev/null"];
    let waits = |shown: &str| shown.contains(CLAUDE_WAITS);
    let (mut fresh, mut second) = (Vec::new(), Vec::new());
    for round in 0..6 {
        ensure!(workshop.rcc(project, &["stop"])?.code == 0, "rcc stop");
        let new = until(&mut workshop.ann(project, "script", &typed), waits)?;
        let another = until(&mut workshop.ann(project, "script", &typed), waits)?;
        if round > 0 {
            fresh.push(new);
            second.push(another);
        }
    }
    ensure!(workshop.rcc(project, &["stop"])?.code == 0, "rcc stop");
    let ended = workshop.run(project, "sh", &["-c", WITHOUT_A_SANDBOX])?;
    ensure!(ended.code == 0, "a home without a sandbox: {ended:?}");
    let typed = ["-qfec", "sh ../claude-without", "/dev/null"];
    let mut bare = Vec::new();
    for round in 0..6 {
        let took = until(&mut workshop.ann(project, "script", &typed), waits)?;
        if round > 0 {
            bare.push(took);
        }
    }
    let own = "Claude Code without a sandbox";
    lines.push(compared("rcc claude to its screen, ms", fresh, own, &bare, "at most 700 ms"));
    let what = "rcc claude in a running sandbox, ms";
    lines.push(compared(what, second, own, &bare, "none"));
    Ok(())
}

/// The same Claude Code with the home that it has in the sandbox, started by a shell.
const WITHOUT_A_SANDBOX: &str = r#"
home=$(cd .. && pwd)/home-without
cp -r ~/.local/share/containers/storage/volumes/rcc-home-*/_data "$home" &&
sed -i "s|\"/workspace\"|\"$PWD\"|" "$home/.claude.json" &&
claude=$(ls -d ~/.local/share/rcc/claude/*/claude | tail -n 1) &&
cat >../claude-without <<END
export HOME=$home TERM=xterm-256color COLORTERM=truecolor LANG=C.UTF-8 DISABLE_AUTOUPDATER=1
export CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL=1
export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1
exec $claude --dangerously-skip-permissions
END
"#;

/// The glyph in the title of a Claude Code that waits.
const CLAUDE_WAITS: &str = "\u{2733}";

fn program(name: &str) -> String {
    Lab::program(name).to_string_lossy().into_owned()
}

/// Milliseconds until what a program says fits; it is ended then.
fn until(command: &mut Command, fits: impl Fn(&str) -> bool) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("no output")?;
    let (mut said, mut piece) = (Vec::new(), [0; 4096]);
    let took = loop {
        let length = output.read(&mut piece)?;
        said.extend_from_slice(&piece[..length]);
        let shown = String::from_utf8_lossy(&said);
        if fits(&shown) {
            break milliseconds(start);
        }
        ensure!(length > 0, "{command:?} ended and said {shown}");
    };
    // Its input ends, so it does; a terminal's program hangs up.
    drop(child.stdin.take());
    let deadline = Instant::now() + Duration::from_secs(2);
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(took)
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
