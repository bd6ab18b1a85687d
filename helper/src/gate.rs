//! The gate: made at boot, recognised afterwards, never patched. A gate that is
//! not right is torn down and made anew, its link to the host first, so that in
//! between everything is cut.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use thiserror::Error;

use crate::host::{self, HostError, write_sysctl};
use crate::layout::{GATE_ADDRESS, HELLO_MARK, HELLO_TABLE, HOST_ADDRESS, LINK_PREFIX};
use crate::netlink::{self, Rtnl, random_mac};
use crate::netns::{self, NetnsError, Room};
use crate::nft::NftError;
use crate::rules::{self, HELLO_LINK, HOST_LINK, UPLINK};
use crate::uplink::Uplink;

/// Where tun devices are made.
const TUN: &str = "/dev/net/tun";

/// The gate could not be made or found.
#[derive(Debug, Error)]
pub enum GateError {
    /// Its namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The host's side.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Its rules.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// Its links.
    #[error("cannot set up the gate's links: {0}")]
    Links(#[from] io::Error),
    /// It is not there, or not whole.
    #[error("the gate is missing or not whole; `rcc-helper apply` makes it anew")]
    NotWhole,
}

/// Makes the gate and the host's side of the link, or brings what stands up to
/// date. Answers whether the gate was made anew.
pub fn apply() -> Result<bool, GateError> {
    crate::state::make_folder().map_err(GateError::Links)?;
    let mut host = Rtnl::new()?;
    host::check_pool(&mut host)?;
    let whole = is_whole(&mut host);
    if !whole {
        tear_down(&mut host)?;
    }
    let result = set_up(&mut host, whole);
    if result.is_err() && !whole {
        // Half a gate is none.
        let _ = tear_down(&mut host);
    }
    result.map(|()| !whole)
}

fn set_up(host: &mut Rtnl, whole: bool) -> Result<(), GateError> {
    if !whole {
        build(host)?;
    }
    let networks = host::networks(host)?;
    // Rules before the link is up, on both sides.
    let gate = Room::in_namespace("gate", netns::gate()?)?;
    if !whole {
        gate.run_blocking(move || rules::gate(&networks, &[]).commit())??;
        gate.run_blocking(connection_settings)??;
    }
    host::apply_link_settings()?;
    let forwarding = host::plan_forwarding(host)?;
    host::apply_table(host, &Uplink::in_force())?;
    host::turn_forwarding_on(&forwarding)?;
    if !whole {
        gate.run_blocking(link_up)??;
    }
    Ok(host::link_up(host)?)
}

/// True when the host's end of the link has its other half in the namespace at
/// the gate's path, and that half is up: it comes up last, after the rules.
pub fn is_whole(host: &mut Rtnl) -> bool {
    let Ok(Some(link)) = host.link(HOST_LINK) else { return false };
    let Ok(namespace) = netns::gate() else { return false };
    let Ok(gate) = Room::in_namespace("gate", namespace) else { return false };
    let look = || -> io::Result<_> {
        let mut gate = Rtnl::new()?;
        Ok((gate.link(UPLINK)?, gate.link(HELLO_LINK)?))
    };
    matches!(gate.run_blocking(look), Ok(Ok((Some(uplink), Some(hellos))))
        if hellos.up && uplink.up && link.peer_index == Some(uplink.index) && uplink.peer_index == Some(link.index))
}

/// Removes the gate and everything of ours on the host.
pub fn remove() -> Result<(), GateError> {
    let mut rtnl = Rtnl::new()?;
    let host = host::remove(&mut rtnl);
    netns::remove_gate()?;
    Ok(host?)
}

fn tear_down(host: &mut Rtnl) -> Result<(), GateError> {
    host.remove_link(HOST_LINK)?;
    Ok(netns::remove_gate()?)
}

fn build(host: &mut Rtnl) -> Result<(), GateError> {
    netns::create_gate()?;
    let namespace = netns::gate()?;
    let (host_mac, gate_mac) = (random_mac()?, random_mac()?);
    let peer = netns::raw(&namespace);
    host.add_veth(HOST_LINK, Some(host_mac), UPLINK, Some(gate_mac), peer)?;
    let index = host.index(HOST_LINK)?;
    host.add_address(index, HOST_ADDRESS, LINK_PREFIX)?;
    // What comes from the gate is never for the host itself, questions for its
    // hardware address neither: both sides are told once and for all.
    host.add_neighbour(index, GATE_ADDRESS, gate_mac)?;
    // The kernel forgets a setting of a namespace that it does not know, so the
    // gate's own thread writes them.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| -> Result<(), GateError> {
            nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET)
                .map_err(|errno| GateError::Links(errno.into()))?;
            settings()?;
            hello_device()?;
            let mut gate = Rtnl::new()?;
            let uplink = gate.index(UPLINK)?;
            Ok(gate.add_neighbour(uplink, HOST_ADDRESS, host_mac)?)
        });
        thread.join().unwrap_or(Err(GateError::NotWhole))
    })
}

/// Settings of the gate's namespace, for links that exist and that will.
fn settings() -> Result<(), GateError> {
    write_sysctl("ipv4/ip_forward", "1")?;
    // The kernel takes the stricter of "all" and a link's own, and one link needs none.
    for (which, value) in [("all", "0"), ("default", "1"), (UPLINK, "1")] {
        write_sysctl(&format!("ipv4/conf/{which}/rp_filter"), value)?;
    }
    for which in ["all", "default", UPLINK] {
        for (name, value) in [
            ("arp_ignore", "1"),
            ("accept_redirects", "0"),
            ("secure_redirects", "0"),
            ("send_redirects", "0"),
            ("accept_source_route", "0"),
        ] {
            write_sysctl(&format!("ipv4/conf/{which}/{name}"), value)?;
        }
    }
    if std::path::Path::new("/proc/sys/net/ipv6").exists() {
        for which in ["all", "default"] {
            write_sysctl(&format!("ipv6/conf/{which}/disable_ipv6"), "1")?;
            write_sysctl(&format!("ipv6/conf/{which}/accept_ra"), "0")?;
        }
    }
    // The resolver's sockets need no right of their own in here.
    write_sysctl("ipv4/ip_unprivileged_port_start", "53")?;
    Ok(())
}

/// Settings of the gate's connection tracking. They exist once its module is there,
/// which the kernel loads for the first rule that asks for a connection's state; no
/// link is up before.
fn connection_settings() -> Result<(), GateError> {
    // When a flow began tells it from another one with the same ports.
    write_sysctl("netfilter/nf_conntrack_timestamp", "1")?;
    // A connection is never picked up in its middle, or a flow that was cut
    // would come back with its next packet (N15).
    write_sysctl("netfilter/nf_conntrack_tcp_loose", "0")?;
    // Then "invalid" means: of no connection that we know, and a reset is the
    // right answer; without this it also means: outside the window, where a reset
    // would end a good connection.
    write_sysctl("netfilter/nf_conntrack_tcp_be_liberal", "1")?;
    Ok(())
}

/// The device by which packets reach the process that looks at hellos. What it
/// sends on has the gate's own address, or a server's, and has been through
/// conntrack once: nothing of that looks right to the usual checks of a source.
fn hello_device() -> Result<(), GateError> {
    open_hello_device()?;
    for (name, value) in
        [("rp_filter", "0"), ("accept_local", "1"), ("send_redirects", "0"), ("arp_ignore", "1")]
    {
        write_sysctl(&format!("ipv4/conf/{HELLO_LINK}/{name}"), value)?;
    }
    Ok(())
}

/// The device, made where it is missing, in the namespace of the calling thread.
pub fn open_hello_device() -> io::Result<OwnedFd> {
    let device = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(TUN)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot open {TUN}: {error}")))?;
    crate::ioctl::tun(&device, HELLO_LINK)?;
    Ok(device.into())
}

fn link_up() -> Result<(), GateError> {
    let mut gate = Rtnl::new()?;
    let lo = gate.index("lo")?;
    gate.set_up(lo, true)?;
    let hellos = gate.index(HELLO_LINK)?;
    gate.set_up(hellos, true)?;
    gate.add_route_in(HELLO_TABLE, None, hellos)?;
    let rule =
        netlink::Rule { priority: 100, not_from: None, mark: Some(HELLO_MARK), table: HELLO_TABLE };
    gate.add_rule(&rule)?;
    let uplink = gate.index(UPLINK)?;
    gate.add_address(uplink, GATE_ADDRESS, LINK_PREFIX)?;
    gate.set_up(uplink, true)?;
    gate.add_route(uplink, None, Some(HOST_ADDRESS))?;
    Ok(())
}
