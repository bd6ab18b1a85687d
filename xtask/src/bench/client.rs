//! What is measured from inside a sandbox: a program that goes the way that any
//! program goes, by `HTTPS_PROXY` where a sandbox sets it, and the server that it
//! talks to. It begins as TLS does, with a hello and an answer; what follows is not
//! encrypted, which would cost each way alike.

use std::env;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine as _;
use clap::{Args, ValueEnum};
use rcc_tests::hello::hello_for;

use super::milliseconds;

/// How long a server or a proxy may be silent.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two connections: one that asks without a pause is held back.
const PAUSE: Duration = Duration::from_millis(10);
/// As much as iperf3 hands over at once.
const PIECE: usize = 128 << 10;
/// Longest head of an answer of a proxy's.
const MAX_HEAD: usize = 8 << 10;

/// The whole command line of the client.
#[derive(Debug, Args)]
pub struct Wanted {
    what: What,
    /// Seconds of a stream; how many connections otherwise
    amount: u32,
    name: String,
    port: u16,
}

/// What the client does; it prints one figure a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// One stream to the server, in Gbit/s.
    Up,
    /// One stream from the server, in Gbit/s.
    Down,
    /// From the name to the server's first byte, in milliseconds.
    Connect,
    /// From the name to a refusal, in milliseconds.
    Refused,
}

impl What {
    /// Its word on the command line.
    pub fn word(self) -> String {
        self.to_possible_value().map(|word| word.get_name().to_owned()).unwrap_or_default()
    }
}

/// Does what is wanted, and prints the figures.
///
/// # Errors
/// When an allowed server is not reached, or another one is.
pub fn run(wanted: &Wanted) -> anyhow::Result<u8> {
    let Wanted { what, amount, name, port } = wanted;
    match what {
        What::Up | What::Down => {
            let window = Duration::from_secs(u64::from(*amount));
            let stream = greeted(name, *port).with_context(|| format!("reach {name}:{port}"))?;
            println!(
                "{}",
                if *what == What::Up { up(stream, window)? } else { down(stream, window)? }
            );
        }
        What::Connect => {
            for _ in 0..*amount {
                let start = Instant::now();
                greeted(name, *port).with_context(|| format!("reach {name}:{port}"))?;
                println!("{}", milliseconds(start));
                std::thread::sleep(PAUSE);
            }
        }
        What::Refused => {
            for _ in 0..*amount {
                let start = Instant::now();
                ensure!(dial(name, *port).is_err(), "{name}:{port} was reached");
                println!("{}", milliseconds(start));
                std::thread::sleep(PAUSE);
            }
        }
    }
    Ok(0)
}

/// Serves each client of the listener, on threads that end with the program.
pub(super) fn serve(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that breaks off ends its own thread only.
            std::thread::spawn(move || answer(stream));
        }
    });
}

/// The first byte that a client says after the hello: who sends from then on.
const UP: &[u8; 1] = b"u";
const DOWN: &[u8; 1] = b"d";

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let mut rest = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut rest)?;
    stream.write_all(b"!")?;
    let mut order = [0];
    // One that wanted to connect and no more is gone.
    if stream.read_exact(&mut order).is_err() {
        return Ok(());
    }
    if order == *DOWN {
        return send(&mut stream, None);
    }
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let figure = receive(&mut stream, Duration::from_millis(u64::from_be_bytes(length)))?;
    stream.write_all(format!("{figure}\n").as_bytes())?;
    // What is still on its way, so that the figure is not thrown away with it.
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

/// Gbit/s that come within a window.
fn receive(stream: &mut TcpStream, window: Duration) -> io::Result<f64> {
    let mut piece = vec![0; PIECE];
    let (mut bytes, start) = (0_u64, Instant::now());
    while start.elapsed() < window {
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => bytes += length as u64,
        }
    }
    Ok(bytes as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9)
}

/// Sends so long, or until the other end has enough.
fn send(stream: &mut TcpStream, window: Option<Duration>) -> io::Result<()> {
    let (piece, start) = (vec![0; PIECE], Instant::now());
    while window.is_none_or(|window| start.elapsed() < window) {
        stream.write_all(&piece)?;
    }
    Ok(())
}

/// The server keeps the clock; what it says comes after the last byte of the window.
fn up(mut stream: TcpStream, window: Duration) -> anyhow::Result<f64> {
    let length = u64::try_from(window.as_millis())?.to_be_bytes();
    stream.write_all(&[&UP[..], &length[..]].concat())?;
    send(&mut stream, Some(window + Duration::from_secs(1)))?;
    let (mut said, mut byte) = (Vec::new(), [0]);
    while byte != *b"\n" && said.len() < 64 {
        stream.read_exact(&mut byte).context("read what the server received")?;
        said.extend(byte);
    }
    Ok(String::from_utf8_lossy(&said).trim().parse()?)
}

fn down(mut stream: TcpStream, window: Duration) -> anyhow::Result<f64> {
    stream.write_all(DOWN)?;
    Ok(receive(&mut stream, window)?)
}

/// A connection on which a hello was answered.
fn greeted(name: &str, port: u16) -> io::Result<TcpStream> {
    let mut stream = dial(name, port)?;
    stream.write_all(&hello_for(name))?;
    stream.read_exact(&mut [0])?;
    Ok(stream)
}

fn dial(name: &str, port: u16) -> io::Result<TcpStream> {
    let proxy = env::var("HTTPS_PROXY").ok();
    let mut stream = match proxy.as_deref() {
        None => TcpStream::connect((name, port))?,
        Some(proxy) => {
            let proxy = Proxy::parse(proxy).ok_or_else(|| {
                io::Error::other(format!("HTTPS_PROXY is no address of a proxy: {proxy}"))
            })?;
            let stream = TcpStream::connect((proxy.host, proxy.port))?;
            tunnel(stream, &proxy, name, port)?
        }
    };
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.flush()?;
    Ok(stream)
}

/// Asks a proxy for the way (RFC 9110 9.3.6).
fn tunnel<S: Read + Write>(mut stream: S, proxy: &Proxy, name: &str, port: u16) -> io::Result<S> {
    let credentials = proxy.credentials.as_deref().map_or_else(String::new, |credentials| {
        let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
        format!("Proxy-Authorization: Basic {encoded}\r\n")
    });
    let ask = format!("CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n{credentials}\r\n");
    stream.write_all(ask.as_bytes())?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    // Byte by byte: what comes after the head is the server's.
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
        if head.len() > MAX_HEAD {
            return Err(io::Error::other("the head of the proxy's answer does not end"));
        }
    }
    let head = String::from_utf8_lossy(&head);
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(stream),
        _ => Err(io::Error::new(io::ErrorKind::PermissionDenied, status.to_owned())),
    }
}

/// What `HTTPS_PROXY` says: `http://USER:PASSWORD@HOST:PORT`.
#[derive(Debug, PartialEq, Eq)]
struct Proxy<'a> {
    host: &'a str,
    port: u16,
    /// User, colon and password, as they are.
    credentials: Option<Vec<u8>>,
}

impl<'a> Proxy<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("http://")?.trim_end_matches('/');
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let (host, port) = place.rsplit_once(':')?;
        let credentials = match user {
            Some(user) => Some(decoded(user)?),
            None => None,
        };
        (!host.is_empty()).then_some(Self { host, port: port.parse().ok()?, credentials })
    }
}

/// Bytes that are written as `%41` (RFC 3986 2.1).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_says_of_a_proxy_is_read() {
        let proxy = Proxy::parse("http://srt.ZWM%2Bo:17%41f@localhost:3128").expect("a proxy");
        assert_eq!((proxy.host, proxy.port), ("localhost", 3_128));
        assert_eq!(proxy.credentials.as_deref(), Some(&b"srt.ZWM+o:17Af"[..]));
        let bare = Proxy::parse("http://127.0.0.1:8080/").expect("a proxy");
        assert_eq!((bare.host, bare.port, bare.credentials), ("127.0.0.1", 8_080, None));
        for wrong in
            ["", "socks5h://localhost:1", "http://localhost", "http://a%4@b:1", "http://:1"]
        {
            assert_eq!(Proxy::parse(wrong), None, "{wrong}");
        }
    }

    /// A stream that says one thing and keeps what it is told.
    struct Played(io::Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Played {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }

    impl Write for Played {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_proxy_is_asked_with_its_credentials_and_believed() {
        let proxy = Proxy::parse("http://u:p@localhost:1").expect("a proxy");
        let answers = |said: &str| {
            let played = Played(io::Cursor::new(said.as_bytes().to_vec()), Vec::new());
            tunnel(played, &proxy, "a.example", 443)
        };
        let mut open = answers("HTTP/1.1 200 OK\r\nX: y\r\n\r\nfirst").expect("a way");
        let asked = String::from_utf8_lossy(&open.1).into_owned();
        assert!(asked.starts_with("CONNECT a.example:443 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("Proxy-Authorization: Basic dTpw\r\n"), "{asked}");
        let mut rest = String::new();
        open.read_to_string(&mut rest).expect("read");
        assert_eq!(rest, "first");
        let refused = answers("HTTP/1.1 403 no\r\n\r\n").map(drop).expect_err("refused");
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(answers("HTTP/1.1 200 OK\r\n").is_err());
    }

    #[test]
    fn both_directions_are_measured_where_they_arrive() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listen");
        let port = listener.local_addr().expect("an address").port();
        serve(listener);
        let greeted = || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
            stream.write_all(&hello_for("a.example")).expect("hello");
            stream.read_exact(&mut [0]).expect("an answer");
            stream
        };
        let window = Duration::from_millis(100);
        assert!(down(greeted(), window).expect("a figure") > 0.0);
        assert!(up(greeted(), window).expect("a figure") > 0.0);
    }
}
