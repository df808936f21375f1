//! Which route a packet takes: longest prefix, then lowest metric.

use std::cmp::Reverse;
use std::net::IpAddr;

use super::{KernelView, Route};

/// Routes in the order in which they are tried.
#[derive(Debug, Default)]
pub struct RouteTable(Vec<Route>);

fn covers(route: &Route, ip: IpAddr) -> bool {
    let (network, ip, width) = match (route.network, ip) {
        (IpAddr::V4(network), IpAddr::V4(ip)) => {
            (u128::from(u32::from(network)), u128::from(u32::from(ip)), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(ip)) => (u128::from(network), u128::from(ip), 128),
        _ => return false,
    };
    let host_bits = u32::from(width - route.prefix_len.min(width));
    host_bits == 128 || network >> host_bits == ip >> host_bits
}

impl RouteTable {
    /// The routes of `view` whose links are up.
    pub fn build(view: &KernelView) -> RouteTable {
        let up = |route: &&Route| view.links.get(&route.link).is_some_and(|link| link.up);
        let mut routes: Vec<Route> = view.routes.iter().filter(up).copied().collect();
        routes.sort_by_key(|route| (Reverse(route.prefix_len), route.metric));
        RouteTable(routes)
    }

    /// The route to an address.
    pub fn lookup(&self, ip: IpAddr) -> Option<&Route> {
        self.0.iter().find(|route| covers(route, ip))
    }
}

/// The director's own address that packets along a route leave with: what the route prefers, else the
/// first address of the link.
pub fn source_address(view: &KernelView, route: &Route, to: IpAddr) -> Option<IpAddr> {
    let on_link = || view.addresses.iter().filter(|a| a.link == route.link && a.ip.is_ipv4() == to.is_ipv4());
    route.source.or_else(|| on_link().map(|address| address.ip).next())
}
