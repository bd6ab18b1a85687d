//! Tries what must not be possible, with the agent's rights, and says what came of it (`rcc verify`).

mod question;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::personality::{self, Persona};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use rcc_inside::probes::{End, MAX_DOCUMENT, Outcome, Probe};

use super::filter;
use question::ask;

/// How long a packet may take before it counts as lost.
const PATIENCE: Duration = Duration::from_millis(1_200);
/// Families of sockets that no program here needs, and through which kernels were taken over.
const FAMILIES: &[(AddressFamily, SockType)] = &[
    (AddressFamily::Alg, SockType::SeqPacket),
    (AddressFamily::Vsock, SockType::Stream),
    (AddressFamily::Can, SockType::Raw),
    (AddressFamily::Tipc, SockType::SeqPacket),
    (AddressFamily::Rds, SockType::SeqPacket),
    (AddressFamily::Key, SockType::Raw),
    (AddressFamily::Packet, SockType::Raw),
];
/// Tries one probe alone: namespaces can be left only by a process with one thread.
pub const ALONE_MODE: &str = "probe-alone";

/// Reads probes on standard input and writes outcomes on standard output, after so many
/// milliseconds at the latest: those that are not done by then are unfinished.
///
/// # Errors
/// When the input is no list of probes, or the time is none.
pub fn run(time: Option<OsString>) -> io::Result<()> {
    let time = time.and_then(|time| time.to_str()?.parse().ok());
    let time = time.ok_or_else(|| io::Error::other("for how long?"))?;
    let end = Instant::now() + Duration::from_millis(time);
    let probes: Vec<Probe> = serde_json::from_slice(&input()?)?;
    write(&try_until(
        end,
        probes,
        |probe| {
            if is_alone(&probe) { apart(&probe) } else { attempt(&probe) }
        },
    ))
}

/// All at once; what is not done when the time is over goes on, and nobody waits for it.
fn try_until(
    end: Instant,
    probes: Vec<Probe>,
    attempt: impl Fn(Probe) -> Outcome + Clone + Send + 'static,
) -> Vec<Outcome> {
    let mut outcomes = vec![untried("the try ended early"); probes.len()];
    let mut waiting: BTreeSet<usize> = (0..probes.len()).collect();
    let (sender, done) = mpsc::channel();
    for (number, probe) in probes.into_iter().enumerate() {
        let (attempt, sender) = (attempt.clone(), sender.clone());
        let job = move || sender.send((number, attempt(probe)));
        // The sandbox may have as many processes and threads as it is allowed.
        if let Err(error) = thread::Builder::new().spawn(job) {
            outcomes[number] = untried(error.to_string());
            waiting.remove(&number);
        }
    }
    drop(sender);
    loop {
        match done.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok((number, outcome)) => {
                outcomes[number] = outcome;
                waiting.remove(&number);
            }
            Err(RecvTimeoutError::Timeout) => {
                for number in waiting {
                    outcomes[number] = Outcome::unfinished();
                }
                return outcomes;
            }
            Err(RecvTimeoutError::Disconnected) => return outcomes,
        }
    }
}

/// Tries the one probe on standard input in this process.
///
/// # Errors
/// As [`run`].
pub fn run_alone() -> io::Result<()> {
    let probe: Probe = serde_json::from_slice(&input()?)?;
    write(&attempt(&probe))
}

fn input() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(MAX_DOCUMENT as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write(value: &impl serde::Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.flush()
}

fn is_alone(probe: &Probe) -> bool {
    matches!(probe, Probe::OwnNetwork { .. } | Probe::Unmount | Probe::Calls { .. })
}

fn apart(probe: &Probe) -> Outcome {
    let ask = || -> io::Result<Outcome> {
        let mut child = Command::new("/proc/self/exe")
            .arg(ALONE_MODE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let bytes = serde_json::to_vec(probe)?;
        child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?.write_all(&bytes)?;
        Ok(serde_json::from_slice(&child.wait_with_output()?.stdout)?)
    };
    ask().unwrap_or_else(|error| untried(error.to_string()))
}

/// What an error says of a wall. One that a wall cannot cause (no memory, no
/// descriptors, a full disk) says nothing.
fn failed(error: &io::Error) -> Outcome {
    if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) {
        return Outcome { end: End::Silent, seen: "no answer".to_owned() };
    }
    if error.raw_os_error() == Some(Errno::ECONNREFUSED as i32) {
        return Outcome { end: End::Rejected, seen: "refused".to_owned() };
    }
    let said_no = [
        Errno::EPERM,
        Errno::EACCES,
        Errno::EROFS,
        Errno::ENOENT,
        Errno::ENOTDIR,
        Errno::ENOSYS,
        Errno::ECONNRESET,
        Errno::ECONNABORTED,
        Errno::EPIPE,
        Errno::ENETDOWN,
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::EADDRNOTAVAIL,
        Errno::EAFNOSUPPORT,
        Errno::EPROTONOSUPPORT,
    ];
    let refused = error.raw_os_error().is_some_and(|code| said_no.contains(&Errno::from_raw(code)));
    // A number says nothing to a person.
    let words = error.to_string();
    let words = words.split(" (os error").next().unwrap_or_default();
    if refused { held(words) } else { untried(words) }
}

fn done(seen: impl Into<String>) -> Outcome {
    Outcome { end: End::Possible, seen: seen.into() }
}

fn held(seen: impl Into<String>) -> Outcome {
    Outcome { end: End::Refused, seen: seen.into() }
}

fn untried(seen: impl Into<String>) -> Outcome {
    Outcome { end: End::Untried, seen: seen.into() }
}

fn attempt(probe: &Probe) -> Outcome {
    let result = match probe {
        Probe::OtherLink => other_link(),
        Probe::AddressOfSix => address_of_six(),
        Probe::Connect { address, port } => connect(*address, *port),
        Probe::ConnectPastGate { address, port } => connect_past_gate(*address, *port),
        Probe::Hello { address, port, name } => hello(*address, *port, name),
        Probe::Ask { server, name, kind } => ask(*server, name, *kind),
        Probe::RawSocket => raw_socket(),
        Probe::ChangeRules => change_rules(),
        Probe::OwnNetwork { address, port } => own_network(*address, *port),
        Probe::Calls { namespaces } => Ok(calls(*namespaces)),
        Probe::Mount => mount_something(),
        Probe::Unmount => unmount(),
        Probe::ReadHost { path, word } => read_host(path, word),
        Probe::Write { path } => write_file(path),
        Probe::Exists { path } => exists(path),
    };
    result.unwrap_or_else(|error| failed(&error))
}

fn other_link() -> io::Result<Outcome> {
    // proc_net(5): two lines of headings, then a link each, its name before a colon.
    let text = fs::read_to_string("/proc/self/net/dev").map_err(io::Error::other)?;
    let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    let mut links: Vec<&str> = names.map(|(name, _)| name.trim()).collect();
    links.sort_unstable();
    let other = links.iter().any(|link| !["lo", "eth0"].contains(link));
    let seen = links.join(", ");
    Ok(if other { done(seen) } else { held(seen) })
}

fn address_of_six() -> io::Result<Outcome> {
    // proc_net(5): address, index, prefix length, scope, flags, link. Scope 0 is the world, 10 the machine itself,
    // 20 the link.
    let text = match fs::read_to_string("/proc/net/if_inet6") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(held("there is no IPv6 at all"));
        }
        Err(error) => return Err(error),
    };
    let world = text.lines().find(|line| line.split_whitespace().nth(3) == Some("00"));
    Ok(world.map_or_else(|| held("there is none"), done))
}

fn connect(address: IpAddr, port: u16) -> io::Result<Outcome> {
    TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE)?;
    Ok(done("connected"))
}

/// Hops that a packet may make: to the gate, which forwards or refuses it, and to the
/// computer, where it dies.
const HOPS: u32 = 2;
const NEAR_PATIENCE: Duration = Duration::from_millis(500);

fn connect_past_gate(address: IpAddr, port: u16) -> io::Result<Outcome> {
    let near = || -> io::Result<()> {
        let family = rustix::net::AddressFamily::INET;
        let socket = rustix::net::socket(family, rustix::net::SocketType::STREAM, None)?;
        rustix::net::sockopt::set_ip_ttl(&socket, HOPS)?;
        // Connecting is bounded by it, too: socket(7).
        let bound = rustix::net::sockopt::Timeout::Send;
        rustix::net::sockopt::set_socket_timeout(&socket, bound, Some(NEAR_PATIENCE))?;
        Ok(rustix::net::connect(&socket, &SocketAddr::new(address, port))?)
    };
    let refused = match near() {
        Ok(()) => return Ok(done("connected")),
        Err(error) => error,
    };
    let outcome = failed(&refused);
    let without_a_way = refused.raw_os_error() == Some(Errno::ENETUNREACH as i32);
    if outcome.end == End::Rejected || without_a_way {
        return Ok(outcome);
    }
    Ok(match connect(address, port) {
        Ok(outcome) => outcome,
        // By whoever is further away: that says nothing of the firewall.
        Err(error) => untried(format!("the firewall did not refuse it: {}", failed(&error).seen)),
    })
}

/// The shortest hello that says whom it wants (RFC 8446, RFC 6066).
fn hello_bytes(name: &str) -> Vec<u8> {
    fn long(content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
        [&length.to_be_bytes(), content].concat()
    }
    let server_name =
        [&[0u8, 0][..], &long(&long(&[&[0u8][..], &long(name.as_bytes())].concat()))].concat();
    // Versions, groups, signatures: enough for a server to answer, if only with an alert.
    let others = [0, 43, 0, 3, 2, 3, 4, 0, 10, 0, 4, 0, 2, 0, 29, 0, 13, 0, 4, 0, 2, 4, 3];
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(long(&[0x13, 0x01, 0xc0, 0x2f]));
    body.extend([1, 0]);
    body.extend(long(&[&server_name[..], &others].concat()));
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let message = [&[1, length[1], length[2], length[3]], &body[..]].concat();
    [&[22, 3, 1][..], &long(&message)].concat()
}

fn hello(address: IpAddr, port: u16, name: &str) -> io::Result<Outcome> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&hello_bytes(name))?;
    let mut answer = [0; 1];
    match stream.read(&mut answer)? {
        0 => Ok(held("the connection was closed without an answer")),
        _ => Ok(done("the server answered")),
    }
}

fn raw_socket() -> io::Result<Outcome> {
    for (family, protocol) in
        [(AddressFamily::Inet, SockProtocol::Icmp), (AddressFamily::Packet, SockProtocol::EthAll)]
    {
        match socket(family, SockType::Raw, SockFlag::empty(), protocol) {
            Ok(_) => return Ok(done("made one")),
            Err(Errno::EPERM | Errno::EACCES | Errno::EAFNOSUPPORT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(held("not permitted"))
}

/// The smallest batch that makes a table (linux/netfilter/nfnetlink.h, nf_tables.h).
fn change_rules() -> io::Result<Outcome> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkNetFilter,
    )?;
    let message = |kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]| {
        let length = u32::try_from(20 + body.len()).unwrap_or(u32::MAX);
        let mut out = length.to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend((1 | flags).to_ne_bytes());
        out.extend([0; 8]);
        out.extend([family, 0]);
        out.extend(resource.to_be_bytes());
        out.extend(body);
        out
    };
    // NFTA_TABLE_NAME, "rccx".
    let name = [9, 0, 1, 0, b'r', b'c', b'c', b'x', 0, 0, 0, 0];
    let packet = [
        message(0x10, 0, 0, 10, &[]),
        message(10 << 8, 0x404, 1, 0, &name),
        message(0x11, 0, 0, 10, &[]),
    ]
    .concat();
    rustix::net::send(&fd, &packet, rustix::net::SendFlags::empty())?;
    let mut answer = [0; 1_024];
    let (length, _) = rustix::net::recv(&fd, &mut answer[..], rustix::net::RecvFlags::empty())?;
    let code = answer.get(16..20).filter(|_| length >= 20).and_then(|code| code.try_into().ok());
    Ok(match code.map(i32::from_ne_bytes) {
        Some(0) => done("a rule table was made"),
        Some(code) => held(io::Error::from_raw_os_error(-code).to_string()),
        None => untried("the kernel did not answer"),
    })
}

fn own_network(address: IpAddr, port: u16) -> io::Result<Outcome> {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET) {
        if error == Errno::ENOMEM {
            return Err(error.into());
        }
        return Ok(held(format!("no namespaces of its own: {error}")));
    }
    Ok(match connect(address, port) {
        Ok(_) => done("connected from there"),
        Err(error) => held(format!("it has a network of its own, which leads nowhere: {error}")),
    })
}

fn calls(namespaces: bool) -> Outcome {
    if !filter::is_in_force() {
        return done("another filter than rcc's, or none, is in force");
    }
    for (family, kind) in FAMILIES {
        if socket(*family, *kind, SockFlag::empty(), None).is_ok() {
            return done(format!("a socket of {family:?}"));
        }
    }
    if personality::set(Persona::READ_IMPLIES_EXEC).is_ok() {
        return done("data that can be executed as a program");
    }
    if !namespaces && unshare(CloneFlags::CLONE_NEWUSER).is_ok() {
        return done("a user namespace of its own");
    }
    held("rcc's filter answered each of them")
}

fn mount_something() -> io::Result<Outcome> {
    mount(Some("none"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let _ = umount2("/tmp", MntFlags::MNT_DETACH);
    Ok(done("mounted over /tmp"))
}

fn unmount() -> io::Result<Outcome> {
    let own_view = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS);
    if let Err(error) = &own_view {
        return Ok(held(format!("no view of its own: {error}")));
    }
    for path in ["/workspace", "/etc/resolv.conf", "/run/rcc"] {
        if umount2(path, MntFlags::MNT_DETACH).is_ok() {
            return Ok(done(format!("unmounted {path}")));
        }
    }
    Ok(held("what was mounted before cannot be unmounted"))
}

fn read_host(path: &str, word: &str) -> io::Result<Outcome> {
    let link = std::env::temp_dir().join(format!("rcc-verify-{}", std::process::id()));
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(path, &link)?;
    let below = path.trim_start_matches('/');
    let ways = [
        path.to_owned(),
        link.to_string_lossy().into_owned(),
        format!("/workspace/../{below}"),
        format!("/proc/1/root/{below}"),
        format!("/proc/self/cwd/../{below}"),
    ];
    let found =
        ways.iter().find(|way| fs::read(way).is_ok_and(|text| text.starts_with(word.as_bytes())));
    let _ = fs::remove_file(&link);
    Ok(found
        .map_or_else(|| held("not there, by none of five ways"), |way| done(format!("read {way}"))))
}

fn write_file(path: &str) -> io::Result<Outcome> {
    let existed = Path::new(path).exists();
    fs::OpenOptions::new().append(true).create(true).open(path)?;
    if !existed {
        fs::remove_file(path)?;
    }
    Ok(done("opened for writing"))
}

fn exists(path: &str) -> io::Result<Outcome> {
    let there = Path::new(path).try_exists()?;
    Ok(if there { done("it is there") } else { held("it is not there") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_done_in_time_is_unfinished_and_what_is_done_counts() {
        let links = [Probe::RawSocket, Probe::OtherLink, Probe::Mount];
        let begun = Instant::now();
        let attempt = |probe: Probe| match probe {
            Probe::RawSocket => held("no"),
            Probe::OtherLink => panic!("as a try that goes wrong"),
            _ => {
                thread::sleep(Duration::from_secs(60));
                done("too late")
            }
        };
        let outcomes = try_until(begun + Duration::from_millis(300), links.into(), attempt);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert_eq!(outcomes[0], held("no"));
        assert_eq!(outcomes[2], Outcome::unfinished());
        let early =
            try_until(Instant::now() + Duration::from_secs(60), vec![Probe::OtherLink], attempt);
        assert_eq!(early, [untried("the try ended early")]);
    }

    #[test]
    fn an_error_that_no_wall_causes_is_no_wall() {
        let end = |errno: Errno| failed(&errno.into()).end;
        assert_eq!(end(Errno::EPERM), End::Refused);
        assert_eq!(end(Errno::ENETUNREACH), End::Refused);
        assert_eq!(end(Errno::EAGAIN), End::Silent);
        assert_eq!(end(Errno::ECONNREFUSED), End::Rejected);
        for errno in [Errno::ENOMEM, Errno::EMFILE, Errno::ENOSPC, Errno::EIO, Errno::EINVAL] {
            assert_eq!(end(errno), End::Untried, "{errno}");
        }
        assert_eq!(failed(&io::Error::other("odd")).end, End::Untried);
    }
}
