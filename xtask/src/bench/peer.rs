//! Beside sandbox-runtime, the peer on npm that is made of bubblewrap, socat and a proxy
//! in node: the same jobs, in one lab, in turns. rcc's sandboxes are real ones here.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rcc_tests::{ANN, CACHE, Workshop, in_namespace, zone};
use serde_json::json;

use super::client::{self, What};
use super::large::field;
use super::sessions::{program, until};
use super::{
    Figures, Line, alone, beside, compared, in_a_line, median, milliseconds, more, skipped,
};
use crate::{child, workspace};

/// The newest one when this was written; it asks for node 22.12.
const PACKAGE: &str = "@anthropic-ai/sandbox-runtime";
const VERSION: &str = "0.0.83";
/// The node that it runs with, so that figures of two computers can be compared.
const NODE: &str = "24.22.3";
/// Both come over the network the first time: 200 MB.
const PATIENCE: Duration = Duration::from_secs(600);

const NAME: &str = "stream.example";
const ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(203, 0, 113, 134);
const POLICY: &str = "version: 1
whitelist:
  - host: stream.example
    ports: [443]
";
const ROUNDS: usize = 10;
/// Of a stream.
const SECONDS: u32 = 3;
const CONNECTIONS: u32 = 100;

pub(super) fn measure(lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let package = match fetched() {
        Ok(package) => package,
        Err(reason) => {
            lines.push(skipped("against sandbox-runtime", &reason));
            return Ok(());
        }
    };
    let workshop = match Workshop::start(POLICY)? {
        Ok(workshop) => workshop,
        Err(reason) => {
            lines.push(skipped("against sandbox-runtime", &reason.0));
            return Ok(());
        }
    };
    workshop.lab.dns.set(zone().name(NAME, &[ADDRESS]));
    workshop.lab.on_host(&far_server())?;
    let listen = || TcpListener::bind((ADDRESS, 443));
    client::serve(in_namespace(Path::new("/run/netns/far"), listen)??);
    let project = workshop.project("bench")?;
    // Where both kinds of sandboxes see it.
    let own = project.join("client");
    fs::copy(std::env::current_exe()?, &own).context("copy the client")?;
    let peer = Peer::install(&workshop, &package, &project)?;
    if let Err(error) = peer.says("echo ready") {
        let reason = format!("it does not run here: {}", in_a_line(&error));
        lines.push(skipped("against sandbox-runtime", &reason));
        return Ok(());
    }
    let bench = Bench { workshop: &workshop, project, peer };
    ensure!(bench.rcc(&["run", "--yes", "--image", "small", "--", "true"])?.code == 0, "rcc run");
    // Before anything else: Podman keeps a process for each exec for minutes.
    bench.memory(lines)?;
    bench.starts(lines)?;
    bench.further(lines)?;
    bench.streams(lines)?;
    bench.connections(lines)
}

/// The folder with the package and a node; from the last time, or by this computer's npm.
fn fetched() -> Result<PathBuf, String> {
    for (program, package) in [("bwrap", "bubblewrap"), ("socat", "socat"), ("rg", "ripgrep")] {
        if workspace::find(program).is_none() {
            return Err(format!("{program} is not installed (package {package})"));
        }
    }
    let node = workspace::packaged_node().ok_or("npm has no node for this machine")?;
    let name = format!("sandbox-runtime-{VERSION}-{NODE}");
    let kept = Path::new(CACHE).join(&name);
    if kept.is_dir() {
        return Ok(kept);
    }
    if workspace::find("npm").is_none() {
        return Err("npm, which fetches it, is not installed".into());
    }
    rcc_tests::cache().map_err(|error| format!("{error:#}"))?;
    // Whole or not there, whenever this is ended.
    let fresh = kept.with_file_name(format!("{name}.new"));
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir(&fresh).map_err(|error| format!("make {}: {error}", fresh.display()))?;
    let output = child::output_of("fetch sandbox-runtime");
    let mut npm = Command::new("npm");
    npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"])
        .arg(&fresh)
        // One that does not answer is not waited for long.
        .args(["--fetch-retries=1", "--fetch-timeout=60000"])
        .args([format!("{PACKAGE}@{VERSION}"), format!("{node}@{NODE}")])
        .current_dir(&fresh);
    match child::run(&mut npm, &output, PATIENCE) {
        Ok(child::End::Good) => {}
        _ => {
            let _ = fs::remove_dir_all(&fresh);
            let said = fs::read_to_string(&output).unwrap_or_default();
            return Err(format!("npm cannot fetch {PACKAGE} {VERSION}: {}", complaint(&said)));
        }
    }
    let moved = fs::rename(&fresh, &kept);
    moved.map_err(|error| format!("rename {}: {error}", fresh.display()))?;
    Ok(kept)
}

/// Why npm failed: it begins with that, and ends with advice.
fn complaint(said: &str) -> String {
    // Up to its version 9 it shouted.
    let prefixes = ["npm error ", "npm ERR! "];
    let lines = said.lines().filter_map(|line| prefixes.iter().find_map(|p| line.strip_prefix(p)));
    lines.take(4).collect::<Vec<_>>().join(" ")
}

/// A computer behind the router, for sh(1): on the router every address answers on 443.
fn far_server() -> String {
    format!(
        "set -e
         ip netns add far
         ip -n far link set lo up
         ip link add far0 netns internet type veth peer name eth0 netns far
         ip -n internet addr add 203.0.113.133/30 dev far0
         ip -n internet link set far0 up
         ip -n far addr add {ADDRESS}/30 dev eth0
         ip -n far link set eth0 up
         ip -n far route add default via 203.0.113.133
         ip netns exec internet sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'"
    )
}

/// sandbox-runtime as ann has it in a lab.
struct Peer<'a> {
    workshop: &'a Workshop,
    project: PathBuf,
}

impl<'a> Peer<'a> {
    const FOLDER: &'static str = "/run/rcc-lab/sandbox-runtime";
    const SETTINGS: &'static str = "/run/rcc-lab/sandbox-runtime.json";
    const DRIVER: &'static str = "/run/rcc-lab/sandbox-runtime.mjs";
    const TEMPORARY: &'static str = "/run/rcc-lab/sandbox-runtime.tmp";

    fn install(workshop: &'a Workshop, package: &Path, project: &Path) -> anyhow::Result<Self> {
        let (folder, temporary) = (Self::FOLDER, Self::TEMPORARY);
        workshop.lab.on_host(&format!(
            "mkdir {folder} && mount --bind -o ro {} {folder} && \
             install -d -m 700 -o {ann} -g {ann} {temporary}",
            package.display(),
            ann = ANN.0
        ))?;
        // What a sandbox of rcc's gets: the project to write, nothing of the home, one host.
        let settings = json!({
            "network": {"allowedDomains": [format!("{NAME}:443")], "deniedDomains": []},
            "filesystem": {
                "denyRead": [workshop.home()], "allowRead": [project],
                "allowWrite": [project], "denyWrite": []
            },
        });
        fs::write(Self::SETTINGS, settings.to_string())?;
        fs::write(Self::DRIVER, include_str!("peer.mjs"))?;
        Ok(Self { workshop, project: project.to_owned() })
    }

    fn modules() -> PathBuf {
        Path::new(Self::FOLDER).join("node_modules")
    }

    /// Node with a script, as ann; ended when it takes far too long.
    fn node(&self, script: &Path, arguments: &[&str]) -> Command {
        let bin = Self::modules().join(workspace::packaged_node().unwrap_or_default()).join("bin");
        let (node, script) = (bin.join("node"), script.to_string_lossy());
        let node = node.to_string_lossy();
        let mut all = vec!["120", &*node, &*script];
        all.extend(arguments);
        let mut command = self.workshop.ann(&self.project, "timeout", &all);
        command.env("TMPDIR", Self::TEMPORARY).env_remove("NODE_EXTRA_CA_CERTS");
        command
    }

    /// One command, by its own command line.
    fn command(&self, command: &str) -> Command {
        let cli = Self::modules().join(PACKAGE).join("dist/cli.js");
        self.node(&cli, &["-s", Self::SETTINGS, "-c", command])
    }

    /// What a command says.
    fn says(&self, command: &str) -> anyhow::Result<String> {
        let ended = self.workshop.finish(&mut self.command(command))?;
        ensure!(ended.code == 0, "{command}: {}: {}{}", ended.code, ended.err, ended.out);
        Ok(ended.out)
    }
}

struct Bench<'a> {
    workshop: &'a Workshop,
    project: PathBuf,
    peer: Peer<'a>,
}

impl Bench<'_> {
    const READY: &'static str = "echo ready";

    fn rcc(&self, arguments: &[&str]) -> anyhow::Result<rcc_tests::Ended> {
        self.workshop.rcc(&self.project, arguments)
    }

    /// `rcc run` of a command of the shell.
    fn in_rcc(&self, command: &str) -> Command {
        let arguments = ["run", "--yes", "--image", "small", "--", "sh", "-c", command];
        self.workshop.ann(&self.project, &program("rcc"), &arguments)
    }

    /// All that stands around one idle command, without the command.
    fn memory(&self, lines: &mut Vec<Line>) -> anyhow::Result<()> {
        let idle = "echo ready; exec sleep 60";
        let lab = &self.workshop.lab;
        ensure!(self.rcc(&["stop"])?.code == 0, "rcc stop");
        let mut shared = 0.0;
        let own = while_ready(&mut self.in_rcc(idle), |_| {
            let ids = [lab.helper().context("no helper")?, lab.resolver().context("no resolver")?];
            shared = proportional(&ids.map(nix::unistd::Pid::as_raw))?;
            Ok(shared + proportional(&self.workshop.processes())?)
        })?;
        ensure!(self.rcc(&["stop"])?.code == 0, "rcc stop");
        let other = while_ready(&mut self.peer.command(idle), |child| {
            let ids: Vec<i32> = child::family(child.id())
                .into_iter()
                .map(i32::try_from)
                .collect::<Result<_, _>>()?;
            proportional(&ids)
        });
        let what = "memory around one idle command, PSS in MB";
        beside_peer(what, vec![own], other.map(|other| vec![other]), lines);
        let what = "of that helper and resolver, shared by all sandboxes, PSS in MB";
        lines.push(alone(what, vec![shared], "none"));
        Ok(())
    }

    fn starts(&self, lines: &mut Vec<Line>) -> anyhow::Result<()> {
        let ready = |said: &str| said.contains("ready");
        let (mut own, mut others) = (Vec::new(), Ok(Vec::new()));
        // The first round of each warms up.
        for round in 0..=ROUNDS {
            let took = until(&mut self.in_rcc(Self::READY), ready)?;
            ensure!(self.rcc(&["stop"])?.code == 0, "rcc stop");
            let other = until(&mut self.peer.command(Self::READY), ready);
            if round > 0 {
                own.push(took);
                more(&mut others, other.map(|other| vec![other]));
            }
        }
        beside_peer("session start to the first byte of a shell, ms", own, others, lines);
        Ok(())
    }

    /// A further command where something runs already: a session here, a program with
    /// the library there.
    fn further(&self, lines: &mut Vec<Line>) -> anyhow::Result<()> {
        let mut own = Vec::new();
        for round in 0..=ROUNDS {
            let took = until(&mut self.in_rcc(Self::READY), |said| said.contains("ready"))?;
            if round > 0 {
                own.push(took);
            }
        }
        beside_peer("another program in a running sandbox, ms", own, self.further_peer(), lines);
        Ok(())
    }

    fn further_peer(&self) -> anyhow::Result<Vec<f64>> {
        let library = Peer::modules().join(PACKAGE).join("dist/index.js");
        let arguments = [&*library.to_string_lossy(), Peer::SETTINGS];
        let mut child = self
            .peer
            .node(Path::new(Peer::DRIVER), &arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().context("no input")?;
        let mut said = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut next = |wanted: &str| -> anyhow::Result<()> {
            let line = said.next().context("its library ended")??;
            ensure!(line == wanted, "its library said {line}");
            Ok(())
        };
        next("initialised")?;
        let mut raw = Vec::new();
        for round in 0..=ROUNDS {
            let start = Instant::now();
            writeln!(input, "{}", Self::READY)?;
            next("ready")?;
            if round > 0 {
                raw.push(milliseconds(start));
            }
        }
        drop(input);
        child.wait()?;
        Ok(raw)
    }

    /// The client's figures from the computer itself, from a sandbox of rcc's, and from
    /// one of the peer's.
    fn figures(&self, what: What, amount: u32, name: &str) -> anyhow::Result<[Figures; 3]> {
        let arguments = format!("client {} {amount} {name} 443", what.word());
        let own = format!("{} {arguments}", self.project.join("client").display());
        let host = self.workshop.run(&self.project, "sh", &["-c", &own])?;
        ensure!(host.code == 0, "{own}: {}", host.err);
        let inside = self.workshop.finish(&mut self.in_rcc(&format!("./client {arguments}")))?;
        ensure!(inside.code == 0, "rcc run {arguments}: {}", inside.err);
        let other = self.peer.says(&own).and_then(|said| figures(&said));
        Ok([figures(&host.out), figures(&inside.out), other])
    }

    fn streams(&self, lines: &mut Vec<Line>) -> anyhow::Result<()> {
        for (what, direction) in [(What::Up, "to"), (What::Down, "from")] {
            let (mut host, mut own, mut other) = (Ok(Vec::new()), Ok(Vec::new()), Ok(Vec::new()));
            for _ in 0..3 {
                let [one, two, three] = self.figures(what, SECONDS, NAME)?;
                more(&mut host, one);
                more(&mut own, two);
                more(&mut other, three);
            }
            let name = format!("one stream {direction} an allowed host by name on 443, Gbit/s");
            // Its hello was looked at; what follows should cost next to nothing.
            against_both(&name, &host?, own?, other, "at least 0.85", lines);
        }
        Ok(())
    }

    fn connections(&self, lines: &mut Vec<Line>) -> anyhow::Result<()> {
        let [host, own, other] = self.figures(What::Connect, CONNECTIONS, NAME)?;
        let name = "an allowed host, from its name to the first byte after a hello, ms";
        against_both(name, &host?, own?, other, "none", lines);
        let [_, own, other] = self.figures(What::Refused, CONNECTIONS, "refused.example")?;
        beside_peer("a refused host, from its name to the refusal, ms", own?, other, lines);
        Ok(())
    }
}

/// One figure a line.
fn figures(said: &str) -> Figures {
    let parse = |line: &str| -> anyhow::Result<f64> {
        line.trim().parse().with_context(|| format!("not a figure: {line}"))
    };
    let all = said.lines().map(parse).collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(!all.is_empty(), "no figure");
    Ok(all)
}

/// The goals of the design are against others; this one is told as it is.
fn beside_peer(what: &str, own: Vec<f64>, other: Figures, lines: &mut Vec<Line>) {
    lines.extend(beside(what, own, "sandbox-runtime", other, "none"));
}

/// Both beside the computer itself, with a goal for ours, and beside each other.
fn against_both(
    what: &str,
    host: &[f64],
    own: Vec<f64>,
    other: Figures,
    goal: &str,
    lines: &mut Vec<Line>,
) {
    lines.push(compared(what, own.clone(), "the host itself", host, goal));
    if let Ok(other) = &other {
        let what = format!("{what}: sandbox-runtime");
        lines.push(compared(&what, other.clone(), "the host itself", host, "none"));
    }
    beside_peer(what, own, other, lines);
}

/// Looks at a program that has said `ready` and stays, the middle of three looks.
fn while_ready(
    command: &mut Command,
    mut look: impl FnMut(&Child) -> anyhow::Result<f64>,
) -> anyhow::Result<f64> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    let mut looks = || -> anyhow::Result<f64> {
        ensure!(line.contains("ready"), "it said {line:?}");
        let mut raw = Vec::new();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_secs(1));
            raw.push(look(&child)?);
        }
        Ok(median(&raw))
    };
    let looked = looks();
    for pid in child::family(child.id()) {
        // One that has ended meanwhile needs nothing more.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    child.wait()?;
    looked
}

/// Memory of processes, what they share with others in proportion, in megabytes. The
/// command itself, and what only measures, do not count.
fn proportional(processes: &[i32]) -> anyhow::Result<f64> {
    let mut kilobytes = 0;
    for pid in processes {
        let folder = Path::new("/proc").join(pid.to_string());
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        if ["sleep", "timeout"].contains(&name.trim()) {
            continue;
        }
        // One that has just ended has none.
        let Ok(rollup) = fs::read_to_string(folder.join("smaps_rollup")) else { continue };
        kilobytes += field(&rollup, "Pss:").unwrap_or(0);
    }
    ensure!(kilobytes > 0, "no memory of {processes:?} can be read");
    Ok(kilobytes as f64 / 1_024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_lines_and_a_failure_is_a_reason() {
        assert_eq!(figures("1.5\n2\n").expect("figures"), [1.5, 2.0]);
        assert!(figures("").is_err() && figures("1\nnone\n").is_err());
        let mut lines = Vec::new();
        against_both("speed", &[4.0], vec![2.0], figures("no way"), "at least 0.85", &mut lines);
        let said = super::super::table(&lines);
        assert!(said.contains("the host itself: 4.000; ratio 0.50"), "{said}");
        assert!(
            said.contains("speed: sandbox-runtime: not measured: not a figure: no way"),
            "{said}"
        );
        lines.clear();
        against_both("speed", &[4.0], vec![2.0], figures("1\n"), "at least 0.85", &mut lines);
        let said = super::super::table(&lines);
        assert!(said.contains("speed: sandbox-runtime: 1.000; the host itself: 4.000"), "{said}");
        assert!(said.contains("speed: 2.000; sandbox-runtime: 1.000; ratio 2.00"), "{said}");
    }

    #[test]
    fn the_beginning_of_a_complaint_of_npms_is_the_reason() {
        let said = "npm warn old\nnpm error code E1\nnpm error no\nnpm ERR! way\nnpm error !\nnpm error advice\n";
        assert_eq!(complaint(said), "code E1 no way !");
    }

    #[test]
    fn memory_is_read_and_what_measures_is_left_out() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert!(proportional(&[own]).expect("memory") > 1.0);
        let mut sleeping = Command::new("sleep").arg("30").spawn().expect("sleep");
        let pid = i32::try_from(sleeping.id()).expect("a pid");
        // It has its name once it is a program of its own.
        let named =
            || fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|n| n == "sleep\n");
        rcc_tests::wait_for(named).expect("its name");
        assert!(proportional(&[pid]).is_err());
        sleeping.kill().expect("end it");
        sleeping.wait().expect("its end");
    }
}
