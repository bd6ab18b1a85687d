//! The host's way in: an exec of this program whose stdio is connected to PID 1.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use rcc_inside::frame::MAX_DATA;

/// How long PID 1 may take to open its socket after the container was started.
const START_UP: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(5);

/// How long PID 1 has to send its last bytes after the host closed its side.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Connects to PID 1, waiting for it if it has only just been started.
pub fn connect(socket: &str, patience: Duration) -> io::Result<UnixStream> {
    let address = SocketAddr::from_abstract_name(socket)?;
    let start = Instant::now();
    loop {
        match UnixStream::connect_addr(&address) {
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused
                    && start.elapsed() < patience =>
            {
                thread::sleep(RETRY);
            }
            result => return result,
        }
    }
}

/// Carries bytes both ways until one side is closed.
pub fn run(socket: &str) -> io::Result<()> {
    let stream = connect(socket, START_UP)?;
    let mut from = stream.try_clone()?;
    let mut to = stream;
    thread::spawn(move || {
        let _closed = carry(&mut io::stdin().lock(), &mut to);
        let _gone = to.shutdown(Shutdown::Write);
        thread::sleep(LAST_WORDS);
        let _gone = to.shutdown(Shutdown::Both);
    });
    carry(&mut from, &mut io::stdout().lock())
}

fn carry(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut bytes = vec![0; MAX_DATA];
    loop {
        match from.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(bytes.get(..count).unwrap_or_default())?;
                // Standard output keeps what does not end in a line break.
                to.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
