//! HTTPS and SVCB records (RFC 9460): what of them a sandbox may be told. Built anew
//! from what is known to be harmless; whatever else a record says is left out.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::rr::rdata::svcb::{Alpn, IpHint, Mandatory, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, HTTPS, SVCB};
use hickory_proto::rr::{Name as DnsName, RData, RecordType};
use rcc_policy::Protocol;

use crate::rules::TLS;

/// Most records that one answer carries.
pub const MAX_SERVICES: usize = 8;

/// Application protocols that are told on (RFC 7301); a name of one's own can carry
/// anything.
const OVER_TCP: [&str; 2] = ["h2", "http/1.1"];
const OVER_QUIC: &str = "h3";

/// One way to reach the name that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// 1 or more: 0 would be an alias.
    priority: u16,
    /// Out of [`OVER_TCP`] and [`OVER_QUIC`].
    protocols: Vec<&'static str>,
    /// The protocol that everybody speaks (HTTP/1.1 over TLS) may be tried, too.
    with_default: bool,
    /// `None` for the usual one.
    port: Option<u16>,
    hints: Vec<Ipv4Addr>,
    /// Whoever does not know these must not use the record.
    mandatory: Vec<SvcParamKey>,
}

impl Service {
    /// Reads a record whose owner is reached over `chain`, from the name that was asked
    /// for to the owner itself. `None` for what cannot be told on:
    /// - an alias, or another target: the client would ask for that name, which nobody
    ///   allowed;
    /// - a record for clients that know keys which are left out.
    pub fn read(record: &SVCB, chain: &[DnsName]) -> Option<Self> {
        let own = record.target_name.is_root() || chain.contains(&record.target_name);
        if record.svc_priority == 0 || !own {
            return None;
        }
        let mut service = Self {
            priority: record.svc_priority,
            protocols: Vec::new(),
            with_default: true,
            port: None,
            hints: Vec::new(),
            mandatory: Vec::new(),
        };
        for (_, value) in &record.svc_params {
            match value {
                SvcParamValue::Mandatory(Mandatory(keys)) => {
                    service.mandatory.clone_from(keys);
                    service.mandatory.sort();
                    service.mandatory.dedup();
                }
                SvcParamValue::Alpn(Alpn(names)) => {
                    let known = OVER_TCP.into_iter().chain([OVER_QUIC]);
                    service.protocols =
                        known.filter(|known| names.iter().any(|name| name == known)).collect();
                }
                SvcParamValue::NoDefaultAlpn => service.with_default = false,
                SvcParamValue::Port(port) => service.port = Some(*port),
                SvcParamValue::Ipv4Hint(IpHint(hints)) => {
                    service.hints = hints.iter().map(|A(address)| *address).collect();
                }
                // Encrypted hellos would be ended (N20), there is no IPv6 inside, and a
                // key that nobody knows can carry anything.
                SvcParamValue::EchConfigList(_)
                | SvcParamValue::Ipv6Hint(_)
                | SvcParamValue::Unknown(_) => {}
            }
        }
        Some(service)
    }

    /// What of it the policy lets through: `opens` says which ports. `None` when nothing.
    pub fn within(mut self, opens: impl Fn(Protocol, u16) -> bool) -> Option<Self> {
        let port = self.port.unwrap_or(TLS);
        let over_tcp = opens(Protocol::Tcp, port);
        let over_udp = opens(Protocol::Udp, port);
        self.with_default &= over_tcp;
        self.protocols.retain(|protocol| if *protocol == OVER_QUIC { over_udp } else { over_tcp });
        (self.with_default || !self.protocols.is_empty()).then_some(self)
    }

    /// Addresses that a client may try before it has asked for them.
    pub fn hints(&self) -> &[Ipv4Addr] {
        &self.hints
    }

    /// Keeps those hints that are open.
    pub fn keep_hints(&mut self, open: &[IpAddr]) {
        self.hints.retain(|hint| open.contains(&IpAddr::V4(*hint)));
    }

    /// The record's data, with the name that was asked for as its target; `None` when it
    /// is for clients that know what was left out.
    pub fn data(&self, kind: RecordType) -> Option<RData> {
        let mut parameters = Vec::new();
        if !self.protocols.is_empty() {
            let names = self.protocols.iter().map(ToString::to_string).collect();
            parameters.push((SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(names))));
            if !self.with_default {
                parameters.push((SvcParamKey::NoDefaultAlpn, SvcParamValue::NoDefaultAlpn));
            }
        }
        if let Some(port) = self.port {
            parameters.push((SvcParamKey::Port, SvcParamValue::Port(port)));
        }
        if !self.hints.is_empty() {
            let hints = self.hints.iter().copied().map(A).collect();
            let value = SvcParamValue::Ipv4Hint(IpHint(hints));
            parameters.push((SvcParamKey::Ipv4Hint, value));
        }
        let there = |key: &SvcParamKey| parameters.iter().any(|(own, _)| own == key);
        if !self.mandatory.iter().all(there) {
            return None;
        }
        if !self.mandatory.is_empty() {
            let keys = Mandatory(self.mandatory.clone());
            parameters.insert(0, (SvcParamKey::Mandatory, SvcParamValue::Mandatory(keys)));
        }
        let data = SVCB::new(self.priority, DnsName::root(), parameters);
        Some(match kind {
            RecordType::HTTPS => RData::HTTPS(HTTPS(data)),
            _ => RData::SVCB(data),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::AAAA;
    use hickory_proto::rr::rdata::svcb::{EchConfigList, Unknown};
    use proptest::prelude::*;

    fn dns(text: &str) -> DnsName {
        DnsName::from_ascii(text).unwrap()
    }

    fn chain() -> Vec<DnsName> {
        vec![dns("a.example."), dns("cdn.example.")]
    }

    fn alpn(names: &[&str]) -> (SvcParamKey, SvcParamValue) {
        let names = names.iter().map(ToString::to_string).collect();
        (SvcParamKey::Alpn, SvcParamValue::Alpn(Alpn(names)))
    }

    fn mandatory(keys: &[SvcParamKey]) -> (SvcParamKey, SvcParamValue) {
        (SvcParamKey::Mandatory, SvcParamValue::Mandatory(Mandatory(keys.to_vec())))
    }

    fn read(parameters: Vec<(SvcParamKey, SvcParamValue)>) -> Option<Service> {
        Service::read(&SVCB::new(1, DnsName::root(), parameters), &chain())
    }

    fn tls_alone(protocol: Protocol, port: u16) -> bool {
        (protocol, port) == (Protocol::Tcp, 443)
    }

    #[test]
    fn n4_aliases_and_targets_that_nobody_allowed_are_left_out() {
        let record = |priority, target| SVCB::new(priority, dns(target), vec![alpn(&["h2"])]);
        for (priority, target, told) in [
            (1, ".", true),
            (1, "A.example.", true),
            (1, "cdn.example.", true),
            (0, "cdn.example.", false),
            (0, ".", false),
            (1, "evil.example.", false),
            (1, "b.a.example.", false),
        ] {
            let read = Service::read(&record(priority, target), &chain());
            assert_eq!(read.is_some(), told, "{priority} {target}");
        }
    }

    #[test]
    fn quic_is_told_of_only_where_an_entry_opens_it() {
        let service = read(vec![alpn(&["h3", "h2"])]).unwrap();
        assert_eq!(service.clone().within(tls_alone).unwrap().protocols, ["h2"]);
        assert_eq!(service.within(|_, _| true).unwrap().protocols, ["h2", "h3"]);
        let quic = (SvcParamKey::NoDefaultAlpn, SvcParamValue::NoDefaultAlpn);
        assert_eq!(read(vec![alpn(&["h3"]), quic]).unwrap().within(tls_alone), None);
        let other_port = (SvcParamKey::Port, SvcParamValue::Port(8443));
        assert_eq!(read(vec![other_port]).unwrap().within(tls_alone), None);
    }

    #[test]
    fn what_must_be_understood_is_not_left_out_in_silence() {
        let ech = (
            SvcParamKey::EchConfigList,
            SvcParamValue::EchConfigList(EchConfigList(vec![0, 1, 2])),
        );
        let told = |parameters| read(parameters).unwrap().data(RecordType::HTTPS);
        assert!(told(vec![ech.clone()]).is_some());
        assert_eq!(told(vec![mandatory(&[SvcParamKey::EchConfigList]), ech]), None);
        let kept = told(vec![mandatory(&[SvcParamKey::Alpn]), alpn(&["h2"])]).unwrap();
        let RData::HTTPS(HTTPS(kept)) = kept else { panic!("another kind") };
        assert_eq!(kept.svc_params, [mandatory(&[SvcParamKey::Alpn]), alpn(&["h2"])]);
    }

    fn parameters() -> impl Strategy<Value = Vec<(SvcParamKey, SvcParamValue)>> {
        let one = (0u16..9, proptest::collection::vec(any::<[u8; 16]>(), 1..4)).prop_map(
            |(key, bytes)| {
                let value = match key {
                    0 => {
                        let keys = bytes.iter().map(|b| SvcParamKey::from(u16::from(b[0] % 9)));
                        SvcParamValue::Mandatory(Mandatory(keys.collect()))
                    }
                    1 => {
                        let names = ["h2", "h3", "http/1.1", "secret"];
                        let name = |b: &[u8; 16]| names[usize::from(b[0] % 4)].to_owned();
                        SvcParamValue::Alpn(Alpn(bytes.iter().map(name).collect()))
                    }
                    2 => SvcParamValue::NoDefaultAlpn,
                    3 => SvcParamValue::Port(443 + u16::from(bytes[0][0] % 3)),
                    4 => SvcParamValue::Ipv4Hint(IpHint(
                        bytes.iter().map(|b| A(Ipv4Addr::new(203, 0, 113, b[0] % 4))).collect(),
                    )),
                    5 => SvcParamValue::EchConfigList(EchConfigList(bytes.concat())),
                    6 => SvcParamValue::Ipv6Hint(IpHint(
                        bytes.iter().map(|b| AAAA(b.to_owned().into())).collect(),
                    )),
                    _ => SvcParamValue::Unknown(Unknown(bytes.concat())),
                };
                (SvcParamKey::from(key), value)
            },
        );
        proptest::collection::vec(one, 0..8)
    }

    proptest! {
        /// Whatever a server says: only what is known, allowed and open is told on.
        #[test]
        fn n4_records_are_built_from_what_is_harmless(
            priority: u16, target in 0usize..4, parameters in parameters(), udp: bool,
        ) {
            let target = [".", "a.example.", "cdn.example.", "evil.example."][target];
            let record = SVCB::new(priority, dns(target), parameters);
            let opens = |protocol, port| port == 443 && (protocol == Protocol::Tcp || udp);
            let open: IpAddr = [203, 0, 113, 1].into();
            let service = Service::read(&record, &chain()).and_then(|one| one.within(opens));
            let told = service.and_then(|mut one| {
                one.keep_hints(&[open]);
                one.data(RecordType::HTTPS)
            });
            let Some(RData::HTTPS(HTTPS(told))) = told else { return Ok(()) };
            prop_assert!(told.svc_priority > 0 && told.target_name.is_root());
            prop_assert!(target != "evil.example.");
            let keys: Vec<_> = told.svc_params.iter().map(|(key, _)| *key).collect();
            prop_assert!(keys.is_sorted_by(|a, b| a < b));
            for (_, value) in &told.svc_params {
                match value {
                    SvcParamValue::Alpn(Alpn(names)) => {
                        prop_assert!(!names.iter().any(|name| name == "secret"));
                        prop_assert!(udp || !names.iter().any(|name| name == "h3"));
                    }
                    SvcParamValue::Ipv4Hint(IpHint(hints)) => {
                        prop_assert!(hints.iter().all(|A(hint)| IpAddr::V4(*hint) == open));
                    }
                    SvcParamValue::Port(port) => prop_assert_eq!(*port, 443),
                    SvcParamValue::Mandatory(Mandatory(mandatory)) => {
                        prop_assert!(mandatory.iter().all(|key| keys.contains(key)));
                    }
                    SvcParamValue::NoDefaultAlpn => {}
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
