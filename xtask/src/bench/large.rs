//! What the firewall costs where there is much of it: long lists, many elements,
//! many questions; and what it costs while nothing happens.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rcc_tests::{Actor, Lab, protocol::Call, world, zone};

use super::network::on_one_stream;
use super::{Line, alone, compared, milliseconds, skipped};
use crate::workspace;

/// Where the helper reads it, in the lab as anywhere.
const POLICY: &str = "/etc/rcc/network-whitelist.yaml";

/// The helper takes one `Refresh` in ten seconds.
const BETWEEN_REFRESHES: Duration = Duration::from_millis(10_200);

/// Puts a document in force; answers milliseconds until it holds.
fn put_in_force(ann: &mut Actor, document: &str) -> anyhow::Result<f64> {
    fs::write(POLICY, document)?;
    let start = Instant::now();
    ann.call::<()>(&Call::Refresh)?;
    Ok(milliseconds(start))
}

/// A list of 10,000 names, with one sandbox that it holds for.
pub(super) fn lists(lab: &Lab, ann: &mut Actor, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    let _sandbox = lab.sandbox(ann, &[])?;
    let document = |turn: usize| {
        let hosts: String = (0..10_000)
            .map(|n| format!("  - host: n{n}.turn{turn}.example\n    ports: [443]\n"))
            .collect();
        format!("version: 1\nwhitelist:\n{hosts}")
    };
    let (mut parsed, mut applied) = (Vec::new(), Vec::new());
    for turn in 0..4 {
        let document = document(turn);
        let start = Instant::now();
        let policy = rcc_policy::Policy::parse(document.as_bytes())?;
        parsed.push(milliseconds(start));
        ensure!(policy.entries.len() == 10_000, "{} entries", policy.entries.len());
        thread::sleep(BETWEEN_REFRESHES);
        applied.push(put_in_force(ann, &document)?);
    }
    lines.push(alone("a list of 10,000 hosts, parse and check, ms", parsed, "none"));
    let what = "a list of 10,000 hosts, parse, check and apply to a sandbox, ms";
    lines.push(alone(what, applied, "at most 150 ms"));
    Ok(())
}

/// One stream through a set of 100,000 networks and through one of ten.
pub(super) fn elements(lab: &Lab, ann: &mut Actor, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    if workspace::find("iperf3").is_none() {
        lines.push(skipped("throughput with 100,000 entries", "iperf3 is not installed"));
        return Ok(());
    }
    let document = |count: u32| {
        // Every other address, so that none can be joined with the next.
        let entry = |n: u32| {
            let address = std::net::Ipv4Addr::from(0x0b00_0000 + 2 * n);
            format!("  - ip: {address}/32\n    ports: [443]\n")
        };
        let server = "  - ip: 203.0.113.0/24\n    ports: [5201]\n".to_owned();
        let entries: String = (1..count).map(entry).chain([server]).collect();
        format!("version: 1\nwhitelist:\n{entries}")
    };
    let sandbox = lab.sandbox(ann, &[])?;
    let client = format!("timeout 10 iperf3 -c {} -t 3 -J", world::SERVERS[0]);
    let (mut few, mut many, mut applied) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        thread::sleep(BETWEEN_REFRESHES);
        put_in_force(ann, &document(10))?;
        few.push(on_one_stream(|| sandbox.shell(&client))?);
        thread::sleep(BETWEEN_REFRESHES);
        applied.push(put_in_force(ann, &document(100_000))?);
        many.push(on_one_stream(|| sandbox.shell(&client))?);
    }
    let what = "throughput with 100,000 elements, Gbit/s";
    lines.push(compared(what, many, "with 10", &few, "at least 0.97"));
    lines.push(alone("a list of 100,000 networks, parse, check and apply, ms", applied, "none"));
    Ok(())
}

/// What an answer costs helper and resolver, and what both cost while idle.
pub(super) fn costs(lab: &Lab, ann: &mut Actor, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    const SANDBOXES: usize = 8;
    const QUESTIONS: usize = 400;
    // Together below what the firewall lets one sandbox ask.
    const PAUSE: Duration = Duration::from_millis(4);
    let sandboxes =
        (0..SANDBOXES).map(|_| lab.sandbox(ann, &[])).collect::<anyhow::Result<Vec<_>>>()?;
    sandboxes[0].resolve("allowed.example").map_err(anyhow::Error::msg)?;
    let helper = lab.helper().context("no helper")?.as_raw();
    let resolver = lab.resolver().context("no resolver")?.as_raw();
    thread::sleep(Duration::from_secs(2));
    let resting = (turns(helper)?, turns(resolver)?);
    thread::sleep(Duration::from_secs(10));
    let woken = more_turns(&resting.0, &turns(helper)?) + more_turns(&resting.1, &turns(resolver)?);
    let what = "helper and resolver, times on a processor in ten idle seconds";
    lines.push(alone(what, vec![woken as f64], "0"));
    for (name, pid) in [("helper", helper), ("resolver", resolver)] {
        let what = format!("memory of the {name}, {SANDBOXES} sandboxes, MB");
        lines.push(alone(&what, vec![resident(pid)?], "at most 12"));
    }

    let before = (processor_time(helper)?, processor_time(resolver)?);
    let gate = SocketAddr::from(([169, 254, 1, 1], 53));
    let ask = |sandbox: &rcc_tests::Sandbox| {
        sandbox.run(|| -> Result<(), String> {
            for _ in 0..QUESTIONS {
                rcc_tests::ask(gate, "allowed.example", "A", false)?;
                thread::sleep(PAUSE);
            }
            Ok(())
        })
    };
    thread::scope(|scope| {
        let asking: Vec<_> =
            sandboxes.iter().map(|sandbox| scope.spawn(move || ask(sandbox))).collect();
        asking.into_iter().try_for_each(|one| {
            one.join()
                .map_err(|_| anyhow::anyhow!("a client panicked"))?
                .map_err(anyhow::Error::msg)
        })
    })?;
    let per_answer =
        |before: f64, after: f64| (after - before) * 1e6 / (SANDBOXES * QUESTIONS) as f64;
    let helper = per_answer(before.0, processor_time(helper)?);
    let resolver = per_answer(before.1, processor_time(resolver)?);
    let goal = "at most 100 µs each: 10,000 answers a second";
    lines.push(alone("processor time of the helper for an answer, µs", vec![helper], goal));
    lines.push(alone("processor time of the resolver for an answer, µs", vec![resolver], goal));
    Ok(())
}

/// Many sandboxes ask at once: names that none of them knows, so that each answer waits
/// for its address to be open, and the same ones again.
pub(super) fn answers(lab: &Lab, ann: &mut Actor, lines: &mut Vec<Line>) -> anyhow::Result<()> {
    const SANDBOXES: usize = 24;
    const NAMES: usize = 100;
    const ROUNDS: usize = 3;
    let name = |n: usize| format!("n{n}.many.example");
    // One each: an address that another name opened is open already.
    let address = |n: usize| {
        std::net::Ipv4Addr::from(0x0b00_0000 + u32::try_from(n).unwrap_or(u32::MAX - 0x0b00_0000))
    };
    let zone = (0..NAMES * ROUNDS).fold(zone(), |zone, n| zone.name(&name(n), &[address(n)]));
    lab.dns.set(zone);
    let hosts: String =
        (0..NAMES * ROUNDS).map(|n| format!("  - host: {}\n    ports: [443]\n", name(n))).collect();
    let sandboxes =
        (0..SANDBOXES).map(|_| lab.sandbox(ann, &[])).collect::<anyhow::Result<Vec<_>>>()?;
    put_in_force(ann, &format!("version: 1\nwhitelist:\n{hosts}"))?;
    // One that asks without a pause is held back.
    const BETWEEN: Duration = Duration::from_micros(2_100);
    let ask = |server: SocketAddr, round: usize| -> anyhow::Result<()> {
        let mut next = Instant::now();
        for n in round * NAMES..(round + 1) * NAMES {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next = Instant::now() + BETWEEN;
            let found = rcc_tests::ask(server, &name(n), "A", false);
            ensure!(found == Ok(vec![address(n).into()]), "{}: {found:?}", name(n));
        }
        Ok(())
    };
    let at_once = |one: &(dyn Fn(&rcc_tests::Sandbox) -> anyhow::Result<()> + Sync)| {
        let start = Instant::now();
        thread::scope(|scope| {
            let asking: Vec<_> =
                sandboxes.iter().map(|sandbox| scope.spawn(move || one(sandbox))).collect();
            asking
                .into_iter()
                .try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
        })?;
        anyhow::Ok((SANDBOXES * NAMES) as f64 / start.elapsed().as_secs_f64())
    };
    let gate = SocketAddr::from(([169, 254, 1, 1], 53));
    let upstream = SocketAddr::from((world::ROUTER, 53));
    let (mut opening, mut known, mut direct) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        direct.push(at_once(&|_| ask(upstream, round))?);
        opening.push(at_once(&|sandbox| sandbox.run(|| ask(gate, round)))?);
        known.push(at_once(&|sandbox| sandbox.run(|| ask(gate, round)))?);
    }
    let asked = "the upstream asked directly";
    let what = "answers a second to 24 sandboxes, each with an address to open";
    lines.push(compared(what, opening, asked, &direct, "at least 10,000"));
    let what = "answers a second to 24 sandboxes, with nothing to open";
    lines.push(compared(what, known, asked, &direct, "none"));
    Ok(())
}

/// Seconds on a processor so far (proc_pid_stat(5), utime and stime).
fn processor_time(pid: i32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after_name) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
    let a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no tick")?;
    Ok(ticks.context("no times in stat")? / a_second as f64)
}

/// How often each of its threads gave a processor up by itself, having been given one.
fn turns(pid: i32) -> anyhow::Result<HashMap<OsString, u64>> {
    let mut turns = HashMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?;
        // One that has just ended has no status any more.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
        let given_up = field(&status, "voluntary_ctxt_switches:").context("no switches")?;
        turns.insert(thread.file_name(), given_up);
    }
    Ok(turns)
}

/// A thread that ended meanwhile did so once.
fn more_turns(before: &HashMap<OsString, u64>, after: &HashMap<OsString, u64>) -> u64 {
    let grown = |(thread, turns): (&OsString, &u64)| turns - before.get(thread).unwrap_or(&0);
    let ended = before.keys().filter(|thread| !after.contains_key(*thread)).count();
    after.iter().map(grown).sum::<u64>() + ended as u64
}

/// Resident memory, in megabytes.
fn resident(pid: i32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(field(&status, "VmRSS:").context("no VmRSS")? as f64 / 1_024.0)
}

/// The number after a name, in the files of proc(5).
pub(super) fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_read() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        assert!(resident(own).expect("memory") > 1.0);
        assert!(processor_time(own).expect("time") >= 0.0);
        let turns = turns(own).expect("turns");
        assert_eq!(more_turns(&turns, &turns), 0);
        assert_eq!(more_turns(&turns, &HashMap::new()), turns.len() as u64);
        assert_eq!(field("VmRSS:\t  4096 kB\n", "VmRSS:"), Some(4_096));
        assert_eq!(field("other: 1\n", "VmRSS:"), None);
    }
}
