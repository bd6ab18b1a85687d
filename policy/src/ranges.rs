//! Address ranges: what no rule can open, and what counts as private.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What kind of address it is, as far as the gate cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Range {
    /// No entry can open it.
    Never,
    /// Opened only by an entry that says so.
    Private,
    /// The public internet.
    Public,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(segments: [u16; 8], prefix: u8) -> IpNet {
    let [a, b, c, d, e, f, g, h] = segments;
    IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix))
}

/// Ranges that no entry opens. The gate adds at run time what depends on the
/// machine: its own pool, the host's addresses, networks made in software.
pub const NEVER: &[IpNet] = &[
    v4(0, 0, 0, 0, 8),                              // "this network", RFC 791
    v4(127, 0, 0, 0, 8),                            // loopback, RFC 1122
    v4(169, 254, 0, 0, 16),                         // link-local and cloud metadata, RFC 3927
    v4(168, 63, 129, 16, 32),                       // Azure's host agent
    v4(100, 100, 100, 200, 32),                     // Alibaba's metadata
    v4(192, 0, 0, 0, 24),   // protocol assignments, RFC 6890; Oracle's metadata
    v4(192, 88, 99, 0, 24), // 6to4 relays, RFC 7526
    v4(198, 18, 0, 0, 15),  // benchmarking, RFC 2544: sandboxes live here
    v4(224, 0, 0, 0, 4),    // multicast, RFC 5771
    v4(240, 0, 0, 0, 4),    // reserved and broadcast, RFC 1112
    v6([0, 0, 0, 0, 0, 0, 0, 0], 8), // ::, ::1, IPv4-mapped and -compatible, RFC 4291
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), // NAT64, RFC 6052
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), // local NAT64, RFC 8215
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), // discard, RFC 6666
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), // Teredo, RFC 4380
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), // 6to4, RFC 3056
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), // Amazon's metadata
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), // link-local, RFC 4291
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), // site-local, RFC 3879
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), // multicast, RFC 4291
];

/// Private ranges, closed by `block_rfc1918` unless an entry names them.
pub const PRIVATE: &[IpNet] = &[
    v4(10, 0, 0, 0, 8),                   // RFC 1918
    v4(172, 16, 0, 0, 12),                // RFC 1918
    v4(192, 168, 0, 0, 16),               // RFC 1918
    v4(100, 64, 0, 0, 10),                // carrier-grade NAT and overlay VPNs, RFC 6598
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), // unique local, RFC 4193
];

/// Which range an address lies in.
pub fn classify(address: IpAddr) -> Range {
    if NEVER.iter().any(|net| net.contains(&address)) {
        Range::Never
    } else if PRIVATE.iter().any(|net| net.contains(&address)) {
        Range::Private
    } else {
        Range::Public
    }
}

/// True when `net` lies wholly inside one of `ranges`.
pub(crate) fn lies_in(net: &IpNet, ranges: &[IpNet]) -> bool {
    ranges.iter().any(|range| range.contains(net))
}

/// True when an address of `net` lies in one of `ranges`.
pub(crate) fn overlaps(net: &IpNet, ranges: &[IpNet]) -> bool {
    ranges.iter().any(|range| range.contains(net) || net.contains(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n6_addresses_that_rebinding_uses_are_never_or_private() {
        for never in [
            "127.0.0.1",
            "169.254.169.254",
            "::1",
            "::",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::",
            "168.63.129.16",
            "100.100.100.200",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.251",
            "ff02::fb",
            "fe80::1",
            "fd00:ec2::254",
            "198.18.0.1",
            "2001:0:1::",
        ] {
            assert_eq!(classify(never.parse().unwrap()), Range::Never, "{never}");
        }
        for private in ["10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "fd12::1"] {
            assert_eq!(classify(private.parse().unwrap()), Range::Private, "{private}");
        }
        for public in ["203.0.113.9", "172.32.0.1", "2600::1", "1.1.1.1"] {
            assert_eq!(classify(public.parse().unwrap()), Range::Public, "{public}");
        }
    }
}
