//! An entry as a person types it, field by field.

use rcc_policy::{Entry, EntryError, Target};

use crate::error::{Code, Error};

/// What stands in the form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// A name, `*.name`, an address or a network.
    pub target: String,
    /// `443`, or `80, 443`.
    pub ports: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// A name may resolve into private ranges.
    pub private: bool,
}

/// Where a mistake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The name, address or network.
    Target,
    /// The ports.
    Ports,
    /// Whether it may be private.
    Private,
}

/// A mistake; the message is a sentence, harmless for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub field: Field,
    /// What is wrong.
    pub message: String,
}

impl From<Mistake> for Error {
    fn from(mistake: Mistake) -> Self {
        Self::new(Code::Rule, mistake.message)
    }
}

impl Fields {
    /// The entry that they mean.
    ///
    /// # Errors
    /// The first mistake.
    pub fn entry(&self) -> Result<Entry, Mistake> {
        let ports = self.ports()?;
        let protocol = self.protocol.parse().map_err(|e| mistake(Field::Ports, &e))?;
        // The target first: a network with `private` is a mistake of the latter.
        Entry::new(self.target.trim(), &ports, protocol, self.private).map_err(|e| {
            let field = match e {
                EntryError::PrivateNet => Field::Private,
                EntryError::NoPorts | EntryError::PortZero | EntryError::PortTwice(_) => {
                    Field::Ports
                }
                _ => Field::Target,
            };
            mistake(field, &e)
        })
    }

    fn ports(&self) -> Result<Vec<u16>, Mistake> {
        let parts = self.ports.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty());
        let ports: Result<Vec<u16>, Mistake> = parts
            .map(|part| {
                part.parse().map_err(|_| {
                    let text = format!("`{part}` is not a port; ports are 1 to 65535");
                    mistake(Field::Ports, &text)
                })
            })
            .collect();
        match ports? {
            ports if ports.len() > rcc_dbus::MAX_PORTS_PER_RULE => {
                let text = format!("more than {} ports", rcc_dbus::MAX_PORTS_PER_RULE);
                Err(mistake(Field::Ports, &text))
            }
            ports => Ok(ports),
        }
    }
}

fn mistake(field: Field, why: &impl std::fmt::Display) -> Mistake {
    let text = crate::display::line(&why.to_string(), 300);
    let mut letters = text.chars();
    let first: String = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    Mistake { field, message: format!("{first}{}.", letters.as_str().trim_end_matches('.')) }
}

/// Whether one of `entries` lets a program reach this; port 0 stands for any.
/// `private`: it was blocked because its address is private.
pub fn allows(entries: &[Entry], target: &str, port: u16, protocol: &str, private: bool) -> bool {
    let name = target.parse().ok();
    let address: Option<std::net::IpAddr> = target.parse().ok();
    entries.iter().any(|entry| {
        let fits = match entry.target() {
            Target::Host(pattern) => {
                (!private || entry.private()) && name.as_ref().is_some_and(|n| pattern.matches(n))
            }
            Target::Net(net) => address.is_some_and(|address| net.contains(&address)),
        };
        fits && (port == 0
            || entry.ports().contains(&port) && entry.protocol().to_string() == protocol)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(target: &str, ports: &str, private: bool) -> Fields {
        Fields { target: target.into(), ports: ports.into(), protocol: "tcp".into(), private }
    }

    #[test]
    fn a_mistake_is_said_at_its_field() {
        assert_eq!(
            fields(" a.example ", "80, 443", false).entry().unwrap().to_string(),
            "a.example tcp/80,443"
        );
        let wrong = |target, ports, private| fields(target, ports, private).entry().unwrap_err();
        for (target, ports, private, field) in [
            ("", "443", false, Field::Target),
            ("a b", "443", false, Field::Target),
            ("127.0.0.1", "443", false, Field::Target),
            ("10.0.0.1/8", "443", false, Field::Target),
            ("a.example", "", false, Field::Ports),
            ("a.example", "x", false, Field::Ports),
            ("a.example", "0", false, Field::Ports),
            ("a.example", "65536", false, Field::Ports),
            ("a.example", "1 1", false, Field::Ports),
            ("10.0.0.0/8", "443", true, Field::Private),
        ] {
            let mistake = wrong(target, ports, private);
            assert_eq!(mistake.field, field, "{target} {ports}: {}", mistake.message);
            assert!(mistake.message.ends_with('.'));
            assert!(!mistake.message.chars().any(char::is_control));
        }
        let many: String = (1..=65).map(|port| format!("{port},")).collect();
        assert_eq!(wrong("a.example", &many, false).field, Field::Ports);
    }

    #[test]
    fn what_is_allowed_now_is_known_by_name_address_and_port() {
        let all = [
            fields("*.a.example", "443", false).entry().unwrap(),
            fields("198.51.100.0/24", "80", false).entry().unwrap(),
        ];
        assert!(allows(&all, "x.a.example", 443, "tcp", false));
        assert!(allows(&all, "x.a.example", 0, "tcp", false));
        assert!(allows(&all, "198.51.100.7", 80, "tcp", false));
        assert!(!allows(&all, "x.a.example", 80, "tcp", false));
        assert!(!allows(&all, "x.a.example", 443, "udp", false));
        assert!(!allows(&all, "x.a.example", 443, "tcp", true));
        assert!(!allows(&all, "b.example", 443, "tcp", false));
        assert!(!allows(&all, "", 443, "tcp", false));
    }
}
