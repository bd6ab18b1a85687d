//! Where things are, and which addresses are whose.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The administrator's file.
pub const POLICY_FILE: &str = "/etc/rcc/network-whitelist.yaml";
/// The helper's state, lost at a reboot as the firewall is.
pub const STATE_FOLDER: &str = "/run/rcc";
/// The user that the resolver's child becomes.
pub const RESOLVER_USER: &str = "rcc-resolver";

/// Mark on the host of what the resolver's sockets send. The resolver cannot change
/// it, and the host's table lets packets with it go to name servers only.
pub const RESOLVER_MARK: u32 = 0x7263_6372;

/// Mark, in the gate, of packets whose connection has not said yet whom it wants:
/// they go to the device where the resolver's process looks at them.
pub const HELLO_MARK: u32 = 0x7263_6368;
/// The routing table that such packets are sent by.
pub const HELLO_TABLE: u8 = 100;
/// In the mark of a flow: it is such a connection. The rest of the mark is the
/// generation of its attachment.
pub const UNCHECKED: u32 = 1 << 31;

/// Addresses of links and sandboxes: a /20 out of the range for benchmarks
/// (RFC 2544), which no network routes.
pub const POOL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 20);
/// The host's end of the link between host and gate.
pub const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The gate's end.
pub const GATE_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// Prefix length of that link.
pub const LINK_PREFIX: u8 = 30;
/// First and last address for sandboxes, as offsets in the pool.
pub const SANDBOXES: std::ops::RangeInclusive<u32> = 16..=4094;

/// The `offset`th address of the pool.
pub fn pool_address(offset: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(POOL.network()) + offset)
}
