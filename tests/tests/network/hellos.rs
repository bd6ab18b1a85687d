//! N20: two names on one address, of which one is allowed.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rcc_tests::hello::{encrypted, hello, hello_for, large_key, named};

use super::faults::turns;
use super::*;

const SHARED: Ipv4Addr = world::SERVERS[0];

/// `allowed.example` and `evil.example` live at one address, as on a CDN.
fn shared(rules: &[Rule]) -> Option<(Lab, Actor, Sandbox)> {
    let found = start(POLICY, rules)?;
    let zone = Zone::default()
        .name("allowed.example", &[SHARED])
        .name("evil.example", &[SHARED])
        .name("other.example", &[SHARED]);
    found.0.dns.set(zone);
    found.2.resolve("allowed.example").expect("it opens its address");
    Some(found)
}

/// What comes back for `bytes`, after the server's greeting.
pub(super) fn said(stream: &TcpStream, bytes: &[u8]) -> bool {
    let mut stream = stream;
    let mut answer = vec![0; bytes.len()];
    stream.write_all(bytes).is_ok() && stream.read_exact(&mut answer).is_ok() && answer == bytes
}

/// The connection was ended, and did not only fall silent.
pub(super) fn hears_its_end(read: &std::io::Result<usize>) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    match read {
        Ok(length) => *length == 0,
        Err(error) => !matches!(error.kind(), TimedOut | WouldBlock),
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn n20_another_name_on_an_allowed_address_is_refused() {
    let Some((lab, mut ann, sandbox)) = shared(&[]) else { return };
    ann.call::<()>(&rcc_tests::protocol::Call::Watch).expect("watch");
    let good = held(&sandbox, SHARED, 443);
    assert!(said(&good, &hello_for("allowed.example")), "{}", lab.log());
    assert!(goes_on(&good), "and what follows passes");
    // On a busy computer not each time; who sends again does so each time.
    let at_once = (0..5).any(|_| {
        let stream = held(&sandbox, SHARED, 443);
        let asked = Instant::now();
        said(&stream, &hello_for("allowed.example")) && asked.elapsed() < Duration::from_millis(150)
    });
    assert!(at_once, "no packet had to be sent again");

    let evil = held(&sandbox, SHARED, 443);
    evil.set_read_timeout(Some(PATIENCE)).expect("timeout");
    (&evil).write_all(&hello_for("evil.example")).expect("written");
    let end = (&evil).read(&mut [0; 16]);
    assert!(hears_its_end(&end), "it hears of it at once: {end:?}");
    let told = ann
        .event(|event| matches!(event, Watched::Blocked { host, .. } if host == "evil.example"))
        .expect("told");
    assert!(
        matches!(&told, Watched::Blocked { port: 443, reason, .. } if reason == "not-allowed"),
        "{told:?}"
    );
    for (what, bytes) in [
        ("no name", hello(&[large_key()], 1 << 14)),
        ("two names", hello(&[named("allowed.example"), named("evil.example")], 1 << 14)),
        ("encrypted", hello(&[named("allowed.example"), encrypted()], 1 << 14)),
        ("a subdomain", hello_for("evil.allowed.example")),
        ("plain HTTP", b"GET / HTTP/1.1\r\nHost: allowed.example\r\n\r\n".to_vec()),
        ("SSH", b"SSH-2.0-evil\r\n".to_vec()),
    ] {
        assert!(!said(&held(&sandbox, SHARED, 443), &bytes), "{what}");
    }
    ann.event(|event| matches!(event, Watched::Blocked { reason, .. } if reason == "unnamed"))
        .expect("told");
    let heard = lab.echo.heard();
    assert!(contains(&heard, b"allowed.example"));
    for secret in [&b"evil"[..], b"GET", b"SSH"] {
        assert!(!contains(&heard, secret), "the server heard {secret:?}");
    }
}

#[test]
fn n20_hellos_that_are_cut_pass_and_smuggle_nothing() {
    let Some((lab, _ann, sandbox)) = shared(&[]) else { return };
    let large = [large_key(), large_key(), named("allowed.example")];
    for bytes in [hello(&large, 1 << 14), hello(&large, 50)] {
        // Two packets and more at once, and a few bytes at a time.
        assert!(said(&held(&sandbox, SHARED, 443), &bytes));
    }
    let slow = held(&sandbox, SHARED, 443);
    slow.set_nodelay(true).expect("no delay");
    let bytes = hello(&[named("allowed.example")], 20);
    // A client sends ten packets before it waits for an answer (RFC 6928).
    for piece in bytes.chunks(bytes.len().div_ceil(9)) {
        (&slow).write_all(piece).expect("write");
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut answer = vec![0; bytes.len()];
    (&slow).read_exact(&mut answer).expect("all of it");
    assert_eq!(answer, bytes);
    // Half a hello is nothing, and the other half never comes.
    let half = held(&sandbox, SHARED, 443);
    let evil = hello_for("evil.example");
    (&half).write_all(&evil[..evil.len() - 1]).expect("write");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!contains(&lab.echo.heard(), b"evil"));
    assert!(!said(&half, &evil[evil.len() - 1..]));
    // An urgent byte is not part of what a server reads.
    let urgent = held(&sandbox, SHARED, 443);
    let sent = nix::sys::socket::send(
        std::os::fd::AsRawFd::as_raw_fd(&urgent),
        &hello_for("allowed.example"),
        nix::sys::socket::MsgFlags::MSG_OOB,
    );
    sent.expect("send");
    assert!(!said(&urgent, b"more"));
    assert!(!contains(&lab.echo.heard(), b"evil"));
}

#[test]
fn n20_who_looked_once_is_out_of_the_way() {
    let Some((lab, _ann, sandbox)) = shared(&[]) else { return };
    let stream = held(&sandbox, SHARED, 443);
    let flows =
        || lab.in_gate("conntrack -L -p tcp --dport 443 2>/dev/null || true").expect("conntrack");
    let mark = || -> u32 {
        let flows = flows();
        let mark = flows.split("mark=").nth(1).and_then(|rest| rest.split(' ').next());
        mark.unwrap_or_else(|| panic!("no mark in {flows}")).parse().expect("a number")
    };
    assert!(mark() >> 31 == 1, "still to be looked at");
    assert!(said(&stream, &hello_for("allowed.example")));
    wait_for(|| mark() >> 31 == 0).expect("the kernel passes it by itself");
    // Also while nobody could look.
    let resolver = lab.resolver().expect("a resolver");
    kill_helper(&lab);
    assert!(lab.resolver() != Some(resolver));
    let megabyte = vec![7; 1 << 20];
    let mut writer = stream.try_clone().expect("clone");
    let sending = std::thread::spawn(move || writer.write_all(&megabyte));
    let mut back = vec![0; 1 << 20];
    (&stream).read_exact(&mut back).expect("everything comes back");
    sending.join().expect("no panic").expect("sent");
}

#[test]
fn n20_nothing_passes_while_nobody_looks() {
    let Some((lab, mut ann, sandbox)) = shared(&[]) else { return };
    let waiting = held(&sandbox, SHARED, 443);
    kill_helper(&lab);
    assert!(!said(&waiting, &hello_for("evil.example")));
    assert!(!contains(&lab.echo.heard(), b"evil"));
    ann.list().expect("a new helper");
    // It does not know the connection, so that ends; new ones are looked at.
    assert!(!said(&waiting, &hello_for("allowed.example")));
    let new = || {
        let Ok(stream) = sandbox.run(|| TcpStream::connect((SHARED, 443))) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("timeout");
        let greeted = (&stream).read(&mut [0; 128]).is_ok_and(|length| length > 0);
        greeted && said(&stream, &hello_for("allowed.example"))
    };
    wait_for(new).expect("looked at");
    assert!(!said(&held(&sandbox, SHARED, 443), &hello_for("evil.example")));
    assert!(!contains(&lab.echo.heard(), b"evil"));
}

#[test]
fn n20_what_a_person_allows_and_takes_away_holds_for_names() {
    let rule = Rule::tcp("evil.example", &[443]);
    let Some((lab, mut ann, sandbox)) = shared(&[]) else { return };
    let allowed = held(&sandbox, SHARED, 443);
    assert!(said(&allowed, &hello_for("allowed.example")));
    assert!(!said(&held(&sandbox, SHARED, 443), &hello_for("evil.example")));
    ann.set_rules(sandbox.id, std::slice::from_ref(&rule), 0).expect("allow");
    sandbox.resolve("evil.example").expect("allowed now");
    let evil = held(&sandbox, SHARED, 443);
    assert!(said(&evil, &hello_for("evil.example")));
    assert!(goes_on(&allowed), "allowing cuts nothing");
    // The address stays open by the other name; this one's connection does not.
    ann.set_rules(sandbox.id, &[], 0).expect("deny");
    assert!(!echoes(&evil));
    assert!(!said(&held(&sandbox, SHARED, 443), &hello_for("evil.example")));
    let again = held(&sandbox, SHARED, 443);
    assert!(said(&again, &hello_for("allowed.example")), "{}", lab.log());
}

#[test]
fn n20_addresses_with_a_rule_of_their_own_and_an_open_internet_are_not_looked_at() {
    let Some((_lab, mut ann, sandbox)) = shared(&[Rule::tcp(SHARED.to_string(), &[443])]) else {
        return;
    };
    assert!(goes_on(&held(&sandbox, SHARED, 443)), "a rule for the address");
    ann.set_rules(sandbox.id, &[], 0).expect("take it away");
    assert!(!said(&held(&sandbox, SHARED, 443), b"plain"));
    ann.open_internet(sandbox.id, 60).expect("open");
    assert!(goes_on(&held(&sandbox, SHARED, 443)), "open to the internet");
    ann.open_internet(sandbox.id, 0).expect("close");
    assert!(!said(&held(&sandbox, SHARED, 443), b"plain"));
}

/// Found in a review: a connection that never rests, to a name that is taken away.
#[test]
fn n20_a_busy_connection_ends_with_its_name() {
    let rule = Rule::tcp("evil.example", &[443]);
    let Some((_lab, mut ann, sandbox)) = shared(&[]) else { return };
    for turn in 0..10 {
        ann.set_rules(sandbox.id, std::slice::from_ref(&rule), 0).expect("allow");
        sandbox.resolve("evil.example").expect("allowed");
        let busy = held(&sandbox, SHARED, 443);
        assert!(said(&busy, &hello_for("evil.example")), "turn {turn}");
        let mut sender = busy.try_clone().expect("clone");
        let sending = std::thread::spawn(move || {
            let end = Instant::now() + Duration::from_secs(5);
            while Instant::now() < end && sender.write_all(&[7; 64]).is_ok() {}
        });
        std::thread::sleep(Duration::from_millis(30));
        ann.set_rules(sandbox.id, &[], 0).expect("take it away");
        assert!(!echoes_fresh(&busy), "turn {turn}");
        drop(busy);
        sending.join().expect("no panic");
    }
}

/// Found by the test above, which failed once in some thousand turns: a packet that was on
/// its way through the chain while its connection was passed had it looked at once more, by
/// who had passed it; and from there each change of rules took it along. What such a packet
/// did is played here.
#[test]
fn n20_a_busy_connection_that_is_looked_at_once_more_ends_with_its_name() {
    let rule = Rule::tcp("evil.example", &[443]);
    let Some((lab, mut ann, sandbox)) = shared(&[]) else { return };
    let in_gate = |what: &str| lab.in_gate(what).expect("in the gate");
    for turn in 0..6 {
        ann.set_rules(sandbox.id, std::slice::from_ref(&rule), 0).expect("allow");
        sandbox.resolve("evil.example").expect("allowed");
        let busy = held(&sandbox, SHARED, 443);
        assert!(said(&busy, &hello_for("evil.example")), "turn {turn}");
        let mut passed = 0;
        wait_for(|| {
            let flows = in_gate("conntrack -L -p tcp --dport 443 --state ESTABLISHED");
            let mark = flows.split("mark=").nth(1).and_then(|rest| rest.split(' ').next());
            passed = mark.and_then(|mark| mark.parse::<u32>().ok()).unwrap_or_default();
            passed != 0 && passed >> 31 == 0
        })
        .expect("passed");
        let mut sender = busy.try_clone().expect("clone");
        let sending = std::thread::spawn(move || {
            let end = Instant::now() + Duration::from_secs(3);
            while Instant::now() < end && sender.write_all(&[7; 64]).is_ok() {}
        });
        in_gate(&format!(
            "nft 'add table inet played; \
             add chain inet played late {{ type filter hook prerouting priority -160; }}; \
             add rule inet played late ct mark {passed} ct mark set {}'; \
             sleep 0.05; nft delete table inet played",
            passed | 1 << 31
        ));
        std::thread::sleep(Duration::from_millis(30));
        ann.set_rules(sandbox.id, &[], 0).expect("take it away");
        assert!(!echoes_fresh(&busy), "turn {turn}");
        drop(busy);
        sending.join().expect("no panic");
    }
}

/// Found by the test before, which failed once in some hundred turns: a hello that was sent on and not yet
/// answered when its name is taken away. Who has said nothing yet is in the same place.
#[test]
fn n20_what_is_not_looked_at_yet_ends_when_something_is_taken_away() {
    let rule = Rule::tcp("evil.example", &[443]);
    let Some((_lab, mut ann, sandbox)) = shared(std::slice::from_ref(&rule)) else { return };
    let before = held(&sandbox, SHARED, 443);
    ann.set_rules(sandbox.id, &[], 0).expect("take it away");
    assert!(!said(&before, &hello_for("allowed.example")), "nobody knew whom it was to");
    let after = held(&sandbox, SHARED, 443);
    assert!(said(&after, &hello_for("allowed.example")), "and is begun anew");
    // Allowing something ends nothing.
    let before = held(&sandbox, SHARED, 443);
    ann.set_rules(sandbox.id, std::slice::from_ref(&rule), 0).expect("allow");
    assert!(said(&before, &hello_for("allowed.example")));
}

/// Found in a review: what was opened to another name while the internet was open.
#[test]
fn n20_what_was_reached_while_the_internet_was_open_ends_with_it() {
    let Some((_lab, mut ann, sandbox)) = shared(&[]) else { return };
    let own = held(&sandbox, SHARED, 443);
    assert!(said(&own, &hello_for("allowed.example")));
    ann.open_internet(sandbox.id, 60).expect("open");
    let evil = held(&sandbox, SHARED, 443);
    assert!(said(&evil, &hello_for("evil.example")));
    ann.open_internet(sandbox.id, 0).expect("close");
    assert!(!echoes(&evil));
    assert!(goes_on(&own), "what its name allows goes on");
}

/// Found in a review: the ports of a connection that was approved, used again at once.
#[test]
fn n20_an_approval_is_not_for_the_next_connection_of_the_same_ports() {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
    };
    use std::os::fd::AsRawFd;
    let Some((lab, _ann, sandbox)) = shared(&[]) else { return };
    let (good, evil) = (hello_for("allowed.example"), hello_for("evil.example"));
    let from = |port: u16| -> std::io::Result<TcpStream> {
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        // Closing sends a reset, so that the port is free at once.
        let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&fd, sockopt::Linger, &at_once)?;
        // A first packet that was dropped is not waited for.
        let soon = nix::sys::time::TimeVal::new(0, 100_000);
        setsockopt(&fd, sockopt::SendTimeout, &soon)?;
        bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port))?;
        let [a, b, c, d] = SHARED.octets();
        connect(fd.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 443))?;
        let stream = TcpStream::from(fd);
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(stream)
    };
    sandbox.run(|| {
        for turn in 0..100_u64 {
            let Ok(mut first) = from(50_000) else { continue };
            let _ = first.write_all(&good);
            // A little later each time, so that each step of the look is hit.
            std::thread::sleep(Duration::from_micros(turn * 20));
            drop(first);
            if let Ok(mut second) = from(50_000) {
                let _ = second.write_all(&evil);
                let _ = second.read(&mut [0; 512]);
            }
        }
    });
    assert!(!contains(&lab.echo.heard(), b"evil"));
}

/// Clients that stop in the middle of their hello: so many, 400 in a second, of the 500 that a
/// sandbox may begin. When they are told to they say the rest, and how many got an answer.
const RUDE: &str = r"
import resource, socket, sys, time
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
address, count, hello = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
begun, clients = time.monotonic(), []
for number in range(count):
    time.sleep(max(0, begun + number / 400 - time.monotonic()))
    client = socket.create_connection((address, 443), 30)
    assert client.recv(128)
    client.sendall(hello[:40])
    clients.append(client)
print('open', flush=True)
sys.stdin.read()
answered = 0
for client in clients[::97]:
    client.settimeout(0.5)
    try:
        client.sendall(hello[40:])
        answered += len(client.recv(9)) > 0
    except OSError:
        pass
print(len(clients[::97]), answered, flush=True)
";

/// They have a process of their own, as one has not room for both ends of ten thousand.
struct Rude(std::process::Child);

impl Rude {
    fn start(lab: &Lab, sandbox: &Sandbox, count: usize, hello: &[u8]) -> Self {
        let script = lab.folder().join("rude.py");
        std::fs::write(&script, RUDE).expect("write");
        let hello: String = hello.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut child = std::process::Command::new("nsenter")
            .args(["-t", &sandbox.pid.to_string(), "-n", "python3"])
            .arg(script)
            .args([&SHARED.to_string(), &count.to_string(), &hello])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3");
        let mut said = [0; 5];
        let output = child.stdout.as_mut().expect("its output");
        output.read_exact(&mut said).expect("all of them are open");
        assert_eq!(&said, b"open\n");
        Self(child)
    }

    /// How many said the rest, and how many were answered.
    fn end(mut self) -> (usize, usize) {
        drop(self.0.stdin.take());
        let mut said = String::new();
        self.0.stdout.take().expect("its output").read_to_string(&mut said).expect("read");
        assert!(self.0.wait().expect("its end").success());
        let (tried, answered) = said.trim().split_once(' ').expect("two numbers");
        (tried.parse().expect("a number"), answered.parse().expect("a number"))
    }
}

/// As many as `RCC_TURNS` says are held open at once in the middle of what they say, by as
/// many sandboxes as that takes; as many again come one after the other.
#[test]
fn n20_many_connections_at_once_are_each_looked_at() {
    /// A sandbox may have 2,048 flows.
    const OF_ONE: usize = 2_000;
    let connections = turns(300);
    let Some((lab, mut ann, sandbox)) = shared(&[]) else { return };
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("as many files as there may be");
    let good = hello_for("allowed.example");
    let bad = hello_for("evil.example");
    let (mut rude, mut open) = (Vec::new(), 0);
    while open < connections {
        let other = lab.sandbox(&mut ann, &[]).expect("another");
        other.resolve("allowed.example").expect("its address");
        let count = (connections - open).min(OF_ONE);
        rude.push(Rude::start(&lab, &other, count, &bad));
        open += count;
    }
    let (mut passed, begun) = (0, Instant::now());
    for number in 0..connections {
        let stream = held(&sandbox, SHARED, 443);
        let hello = if number % 3 == 0 { &bad } else { &good };
        let answered = said(&stream, hello);
        assert_eq!(answered, number % 3 != 0, "connection {number}");
        passed += usize::from(answered);
    }
    let took = begun.elapsed().as_secs_f64();
    assert_eq!(passed, connections - connections.div_ceil(3));
    assert!(!contains(&lab.echo.heard(), b"evil"));
    // The rest of a hello that is not allowed is nothing, either.
    for one in rude {
        let (tried, answered) = one.end();
        assert!(tried > 0 && answered == 0, "{answered} of {tried} got through");
    }
    assert!(!contains(&lab.echo.heard(), b"evil"));
    eprintln!("beside {open} that never finish {connections} more in {took:.1} s");
}
