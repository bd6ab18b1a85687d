//! N20: a server that asks for a second hello. It is OpenSSL's, which takes the name of
//! the second one.

use std::process::{Child, Command, Stdio};

use rcc_tests::hello::{Group, with_key};

use super::*;

/// It serves `allowed.example` and `evil.example`, and has no key of X25519.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 134);

const NETWORK: &str = "set -e
ip netns add tls
ip -n tls link set lo up
ip link add tls0 netns internet type veth peer name eth0 netns tls
ip -n internet addr add 203.0.113.133/30 dev tls0
ip -n internet link set tls0 up
ip -n tls addr add 203.0.113.134/30 dev eth0
ip -n tls link set eth0 up
ip -n tls route add default via 203.0.113.133
ip netns exec internet sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'";

struct Server {
    process: Child,
    log: std::path::PathBuf,
}

impl Server {
    /// It ends after so many connections.
    fn start(lab: &Lab, connections: usize) -> Self {
        lab.on_host(NETWORK).expect("a network");
        let folder = lab.folder();
        for name in ["allowed", "evil"] {
            let made = Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"])
                .args(["-nodes", "-days", "2", "-subj", &format!("/CN={name}.example")])
                .arg("-keyout")
                .arg(folder.join(name).with_extension("key"))
                .arg("-out")
                .arg(folder.join(name).with_extension("pem"))
                .output()
                .expect("openssl");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        let log = folder.join("server.log");
        let output = std::fs::File::create(&log).expect("a log");
        let process = Command::new("ip")
            .args(["netns", "exec", "tls", "openssl", "s_server", "-accept", "443", "-www"])
            .args(["-groups", "P-384", "-naccept", &connections.to_string()])
            .args(["-cert", "allowed.pem", "-key", "allowed.key"])
            .args(["-servername", "evil.example", "-cert2", "evil.pem", "-key2", "evil.key"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a log"))
            .stderr(output)
            .spawn()
            .expect("ip");
        let listens = "ip netns exec tls ss -Hltn sport = :443";
        wait_for(|| lab.on_host(listens).is_ok_and(|text| !text.is_empty())).expect("it listens");
        Self { process, log }
    }

    /// Every name that it read, once it has had all its connections.
    fn names(mut self) -> Vec<String> {
        wait_for(|| self.process.try_wait().expect("its state").is_some()).expect("it ends");
        let log = std::fs::read_to_string(&self.log).expect("its log");
        let named = |line: &str| Some(line.split_once("TLS extension: \"")?.1.replace('"', ""));
        let names: Vec<_> = log.lines().filter_map(named).collect();
        assert!(!names.is_empty(), "{log}");
        names
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client without a library: it says its first hello, with a key that the server does
/// not know, and answers what comes back.
fn first_hello(sandbox: &Sandbox, behind: &[u8]) -> (TcpStream, Vec<u8>) {
    let mut stream = sandbox.run(|| TcpStream::connect((ADDRESS, 443))).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    let first = with_key("allowed.example", Group::X25519);
    stream.write_all(&[&first[..], behind].concat()).expect("write");
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).unwrap_or_default();
    answer.truncate(length);
    (stream, answer)
}

/// The kind of the first record that comes back.
fn answers(mut stream: &TcpStream, said: &[u8]) -> Option<u8> {
    stream.write_all(said).ok()?;
    let mut kind = [0];
    stream.read_exact(&mut kind).ok()?;
    Some(kind[0])
}

#[test]
fn n20_a_second_hello_names_no_other_server() {
    const CHANGE_CIPHER_SPEC: [u8; 6] = [20, 3, 3, 0, 1, 1];
    const HANDSHAKE: u8 = 22;
    if Command::new("openssl").arg("version").output().is_err() {
        return skip(&rcc_tests::Skip("openssl is not installed".into()));
    }
    let Some((lab, mut ann, sandbox)) = start(POLICY, &[]) else { return };
    let server = Server::start(&lab, 5);
    let zone = Zone::default().name("allowed.example", &[ADDRESS]).name("evil.example", &[ADDRESS]);
    lab.dns.set(zone);
    sandbox.resolve("allowed.example").expect("it opens its address");
    ann.call::<()>(&rcc_tests::protocol::Call::Watch).expect("watch");

    let second = |name| [&CHANGE_CIPHER_SPEC[..], &with_key(name, Group::P384)].concat();
    // The server wants another hello; with the same name it goes on.
    let (stream, wants) = first_hello(&sandbox, b"");
    assert_eq!(wants.first(), Some(&HANDSHAKE), "{}", lab.log());
    assert_eq!(answers(&stream, &second("allowed.example")), Some(HANDSHAKE), "{}", lab.log());
    drop(stream);
    // With another one it never hears of it.
    let (stream, wants) = first_hello(&sandbox, b"");
    assert_eq!(wants.first(), Some(&HANDSHAKE));
    let asked = Instant::now();
    assert_eq!(answers(&stream, &second("evil.example")), None);
    assert!(asked.elapsed() < Duration::from_millis(1_500), "it hears of it at once");
    drop(stream);
    ann.event(|event| matches!(event, Watched::Blocked { reason, .. } if reason == "unnamed"))
        .expect("told");
    // Nor when both hellos come together.
    let (stream, wants) = first_hello(&sandbox, &second("evil.example"));
    assert!(wants.is_empty() || answers(&stream, b"").is_none());
    drop(stream);
    // A client with a library, that keeps to the standard; and one of TLS 1.2, which has no
    // second hello.
    for version in ["-tls1_3", "-tls1_2"] {
        let page = sandbox.shell(&format!(
            "(echo 'GET / HTTP/1.0'; echo; sleep 1) | timeout 10 openssl s_client -quiet {version} \
             -groups X25519:P-384 -servername allowed.example -connect {ADDRESS}:443 2>&1"
        ));
        let page = page.unwrap_or_else(|error| panic!("{version}: {error:#}\n{}", lab.log()));
        assert!(page.contains("200 ok"), "{version}: {page}");
    }
    let names = server.names();
    assert!(names.iter().all(|name| name == "allowed.example"), "{names:?}");
    // Both hellos of two connections, the first one of two, and that of TLS 1.2.
    assert_eq!(names.len(), 7, "{names:?}");
}
