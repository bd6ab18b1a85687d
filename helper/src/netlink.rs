//! Links, addresses, neighbours, routes and routing rules over rtnetlink.
//!
//! Blocking and small: every call is one request from a thread that lives in
//! the right namespace, so nothing can be asked in the wrong one.

mod removed;

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

pub use removed::Removed;

/// `RT_TABLE_LOCAL` (linux/rtnetlink.h): the host's own addresses.
pub const TABLE_LOCAL: u8 = 255;

/// A hardware address.
pub type Mac = [u8; 6];

/// A hardware address that no device has: locally administered, one receiver
/// (IEEE 802).
pub fn random_mac() -> io::Result<Mac> {
    let mut mac = [0; 6];
    getrandom::fill(&mut mac).map_err(|error| io::Error::other(error.to_string()))?;
    mac[0] = (mac[0] & 0xfe) | 0x02;
    Ok(mac)
}

/// A link as far as the helper cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind (`veth`, `bridge`, …), empty for hardware.
    pub kind: String,
    /// Taken up by whoever set it up.
    pub up: bool,
    /// Number of its other half, for veth.
    pub peer_index: Option<u32>,
}

/// A route as far as the helper cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: Ipv4Net,
    /// By which links: more than one where the load is shared.
    pub links: Vec<u32>,
    /// It is in the table that everything is looked up in when no rule says otherwise.
    pub is_main: bool,
}

/// Links for the addresses of the host: an address and its link.
pub type AddressOf = (u32, IpAddr, u8);

/// A netlink socket in the namespace of the thread that made it.
pub struct Rtnl {
    socket: Socket,
    sequence: u32,
}

impl Rtnl {
    /// Opens it.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let mut packet = NetlinkMessage::from(message);
        packet.header.flags = NLM_F_REQUEST | flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut buffer = vec![0; packet.buffer_len()];
        packet.serialize(&mut buffer);
        self.socket.send(&buffer, 0)?;
        Ok(())
    }

    /// Sends and reads answers until the end, or until `most` have come.
    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        most: usize,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(message, flags)?;
        let mut answers = Vec::new();
        loop {
            let (data, _) = self.socket.recv_from_full()?;
            let mut rest = data.as_slice();
            while rest.len() >= 16 {
                let packet =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(|error| {
                        io::Error::new(io::ErrorKind::InvalidData, error.to_string())
                    })?;
                let length = (packet.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if packet.header.sequence_number != self.sequence {
                    continue;
                }
                match packet.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(answer) => {
                        answers.push(answer);
                        if answers.len() >= most {
                            return Ok(answers);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.ask(message, NLM_F_ACK | flags, usize::MAX).map(drop)
    }

    /// All links of this namespace.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let answers =
            self.ask(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP, usize::MAX)?;
        Ok(answers.into_iter().filter_map(to_link).collect())
    }

    /// The link of this name, if there is one.
    pub fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.ask(RouteNetlinkMessage::GetLink(message), 0, 1) {
            Ok(answers) => Ok(answers.into_iter().find_map(to_link)),
            Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The index of a link that must be there.
    pub fn index(&mut self, name: &str) -> io::Result<u32> {
        let link = self.link(name)?;
        link.map(|link| link.index)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no link {name}")))
    }

    /// Makes a veth pair with the peer directly in another namespace.
    pub fn add_veth(
        &mut self,
        name: &str,
        mac: Option<Mac>,
        peer: &str,
        peer_mac: Option<Mac>,
        peer_namespace: i32,
    ) -> io::Result<()> {
        let mut other = LinkMessage::default();
        other.attributes.push(LinkAttribute::IfName(peer.to_owned()));
        other.attributes.push(LinkAttribute::NetNsFd(peer_namespace));
        other.attributes.extend(peer_mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
        ]));
        self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Removes a link; one that is gone already is no error.
    pub fn remove_link(&mut self, name: &str) -> io::Result<()> {
        let Some(link) = self.link(name)? else { return Ok(()) };
        self.remove_link_at(link.index)
    }

    /// The same by its number. Whoever has the other half can be faster.
    fn remove_link_at(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self.change(RouteNetlinkMessage::DelLink(message), 0) {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(()),
            result => result,
        }
    }

    /// Takes a link up or down.
    pub fn set_up(&mut self, index: u32, up: bool) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = LinkFlags::Up;
        if up {
            message.header.flags = LinkFlags::Up;
        }
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Gives a link an address.
    pub fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = prefix;
        message.header.index = index;
        message.attributes.push(AddressAttribute::Local(address.into()));
        message.attributes.push(AddressAttribute::Address(address.into()));
        self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// All addresses of this namespace.
    pub fn addresses(&mut self) -> io::Result<Vec<AddressOf>> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.ask(message, NLM_F_DUMP, usize::MAX)?;
        Ok(answers.into_iter().filter_map(to_address).collect())
    }

    /// Says once and for all which hardware address a neighbour has.
    pub fn add_neighbour(&mut self, index: u32, address: Ipv4Addr, mac: Mac) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// A route to one address over a link, or with `gateway` the default route.
    pub fn add_route(
        &mut self,
        index: u32,
        destination: Option<Ipv4Addr>,
        gateway: Option<Ipv4Addr>,
    ) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.header.scope =
            if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
        if let Some(destination) = destination {
            message.header.destination_prefix_length = 32;
            message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(destination)));
        }
        if let Some(gateway) = gateway {
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
        }
        message.attributes.push(RouteAttribute::Oif(index));
        self.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// A route of another table over a link, to one address or the default one.
    pub fn add_route_in(
        &mut self,
        table: u8,
        destination: Option<Ipv4Addr>,
        index: u32,
    ) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = table;
        message.header.protocol = RouteProtocol::Static;
        message.header.kind = RouteType::Unicast;
        message.header.scope = RouteScope::Link;
        if let Some(destination) = destination {
            message.header.destination_prefix_length = 32;
            message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(destination)));
        }
        message.attributes.push(RouteAttribute::Oif(index));
        self.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// IPv4 routes that lead somewhere, of all tables but that of the host's own addresses.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let answers = self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP, usize::MAX)?;
        Ok(answers.into_iter().filter_map(to_route).collect())
    }

    /// The link by which the host would send to an address: what it sends itself with
    /// `mark`, or what came in by a link from an address. `None` without a way.
    pub fn way(&mut self, to: IpAddr, whose: Whose) -> io::Result<Option<u32>> {
        let mut message = RouteMessage::default();
        let (family, length, to) = match to {
            IpAddr::V4(to) => (AddressFamily::Inet, 32, RouteAddress::Inet(to)),
            IpAddr::V6(to) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(to)),
        };
        message.header.address_family = family;
        message.header.destination_prefix_length = length;
        message.attributes.push(RouteAttribute::Destination(to));
        match whose {
            Whose::Own { mark } => message.attributes.push(RouteAttribute::Mark(mark)),
            Whose::Forwarded { from, link } => {
                message.header.source_prefix_length = 32;
                message.attributes.push(RouteAttribute::Source(RouteAddress::Inet(from)));
                message.attributes.push(RouteAttribute::Iif(link));
            }
        }
        let answers = match self.ask(RouteNetlinkMessage::GetRoute(message), 0, 1) {
            Err(error) if no_way(&error) => return Ok(None),
            answers => answers?,
        };
        Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => {
                route.attributes.into_iter().find_map(|attribute| match attribute {
                    RouteAttribute::Oif(link) => Some(link),
                    _ => None,
                })
            }
            _ => None,
        }))
    }

    /// The routing rules of IPv4: priority and, where it is one, the table.
    pub fn rules(&mut self) -> io::Result<Vec<RuleMessage>> {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        let answers = self.ask(RouteNetlinkMessage::GetRule(message), NLM_F_DUMP, usize::MAX)?;
        let rules = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRule(rule) => Some(rule),
            _ => None,
        });
        Ok(rules.collect())
    }

    /// Adds a routing rule.
    pub fn add_rule(&mut self, rule: &Rule) -> io::Result<()> {
        self.change(RouteNetlinkMessage::NewRule(rule.message()), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Takes a routing rule out.
    pub fn remove_rule(&mut self, rule: &Rule) -> io::Result<()> {
        self.change(RouteNetlinkMessage::DelRule(rule.message()), 0)
    }

    /// Names of at most `most` links in the namespace behind the descriptor, read
    /// from outside it: the helper never enters what a user made.
    pub fn links_elsewhere(&mut self, namespace: i32, most: usize) -> io::Result<Vec<String>> {
        let id = self.namespace_id(namespace)?;
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfNetnsId(id));
        let answers = self.ask(RouteNetlinkMessage::GetLink(message), NLM_F_DUMP, most)?;
        Ok(answers.into_iter().filter_map(to_link).map(|link| link.name).collect())
    }

    /// This namespace had to do with the one behind the descriptor before: it has a number
    /// for it, which the kernel forgets when the other one dies.
    pub fn has_met(&mut self, namespace: i32) -> io::Result<bool> {
        let fd = u32::try_from(namespace).map_err(io::Error::other)?;
        Ok(self.number_of(fd)?.is_some())
    }

    /// The number under which this namespace knows another one, given where it has none.
    fn namespace_id(&mut self, namespace: i32) -> io::Result<i32> {
        let fd = u32::try_from(namespace).map_err(io::Error::other)?;
        let mut assign = NsidMessage::default();
        assign.attributes = vec![NsidAttribute::Fd(fd), NsidAttribute::Id(-1)];
        match self.change(RouteNetlinkMessage::NewNsId(assign), 0) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EEXIST) => return Err(error),
            _ => {}
        }
        let id = self.number_of(fd)?;
        id.ok_or_else(|| io::Error::other("the kernel gave the namespace no number"))
    }

    fn number_of(&mut self, fd: u32) -> io::Result<Option<i32>> {
        let mut get = NsidMessage::default();
        get.attributes = vec![NsidAttribute::Fd(fd)];
        let answers = self.ask(RouteNetlinkMessage::GetNsId(get), 0, 1)?;
        Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewNsId(message) => {
                message.attributes.into_iter().find_map(|attribute| match attribute {
                    NsidAttribute::Id(id) if id >= 0 => Some(id),
                    _ => None,
                })
            }
            _ => None,
        }))
    }
}

/// Who sends what [`Rtnl::way`] asks for.
#[derive(Debug, Clone, Copy)]
pub enum Whose {
    /// The host, with this mark.
    Own {
        /// See [`crate::layout::RESOLVER_MARK`].
        mark: u32,
    },
    /// Somebody else, through the host.
    Forwarded {
        /// With this address.
        from: Ipv4Addr,
        /// Behind this link.
        link: u32,
    },
}

/// Answers of the kernel that say: nowhere to.
fn no_way(error: &io::Error) -> bool {
    use nix::libc::{EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH};
    // The latter two for routes that say so (prohibit, blackhole).
    [ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL]
        .into_iter()
        .any(|number| error.raw_os_error() == Some(number))
}

/// A routing rule that looks in a table: one of ours, or the kernel's for table `local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its place in the order.
    pub priority: u32,
    /// Not for what arrives by this link.
    pub not_from: Option<&'static str>,
    /// Only for packets with this mark.
    pub mark: Option<u32>,
    /// Where it looks.
    pub table: u8,
}

impl Rule {
    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.action = RuleAction::ToTable;
        message.header.table = self.table;
        message.attributes.push(RuleAttribute::Priority(self.priority));
        if let Some(link) = self.not_from {
            message.header.flags |= RuleFlags::Invert;
            message.attributes.push(RuleAttribute::Iifname(link.to_owned()));
        }
        message.attributes.extend(self.mark.map(RuleAttribute::FwMark));
        message
    }

    /// True when `message` is this rule.
    pub fn is(&self, message: &RuleMessage) -> bool {
        let priority = message.attributes.iter().find_map(|attribute| match attribute {
            RuleAttribute::Priority(priority) => Some(*priority),
            _ => None,
        });
        let link = message.attributes.iter().find_map(|attribute| match attribute {
            RuleAttribute::Iifname(name) => Some(name.as_str()),
            _ => None,
        });
        let mark = message.attributes.iter().find_map(|attribute| match attribute {
            RuleAttribute::FwMark(mark) => Some(*mark),
            _ => None,
        });
        let header = &message.header;
        let looks = header.action == RuleAction::ToTable && header.table == self.table;
        let inverted = header.flags.contains(RuleFlags::Invert) == self.not_from.is_some();
        let from = link == self.not_from && mark == self.mark && inverted;
        priority.unwrap_or(0) == self.priority && from && looks
    }
}

fn to_link(answer: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = answer else { return None };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        peer_index: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Link(peer) => link.peer_index = Some(peer),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    Some(link)
}

fn to_address(answer: RouteNetlinkMessage) -> Option<AddressOf> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    let header = message.header;
    let mut found = None;
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(address) => found = Some(address),
            AddressAttribute::Address(address) if found.is_none() => found = Some(address),
            _ => {}
        }
    }
    found.map(|address| (header.index, address, header.prefix_len))
}

fn to_route(answer: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = answer else { return None };
    // The number of a table above 255 is in an attribute; this is another one then.
    let table = message.header.table;
    if table == TABLE_LOCAL || message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let mut links = Vec::new();
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = address,
            RouteAttribute::Oif(index) => links.push(index),
            RouteAttribute::MultiPath(ways) => {
                links.extend(ways.iter().map(|way| way.interface_index));
            }
            _ => {}
        }
    }
    let to = Ipv4Net::new(destination, message.header.destination_prefix_length).ok()?.trunc();
    let is_main = table == RouteHeader::RT_TABLE_MAIN;
    (!links.is_empty()).then_some(Route { to, links, is_main })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Room;

    /// A user's end of a link can be deleted while the helper does the same.
    #[test]
    fn r2_a_link_that_went_a_moment_before_is_no_error() {
        let Ok(room) = Room::empty("links") else { return rcc_test_aids::skip("this needs root") };
        let removed = room.run_blocking(|| Rtnl::new()?.remove_link_at(4_000)).expect("a thread");
        assert!(removed.is_ok(), "{removed:?}");
    }
}
