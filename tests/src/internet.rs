//! The played internet: servers that greet and echo, and a name server that
//! writes down what it is asked.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS, SVCB, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::in_namespace;

/// TCP servers on the internet, on the LAN and on the host itself: they greet
/// with "from PEER to OWN" and then echo.
pub struct Echo {
    heard: Arc<Mutex<Vec<u8>>>,
}

/// A client that is silent for so long was cut, and will never say so.
const SILENT: Duration = Duration::from_secs(180);

/// What is kept of what clients say: ten thousand hellos, and more.
const MOST_HEARD: usize = 16 << 20;

/// Ports of the TCP servers; 9 also answers over UDP.
const PORTS: [u16; 5] = [22, 80, 443, 853, 9_999];

impl Echo {
    /// Starts them on the computer whose network namespace is `own`, and in its
    /// `internet` and `lan`, which stand in the folder `others`.
    pub fn start(own: &Path, others: &Path) -> anyhow::Result<Self> {
        let echo = Self { heard: Arc::default() };
        for place in [&others.join("internet"), &others.join("lan"), own] {
            echo.serve_in(place)?;
        }
        Ok(echo)
    }

    /// Starts them in one network namespace more.
    pub fn start_in(place: &Path) -> anyhow::Result<Self> {
        let echo = Self { heard: Arc::default() };
        echo.serve_in(place)?;
        Ok(echo)
    }

    fn serve_in(&self, place: &Path) -> anyhow::Result<()> {
        let mut listeners = Vec::new();
        let make = || -> io::Result<()> {
            for port in PORTS {
                listeners.push(TcpListener::bind(("0.0.0.0", port))?);
            }
            Ok(())
        };
        in_namespace(place, make)??;
        for listener in listeners {
            let heard = self.heard.clone();
            std::thread::spawn(move || serve(listener, &heard));
        }
        let bind = || UdpSocket::bind(("0.0.0.0", 9_999));
        let udp = in_namespace(place, bind)??;
        std::thread::spawn(move || {
            let mut packet = [0; 2_048];
            while let Ok((length, from)) = udp.recv_from(&mut packet) {
                let _ = udp.send_to(&packet[..length], from);
            }
        });
        Ok(())
    }

    /// Everything that clients have said to any of them, up to 16 MB.
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().expect("not poisoned").clone()
    }

    /// The first line that a server says.
    pub fn greeting(mut stream: &TcpStream) -> io::Result<String> {
        stream.set_read_timeout(Some(Duration::from_millis(1_500)))?;
        let mut line = [0; 128];
        let length = stream.read(&mut line)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&line[..length]).trim().to_owned())
    }
}

/// All of a port's clients by one thread: there may be ten thousand.
fn serve(listener: TcpListener, heard: &Arc<Mutex<Vec<u8>>>) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(answer(stream, heard.clone()));
        }
    })
}

async fn answer(mut stream: tokio::net::TcpStream, heard: Arc<Mutex<Vec<u8>>>) {
    let (Ok(peer), Ok(own)) = (stream.peer_addr(), stream.local_addr()) else { return };
    let _ = stream.write_all(format!("from {peer} to {own}\n").as_bytes()).await;
    let mut bytes = vec![0; 16_384];
    while let Ok(Ok(length)) = tokio::time::timeout(SILENT, stream.read(&mut bytes)).await {
        if let Ok(mut heard) = heard.lock()
            && heard.len() < MOST_HEARD
        {
            heard.extend(&bytes[..length]);
        }
        if length == 0 || stream.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

/// What the played name server knows.
#[derive(Debug, Clone, Default)]
pub struct Zone {
    names: HashMap<String, Vec<Vec<RData>>>,
    delay: Duration,
    silent: bool,
    fails: bool,
    lies: Option<Ipv4Addr>,
}

impl Zone {
    /// A name with addresses, all in each answer.
    pub fn name(self, name: &str, addresses: &[Ipv4Addr]) -> Self {
        self.rotating(name, &[addresses])
    }

    /// A name whose answers take turns.
    pub fn rotating(mut self, name: &str, answers: &[&[Ipv4Addr]]) -> Self {
        let turn = |addresses: &&[Ipv4Addr]| addresses.iter().map(|a| RData::A(A(*a))).collect();
        self.names.insert(name.to_owned(), answers.iter().map(turn).collect());
        self
    }

    /// A name with an IPv6 address beside what it has.
    pub fn v6(mut self, name: &str, address: &str) -> Self {
        let data = RData::AAAA(AAAA(address.parse().expect("an address")));
        self.names.entry(name.to_owned()).or_insert_with(|| vec![Vec::new()])[0].push(data);
        self
    }

    /// A name that is another's alias.
    pub fn alias(mut self, name: &str, target: &str) -> Self {
        let target = Name::from_ascii(format!("{target}.")).expect("a name");
        self.names.insert(name.to_owned(), vec![vec![RData::CNAME(CNAME(target))]]);
        self
    }

    /// A name with records of the kind HTTPS beside what it has.
    pub fn services(mut self, name: &str, services: &[SVCB]) -> Self {
        let turns = self.names.entry(name.to_owned()).or_insert_with(|| vec![Vec::new()]);
        for turn in turns {
            turn.extend(services.iter().map(|one| RData::HTTPS(HTTPS(one.clone()))));
        }
        self
    }

    /// Answers come so late.
    pub fn slow(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// There is no answer at all.
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// Each answer is that names cannot be looked up.
    pub fn failing(mut self) -> Self {
        self.fails = true;
        self
    }

    /// Before each answer somebody else's come, as he guesses them, all with this address:
    /// one with another id, one to another name, one of another kind, and garbage.
    pub fn forged(mut self, address: Ipv4Addr) -> Self {
        self.lies = Some(address);
        self
    }
}

struct Shared {
    zone: Zone,
    turns: HashMap<String, usize>,
    asked: Vec<Vec<u8>>,
}

/// The played name server.
#[derive(Clone)]
pub struct DnsServer {
    shared: Arc<Mutex<Shared>>,
}

impl DnsServer {
    /// Starts it in a network namespace.
    pub fn start(namespace: &Path, at: SocketAddr) -> anyhow::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared {
            zone: crate::lab::zone(),
            turns: HashMap::new(),
            asked: Vec::new(),
        }));
        let bind = || -> io::Result<_> { Ok((UdpSocket::bind(at)?, TcpListener::bind(at)?)) };
        let (udp, tcp) = in_namespace(namespace, bind)??;
        let server = Self { shared };
        let one = server.clone();
        std::thread::spawn(move || {
            let mut packet = [0; 4_096];
            while let Ok((length, from)) = udp.recv_from(&mut packet) {
                let Ok(shared) = one.shared.lock() else { return };
                let (delay, silent) = (shared.zone.delay, shared.zone.silent);
                let lies = shared.zone.lies;
                drop(shared);
                let Some(answer) = one.answer(&packet[..length]) else { continue };
                if silent {
                    continue;
                }
                for lie in lies.iter().flat_map(|address| forgeries(&answer, *address)) {
                    let _ = udp.send_to(&lie, from);
                }
                let udp = udp.try_clone();
                let send = move || {
                    std::thread::sleep(delay);
                    udp.and_then(|udp| udp.send_to(&answer, from))
                };
                if delay.is_zero() { drop(send()) } else { drop(std::thread::spawn(send)) }
            }
        });
        let other = server.clone();
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let mut length = [0; 2];
                let Ok(()) = stream.read_exact(&mut length) else { continue };
                let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
                let Ok(()) = stream.read_exact(&mut packet) else { continue };
                if let Some(answer) = other.answer(&packet) {
                    let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
                    let _ = stream.write_all(&length.to_be_bytes());
                    let _ = stream.write_all(&answer);
                }
            }
        });
        Ok(server)
    }

    /// Knows something else from now on.
    pub fn set(&self, zone: Zone) {
        self.shared.lock().expect("not poisoned").zone = zone;
    }

    /// The packets that came, whole.
    pub fn asked(&self) -> Vec<Vec<u8>> {
        self.shared.lock().expect("not poisoned").asked.clone()
    }

    /// The names that were asked for, as they came.
    pub fn asked_names(&self) -> Vec<String> {
        let name = |packet: &Vec<u8>| {
            let message = Message::from_vec(packet).ok()?;
            Some(message.queries.first()?.name.to_ascii())
        };
        self.asked().iter().filter_map(name).collect()
    }

    /// The kinds of records that were asked for.
    pub fn asked_kinds(&self) -> Vec<String> {
        let kind = |packet: &Vec<u8>| {
            let message = Message::from_vec(packet).ok()?;
            Some(message.queries.first()?.query_type.to_string())
        };
        self.asked().iter().filter_map(kind).collect()
    }

    fn answer(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut shared = self.shared.lock().ok()?;
        shared.asked.push(packet.to_vec());
        let question = Message::from_vec(packet).ok()?;
        let query = question.queries.first()?.clone();
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.metadata.recursion_available = true;
        let mut owner = query.name.clone();
        let mut found = false;
        for _ in 0..8 {
            let key = owner.to_ascii().trim_end_matches('.').to_lowercase();
            let Some(turns) = shared.zone.names.get(&key).cloned() else { break };
            found = true;
            let turn = shared.turns.entry(key).or_default();
            let records = &turns[*turn % turns.len()];
            *turn += 1;
            let mut next = None;
            for data in records {
                let wanted = data.record_type() == query.query_type;
                if let RData::CNAME(target) = data {
                    next = Some(target.0.clone());
                }
                if wanted || next.is_some() {
                    answer.add_answer(Record::from_rdata(owner.clone(), 30, data.clone()));
                }
            }
            match next {
                Some(target) => owner = target,
                None => break,
            }
        }
        if query.query_type == RecordType::TXT && found {
            let data = RData::TXT(TXT::new(vec!["a secret".into()]));
            answer.add_answer(Record::from_rdata(query.name.clone(), 30, data));
        }
        if shared.zone.fails {
            answer.metadata.response_code = ResponseCode::ServFail;
        } else if !found {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        answer.add_query(query);
        answer.to_vec().ok()
    }
}

/// Answers that are not to the question of `answer`.
fn forgeries(answer: &[u8], address: Ipv4Addr) -> Vec<Vec<u8>> {
    let Ok(right) = Message::from_vec(answer) else { return Vec::new() };
    let forged = |bend: &dyn Fn(&mut Message)| {
        let mut forged = right.clone();
        forged.answers.clear();
        if let Some(query) = right.queries.first() {
            let data = RData::A(A(address));
            forged.add_answer(Record::from_rdata(query.name.clone(), 30, data));
        }
        bend(&mut forged);
        forged.to_vec().unwrap_or_default()
    };
    let other = Name::from_ascii("other.example.").expect("a name");
    vec![
        forged(&|message| message.metadata.id = message.metadata.id.wrapping_add(1)),
        forged(&|message| message.queries[0].name = other.clone()),
        forged(&|message| message.queries[0].query_type = RecordType::AAAA),
        forged(&|message| message.queries.clear()),
        forged(&|message| message.metadata.message_type = MessageType::Query),
        answer[..answer.len() / 2].to_vec(),
    ]
}

/// Asks a name server for addresses from the namespace of the calling thread.
pub fn ask(server: SocketAddr, name: &str, kind: &str, tcp: bool) -> Result<Vec<IpAddr>, String> {
    let address = |record: &Record| match &record.data {
        RData::A(address) => Ok(IpAddr::V4(address.0)),
        RData::AAAA(address) => Ok(IpAddr::V6(address.0)),
        _ => Err("records of another kind".to_owned()),
    };
    records(server, name, kind, tcp)?.iter().map(address).collect()
}

/// Asks a name server from the namespace of the calling thread.
pub fn records(
    server: SocketAddr,
    name: &str,
    kind: &str,
    tcp: bool,
) -> Result<Vec<Record>, String> {
    let text = |error: io::Error| error.kind().to_string();
    let kind: RecordType = kind.parse().map_err(|_| "no such kind".to_owned())?;
    let name =
        Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).map_err(|e| e.to_string())?;
    let mut message = Message::new(4_711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    message.set_edns(Edns::new());
    let query = message.to_vec().map_err(|e| e.to_string())?;
    let mut packet = vec![0; 65_535];
    let length = if tcp {
        let mut stream =
            TcpStream::connect_timeout(&server, Duration::from_secs(2)).map_err(text)?;
        stream.set_read_timeout(Some(Duration::from_secs(3))).map_err(text)?;
        let length = u16::try_from(query.len()).map_err(|e| e.to_string())?;
        stream.write_all(&length.to_be_bytes()).map_err(text)?;
        stream.write_all(&query).map_err(text)?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).map_err(text)?;
        let length = usize::from(u16::from_be_bytes(length));
        stream.read_exact(&mut packet[..length]).map_err(text)?;
        length
    } else {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).map_err(text)?;
        socket.connect(server).map_err(text)?;
        socket.set_read_timeout(Some(Duration::from_secs(3))).map_err(text)?;
        socket.send(&query).map_err(text)?;
        socket.recv(&mut packet).map_err(text)?
    };
    let answer = Message::from_vec(&packet[..length]).map_err(|e| e.to_string())?;
    match answer.metadata.response_code {
        ResponseCode::NoError => {}
        code => return Err(format!("{code:?}")),
    }
    Ok(answer.answers)
}
