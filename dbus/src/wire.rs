//! Types as they travel. Each is plain data; the helper turns them into
//! checked values before it looks at anything else.

use rcc_policy::{Entry, EntryError, Protocol};
use serde::{Deserialize, Serialize};
use zbus::zvariant::Type;

/// One thing that a user allows for a sandbox of their own: `(sasqsb)` without
/// nesting, so that any D-Bus client can write it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Type)]
pub struct Rule {
    /// A host name, `*.name`, an address, or a network such as `198.51.100.0/24`.
    pub target: String,
    /// 1 to [`crate::MAX_PORTS_PER_RULE`] ports, none of them 0.
    pub ports: Vec<u16>,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// A name may resolve into private ranges.
    pub private: bool,
}

impl Rule {
    /// The checked form; fails with the reason why this cannot be a rule.
    pub fn to_entry(&self) -> Result<Entry, EntryError> {
        Entry::new(&self.target, &self.ports, self.protocol.parse()?, self.private)
    }
}

impl From<&Entry> for Rule {
    fn from(entry: &Entry) -> Self {
        Self {
            target: entry.target().to_string(),
            ports: entry.ports().to_vec(),
            protocol: entry.protocol().to_string(),
            private: entry.private(),
        }
    }
}

/// A rule of an attachment with the time that is left to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct StandingRule {
    /// The rule.
    pub rule: Rule,
    /// Seconds until it ends; 0 for a rule without an end.
    pub expires_in: u32,
}

/// A rule that the helper did not take, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct RuleDropped {
    /// Index of the rule in the call.
    pub index: u32,
    /// A sentence: outside the administrator's bounds, or not a valid rule.
    pub reason: String,
}

/// What Attach answers: everything that the user's side needs to set up its
/// own end of the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Attachment {
    /// Number of the attachment, for the other methods. Never reused while the
    /// helper's state lives.
    pub id: u32,
    /// Name of the link in the sandbox's namespace, `eth0`.
    pub interface: String,
    /// The sandbox's IPv4 address; its prefix length is 32.
    pub address4: String,
    /// The sandbox's IPv6 address (prefix length 128), or empty when the host
    /// offers no IPv6.
    pub address6: String,
    /// IPv4 gateway and resolver, on the link.
    pub gateway4: String,
    /// IPv6 gateway on the link, or empty.
    pub gateway6: String,
    /// The hardware address that the sandbox's end was made with, and the gate's.
    pub mac: String,
    /// Hardware address of the gate's end, for a permanent neighbour entry.
    pub gateway_mac: String,
    /// Rules that were not taken.
    pub dropped: Vec<RuleDropped>,
}

/// One line of `List`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct AttachmentInfo {
    /// The attachment's id.
    pub id: u32,
    /// Whose it is.
    pub uid: u32,
    /// Inode of the sandbox's network namespace: the number that
    /// `stat -L /proc/PID/ns/net` shows for any process in it.
    pub netns: u64,
    /// The sandbox's IPv4 address.
    pub address4: String,
    /// The sandbox's IPv6 address, or empty.
    pub address6: String,
    /// False after `SetConnected(id, false)`.
    pub connected: bool,
    /// True when an administrator disconnected it: its user cannot connect it again.
    pub locked: bool,
    /// When it was attached, seconds since 1970.
    pub since: u64,
    /// The user's rules in force, without the administrator's.
    pub rules: Vec<StandingRule>,
    /// For how many seconds more it is open to the public internet by
    /// `OpenInternet`; 0 when it is not.
    pub open_for: u32,
}

/// One line of `Reached`: where a sandbox went since the helper was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Reached {
    /// The name that the sandbox asked for, or empty.
    pub host: String,
    /// The address.
    pub address: String,
    /// Destination port.
    pub port: u16,
    /// `tcp`, `udp` or another word.
    pub protocol: String,
    /// New flows; fewer than there were when there were very many at once.
    pub count: u32,
    /// When the last one began, seconds since 1970.
    pub last: u64,
}

/// One line of `Diagnose`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Check {
    /// Stable name, for instance `gate` or `host-table`.
    pub name: String,
    /// `ok`, `note` (works, with something to know) or `bad`.
    pub state: String,
    /// A sentence.
    pub text: String,
}

/// Why something was blocked; the `reason` of the `Blocked` signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlockedReason {
    /// Nothing allows this name or address.
    NotAllowed,
    /// A private address that no entry names.
    Private,
    /// An address that no entry can open: the host itself, metadata, multicast …
    Never,
    /// More flows or questions than one sandbox may have.
    Limit,
    /// The network of the sandbox is disconnected.
    Disconnected,
    /// The connection hid which server it is for: not TLS, no name in it, or an
    /// encrypted one. The address was given for a name.
    Unnamed,
}

impl BlockedReason {
    /// All of them.
    pub const ALL: [BlockedReason; 6] = [
        Self::NotAllowed,
        Self::Private,
        Self::Never,
        Self::Limit,
        Self::Disconnected,
        Self::Unnamed,
    ];

    /// The word on the wire and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "not-allowed",
            Self::Private => "private",
            Self::Never => "never",
            Self::Limit => "limit",
            Self::Disconnected => "disconnected",
            Self::Unnamed => "unnamed",
        }
    }

    /// Reads the word.
    pub fn from_wire(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// A step of `Setup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SetupStep {
    /// The firewall and its regular check start at boot, and now.
    Boot,
    /// firewalld lets sandboxes through.
    Firewalld,
    /// ufw does.
    Ufw,
    /// Docker's rules do.
    Docker,
}

impl SetupStep {
    /// All of them.
    pub const ALL: [SetupStep; 4] = [Self::Boot, Self::Firewalld, Self::Ufw, Self::Docker];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Firewalld => "firewalld",
            Self::Ufw => "ufw",
            Self::Docker => "docker",
        }
    }

    /// What it does, for the password prompt.
    pub fn words(self) -> &'static str {
        match self {
            Self::Boot => "start the firewall of sandboxes at boot",
            Self::Firewalld => "let sandboxes through firewalld (zone rcc, policy rcc-out)",
            Self::Ufw => "let sandboxes through ufw (route allow in on rcc0)",
            Self::Docker => "let sandboxes through Docker's rules (DOCKER-USER, rcc0)",
        }
    }

    /// Reads the word.
    pub fn from_wire(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == word)
    }
}

/// Keeps the protocol words in one place for clients that build rules.
impl Rule {
    /// A TCP rule for a host or network.
    pub fn tcp(target: impl Into<String>, ports: &[u16]) -> Self {
        Self {
            target: target.into(),
            ports: ports.to_vec(),
            protocol: Protocol::Tcp.to_string(),
            private: false,
        }
    }
}
