use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use super::*;

/// A registry on loopback with one version of one package.
struct Played {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    WrongByte,
    NoIntegrity,
    WeakIntegrity,
    CutOff,
    OddVersion,
    Slow,
}

fn archive() -> Vec<u8> {
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut add = |name: &str, bytes: &[u8], mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_cksum();
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    add("package/package.json", b"{}", 0o644);
    add(MEMBER, &b"\x7fELF ld-linux ".repeat(40_000), 0o4777);
    builder.into_inner().unwrap().finish().unwrap()
}

fn play(fault: Fault) -> Played {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (base, log) = (url.clone(), asked.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = answer(&stream.unwrap(), fault, &base, &log);
        }
    });
    Played { url, asked }
}

fn answer(
    mut stream: &TcpStream,
    fault: Fault,
    base: &str,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream);
    while reader.read_line(&mut head)? > 2 {}
    log.lock().unwrap().push(head.clone());
    let archive = archive();
    let body = if head.contains("archive.tgz") {
        let mut body = archive;
        if fault == Fault::WrongByte {
            let middle = body.len() / 2;
            body[middle] ^= 1;
        }
        body
    } else {
        let version = if fault == Fault::OddVersion { "../../evil" } else { "2.1.5" };
        let mut dist = serde_json::json!({"tarball": format!("{base}archive.tgz")});
        match fault {
            Fault::NoIntegrity => {}
            Fault::WeakIntegrity => dist["integrity"] = "sha1-AAAAAAAAAAAAAAAAAAAAAAAAAAA=".into(),
            _ => {
                dist["integrity"] =
                    format!("sha512-{}", BASE64_STANDARD.encode(Sha512::digest(&archive))).into()
            }
        }
        let metadata = serde_json::json!({"dist-tags": {"latest": version}, "versions": {version: {"dist": dist}}});
        metadata.to_string().into_bytes()
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    let archive = head.contains("archive.tgz");
    match fault {
        Fault::CutOff if archive => stream.write_all(&body[..body.len() / 2]),
        Fault::Slow if archive => {
            for byte in body {
                stream.write_all(&[byte])?;
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        }
        _ => stream.write_all(&body),
    }
}

fn request(played: &Played, store: &Path) -> Request {
    Request {
        registry: Registry { url: played.url.clone(), authorization: None },
        package: "@anthropic-ai/claude-code-linux-x64",
        version: None,
        store: store.to_path_buf(),
        report: Reporter::silent(),
        cancel: Cancel::new(),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_newest_version_is_asked_for_and_nothing_is_downloaded() {
    let dir = tempfile::tempdir().unwrap();
    let played = play(Fault::None);
    assert_eq!(newest(&request(&played, dir.path())).unwrap(), "2.1.5");
    assert_eq!(played.asked.lock().unwrap().len(), 1);
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn the_program_and_nothing_else_is_put_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let played = play(Fault::None);
    assert_eq!(run(&request(&played, dir.path())).unwrap(), "2.1.5");
    assert_eq!(names(dir.path()), ["2.1.5"]);
    assert_eq!(names(&dir.path().join("2.1.5")), ["claude"]);
    let program = dir.path().join("2.1.5/claude");
    assert_eq!(program.metadata().unwrap().len(), 14 * 40_000);
    // The archive's set-user-id bit is not taken over.
    assert_eq!(program.metadata().unwrap().permissions().mode() & 0o7000, 0);
    assert!(played.asked.lock().unwrap()[0].contains("/@anthropic-ai%2fclaude-code-linux-x64 "));
}

#[test]
fn a_broken_download_leaves_the_old_version_and_nothing_new() {
    for (fault, code) in [
        (Fault::WrongByte, Code::ClaudeHash),
        (Fault::NoIntegrity, Code::ClaudeHash),
        (Fault::WeakIntegrity, Code::ClaudeHash),
        (Fault::CutOff, Code::ClaudeFetch),
        (Fault::OddVersion, Code::ClaudeFetch),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("2.1.4")).unwrap();
        let error = run(&request(&play(fault), dir.path())).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(names(dir.path()), ["2.1.4"]);
    }
}

#[test]
fn a_registry_that_is_not_there_is_an_error_with_its_address() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let played = Played { url: url.clone(), asked: Arc::default() };
    let error = run(&request(&played, dir.path())).unwrap_err();
    assert_eq!(error.code(), Code::ClaudeFetch);
    assert!(error.body().contains(&url), "{error}");
}

#[test]
fn cancelling_stops_the_download_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let played = play(Fault::Slow);
    let mut request = request(&played, dir.path());
    let cancel = request.cancel.clone();
    request.report = Reporter::new(move |progress| {
        if matches!(progress, Progress::Amount { .. }) {
            cancel.cancel();
        }
    });
    assert_eq!(run(&request).unwrap_err().code(), Code::Cancelled);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_token_is_sent_to_the_registry_only() {
    let dir = tempfile::tempdir().unwrap();
    let played = play(Fault::None);
    let mut request = request(&played, dir.path());
    request.registry.authorization = Some("Bearer secret".into());
    run(&request).unwrap();
    let asked = played.asked.lock().unwrap();
    assert!(asked[0].to_lowercase().contains("authorization: bearer secret"));
    request.registry.url = "http://elsewhere.example/".into();
    let stranger = format!("{}archive.tgz", played.url);
    drop(asked);
    get(&agent(), &request, &stranger, "*/*").unwrap();
    assert!(!played.asked.lock().unwrap().last().unwrap().to_lowercase().contains("secret"));
}

#[test]
fn an_archive_without_the_program_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.tgz");
    let builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    fs::write(&path, builder.into_inner().unwrap().finish().unwrap()).unwrap();
    let target = dir.path().join("claude");
    assert!(unpack(File::open(&path).unwrap(), &target, &Cancel::new()).is_err());
    assert!(!target.exists());
}

#[test]
fn two_fetches_at_once_download_once_and_leave_one_good_file() {
    let dir = tempfile::tempdir().unwrap();
    let played = play(Fault::None);
    std::thread::scope(|scope| {
        let fetches: Vec<_> =
            (0..4).map(|_| scope.spawn(|| run(&request(&played, dir.path())))).collect();
        for fetch in fetches {
            assert_eq!(fetch.join().unwrap().unwrap(), "2.1.5");
        }
    });
    let asked = played.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|head| head.contains("archive.tgz")).count(), 1);
    assert_eq!(names(dir.path()), ["2.1.5"]);
    assert_eq!(dir.path().join("2.1.5/claude").metadata().unwrap().len(), 14 * 40_000);
}
