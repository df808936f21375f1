//! From the address and port in a packet to the virtual service it is for, or to the NAT real server
//! it comes from.

use std::collections::HashSet;
use std::net::IpAddr;

use super::ServiceId;

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
}

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
    /// A table of these services and NAT real servers. Where one endpoint is both, it is the service.
    pub fn build(
        services: impl IntoIterator<Item = (IpAddr, u16, u8, ServiceId)>,
        nat_servers: impl IntoIterator<Item = (IpAddr, u16, u8)>,
    ) -> ServiceLookup {
        let services: Vec<_> = services
            .into_iter()
            .map(|(ip, port, protocol, id)| ((ip, port, protocol), Meaning::Service(id)))
            .collect();
        let servers: Vec<_> =
            nat_servers.into_iter().map(|endpoint| (endpoint, Meaning::NatServer)).collect();
        let size = ((services.len() + servers.len()) * 2).next_power_of_two().max(2);
        let mut lookup = ServiceLookup {
            slots: vec![None; size].into(),
            virtual_addresses: services.iter().map(|((ip, ..), _)| *ip).collect(),
            nat_server_addresses: servers.iter().map(|((ip, ..), _)| *ip).collect(),
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

    /// The virtual service at an address and port.
    #[inline]
    pub fn service(&self, ip: IpAddr, port: u16, protocol: u8) -> Option<ServiceId> {
        match self.find((ip, port, protocol)) {
            Some(Meaning::Service(id)) => Some(id),
            _ => None,
        }
    }

    /// Whether a NAT real server answers from this address and port.
    #[inline]
    pub fn is_nat_server(&self, ip: IpAddr, port: u16, protocol: u8) -> bool {
        self.find((ip, port, protocol)) == Some(Meaning::NatServer)
    }

    /// Whether a packet between these addresses may belong to a virtual service, going either way.
    pub fn may_concern(&self, source: IpAddr, destination: IpAddr) -> bool {
        self.virtual_addresses.contains(&destination) || self.nat_server_addresses.contains(&source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn an_empty_table_finds_nothing() {
        let ip = "10.0.0.1".parse().unwrap();
        assert_eq!(ServiceLookup::default().service(ip, 80, 6), None);
        assert_eq!(ServiceLookup::build([], []).service(ip, 80, 6), None);
    }

    proptest! {
        /// It finds what a map of the standard library finds.
        #[test]
        fn agrees_with_a_map(keys in proptest::collection::hash_set((0u32..64, 0u16..8, 6u8..8), 0..120), probes in proptest::collection::vec((0u32..64, 0u16..8, 6u8..8), 50)) {
            let ip = |n: u32| IpAddr::V4(n.into());
            let map: HashMap<_, _> = keys.iter().enumerate().map(|(i, k)| (*k, ServiceId(i as u32))).collect();
            let lookup = ServiceLookup::build(map.iter().map(|((a, p, t), id)| (ip(*a), *p, *t, *id)), []);
            for probe in probes.into_iter().chain(keys) {
                prop_assert_eq!(lookup.service(ip(probe.0), probe.1, probe.2), map.get(&probe).copied());
            }
        }
    }
}
