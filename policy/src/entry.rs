//! One line of the whitelist.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

use crate::name::{HostPattern, NameError};
use crate::ranges::{NEVER, PRIVATE, lies_in, overlaps};

/// Why something cannot be an entry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EntryError {
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Not an address or network.
    #[error("`{0}` is not an address or a network such as 198.51.100.0/24")]
    Net(String),
    /// Bits right of the prefix are set; the writer meant something else.
    #[error("`{0}` has bits set outside its prefix; did you mean `{1}`?")]
    HostBits(String, IpNet),
    /// Nothing can open this range.
    #[error(
        "`{0}` can never be allowed: it is this machine itself, link-local, multicast or reserved"
    )]
    Never(IpNet),
    /// No port.
    #[error("`ports` must name at least one port")]
    NoPorts,
    /// Port 0.
    #[error("0 is not a port; ports are 1 to 65535")]
    PortZero,
    /// The same port twice.
    #[error("port {0} stands there twice")]
    PortTwice(u16),
    /// Neither tcp nor udp.
    #[error("`{0}` is not a protocol; write tcp or udp")]
    Protocol(String),
    /// `private` with `ip:`; the address itself says it.
    #[error("`private` belongs to `host:` entries; an address is private or not by itself")]
    PrivateNet,
}

/// What the entry's ports are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Protocol {
    /// TCP, the default.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl FromStr for Protocol {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            other => Err(EntryError::Protocol(other.chars().take(20).collect())),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// What an entry opens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// Whatever address the name has when the sandbox asks.
    Host(HostPattern),
    /// These addresses.
    Net(IpNet),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(pattern) => write!(f, "{pattern}"),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => {
                write!(f, "{}", net.addr())
            }
            Self::Net(net) => write!(f, "{net}"),
        }
    }
}

/// Which block an entry overrules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Decided before the private ranges are blocked (step 4 of the gate).
    Private,
    /// Decided after that (step 6).
    Public,
}

/// A checked entry: its target can be allowed, and it has 1 or more ports,
/// sorted, none twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    target: Target,
    ports: Vec<u16>,
    protocol: Protocol,
    private: bool,
}

impl Entry {
    /// From a name, `*.name`, address or network as text.
    pub fn new(
        target: &str,
        ports: &[u16],
        protocol: Protocol,
        private: bool,
    ) -> Result<Self, EntryError> {
        let looks_like_address =
            target.contains('/') || target.contains(':') || target.parse::<IpAddr>().is_ok();
        if looks_like_address {
            Self::net(target, ports, protocol, private)
        } else {
            Self::host(target, ports, protocol, private)
        }
    }

    /// A `host:` entry.
    pub fn host(
        host: &str,
        ports: &[u16],
        protocol: Protocol,
        private: bool,
    ) -> Result<Self, EntryError> {
        let target = Target::Host(HostPattern::parse(host, private)?);
        Ok(Self { target, ports: check_ports(ports)?, protocol, private })
    }

    /// An `ip:` entry.
    pub fn net(
        net: &str,
        ports: &[u16],
        protocol: Protocol,
        private: bool,
    ) -> Result<Self, EntryError> {
        if private {
            return Err(EntryError::PrivateNet);
        }
        let parsed = net
            .parse::<IpNet>()
            .or_else(|_| net.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| EntryError::Net(net.chars().take(80).collect()))?;
        if parsed.trunc() != parsed {
            return Err(EntryError::HostBits(net.chars().take(80).collect(), parsed.trunc()));
        }
        if lies_in(&parsed, NEVER) {
            return Err(EntryError::Never(parsed));
        }
        Ok(Self { target: Target::Net(parsed), ports: check_ports(ports)?, protocol, private })
    }

    /// What it opens.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Sorted, at least one.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// TCP or UDP.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// `private: true` of a `host:` entry.
    pub fn private(&self) -> bool {
        self.private
    }

    /// A network counts as private only when it lies wholly inside a private
    /// range: `0.0.0.0/0` must not open the company's network by the way.
    pub fn reach(&self) -> Reach {
        let private = match &self.target {
            Target::Host(_) => self.private,
            Target::Net(net) => lies_in(net, PRIVATE),
        };
        if private { Reach::Private } else { Reach::Public }
    }

    /// Some of the addresses that it opens are private. Those of a wider network than that
    /// are open only where `block_rfc1918` is off.
    pub fn touches_private(&self) -> bool {
        match &self.target {
            Target::Host(_) => self.private,
            Target::Net(net) => overlaps(net, PRIVATE),
        }
    }

    /// A name pattern under which an attacker with a name server could move
    /// data in the names that are asked for.
    pub fn tunnel_possible(&self) -> bool {
        matches!(self.target, Target::Host(HostPattern::Below(_)))
    }
}

fn check_ports(ports: &[u16]) -> Result<Vec<u16>, EntryError> {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    match ports.first() {
        None => return Err(EntryError::NoPorts),
        Some(0) => return Err(EntryError::PortZero),
        Some(_) => {}
    }
    if let Some(pair) = ports.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(EntryError::PortTwice(pair[0]));
    }
    Ok(ports)
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<_> = self.ports.iter().map(u16::to_string).collect();
        write!(f, "{} {}/{}", self.target, self.protocol, ports.join(","))?;
        if self.private { f.write_str(" private") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_that_can_never_be_allowed_are_errors() {
        for bad in
            ["127.0.0.1", "169.254.169.254/32", "fe80::/64", "::1", "224.0.0.0/8", "198.18.4.0/24"]
        {
            assert!(
                matches!(Entry::net(bad, &[1], Protocol::Tcp, false), Err(EntryError::Never(_))),
                "{bad}"
            );
        }
        assert!(matches!(
            Entry::net("10.0.0.1/8", &[1], Protocol::Tcp, false),
            Err(EntryError::HostBits(..))
        ));
    }

    #[test]
    fn a_network_is_private_only_when_all_of_it_is() {
        let reach = |net: &str| Entry::net(net, &[1], Protocol::Tcp, false).unwrap().reach();
        assert_eq!(reach("10.2.0.0/16"), Reach::Private);
        assert_eq!(reach("0.0.0.0/0"), Reach::Public);
        assert_eq!(reach("::/0"), Reach::Public);
        assert_eq!(reach("198.51.100.0/24"), Reach::Public);
    }

    #[test]
    fn ports_are_checked() {
        let ports = |ports: &[u16]| Entry::host("a.example", ports, Protocol::Tcp, false);
        assert_eq!(ports(&[]), Err(EntryError::NoPorts));
        assert_eq!(ports(&[0, 1]), Err(EntryError::PortZero));
        assert_eq!(ports(&[5, 1, 5]), Err(EntryError::PortTwice(5)));
        assert_eq!(ports(&[5, 1]).unwrap().ports(), [1, 5]);
    }
}
