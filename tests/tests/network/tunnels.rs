//! A real program that makes a tunnel of questions for names, and its real server.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rcc_tests::Skip;

use super::decisions::{listen_at, packets};
use super::*;

const TUNNELS: &str = "version: 1
whitelist:
  - host: allowed.example
    ports: [443]
  - host: \"*.zone.example\"
    ports: [443]
";

/// What it says when it has made its tunnel.
const MADE: &str = "Connection setup complete";
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The client, until it gives up or its tunnel stands.
fn client(lab: &Lab, server: Ipv4Addr, zone: &str, rest: &str) -> String {
    let pid = lab.folder().join("iodine.pid");
    let pid = pid.display();
    // No way but names, a password that it would ask for, and no search for a size. With a
    // tunnel it goes on in the background, and writes there who it is a moment later.
    format!(
        "timeout 30 iodine -r -P secret -m 200 -F {pid} {rest} {server} {zone} 2>&1 || exit 0
         for _ in $(seq 100); do test -s {pid} && break; sleep 0.05; done
         kill -9 $(cat {pid}) && rm {pid}"
    )
}

/// The server, in the played internet.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Names in the questions that have left for `server` since the last time.
fn asked(heard: &(OwnedFd, usize), server: Ipv4Addr) -> Vec<String> {
    let to_it = |packet: &Vec<u8>| {
        packet.len() > 40 && packet[16..20] == server.octets() && packet[22..24] == [0, 53]
    };
    // Label by label, behind the heads of IP, UDP and DNS; a root ends it.
    let name = |packet: Vec<u8>| {
        let labels = packet[40..].split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(labels).into_owned()
    };
    packets(heard).into_iter().filter(to_it).map(name).collect()
}

#[test]
fn n4_a_real_tunnel_gets_nothing_through() {
    let Some((lab, _ann, sandbox)) = start(TUNNELS, &[]) else { return };
    if lab.on_host("command -v iodine && command -v iodined && test -c /dev/net/tun").is_err() {
        return skip(&Skip("iodine, iodined or /dev/net/tun is missing".into()));
    }
    // Below a refused name, and below one that is allowed and no wildcard.
    for zone in ["t.other.example", "allowed.example", "t.allowed.example"] {
        let said = sandbox.shell(&client(&lab, GATEWAY, zone, "")).expect("iodine");
        assert!(said.contains("No suitable DNS query type found"), "it gives up: {said}");
    }
    assert_eq!(lab.dns.asked_names(), [""; 0], "nothing at all is sent upstream");

    // Below a wildcard, with the server as the computer's own name server.
    let server = world::SERVERS[1];
    let log = lab.folder().join("iodined.log");
    let out = std::fs::File::create(&log).expect("a log");
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", "internet", "iodined", "-f", "-c", "-P", "secret", "-l"])
        .args([&server.to_string(), "10.99.1.1", "zone.example"])
        .stdin(Stdio::null())
        .stdout(out.try_clone().expect("the log"))
        .stderr(out);
    let _server = Server(command.spawn().expect("iodined"));
    let log = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_for(|| log().contains("Listening to dns")).unwrap_or_else(|_| panic!("{}", log()));
    let said = lab.on_host(&client(&lab, server, "zone.example", "-T A")).expect("iodine");
    assert!(said.contains(MADE), "without the wall it works: {said}");
    std::fs::write("/etc/resolv.conf", format!("nameserver {server}\n")).expect("write");
    // What was on its way of the tunnel that was made.
    std::thread::sleep(Duration::from_millis(200));
    let heard = listen_at(Path::new("/proc/thread-self/ns/net"), "eth0");
    // The gate answers at once, so that each gives up at once.
    let mut all = HashSet::new();
    for kind in ["", "-T A", "-T CNAME", "-T TXT", "-T NULL", "-T MX", "-T SRV"] {
        let said = sandbox.shell(&client(&lab, GATEWAY, "zone.example", kind)).expect("iodine");
        assert!(!said.contains(MADE), "{kind}: {said}");
        all.extend(asked(&heard, server));
    }
    assert!(!all.is_empty() && all.len() <= 60, "{}: {all:?}", all.len());
    let lower = |name: &String| *name == name.to_lowercase() && name.ends_with("\u{7}example");
    assert!(all.iter().all(lower), "{all:?}");
}
