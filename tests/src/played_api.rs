//! The played API of Claude: HTTPS with a certificate of its own authority, and
//! answers that follow a rule instead of a model. A prompt with a line
//! `run: COMMAND` is answered by a call of the tool Bash with that command, and
//! what the tool printed by a text that repeats it; `ask: QUESTION` by a question of
//! two options; `wait: SECONDS` so much later; `fail: REASON` by an error.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::lab::in_namespace;

/// The name that it answers to.
pub const NAME: &str = "api.anthropic.com";
/// Where it is on the played internet: behind the router.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 130);
/// What Claude Code says who it is with.
pub const KEY: &str = "sk-ant-api03-played-in-the-lab-0123456789";
/// The largest request.
const MAX_BODY: usize = 64 << 20;
/// How long a client may think between two requests.
const PATIENCE: Duration = Duration::from_secs(120);

/// A request that came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asked.
    pub peer: SocketAddr,
    /// For instance `POST /v1/messages?beta=true`.
    pub line: String,
    /// It came with [`KEY`].
    pub known: bool,
    /// What it said, as far as it is text.
    pub body: String,
}

/// See the module.
pub struct PlayedApi {
    requests: Arc<Mutex<Vec<Request>>>,
    authority: PathBuf,
}

impl PlayedApi {
    /// Starts it in the lab of the calling thread; the certificate of its
    /// authority goes into `folder`.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        network()?;
        let authority = folder.join("played-ca.pem");
        let config = certificates(&authority)?;
        let listen = || TcpListener::bind((ADDRESS, 443));
        let listener = in_namespace(Path::new("/run/netns/anthropic"), listen)??;
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, log) = (Arc::clone(&config), Arc::clone(&log));
                // A client that breaks off ends its own thread only.
                std::thread::spawn(move || serve(stream, config, &log));
            }
        });
        Ok(Self { requests, authority })
    }

    /// What came until now.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }

    /// The certificate of its authority, as a file.
    pub fn authority(&self) -> &Path {
        &self.authority
    }
}

/// A namespace of its own: on the router every address answers on 443 already.
fn network() -> anyhow::Result<()> {
    let script = format!(
        "set -e
         ip netns add anthropic
         ip -n anthropic link set lo up
         ip link add anthropic0 netns internet type veth peer name eth0 netns anthropic
         ip -n internet addr add 203.0.113.129/30 dev anthropic0
         ip -n internet link set anthropic0 up
         ip -n anthropic addr add {ADDRESS}/30 dev eth0
         ip -n anthropic link set eth0 up
         ip -n anthropic route add default via 203.0.113.129
         ip netns exec internet sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'"
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn certificates(authority: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "the lab of rcc");
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    fs::write(authority, issuer.pem()).with_context(|| format!("write {}", authority.display()))?;
    let key = KeyPair::generate()?;
    let own = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &issuer)?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], private)?;
    Ok(Arc::new(config))
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    log: &Mutex<Vec<Request>>,
) -> anyhow::Result<()> {
    let peer = stream.peer_addr()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, stream));
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
        let headers = headers(&mut stream)?;
        let header = |name: &str| {
            headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        let known = header("x-api-key") == Some(KEY);
        if header("expect").is_some() {
            stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = body(&mut stream, header("content-length"), header("transfer-encoding"))?;
        if let Ok(mut log) = log.lock() {
            let body = String::from_utf8_lossy(&body).into_owned();
            log.push(Request { peer, line: line.clone(), known, body });
        }
        std::thread::sleep(delay(&body));
        let (status, kind, answer) = answer(&line, known, &body);
        let mut head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        )
        .into_bytes();
        if !line.starts_with("HEAD ") {
            head.extend(answer.as_bytes());
        }
        stream.get_mut().write_all(&head)?;
        stream.get_mut().flush()?;
    }
}

fn headers(stream: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { return Ok(headers) };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
}

fn body(
    stream: &mut impl BufRead,
    length: Option<&str>,
    encoding: Option<&str>,
) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    if encoding == Some("chunked") {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim().split(';').next().unwrap_or(""), 16)?;
            anyhow::ensure!(body.len() + size <= MAX_BODY, "too large");
            let start = body.len();
            body.resize(start + size, 0);
            stream.read_exact(&mut body[start..])?;
            stream.read_line(&mut line)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    let length: usize = length.map_or(Ok(0), str::parse)?;
    anyhow::ensure!(length <= MAX_BODY, "too large");
    body.resize(length, 0);
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn answer(line: &str, known: bool, body: &[u8]) -> (&'static str, &'static str, String) {
    const JSON: &str = "application/json";
    // An account of no organization has no settings and limits of one. Any other
    // answer makes Claude ask again for five seconds before it shows its screen.
    if line.contains("/api/claude_code/") {
        let error =
            json!({"type": "error", "error": {"type": "not_found_error", "message": "Not Found"}});
        return ("404 Not Found", JSON, error.to_string());
    }
    if line.starts_with("HEAD ") || line.starts_with("GET ") {
        return ("200 OK", JSON, "{}".into());
    }
    if !known {
        let error = json!({"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}});
        return ("401 Unauthorized", JSON, error.to_string());
    }
    if line.contains("count_tokens") {
        return ("200 OK", JSON, json!({"input_tokens": 10}).to_string());
    }
    if !line.contains("/v1/messages") {
        return ("200 OK", JSON, "{}".into());
    }
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    if let Wanted::Line("fail: ", reason) = wanted(&request) {
        let error =
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": reason}});
        return ("400 Bad Request", JSON, error.to_string());
    }
    let block = next(&request);
    if request["stream"].as_bool() == Some(true) {
        ("200 OK", "text/event-stream", events(&request, &block))
    } else {
        let mut message = message(&request);
        message["stop_reason"] = reason(&block).into();
        message["content"] = json!([block]);
        ("200 OK", JSON, message.to_string())
    }
}

/// What "Claude" says next, as a content block.
fn next(request: &Value) -> Value {
    let text = |text: String| json!({"type": "text", "text": text});
    let tools = request["tools"].as_array();
    let has = |name: &str| tools.is_some_and(|tools| tools.iter().any(|tool| tool["name"] == name));
    let call = |name: &str, input: Value| json!({"type": "tool_use", "id": format!("toolu_{:08}", number()), "name": name, "input": input});
    match wanted(request) {
        Wanted::Nothing => text("Nothing was asked.".into()),
        Wanted::Result(printed) => text(format!("The command printed: {printed}")),
        Wanted::Line("run: ", command) if has("Bash") => {
            call("Bash", json!({"command": command, "description": "What the prompt asks for"}))
        }
        Wanted::Line("ask: ", question) if has("AskUserQuestion") => {
            let option = |label: &str| json!({"label": label, "description": "One of the two"});
            let question = json!({
                "question": question, "header": "Choice", "multiSelect": false,
                "options": [option("First"), option("Second")],
            });
            call("AskUserQuestion", json!({"questions": [question]}))
        }
        Wanted::Line(..) | Wanted::Anything => text("Hello from the played API.".into()),
    }
}

/// What was said last.
enum Wanted {
    Nothing,
    Anything,
    /// What a tool printed.
    Result(String),
    /// A line that begins with one of [`WORDS`], and its rest.
    Line(&'static str, String),
}

const WORDS: [&str; 4] = ["run: ", "ask: ", "wait: ", "fail: "];

/// What was not answered stands before it in the same message.
fn wanted(request: &Value) -> Wanted {
    let Some(blocks) = last(request) else { return Wanted::Nothing };
    for block in blocks.iter().rev() {
        if block["type"] == "tool_result" {
            return Wanted::Result(printed(&block["content"]));
        }
        let lines = block["text"].as_str().unwrap_or_default().lines().map(str::trim);
        let line =
            |word: &'static str, line: &str| Some((word, line.strip_prefix(word)?.to_owned()));
        let found = lines.filter_map(|text| WORDS.iter().find_map(|word| line(word, text))).next();
        if let Some((word, rest)) = found {
            return Wanted::Line(word, rest);
        }
    }
    Wanted::Anything
}

/// The blocks of what the person, or a tool, said last. Remarks of the program itself may
/// follow.
fn last(request: &Value) -> Option<Vec<Value>> {
    let messages = request["messages"].as_array()?;
    let last = messages.iter().rfind(|message| message["role"] == "user")?;
    Some(match &last["content"] {
        Value::String(content) => vec![json!({"type": "text", "text": content})],
        Value::Array(blocks) => blocks.clone(),
        _ => Vec::new(),
    })
}

/// What `wait: SECONDS` asks for, within bounds.
fn delay(body: &[u8]) -> Duration {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let Wanted::Line("wait: ", seconds) = wanted(&request) else { return Duration::ZERO };
    Duration::from_secs(u64::min(seconds.parse().unwrap_or(0), 30))
}

/// The text of a tool's result, which is a text or a list of blocks.
fn printed(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// Never the same twice: a message with a known id is taken for that message.
fn number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

fn reason(block: &Value) -> &'static str {
    if block["type"] == "tool_use" { "tool_use" } else { "end_turn" }
}

fn message(request: &Value) -> Value {
    json!({
        "id": format!("msg_{:08}", number()), "type": "message", "role": "assistant",
        "model": request["model"], "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": 10, "output_tokens": 10},
    })
}

fn events(request: &Value, block: &Value) -> String {
    let mut start = block.clone();
    let delta = if block["type"] == "tool_use" {
        start["input"] = json!({});
        json!({"type": "input_json_delta", "partial_json": block["input"].to_string()})
    } else {
        start["text"] = "".into();
        json!({"type": "text_delta", "text": block["text"]})
    };
    let events = [
        json!({"type": "message_start", "message": message(request)}),
        json!({"type": "content_block_start", "index": 0, "content_block": start}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": reason(block), "stop_sequence": null}, "usage": {"output_tokens": 10}}),
        json!({"type": "message_stop"}),
    ];
    let line = |event: &Value| {
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
    };
    events.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(content: Value) -> Value {
        json!({"model": "m", "tools": [{"name": "Bash"}], "messages": [{"role": "user", "content": content}]})
    }

    #[test]
    fn a_prompt_becomes_a_call_and_its_result_an_answer() {
        let call =
            next(&request(json!([{"type": "text", "text": "please\nrun: echo 1 > \"a b\""}])));
        assert_eq!(call["input"]["command"], "echo 1 > \"a b\"");
        assert_eq!(reason(&call), "tool_use");
        let said = next(&request(
            json!([{"type": "tool_result", "content": [{"type": "text", "text": "one"}]}]),
        ));
        assert_eq!(said["text"], "The command printed: one");
        assert_eq!(next(&request(json!("hello")))["type"], "text");
        assert_eq!(next(&json!({}))["type"], "text");
        let mut with_remark = request(json!("run: true"));
        let remark = json!({"role": "system", "content": "today"});
        with_remark["messages"].as_array_mut().unwrap().push(remark);
        assert_eq!(next(&with_remark)["input"]["command"], "true");
    }

    #[test]
    fn without_the_key_there_is_no_answer() {
        let (status, ..) = answer("POST /v1/messages", false, b"{}");
        assert_eq!(status, "401 Unauthorized");
        let (status, kind, text) = answer("POST /v1/messages", true, br#"{"stream":true}"#);
        assert_eq!((status, kind), ("200 OK", "text/event-stream"));
        assert!(text.ends_with("data: {\"type\":\"message_stop\"}\n\n"), "{text}");
    }

    #[test]
    fn bodies_come_whole_or_in_chunks() {
        let mut stream = io::Cursor::new(b"3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\nrest".to_vec());
        assert_eq!(body(&mut stream, None, Some("chunked")).unwrap(), b"abcde");
        let mut stream = io::Cursor::new(b"abcde".to_vec());
        assert_eq!(body(&mut stream, Some("3"), None).unwrap(), b"abc");
        assert!(body(&mut stream, Some("999999999999"), None).is_err());
    }
}
