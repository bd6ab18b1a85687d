//! What a sandbox must not reach, put there for the time of the tries.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::PathBuf;

use crate::error::{Code, Error, Result};
use crate::host::Host;

/// A file of the person's that nobody inside may read.
pub(super) struct Canary {
    pub path: PathBuf,
    pub word: String,
}

impl Canary {
    pub fn make(host: &Host) -> Result<Self> {
        let mut random = [0; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::new(Code::Environment, format!("No random numbers: {e}.")))?;
        let word: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = host.state.join(format!("verify-{word}"));
        let written = crate::host::make_dirs(&host.state)
            .and_then(|()| crate::host::write_atomically(&path, word.as_bytes()));
        written?;
        Ok(Self { path, word })
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A server on every address of this computer that the sandbox must not reach.
pub(super) struct Listening {
    pub addresses: Vec<IpAddr>,
    pub port: u16,
    _listener: Option<TcpListener>,
}

impl Listening {
    pub fn start() -> Self {
        let none = Self { addresses: Vec::new(), port: 9, _listener: None };
        let Ok(listener) = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)) else { return none };
        let Ok(own) = listener.local_addr() else { return none };
        let all = nix::ifaddrs::getifaddrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
        let v4 = |one: nix::ifaddrs::InterfaceAddress| {
            Some(IpAddr::V4(one.address?.as_sockaddr_in()?.ip()))
        };
        let mut addresses: Vec<IpAddr> = all.into_iter().filter_map(v4).collect();
        // Inside, this is the sandbox itself.
        addresses.retain(|address| !address.is_loopback());
        addresses.sort();
        addresses.dedup();
        addresses.truncate(16);
        Self { addresses, port: own.port(), _listener: Some(listener) }
    }
}
