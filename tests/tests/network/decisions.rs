//! What the kernel does with a packet is what the policy says: random lists, random
//! rules, random answers, random packets (the same in each run). `RCC_TURNS` says how
//! many rules are tried under each list.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recvfrom,
    sendto, socket,
};
use rcc_policy::{
    Answer, Entry, Flow, Policy, Protocol, Range, Target, Verdict, classify, decide, match_name,
};

use super::faults::turns;
use super::*;

/// Packets for each set of rules. A sandbox may begin 500 flows a second and hold 2,048.
const PACKETS: usize = 100;
const PACE: Duration = Duration::from_millis(3);
const PORTS: [u16; 7] = [22, 53, 80, 443, 8_443, 9_999, 65_535];
const NAMES: [&str; 5] =
    ["allowed.example", "other.example", "a.zone.example", "b.a.zone.example", "zone.example"];
/// Of each kind that is decided by itself, and their neighbours.
const ADDRESSES: [&str; 30] = [
    "203.0.113.9",
    "203.0.113.10",
    "203.0.113.255",
    "203.0.114.0",
    "198.51.100.0",
    "198.51.100.7",
    "8.8.8.8",
    "9.255.255.255",
    "10.0.0.0",
    "10.20.30.40",
    "10.255.255.255",
    "11.0.0.0",
    "172.15.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "172.32.0.0",
    "192.168.0.1",
    "192.168.77.10",
    "100.63.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.8",
    "198.18.0.77",
    "198.20.0.1",
    "223.255.255.255",
    "224.0.0.251",
    "240.0.0.1",
];

/// Marsaglia's xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn address(&mut self) -> Ipv4Addr {
        self.one(&ADDRESSES).parse().expect("an address")
    }

    fn ports(&mut self) -> Vec<u16> {
        let mut ports: Vec<u16> = (0..=self.below(3)).map(|_| self.one(&PORTS)).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// A rule of any kind that can stand in a list.
    fn rule(&mut self) -> Rule {
        loop {
            let (target, private) = match self.below(4) {
                0 => (self.one(&NAMES).to_owned(), self.below(2) == 0),
                1 => (format!("*.{}", self.one(&["zone.example", "a.zone.example"])), false),
                _ => {
                    let length = self.one(&[8u8, 12, 16, 24, 31, 32]);
                    let address = u32::from(self.address());
                    let mask = u32::MAX << (32 - length);
                    (format!("{}/{length}", Ipv4Addr::from(address & mask)), false)
                }
            };
            let protocol = self.one(&["tcp", "tcp", "udp"]).to_owned();
            let rule = Rule { target, ports: self.ports(), protocol, private };
            if rule.to_entry().is_ok() {
                return rule;
            }
        }
    }

    fn list(&mut self, block_rfc1918: bool, allow_public: bool) -> String {
        let may_add = self.one(&["private", "private", "public"]);
        let mut text = format!(
            "version: 1\ndefaults:\n  users_may_add: {may_add}\n  block_rfc1918: {block_rfc1918}\n  \
             allow_public: {allow_public}\n"
        );
        for _ in 0..self.below(4) {
            let entry = self.rule().to_entry().expect("it was checked");
            text = rcc_policy::add_entry(&text, &entry).expect("it can be added");
        }
        text
    }
}

/// Hears every packet that leaves the gate.
pub(super) fn listen() -> (OwnedFd, usize) {
    listen_at(Path::new("/run/netns/rcc"), "uplink0")
}

/// Hears every packet of a link in a network namespace, those that it sends too.
pub(super) fn listen_at(namespace: &Path, link: &str) -> (OwnedFd, usize) {
    // Seconds of traffic fit in.
    const ROOM: usize = 8 << 20;
    let open = || {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let kind = SockType::Datagram;
        let socket = socket(AddressFamily::Packet, kind, flags, SockProtocol::EthAll)?;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &ROOM)?;
        Ok::<_, nix::Error>((socket, nix::net::if_::if_nametoindex(link)? as usize))
    };
    in_namespace(namespace, open).expect("enter").expect("listen")
}

/// The beginnings of the packets since the last time, from their IP header on.
pub(super) fn packets(heard: &(OwnedFd, usize)) -> Vec<Vec<u8>> {
    let (mut found, mut packet) = (Vec::new(), [0; 128]);
    while let Ok((length, from)) = recvfrom::<LinkAddr>(heard.0.as_raw_fd(), &mut packet) {
        if from.is_some_and(|from| from.ifindex() == heard.1) {
            found.push(packet[..length].to_vec());
        }
    }
    found
}

/// What has left since the last time: destination, protocol and port.
pub(super) fn left(heard: &(OwnedFd, usize)) -> HashSet<(Ipv4Addr, Protocol, u16)> {
    let mut found = HashSet::new();
    for packet in packets(heard) {
        if packet.len() < 24 || packet[0] >> 4 != 4 {
            continue;
        }
        let protocol = match packet[9] {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            _ => continue,
        };
        let to = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
        found.insert((to, protocol, u16::from_be_bytes([packet[22], packet[23]])));
    }
    found
}

/// The first packet of a flow, as a client's kernel sends it. The sum of IP is the
/// kernel's to fill in.
fn first_packet(from: Ipv4Addr, port: u16, flow: &Flow) -> Vec<u8> {
    const SYN: u8 = 2;
    let IpAddr::V4(to) = flow.address else { panic!("IPv4 alone") };
    match flow.protocol {
        Protocol::Tcp => segment((from, port), (to, flow.port), SYN, (1, 0), b""),
        Protocol::Udp => packet((from, port), (to, flow.port), 17, b"\0\x0c\0\0test"),
    }
}

/// A packet of TCP with these flags, and the numbers of its first byte and of what is
/// expected next.
pub(super) fn segment(
    from: (Ipv4Addr, u16),
    to: (Ipv4Addr, u16),
    flags: u8,
    numbers: (u32, u32),
    payload: &[u8],
) -> Vec<u8> {
    let (sequence, next) = (numbers.0.to_be_bytes(), numbers.1.to_be_bytes());
    let head = [&sequence[..], &next, &[0x50, flags, 0xff, 0xff, 0, 0, 0, 0], payload].concat();
    let mut packet = packet(from, to, 6, &head);
    let sum = tcp_sum(&packet);
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// What follows the ports is given.
fn packet(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), protocol: u8, rest: &[u8]) -> Vec<u8> {
    let length = u8::try_from(24 + rest.len()).expect("short");
    let mut packet = vec![0x45, 0, 0, length, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    packet.extend(from.1.to_be_bytes());
    packet.extend(to.1.to_be_bytes());
    packet.extend(rest);
    packet
}

/// Sends a packet as it is, from the namespace of the calling thread.
pub(super) fn send_raw(packet: &[u8]) {
    let kind = SockType::Raw;
    let raw = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw);
    let to = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
    let to = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
    sendto(raw.expect("a raw socket").as_raw_fd(), packet, &to, MsgFlags::empty()).expect("sent");
}

/// RFC 9293 3.1: without it conntrack takes a packet for a broken one.
fn tcp_sum(packet: &[u8]) -> u16 {
    let length = u16::try_from(packet.len() - 20).expect("short");
    let mut sum = 6 + u32::from(length);
    for pair in packet[12..].chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// What an entry may open of an answer; the same is said in the helper, in other words.
fn opens(entry: &Entry, address: Ipv4Addr) -> bool {
    match classify(address.into()) {
        Range::Never => false,
        Range::Private => entry.private(),
        Range::Public => true,
    }
}

fn is_hosts(address: Ipv4Addr) -> bool {
    [world::HOST, world::HOST_ON_LAN].contains(&address)
}

/// Connects so many times, one after the other; how long each took.
pub(super) fn connecting(count: u32, server: SocketAddr) -> Vec<Duration> {
    let connected = |_| {
        let begun = Instant::now();
        TcpStream::connect_timeout(&server, Duration::from_secs(5)).expect("it connects");
        begun.elapsed()
    };
    (0..count).map(connected).collect()
}

/// Begins so many connections a second as a program does that has work for them; answers
/// how many there were by the end of `time`.
pub(super) fn paced(a_second: u32, time: Duration, server: SocketAddr) -> u32 {
    let begun = Instant::now();
    let step = Duration::from_secs(1) / a_second;
    let mut done = 0;
    for number in 0.. {
        let next = begun + step * number;
        if next >= begun + time {
            break;
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        TcpStream::connect_timeout(&server, Duration::from_secs(5)).expect("it connects");
        if begun.elapsed() > time {
            break;
        }
        done += 1;
    }
    done
}

/// Begins flows to 256 addresses, each from another port, without a pause, with what
/// the others leave of the processors: what is asked is what its flows cost them.
pub(super) struct Flooder {
    over: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<usize>,
}

impl Flooder {
    pub(super) fn start(sandbox: &Sandbox, network: u32, port: u16) -> Self {
        use std::sync::atomic::{AtomicBool, Ordering};
        let over = std::sync::Arc::new(AtomicBool::new(false));
        let (sandbox, until) = (sandbox.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            sandbox.run(|| {
                let flags = SockFlag::SOCK_CLOEXEC;
                let (family, kind) = (AddressFamily::Inet, SockType::Raw);
                let raw = socket(family, kind, flags, SockProtocol::Raw).expect("a raw socket");
                let own = nix::unistd::gettid().to_string();
                let idle =
                    std::process::Command::new("chrt").args(["-i", "-p", "0", &own]).status();
                assert!(idle.is_ok_and(|end| end.success()), "chrt");
                let mut sent = 0;
                for number in (0u32..).take_while(|_| !until.load(Ordering::Relaxed)) {
                    let address = Ipv4Addr::from(network | number & 0xff);
                    let flow = Flow { address: address.into(), protocol: Protocol::Tcp, port };
                    let from = u16::try_from(1_024 + number / 256 % 60_000).expect("a port");
                    let packet = first_packet(sandbox.address, from, &flow);
                    let to = SockaddrIn::from(std::net::SocketAddrV4::new(address, 0));
                    let done = sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty());
                    sent += usize::from(done.is_ok());
                }
                sent
            })
        });
        Self { over, thread }
    }

    /// Ends it; answers how many packets were sent.
    pub(super) fn end(self) -> usize {
        self.over.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.join().expect("it ends")
    }
}

#[test]
fn the_kernel_decides_as_the_policy_says() {
    let mut dice = Dice(0x5eed_cafe);
    for (block_rfc1918, allow_public) in
        [(true, false), (true, true), (false, false), (false, true)]
    {
        // Each lab is its thread's own.
        let thread = std::thread::spawn(move || {
            under_one_list(&mut dice, block_rfc1918, allow_public);
            dice
        });
        dice = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}

fn under_one_list(dice: &mut Dice, block_rfc1918: bool, allow_public: bool) {
    let list = dice.list(block_rfc1918, allow_public);
    let policy = Policy::parse(list.as_bytes()).expect("a list");
    let Some((lab, mut ann, sandbox)) = start(&list, &[]) else { return };
    let heard = listen();
    let raw = sandbox.run(|| {
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
    });
    let raw = raw.expect("a raw socket");
    let mut allowed_in_all = 0;
    // An answer holds for as long as its entry does, whatever the name has later.
    let mut given: HashSet<(Entry, Ipv4Addr)> = HashSet::new();
    for turn in 0..turns(5) {
        let rules: Vec<Rule> = (0..dice.below(6)).map(|_| dice.rule()).collect();
        let mut zone = Zone::default();
        let mut answers_of: HashMap<&str, Vec<Ipv4Addr>> = HashMap::new();
        for name in NAMES {
            let addresses: Vec<Ipv4Addr> = (0..=dice.below(4)).map(|_| dice.address()).collect();
            zone = zone.name(name, &addresses);
            answers_of.insert(name, addresses);
        }
        lab.dns.set(zone);
        ann.set_rules(sandbox.id, &rules, 0).expect("rules");
        let own: Vec<Entry> = rules.iter().map(|rule| rule.to_entry().expect("checked")).collect();
        let (own, _) = rcc_policy::merge(&policy, &own);
        let entries: Vec<Entry> = policy.entries.iter().cloned().chain(own).collect();
        given.retain(|(entry, _)| entries.contains(entry));
        for name in NAMES {
            let told = sandbox.resolve(name);
            let name_in_form = name.parse().expect("a name");
            let mut expected = HashSet::new();
            for entry in match_name(&entries, &name_in_form) {
                for address in &answers_of[name] {
                    if opens(&entries[entry], *address) && !is_hosts(*address) {
                        given.insert((entries[entry].clone(), *address));
                        expected.insert(IpAddr::from(*address));
                    }
                }
            }
            if match_name(&entries, &name_in_form).next().is_some() {
                let told: HashSet<IpAddr> = told.expect("it is allowed").into_iter().collect();
                assert_eq!(told, expected, "{name}: {list} {rules:?}");
            }
        }
        let number = |entry| entries.iter().position(|one| one == entry).expect("it holds");
        let answers: Vec<Answer> = given
            .iter()
            .map(|(entry, address)| Answer { address: (*address).into(), entry: number(entry) })
            .collect();
        let mut flows = HashMap::new();
        while flows.len() < PACKETS {
            let known: Vec<Ipv4Addr> = answers_of.values().flatten().copied().collect();
            let address = match dice.below(3) {
                0 => dice.one(&known),
                1 => dice.address(),
                _ => match entries.get(dice.below(entries.len().max(1))).map(Entry::target) {
                    // The edges of a network, and their neighbours.
                    Some(Target::Net(net)) => {
                        let (IpAddr::V4(first), IpAddr::V4(last)) =
                            (net.network(), net.broadcast())
                        else {
                            continue;
                        };
                        let edge = u32::from(dice.one(&[first, last]));
                        Ipv4Addr::from(edge.wrapping_add(dice.one(&[u32::MAX, 0, 1])))
                    }
                    _ => dice.address(),
                },
            };
            let protocol = dice.one(&[Protocol::Tcp, Protocol::Udp]);
            let flow = Flow { address: address.into(), protocol, port: dice.one(&PORTS) };
            let expected = decide(&policy.defaults, &entries, &answers, flow) == Verdict::Allowed
                && !is_hosts(address);
            flows.insert((address, protocol, flow.port), (flow, expected));
        }
        left(&heard);
        for (number, ((address, _, _), (flow, _))) in flows.iter().enumerate() {
            let port = 20_000 + (turn * PACKETS + number) % 40_000;
            let port = u16::try_from(port).expect("a port");
            let packet = first_packet(sandbox.address, port, flow);
            let to = SockaddrIn::from(std::net::SocketAddrV4::new(*address, 0));
            // To some the sandbox's own kernel sends nothing.
            let _ = sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty());
            std::thread::sleep(PACE);
        }
        let wanted: HashSet<_> =
            flows.iter().filter(|(_, (_, allowed))| *allowed).map(|(key, _)| *key).collect();
        let mut seen = HashSet::new();
        let _ = wait_for(|| {
            seen.extend(left(&heard));
            seen.is_superset(&wanted)
        });
        std::thread::sleep(Duration::from_millis(50));
        seen.extend(left(&heard));
        let wrong: Vec<_> = flows
            .iter()
            .filter(|(key, (_, allowed))| seen.contains(*key) != *allowed)
            .map(|(key, (flow, allowed))| {
                let said = decide(&policy.defaults, &entries, &answers, *flow);
                format!("{key:?}: the policy says {said:?} ({allowed})")
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}\nunder\n{list}\nand {rules:#?}\n{answers:?}");
        allowed_in_all += wanted.len();
    }
    eprintln!("{} flows allowed under\n{list}", allowed_in_all);
    assert!(allowed_in_all > 0, "nothing was allowed, so nothing was tried");
}
