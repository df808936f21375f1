//! From the address and port in a packet to the virtual service it is for, or to the NAT real server
//! it comes from.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use control::model::{Family, Mark};

use super::{MarkRules, ServiceId};
use crate::ftp::FtpPorts;

/// An address, a port, an IP protocol number.
type Endpoint = (IpAddr, u16, u8);

/// What an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Service(ServiceId),
    NatServer,
}

/// An open-addressing table. Only the operator adds to it, so its hash need not be secret; a lookup
/// that finds nothing mostly reads one slot.
#[derive(Debug, Default)]
pub struct ServiceLookup {
    slots: Box<[Option<(Endpoint, Meaning)>]>,
    virtual_addresses: HashSet<IpAddr>,
    nat_server_addresses: HashSet<IpAddr>,
    /// Persistent FTP services by their VIP.
    ftp: HashMap<IpAddr, ServiceId>,
    /// VIPs of FTP services with NAT real servers, whose data connections are announced.
    ftp_by_nat: HashSet<IpAddr>,
    /// Where real servers take packets out of GUE.
    gue_ends: HashSet<(IpAddr, u16)>,
    /// NAT real servers whose messages of SIP are of calls, and the services that these are to.
    sip_servers: HashMap<(IpAddr, u16), ServiceId>,
    /// Whether any service, and any NAT real server, has every port.
    every_port: (bool, bool),
    lingering: Lingering,
    marks: Arc<MarkRules>,
    /// Whether a rule for marks asks which port received a packet.
    asks_ingress: bool,
    /// Services by mark.
    marked: HashMap<(Mark, Family), ServiceId>,
    ftp_ports: FtpPorts,
    /// Whether a service by mark has NAT real servers: data connections of FTP may be announced for any address.
    marks_by_nat: bool,
}

/// What packets are told apart by.
#[derive(Debug, Default)]
pub struct Endpoints {
    /// Virtual services.
    pub services: Vec<(IpAddr, u16, u8, ServiceId)>,
    /// NAT real servers. Where one endpoint is both, it is the service. Port 0 stands for every port.
    pub nat_servers: Vec<(IpAddr, u16, u8)>,
    /// TCP services that take connections to other ports of their VIP as well, at most one of each VIP.
    pub ftp: Vec<(IpAddr, ServiceId)>,
    /// VIPs of FTP services with NAT real servers.
    pub ftp_by_nat: Vec<IpAddr>,
    /// Where real servers take packets out of GUE: address and UDP port.
    pub gue_ends: Vec<(IpAddr, u16)>,
    /// NAT real servers by UDP of services that are persistent by SIP's Call-ID: address and port. Of one that is in
    /// several services, the last counts.
    pub sip_servers: Vec<(IpAddr, u16, ServiceId)>,
    /// What may still have connections.
    pub lingering: Lingering,
    /// Which packets have which mark.
    pub marks: Arc<MarkRules>,
    /// Virtual services by mark.
    pub marked: Vec<(Mark, Family, ServiceId)>,
    /// Whether any of these has NAT real servers.
    pub marks_by_nat: bool,
    /// Ports of FTP's control connections.
    pub ftp_ports: FtpPorts,
}

/// What is removed, but may still have connections: their lcores must be found. Port 0 stands for every port.
#[derive(Debug, Default)]
pub struct Lingering {
    /// Virtual services.
    pub services: HashSet<(IpAddr, u16, u8)>,
    /// NAT real servers.
    pub nat_servers: HashSet<(IpAddr, u16, u8)>,
}

/// FTP's data port.
const FTP_DATA: u16 = 20;
/// Ports from here on are anybody's.
const UNPRIVILEGED: u16 = 1024;
/// TCP's protocol number.
const TCP: u8 = 6;

fn hash(endpoint: &Endpoint) -> usize {
    let address = match endpoint.0 {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            (bits >> 64) as u64 ^ (bits as u64).rotate_left(29)
        }
    };
    let mixed = (address ^ u64::from(endpoint.1) << 32 ^ u64::from(endpoint.2) << 48)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize
}

impl ServiceLookup {
    /// A table of these.
    pub fn build(endpoints: Endpoints) -> ServiceLookup {
        let Endpoints { services, nat_servers, ftp, ftp_by_nat, gue_ends, lingering, .. } = endpoints;
        let Endpoints { marks, marked, marks_by_nat, ftp_ports, sip_servers, .. } = endpoints;
        let services: Vec<_> = services
            .into_iter()
            .map(|(ip, port, protocol, id)| ((ip, port, protocol), Meaning::Service(id)))
            .collect();
        let servers: Vec<_> =
            nat_servers.into_iter().map(|endpoint| (endpoint, Meaning::NatServer)).collect();
        let size = ((services.len() + servers.len()) * 2).next_power_of_two().max(2);
        let mut lookup = ServiceLookup {
            slots: vec![None; size].into(),
            virtual_addresses: addresses(&services, &lingering.services),
            nat_server_addresses: addresses(&servers, &lingering.nat_servers),
            ftp: ftp.into_iter().collect(),
            ftp_by_nat: ftp_by_nat.into_iter().collect(),
            gue_ends: gue_ends.into_iter().collect(),
            sip_servers: sip_servers.into_iter().map(|(ip, port, id)| ((ip, port), id)).collect(),
            every_port: (
                services.iter().any(|((_, port, _), _)| *port == 0),
                servers.iter().any(|((_, port, _), _)| *port == 0),
            ),
            lingering,
            asks_ingress: marks.ask_ingress(),
            marks,
            marked: marked.into_iter().map(|(mark, family, id)| ((mark, family), id)).collect(),
            marks_by_nat,
            ftp_ports,
        };
        for (endpoint, meaning) in services.into_iter().chain(servers) {
            let mut at = hash(&endpoint) & (size - 1);
            loop {
                match &lookup.slots[at] {
                    None => {
                        lookup.slots[at] = Some((endpoint, meaning));
                        break;
                    }
                    Some((taken, _)) if *taken == endpoint => break,
                    Some(_) => at = (at + 1) & (size - 1),
                }
            }
        }
        lookup
    }

    fn find(&self, endpoint: Endpoint) -> Option<Meaning> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = hash(&endpoint) & mask;
        // Ends: at least half of the slots are empty.
        while let Some((here, meaning)) = &self.slots[at] {
            if *here == endpoint {
                return Some(*meaning);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// The virtual service at an address and port: the one of this port, else a persistent FTP service for what
    /// may be its data, else the one of every port (Linux `ip_vs_service_find`).
    #[inline]
    pub fn service(&self, ip: IpAddr, port: u16, protocol: u8) -> Option<ServiceId> {
        if let Some(Meaning::Service(id)) = self.find((ip, port, protocol)) {
            return Some(id);
        }
        if !self.ftp.is_empty()
            && protocol == TCP
            && (port == FTP_DATA || port >= UNPRIVILEGED)
            && let Some(id) = self.ftp.get(&ip)
        {
            return Some(*id);
        }
        match self.every_port.0.then(|| self.find((ip, 0, protocol)))? {
            Some(Meaning::Service(id)) => Some(id),
            _ => None,
        }
    }

    /// Which packets have which mark.
    #[inline]
    pub fn marks(&self) -> &MarkRules {
        &self.marks
    }

    /// Ports of FTP's control connections by NAT.
    #[inline]
    pub fn ftp_ports(&self) -> &FtpPorts {
        &self.ftp_ports
    }

    /// Whether [`ServiceLookup::marks`] ask which port received a packet.
    #[inline]
    pub fn asks_ingress(&self) -> bool {
        self.asks_ingress
    }

    /// The virtual service of a packet with a mark; that goes before those by address (Linux
    /// `ip_vs_service_find`).
    pub fn marked(&self, mark: Mark, ip: IpAddr) -> Option<ServiceId> {
        let family = if ip.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        self.marked.get(&(mark, family)).copied()
    }

    /// Whether a packet to this port may be of a data connection that FTP has announced for a service by mark.
    #[inline]
    pub fn may_be_marked_ftp_data(&self, port: u16, protocol: u8) -> bool {
        self.marks_by_nat && protocol == TCP && port >= UNPRIVILEGED
    }

    /// Whether a NAT real server answers from this address and port.
    #[inline]
    pub fn is_nat_server(&self, ip: IpAddr, port: u16, protocol: u8) -> bool {
        self.find((ip, port, protocol)) == Some(Meaning::NatServer)
            || self.every_port.1 && self.find((ip, 0, protocol)) == Some(Meaning::NatServer)
    }

    /// The virtual service by whose Call-IDs a NAT real server's messages from this address and UDP port are told apart.
    pub fn sip_service_of(&self, ip: IpAddr, port: u16) -> Option<ServiceId> {
        self.sip_servers.get(&(ip, port)).copied()
    }

    /// As [`ServiceLookup::is_nat_server`], of one at this very port.
    pub fn is_nat_server_at(&self, ip: IpAddr, port: u16, protocol: u8) -> bool {
        self.find((ip, port, protocol)) == Some(Meaning::NatServer)
    }

    /// Whether there was a virtual service at an address and port that may still have connections.
    #[inline]
    pub fn was_service(&self, ip: IpAddr, port: u16, protocol: u8) -> bool {
        contains(&self.lingering.services, ip, port, protocol)
    }

    /// Whether a NAT real server of that address and port may still have connections.
    #[inline]
    pub fn was_nat_server(&self, ip: IpAddr, port: u16, protocol: u8) -> bool {
        contains(&self.lingering.nat_servers, ip, port, protocol)
    }

    /// Whether a packet to this endpoint may be of a data connection that FTP has announced.
    #[inline]
    pub fn may_be_ftp_data(&self, ip: IpAddr, port: u16, protocol: u8) -> bool {
        !self.ftp_by_nat.is_empty()
            && protocol == TCP
            && (port == FTP_DATA || port >= UNPRIVILEGED)
            && self.ftp_by_nat.contains(&ip)
    }

    /// Whether a real server takes packets out of GUE at this address and UDP port.
    pub fn is_gue_end(&self, end: (IpAddr, u16)) -> bool {
        self.gue_ends.contains(&end)
    }

    /// Whether a packet between these addresses may belong to a virtual service, going either way.
    pub fn may_concern(&self, source: IpAddr, destination: IpAddr) -> bool {
        self.virtual_addresses.contains(&destination)
            || self.nat_server_addresses.contains(&source)
            || self.marks.may_concern(source, destination)
    }
}

fn addresses(endpoints: &[(Endpoint, Meaning)], lingering: &HashSet<Endpoint>) -> HashSet<IpAddr> {
    endpoints
        .iter()
        .map(|(endpoint, _)| endpoint.0)
        .chain(lingering.iter().map(|endpoint| endpoint.0))
        .collect()
}

#[inline]
fn contains(endpoints: &HashSet<Endpoint>, ip: IpAddr, port: u16, protocol: u8) -> bool {
    !endpoints.is_empty()
        && (endpoints.contains(&(ip, port, protocol)) || endpoints.contains(&(ip, 0, protocol)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_table_finds_nothing() {
        let ip = "10.0.0.1".parse().unwrap();
        assert_eq!(ServiceLookup::default().service(ip, 80, 6), None);
        assert_eq!(ServiceLookup::build(Endpoints::default()).service(ip, 80, 6), None);
    }

    #[test]
    fn a_port_of_its_own_goes_before_ftp_and_that_before_every_port() {
        let (vip, other): (IpAddr, IpAddr) = ([10, 99, 0, 1].into(), [10, 99, 0, 2].into());
        let services = [(vip, 21, 6, ServiceId(1)), (vip, 8080, 6, ServiceId(2)), (vip, 0, 6, ServiceId(3))];
        let ftp = vec![(vip, ServiceId(1))];
        let lookup =
            ServiceLookup::build(Endpoints { services: services.into(), ftp, ..Endpoints::default() });
        let found = [20, 21, 22, 80, 1023, 1024, 8080, 65535].map(|port| lookup.service(vip, port, 6));
        assert_eq!(found.map(|id| id.map_or(0, |id| id.0)), [1, 1, 3, 3, 3, 1, 2, 1]);
        assert_eq!(lookup.service(vip, 4000, 17), None);
        assert_eq!(lookup.service(other, 4000, 6), None);
    }

    #[test]
    fn replies_come_from_every_port_where_packets_keep_theirs() {
        let (one, two): (IpAddr, IpAddr) = ([10, 0, 2, 11].into(), [10, 0, 2, 12].into());
        let nat_servers = vec![(one, 0, 6), (two, 80, 6)];
        let lookup = ServiceLookup::build(Endpoints { nat_servers, ..Endpoints::default() });
        assert!(lookup.is_nat_server(one, 1234, 6) && !lookup.is_nat_server(one, 1234, 17));
        assert!(lookup.is_nat_server(two, 80, 6) && !lookup.is_nat_server(two, 81, 6));
    }

    proptest! {
        /// It finds what a map of the standard library finds.
        #[test]
        fn agrees_with_a_map(keys in proptest::collection::hash_set((0u32..64, 1u16..9, 6u8..8), 0..120), probes in proptest::collection::vec((0u32..64, 1u16..9, 6u8..8), 50)) {
            let ip = |n: u32| IpAddr::V4(n.into());
            let map: HashMap<_, _> = keys.iter().enumerate().map(|(i, k)| (*k, ServiceId(i as u32))).collect();
            let services = map.iter().map(|((a, p, t), id)| (ip(*a), *p, *t, *id)).collect();
            let lookup = ServiceLookup::build(Endpoints { services, ..Endpoints::default() });
            for probe in probes.into_iter().chain(keys) {
                prop_assert_eq!(lookup.service(ip(probe.0), probe.1, probe.2), map.get(&probe).copied());
            }
        }
    }
}
