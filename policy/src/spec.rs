//! `HOST[:PORT[,PORT…]][/udp]`, as a person types it.

use crate::entry::{Entry, EntryError, Protocol};

/// The port that a host without one means.
const DEFAULT_PORT: u16 = 443;

/// Reads `api.example.org`, `db.internal:5432`, `198.51.100.0/24:80,443`,
/// `[2001:db8::1]:443` or `dns.example:853/udp`. Without a port: 443.
pub fn parse_spec(text: &str, private: bool) -> Result<Entry, EntryError> {
    let (text, protocol) = match text.strip_suffix("/udp") {
        Some(rest) => (rest, Protocol::Udp),
        None => (text.strip_suffix("/tcp").unwrap_or(text), Protocol::Tcp),
    };
    let (target, ports) = split_ports(text);
    let ports = match ports {
        None => vec![DEFAULT_PORT],
        Some(list) => list
            .split(',')
            .map(|port| port.trim().parse().map_err(|_| EntryError::NoPorts))
            .collect::<Result<Vec<u16>, _>>()?,
    };
    Entry::new(target, &ports, protocol, private)
}

/// An IPv6 address has colons of its own: with a port it stands in brackets.
fn split_ports(text: &str) -> (&str, Option<&str>) {
    if let Some((target, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (target, rest.strip_prefix(':'));
    }
    match text.rsplit_once(':') {
        Some((target, ports)) if !target.contains(':') => (target, Some(ports)),
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_type() {
        let shown = |text| parse_spec(text, false).map(|entry| entry.to_string());
        assert_eq!(shown("Example.org").unwrap(), "example.org tcp/443");
        assert_eq!(shown("db.example:5432").unwrap(), "db.example tcp/5432");
        assert_eq!(shown("198.51.100.0/24:443,80").unwrap(), "198.51.100.0/24 tcp/80,443");
        assert_eq!(shown("[2600::1]:53/udp").unwrap(), "2600::1 udp/53");
        assert_eq!(shown("2600::1").unwrap(), "2600::1 tcp/443");
        assert_eq!(shown("*.example.org").unwrap(), "*.example.org tcp/443");
        for bad in [
            "",
            ":443",
            "a.example:",
            "a.example:x",
            "a.example:0",
            "https://a.example",
            "a.example/x",
        ] {
            assert!(shown(bad).is_err(), "{bad}");
        }
    }
}
