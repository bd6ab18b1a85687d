//! What the firewall costs a connection, a question, a stream.

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rcc_tests::{ANN, Actor, Lab, world};

use super::{Line, alone, compared, milliseconds, open_tun, percentile, skipped};
use crate::workspace;

pub(super) fn attach(lab: &Lab, ann: &mut Actor, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    for others in [0, 99] {
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

pub(super) fn throughput(lab: &Lab, ann: &mut Actor, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    if workspace::find("iperf3").is_none() {
        lines.push(skipped("throughput", "iperf3 is not installed"));
        return Ok(());
    }
    let server = world::SERVERS[0];
    let sandbox = lab.sandbox(ann, &[])?;
    open_tun(lab)?;
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
pub(super) fn on_one_stream(
    client: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<f64> {
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

pub(super) fn resolver(lab: &Lab, ann: &mut Actor, lines: &mut Vec<Line>) -> anyhow::Result<()> {
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
pub(super) fn hellos(lab: &Lab, ann: &mut Actor, lines: &mut Vec<Line>) -> anyhow::Result<()> {
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

/// What the sender of `iperf3 -J` got through.
fn gigabits(json: &str) -> anyhow::Result<f64> {
    let start = json.find('{').context("iperf3 wrote no JSON")?;
    let said: serde_json::Value = serde_json::from_str(&json[start..])?;
    let bits = said["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.with_context(|| format!("iperf3: {}", said["error"]))? / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_of_iperf3_is_found_behind_its_warnings() {
        let json = r#"warning {"end":{"sum_received":{"bits_per_second":2.5e9}}}"#;
        assert!((gigabits(json).expect("a figure") - 2.5).abs() < 1e-9);
        assert!(gigabits(r#"{"error":"no route"}"#).is_err());
    }
}
