//! The host's side of the link: its table, its routing rules, forwarding.
//!
//! What stood there before is written down and put back by [`remove`].

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use thiserror::Error;

use crate::layout::{GATE_ADDRESS, POOL, STATE_FOLDER};
use crate::netlink::{Route, Rtnl, Rule, TABLE_LOCAL};
use crate::nft::{NftError, Transaction};
use crate::policy_file;
use crate::rules::{HOST_LINK, host_table};
use crate::uplink::{self, Uplink};

/// The host's side could not be set up.
#[derive(Debug, Error)]
pub enum HostError {
    /// Its table.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// Links, routes, rules.
    #[error("cannot set up the host's side of the link: {0}")]
    Netlink(#[from] io::Error),
    /// A setting under /proc/sys, or the record of what it was.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The record of what a setting was.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pool is in use.
    #[error("the host has a route to {0}, inside {POOL}, which sandboxes use; nothing was changed")]
    PoolInUse(IpNet),
}

/// What comes from the gate is never looked up among the host's own addresses; all else
/// is, before anything else. Unlike a table of nftables this survives `nft flush
/// ruleset` (N2, N12).
///
/// It is one rule, in the place of the kernel's: who adds a rule without a priority
/// (wg-quick does) gets the one before the second rule, and that must go on being the
/// one for table `main`.
fn routing_rule() -> Rule {
    Rule { not_from: Some(HOST_LINK), ..kernels_rule() }
}

/// The kernel's own first rule, whose place ours takes.
fn kernels_rule() -> Rule {
    Rule { priority: 0, not_from: None, mark: None, table: TABLE_LOCAL }
}

/// Refuses when something of the host's is reached inside the pool.
pub fn check_pool(rtnl: &mut Rtnl) -> Result<(), HostError> {
    let own = rtnl.link(HOST_LINK)?.map(|link| link.index);
    for route in rtnl.routes()?.into_iter().filter(|route| route.is_main) {
        let net = route.to;
        // Wider ones (a VPN's halves of everything) lose to our own, longer routes.
        let inside = POOL.contains(&net) || (net.prefix_len() >= 8 && net.contains(&POOL));
        if inside && route.links.into_iter().any(|link| Some(link) != own) {
            return Err(HostError::PoolInUse(net.into()));
        }
    }
    Ok(())
}

/// Puts up table and routing rule. Can be called again at any time.
pub fn apply_table(rtnl: &mut Rtnl, uplink: &Uplink) -> Result<(), HostError> {
    // Without a list the resolver reaches nobody.
    let servers = crate::resolver::parent::servers().unwrap_or_default();
    host_table(GATE_ADDRESS, &Record::read()?.only_ours(), &servers, uplink).commit()?;
    let standing = rtnl.rules()?;
    if !standing.iter().any(|other| routing_rule().is(other)) {
        rtnl.add_rule(&routing_rule())?;
    }
    // Only after ours stands: the host is never without.
    if standing.iter().any(|other| kernels_rule().is(other)) {
        rtnl.remove_rule(&kernels_rule())?;
    }
    Ok(())
}

/// Takes the host's end of the link up, which is done last.
pub fn link_up(rtnl: &mut Rtnl) -> io::Result<()> {
    let index = rtnl.index(HOST_LINK)?;
    rtnl.set_up(index, true)?;
    // Beside the host's own addresses: what comes back finds the gate whatever routing
    // rules others make, one that sends everything into a VPN, too.
    rtnl.add_route_in(TABLE_LOCAL, Some(GATE_ADDRESS), index)
}

/// Links that need forwarding, where the gate's traffic passes: [`HOST_LINK`] and links
/// that lead somewhere by a route (a second network card, a VPN: replies come in
/// there), and no other. Written down before it is done, so that the table, which keeps
/// others from using it, stands before: see [`turn_forwarding_on`]. A link that leads
/// nowhere any more (the Wi-Fi since there is a cable) is put back as it was.
pub fn plan_forwarding(rtnl: &mut Rtnl) -> Result<Vec<String>, HostError> {
    let mut record = Record::read()?;
    if record.global.is_none() {
        record.global = Some(read_flag("all"));
    }
    let mut links = ways_out(rtnl)?;
    if !record.others_want_it() {
        record.links.iter().filter(|link| !links.contains(link)).try_for_each(turn_off)?;
        record.links.retain(|link| links.contains(link));
    }
    links.push(HOST_LINK.to_owned());
    links.retain(|link| !read_flag(link));
    for link in &links {
        if link != HOST_LINK && !record.links.contains(link) {
            record.links.push(link.clone());
        }
    }
    record.write()?;
    Ok(links)
}

/// Does what was planned.
pub fn turn_forwarding_on(links: &[String]) -> Result<(), HostError> {
    links.iter().try_for_each(|link| write_flag(link, true))
}

/// True while a way out has no forwarding: one that came after the last
/// [`plan_forwarding`] (Wi-Fi after boot, a VPN). Answers that come back there are
/// thrown away.
pub fn lacks_forwarding(rtnl: &mut Rtnl) -> io::Result<bool> {
    Ok(ways_out(rtnl)?.iter().any(|link| !read_flag(link)))
}

fn ways_out(rtnl: &mut Rtnl) -> io::Result<Vec<String>> {
    let mut links = routed_links(rtnl, |_| true)?;
    links.retain(|link| link != "lo");
    Ok(links)
}

/// Settings of the host's end of the link itself.
pub fn apply_link_settings() -> Result<(), HostError> {
    write_sysctl(&format!("ipv4/conf/{HOST_LINK}/rp_filter"), "1")?;
    write_sysctl(&format!("ipv4/conf/{HOST_LINK}/accept_redirects"), "0")?;
    write_sysctl(&format!("ipv4/conf/{HOST_LINK}/send_redirects"), "0")?;
    // A kernel without IPv6 has no such file, and nothing to turn off.
    if Path::new("/proc/sys/net/ipv6").exists() {
        write_sysctl(&format!("ipv6/conf/{HOST_LINK}/disable_ipv6"), "1")?;
    }
    Ok(())
}

/// True while the link to the gate is up and the routing rule stands.
pub fn stands(rtnl: &mut Rtnl) -> io::Result<bool> {
    let rule = rtnl.rules()?.iter().any(|other| routing_rule().is(other));
    Ok(rule && rtnl.link(HOST_LINK)?.is_some_and(|link| link.up))
}

/// Undoes everything on the host. Goes on after an error and reports the first.
pub fn remove(rtnl: &mut Rtnl) -> Result<(), HostError> {
    let mut first = Ok(());
    let mut note = |result: Result<(), HostError>| {
        if first.is_ok() {
            first = result;
        }
    };
    note(rtnl.remove_link(HOST_LINK).map_err(HostError::from));
    let standing = rtnl.rules().unwrap_or_default();
    if !standing.iter().any(|other| kernels_rule().is(other)) {
        note(rtnl.add_rule(&kernels_rule()).map_err(HostError::from));
    }
    if standing.iter().any(|other| routing_rule().is(other)) {
        note(rtnl.remove_rule(&routing_rule()).map_err(HostError::from));
    }
    match Record::read() {
        Ok(record) if !record.others_want_it() => {
            record.links.iter().for_each(|link| note(turn_off(link)));
        }
        Ok(_) => {}
        Err(error) => note(Err(error)),
    }
    let mut t = Transaction::new();
    t.remove_table();
    note(t.commit().map_err(HostError::from));
    let _ = fs::remove_file(Record::path());
    uplink::forget();
    policy_file::forget();
    first
}

/// The host's own addresses, and whole networks that it made in software
/// (Docker's, libvirt's): step 2 of the gate.
pub fn networks(rtnl: &mut Rtnl) -> io::Result<Vec<IpNet>> {
    let default = default_links(rtnl)?;
    let links = rtnl.links()?;
    let bridges: Vec<u32> = links
        .iter()
        // A bridge with the default route behind it is the LAN itself.
        .filter(|link| link.kind == "bridge" && !default.contains(&link.name))
        .map(|link| link.index)
        .collect();
    let addresses = rtnl.addresses()?;
    Ok(addresses
        .into_iter()
        .filter_map(|(link, address, prefix)| {
            let length = match address {
                IpAddr::V4(_) if bridges.contains(&link) => prefix,
                IpAddr::V6(_) if bridges.contains(&link) => prefix,
                IpAddr::V4(_) => 32,
                IpAddr::V6(_) => 128,
            };
            IpNet::new(address, length).ok().map(|net| net.trunc())
        })
        .collect())
}

fn default_links(rtnl: &mut Rtnl) -> io::Result<Vec<String>> {
    routed_links(rtnl, |route| route.is_main && route.to.prefix_len() == 0)
}

/// Links of routes that fit.
fn routed_links(rtnl: &mut Rtnl, fits: impl Fn(&Route) -> bool) -> io::Result<Vec<String>> {
    let links = rtnl.links()?;
    let mut names: Vec<String> = rtnl
        .routes()?
        .into_iter()
        .filter(fits)
        .flat_map(|route| route.links)
        .filter_map(|index| links.iter().find(|link| link.index == index))
        .map(|link| link.name.clone())
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// What forwarding was before: whether it was on for the whole host, and the
/// links on which we turned it on.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Record {
    global: Option<bool>,
    links: Vec<String>,
}

impl Record {
    fn path() -> PathBuf {
        Path::new(STATE_FOLDER).join("forwarding.json")
    }

    /// Without one nothing was done yet. One that does not read is an error: which links
    /// are a router's by our doing is not known then, and the table must say so.
    fn read() -> Result<Self, HostError> {
        Self::read_at(&Self::path())
            .map_err(|source| HostError::Read { path: Self::path(), source })
    }

    fn read_at(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            bytes => Ok(serde_json::from_slice(&bytes?)?),
        }
    }

    /// Whoever turned it on for all links since then (Docker) wants it; we never do.
    fn others_want_it(&self) -> bool {
        self.global == Some(false) && read_flag("all")
    }

    /// Links on which nobody but us wants forwarding.
    fn only_ours(&self) -> Vec<String> {
        let ours = self.global == Some(false) && !self.others_want_it();
        if ours { self.links.clone() } else { Vec::new() }
    }

    fn write(&self) -> Result<(), HostError> {
        let json = serde_json::to_vec(self).map_err(io::Error::from);
        let written = json.and_then(|json| crate::state::write_atomically(&Self::path(), &json));
        written.map_err(|source| HostError::Write { path: Self::path(), source })
    }
}

fn read_flag(link: &str) -> bool {
    fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{link}/forwarding"))
        .is_ok_and(|text| text.trim() == "1")
}

fn write_flag(link: &str, on: bool) -> Result<(), HostError> {
    write_sysctl(&format!("ipv4/conf/{link}/forwarding"), if on { "1" } else { "0" })
}

/// Takes forwarding back from a link that may be gone.
fn turn_off(link: &String) -> Result<(), HostError> {
    let there = Path::new(&format!("/proc/sys/net/ipv4/conf/{link}")).exists();
    if there { write_flag(link, false) } else { Ok(()) }
}

/// Writes a setting of the calling thread's network namespace.
pub fn write_sysctl(name: &str, value: &str) -> Result<(), HostError> {
    let path = Path::new("/proc/sys/net").join(name);
    fs::write(&path, value).map_err(|source| HostError::Write { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n19_a_record_that_does_not_read_is_not_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("forwarding.json");
        assert!(Record::read_at(&path).unwrap().links.is_empty());
        fs::write(&path, r#"{"global":false,"links":["eth0"]}"#).unwrap();
        assert_eq!(Record::read_at(&path).unwrap().links, ["eth0"]);
        for broken in ["", "{", r#"{"global":false}"#] {
            fs::write(&path, broken).unwrap();
            assert!(Record::read_at(&path).is_err(), "{broken}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Record::read_at(&path).is_err());
    }
}
