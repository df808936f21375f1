//! Which route a packet takes: longest prefix, then lowest metric.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::{KernelView, Route};

/// Prefix length of a route, longest first, and whether it is IPv4.
type Length = (Reverse<u8>, bool);

/// Routes by prefix length and network: one probe for each length that occurs.
#[derive(Debug, Default)]
pub struct RouteTable(BTreeMap<Length, HashMap<u128, Route>>);

/// The first `len` bits of an address, the rest 0.
fn network(ip: IpAddr, len: u8) -> u128 {
    let (bits, width) = match ip {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
        IpAddr::V6(v6) => (u128::from(v6), 128),
    };
    let host_bits = u32::from(width - len.min(width));
    // A shift by all 128 bits is not defined.
    if host_bits == 128 { 0 } else { bits >> host_bits << host_bits }
}

/// Whether a network holds an address.
pub(super) fn is_within(ip: IpAddr, of: IpAddr, len: u8) -> bool {
    ip.is_ipv4() == of.is_ipv4() && network(ip, len) == network(of, len)
}

impl RouteTable {
    /// The routes of `view` whose links are up.
    pub fn build(view: &KernelView) -> RouteTable {
        let mut table = RouteTable::default();
        for route in &view.routes {
            if !view.links.get(&route.link).is_some_and(|link| link.up) {
                continue;
            }
            let of_length = table.0.entry((Reverse(route.prefix_len), route.network.is_ipv4())).or_default();
            let best = of_length.entry(network(route.network, route.prefix_len)).or_insert(*route);
            if route.metric < best.metric {
                *best = *route;
            }
        }
        table
    }

    /// The route to an address.
    pub fn lookup(&self, ip: IpAddr) -> Option<&Route> {
        let mut lengths = self.0.iter().filter(|((_, is_v4), _)| *is_v4 == ip.is_ipv4());
        lengths.find_map(|((Reverse(len), _), routes)| routes.get(&network(ip, *len)))
    }
}

/// The director's own address that packets along a route to `to` leave with: what the route prefers,
/// else the address whose subnet holds the next hop, else the first of the link. One that is good on its link alone
/// is not shown to anybody beyond it.
pub fn source_address(view: &KernelView, route: &Route, to: IpAddr) -> Option<IpAddr> {
    let next = route.gateway.unwrap_or(to);
    let fits = |ip: IpAddr| ip.is_ipv4() == to.is_ipv4() && (!is_link_local(ip) || is_link_local(to));
    let on_link = || view.addresses.iter().filter(|a| a.link == route.link && fits(a.ip));
    let in_subnet = || on_link().find(|a| network(a.ip, a.prefix_len) == network(next, a.prefix_len));
    route.source.or_else(|| in_subnet().or_else(|| on_link().next()).map(|address| address.ip))
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::IfIndex;
    use crate::nexthop::{Address, Link};
    use proptest::prelude::*;

    fn view(up: [bool; 2]) -> KernelView {
        let link = |up| Link { name: "x".into(), mac: None, mtu: 1500, up, vlan: None };
        KernelView {
            links: [(IfIndex(1), link(up[0])), (IfIndex(2), link(up[1]))].into(),
            ..KernelView::default()
        }
    }

    fn route(ip: &str, prefix_len: u8, link: u32, metric: u32) -> Route {
        let network = ip.parse().unwrap();
        Route { network, prefix_len, link: IfIndex(link), gateway: None, source: None, metric, mtu: None }
    }

    #[test]
    fn the_longest_prefix_then_the_lowest_metric_and_only_links_that_are_up() {
        let mut view = view([true, true]);
        view.routes = vec![
            route("0.0.0.0", 0, 1, 0),
            route("10.0.0.0", 8, 1, 5),
            route("10.0.0.0", 8, 2, 4),
            route("10.1.2.3", 32, 1, 0),
            route("::", 0, 2, 0),
        ];
        let link = |view: &KernelView, ip: &str| {
            RouteTable::build(view).lookup(ip.parse().unwrap()).map(|route| route.link.0)
        };
        assert_eq!(link(&view, "192.0.2.1"), Some(1));
        assert_eq!(link(&view, "10.9.9.9"), Some(2));
        assert_eq!(link(&view, "10.1.2.3"), Some(1));
        assert_eq!(link(&view, "2001:db8::1"), Some(2));
        view.links.get_mut(&IfIndex(2)).unwrap().up = false;
        assert_eq!(link(&view, "10.9.9.9"), Some(1));
        assert_eq!(link(&view, "2001:db8::1"), None);
    }

    #[test]
    fn the_source_is_the_routes_then_the_subnets_then_the_links() {
        let mut view = view([true, true]);
        let address =
            |ip: &str, prefix_len| Address { link: IfIndex(1), ip: ip.parse().unwrap(), prefix_len };
        view.addresses = vec![address("10.99.0.1", 32), address("10.0.1.254", 24)];
        let to: IpAddr = "192.0.2.1".parse().unwrap();
        let mut way = route("0.0.0.0", 0, 1, 0);
        assert_eq!(source_address(&view, &way, to), Some("10.99.0.1".parse().unwrap()));
        way.gateway = Some("10.0.1.7".parse().unwrap());
        assert_eq!(source_address(&view, &way, to), Some("10.0.1.254".parse().unwrap()));
        way.source = Some("10.5.5.5".parse().unwrap());
        assert_eq!(source_address(&view, &way, to), Some("10.5.5.5".parse().unwrap()));
        way = route("0.0.0.0", 0, 2, 0);
        assert_eq!(source_address(&view, &way, to), None);
        // By a router that is known by its link-local address, as they are in IPv6.
        view.addresses.extend([address("fe80::1", 64), address("2001:db8:2::fe", 64)]);
        way = route("::", 0, 1, 0);
        way.gateway = Some("fe80::99".parse().unwrap());
        let global = "2001:db8:7::1".parse().unwrap();
        assert_eq!(source_address(&view, &way, global), Some("2001:db8:2::fe".parse().unwrap()));
    }

    proptest! {
        /// The table finds what trying every route finds.
        #[test]
        fn agrees_with_trying_every_route(
            routes in proptest::collection::vec((any::<u32>(), 0u8..=32, 1u32..=2, 0u32..3), 0..60),
            probes in proptest::collection::vec(any::<u32>(), 20),
            up: [bool; 2],
        ) {
            let mut view = view(up);
            view.routes = routes
                .iter()
                .map(|(n, len, link, metric)| {
                    let kept = if *len == 0 { 0 } else { u32::MAX << (32 - len) };
                    // Few distinct networks, so that they nest and collide.
                    route(&std::net::Ipv4Addr::from(n & 0xc180_00c1 & kept).to_string(), *len, *link, *metric)
                })
                .collect();
            let table = RouteTable::build(&view);
            for n in probes {
                let ip = n & 0xc180_00c1;
                let covers = |r: &&Route| {
                    let IpAddr::V4(net) = r.network else { return false };
                    let kept = if r.prefix_len == 0 { 0 } else { u32::MAX << (32 - r.prefix_len) };
                    up[r.link.0 as usize - 1] && ip & kept == u32::from(net)
                };
                let best = view.routes.iter().filter(covers).map(|r| (r.prefix_len, Reverse(r.metric))).max();
                let found = table.lookup(IpAddr::V4(ip.into())).map(|r| (r.prefix_len, Reverse(r.metric)));
                prop_assert_eq!(found, best);
            }
        }
    }
}
