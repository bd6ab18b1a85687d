//! Names of network interfaces, as far as a firewall rule can name them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// `IFNAMSIZ` without the zero at the end (linux/if.h).
const MAX_LENGTH: usize = 15;

/// The name of a network interface of the host's that can lead somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Interface(String);

/// A name that is none, or that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InterfaceError {
    /// Not of the characters that names are made of. `*` at the end would mean many.
    #[error(
        "`{0}` is not the name of a network interface: one has 1 to 15 letters, digits, `.`, `_` or `-`, and begins with a letter or digit"
    )]
    NoName(String),
    /// Nothing leaves the host there.
    #[error("`{0}` does not lead out of the computer")]
    LeadsNowhere(String),
}

impl Interface {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Interface {
    type Err = InterfaceError;

    fn from_str(text: &str) -> Result<Self, InterfaceError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let begins_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if !begins_well || text.len() > MAX_LENGTH || !text.bytes().all(plain) {
            return Err(InterfaceError::NoName(text.to_owned()));
        }
        // The second is the sandboxes' own link to the host.
        if ["lo", "rcc0"].contains(&text) {
            return Err(InterfaceError::LeadsNowhere(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_of_one_interface() {
        for name in ["wg0", "enp0s31f6", "tun-work.2", "proton_0", "0", "a23456789012345"] {
            assert_eq!(name.parse::<Interface>().unwrap().as_str(), name);
        }
        for bad in
            ["", "*", "wg*", "@set", "-x", "a b", "a/b", "a:1", "wg0\n", "ü0", "a234567890123456"]
        {
            assert!(matches!(bad.parse::<Interface>(), Err(InterfaceError::NoName(_))), "{bad:?}");
        }
        for nowhere in ["lo", "rcc0"] {
            let error = nowhere.parse::<Interface>().unwrap_err();
            assert_eq!(error, InterfaceError::LeadsNowhere(nowhere.into()));
        }
    }
}
