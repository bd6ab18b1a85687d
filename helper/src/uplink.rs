//! By which interface what sandboxes send leaves the host: the administrator's
//! `defaults.uplink`, as it is in force.
//!
//! It is written down beside the state of the firewall, so that the regular check and a
//! service that starts with a list that does not read know it, too. Neither guesses.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcc_policy::Interface;
use tracing::error;

use crate::layout::{GATE_ADDRESS, RESOLVER_MARK, STATE_FOLDER};
use crate::netlink::{Link, Rtnl, Whose};
use crate::policy_file::{InForce, PolicyFileError};
use crate::resolver::parent;
use crate::rules::HOST_LINK;
use crate::state::write_atomically;

/// The word in the record for [`Uplink::Any`]; no interface has this name.
const ANY: &str = "*";

/// An address out of the range for documents (RFC 5737): what holds for it holds for
/// all that no route names. Nothing is sent there.
const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uplink {
    /// By whatever the routes say.
    Any,
    /// By this one, or not at all.
    Only(Interface),
    /// Nobody knows what the administrator wants: by none.
    Nowhere,
}

impl Uplink {
    /// What the file says; `None` without one: that says nothing, and what was in force
    /// stays (an editor may be about to put another one there).
    pub fn said_by(file: &InForce) -> Option<Self> {
        // An empty file is no policy.
        let said = || file.policy.defaults.uplink.clone().map_or(Self::Any, Self::Only);
        (!file.document.is_empty()).then(said)
    }

    /// What a service starts with.
    pub fn at_start(file: Result<&InForce, &PolicyFileError>) -> Self {
        match file.map(Self::said_by) {
            Ok(Some(said)) => said,
            Ok(None) => Self::recorded().unwrap_or(Self::Any),
            Err(_) => Self::recorded()
                .or_else(|| Self::said_by(&InForce::last_or_nothing()))
                .unwrap_or(Self::Nowhere),
        }
    }

    /// What is in force: what was written down, else what the file says.
    pub fn in_force() -> Self {
        Self::recorded().unwrap_or_else(|| Self::at_start(InForce::read().as_ref()))
    }

    /// What was in force when it was last written down.
    pub fn recorded() -> Option<Self> {
        match fs::read_to_string(path()) {
            Ok(text) => Some(Self::read(text.trim_end())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some(Self::Nowhere),
        }
    }

    /// How it is with it now, in the network namespace of the calling thread: the word
    /// of a check and a sentence. `None` where any interface will do.
    pub fn state(&self, rtnl: &mut Rtnl) -> io::Result<Option<(&'static str, String)>> {
        let interface = match self {
            Self::Any => return Ok(None),
            Self::Nowhere => {
                let text = "The list of allowed hosts does not read, so nobody knows by which interface sandboxes may leave this computer; they reach nothing.";
                return Ok(Some(("bad", text.to_owned())));
            }
            Self::Only(interface) => interface,
        };
        let only = format!("Sandboxes may leave this computer by {interface} alone");
        let bad = |why: &str| Some(("bad", format!("{only}, {why}, so they reach nothing.")));
        let link = match rtnl.link(interface.as_str())? {
            None => return Ok(bad("which is not there")),
            Some(link) if !link.up => return Ok(bad("which is down")),
            Some(link) => link.index,
        };
        if let Some(server) = servers_elsewhere(rtnl, link)? {
            let why = format!("and this computer's name server {server} is not reached by it");
            return Ok(Some(("bad", format!("{only}, {why}: names are not answered."))));
        }
        let whose = |own: Link| Whose::Forwarded { from: GATE_ADDRESS, link: own.index };
        if let Some(own) = rtnl.link(HOST_LINK)?
            && rtnl.way(SOMEWHERE.into(), whose(own))? != Some(link)
        {
            let text = "and the way to the internet is another one: they reach only what routes lead to by it.";
            return Ok(Some(("note", format!("{only}, {text}"))));
        }
        Ok(Some(("ok", format!("{only}."))))
    }

    fn read(word: &str) -> Self {
        match word {
            ANY => Self::Any,
            name => name.parse().map_or(Self::Nowhere, Self::Only),
        }
    }

    /// Writes down that this is in force.
    pub fn record(&self) {
        let word = match self {
            Self::Any => ANY,
            Self::Only(interface) => interface.as_str(),
            Self::Nowhere => "",
        };
        if let Err(error) = write_atomically(&path(), format!("{word}\n").as_bytes()) {
            error!(%error, "could not write down by which interface sandboxes leave");
            // Better none than another one.
            forget();
        }
    }
}

/// Takes the record away, with the firewall.
pub fn forget() {
    let _ = fs::remove_file(path());
}

/// The first name server, if none can be asked by this link or on the computer itself.
fn servers_elsewhere(rtnl: &mut Rtnl, link: u32) -> io::Result<Option<IpAddr>> {
    let servers = parent::servers()?;
    for server in &servers {
        let own = server.is_loopback();
        if own || rtnl.way(*server, Whose::Own { mark: RESOLVER_MARK })? == Some(link) {
            return Ok(None);
        }
    }
    Ok(servers.first().copied())
}

fn path() -> PathBuf {
    Path::new(STATE_FOLDER).join("uplink")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_does_not_read_leads_nowhere() {
        assert_eq!(Uplink::read("*"), Uplink::Any);
        assert_eq!(Uplink::read("wg0"), Uplink::Only("wg0".parse().unwrap()));
        for broken in ["", "lo", "wg0 ", "any\nthing"] {
            assert_eq!(Uplink::read(broken), Uplink::Nowhere, "{broken:?}");
        }
    }
}
