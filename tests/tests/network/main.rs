//! Attacks on the network wall, in the lab: real packets, a real bus, real
//! polkit, the real helper. Named after the rows of docs/threat-model.md.

mod churn;
mod decisions;
mod docker;
mod faults;
mod halfway;
mod hellos;
mod memory;
mod names;
mod packets;
mod protocols;
mod resolver;
mod restarts;
mod retry;
mod routes;
mod rules;
mod tunnels;
mod uplink;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use rcc_dbus::Rule;
use rcc_tests::{
    ANN, Actor, BOB, Lab, Options, Sandbox, Watched, Zone, in_namespace, skip, wait_for, world,
};

const POLICY: &str = "version: 1
whitelist:
  - host: allowed.example
    ports: [443, 9999]
  - ip: 198.51.100.0/24
    ports: [443]
";

const PRIVATE: &str = "version: 1
defaults:
  users_may_add: private
whitelist: []
";

/// A lab with one sandbox of Ann's; `None` when this machine cannot have one.
fn start(policy: &str, rules: &[Rule]) -> Option<(Lab, Actor, Sandbox)> {
    let lab = start_with(Options { policy: Some(policy.to_owned()), ..Options::default() })?;
    let mut ann = lab.person(ANN).expect("a person");
    let sandbox = lab.sandbox(&mut ann, rules).unwrap_or_else(|e| panic!("{e:#}\n{}", lab.log()));
    Some((lab, ann, sandbox))
}

fn start_with(options: Options) -> Option<Lab> {
    match Lab::start(options).expect("a lab") {
        Ok(lab) => Some(lab),
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

fn private(target: &str, port: u16) -> Rule {
    Rule { private: true, ..Rule::tcp(target, &[port]) }
}

/// How many packets the rule of a chain has counted whose text begins so.
fn counted(lab: &Lab, chain: &str, rule: &str) -> u64 {
    let listing = lab.in_gate(&format!("nft list chain inet rcc {chain}")).expect("nft");
    let line = listing.lines().find(|line| line.trim_start().starts_with(rule));
    let line = line.unwrap_or_else(|| panic!("no rule `{rule}` in {listing}"));
    let number = line.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

/// Kills the helper as `kill -9` does and waits until the bus knows.
fn kill_helper(lab: &Lab) {
    let helper = lab.helper().expect("a helper");
    let resolver = lab.resolver();
    nix::sys::signal::kill(helper, nix::sys::signal::Signal::SIGKILL).expect("kill");
    wait_for(|| lab.helper() != Some(helper) && lab.resolver() != resolver).expect("it ends");
    std::thread::sleep(Duration::from_millis(50));
}

/// How long a living connection may take to answer, and after what silence one is dead.
const PATIENCE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_millis(700);

/// A connection that can be told from a dead one.
fn held(sandbox: &Sandbox, address: Ipv4Addr, port: u16) -> TcpStream {
    let stream = sandbox.run(|| TcpStream::connect((address, port))).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut greeting = [0; 128];
    let length = (&stream).read(&mut greeting).expect("greeting");
    assert!(length > 0);
    stream.set_read_timeout(Some(SILENCE)).expect("timeout");
    stream
}

/// Like [`echoes`], for a stream that is not expected to be dead: a busy computer has time.
fn goes_on(stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let echoes = echoes(stream);
    stream.set_read_timeout(Some(SILENCE)).expect("timeout");
    echoes
}

fn echoes(mut stream: &TcpStream) -> bool {
    let mut answer = [0; 4];
    stream.write_all(b"ping").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && &answer == b"ping"
}

/// Like [`echoes`], for a stream that still has bytes of a flood to read.
fn echoes_fresh(mut stream: &TcpStream) -> bool {
    let mut bytes = [0; 65_536];
    let quiet = loop {
        match stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let waiting =
        matches!(quiet.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
    waiting && echoes(stream)
}
