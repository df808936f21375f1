//! Where a packet leaves, and with which Ethernet addresses.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::routes::{RouteTable, is_within, source_address};
use super::{KernelView, MacAddr, Neighbour, Vlans};
use crate::id::{IfIndex, PortId};

/// A way out that needs no more questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Egress {
    /// The port, or the number of a VLAN interface behind those of the ports ([`Vlans::get`]).
    pub port: PortId,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// Destination and source address, as they stand in the frame.
    pub addresses: [u8; 12],
}

/// A neighbour whose Ethernet address is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unresolved {
    /// The port or VLAN interface that leads to it, as [`Egress::port`].
    pub port: PortId,
    /// Its address on that link.
    pub neighbour: Neighbour,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
}

/// The next hop toward an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Known.
    Ready(Egress),
    /// Known but for its Ethernet address: the kernel must be asked.
    Unresolved(Unresolved),
    /// The director itself.
    Local,
    /// No route, or by an interface that mirrors no port.
    NoRoute,
}

impl Hop {
    /// The largest IP packet, in bytes; as large as IP allows where no link limits it.
    #[inline]
    pub fn mtu(&self) -> u16 {
        match self {
            Hop::Ready(egress) => egress.mtu,
            Hop::Unresolved(unresolved) => unresolved.mtu,
            Hop::Local | Hop::NoRoute => u16::MAX,
        }
    }
}

/// Why there is no way to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoWay {
    /// The kernel knows no route.
    NoRoute,
    /// The interface that would lead there is down.
    LinkDown(String),
    /// The route's interface is neither a port's nor a VLAN interface on one.
    NotAPort(String),
    /// The route's interface has no Ethernet address.
    NoMac(String),
}

/// The kernel's interface of a port: its mirror, or the one that the kernel keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortLink {
    /// The port.
    pub port: PortId,
    /// The interface.
    pub link: IfIndex,
}

/// A way out that was looked up before, good for as long as the next hops are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedEgress {
    /// That of the [`NextHops`] it is from; 0 where nothing was looked up.
    version: u32,
    egress: Egress,
}

impl CachedEgress {
    /// Nothing was looked up.
    pub const NONE: CachedEgress =
        CachedEgress { version: 0, egress: Egress { port: PortId(0), mtu: 0, addresses: [0; 12] } };
}

/// Next hops toward any address, from the kernel's view at one moment.
#[derive(Debug, Default)]
pub struct NextHops {
    /// Of its own among all that this process has made; 0 of the empty ones, which know no way.
    version: u32,
    /// Ports and VLAN interfaces on them, by their interfaces.
    outs: HashMap<IfIndex, PortId>,
    vlans: Vlans,
    local: BTreeSet<IpAddr>,
    routes: RouteTable,
    view: std::sync::Arc<KernelView>,
}

impl NextHops {
    /// Looks routes up in `view` and leaves by the ports whose interfaces `ports` names, and by VLAN interfaces on
    /// these.
    pub fn build(view: std::sync::Arc<KernelView>, ports: &[PortLink]) -> NextHops {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        let mut outs = ports.iter().map(|p| (p.link, p.port)).collect();
        let vlans = Vlans::build(&view, &mut outs);
        NextHops {
            // Two with the same number would have to be four thousand million changes apart.
            version: BUILT.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1),
            outs,
            vlans,
            local: view.addresses.iter().map(|a| a.ip).collect(),
            routes: RouteTable::build(&view),
            view,
        }
    }

    /// The next hop toward an address.
    pub fn toward(&self, ip: IpAddr) -> Hop {
        if self.local.contains(&ip) {
            return Hop::Local;
        }
        let Some(route) = self.routes.lookup(ip) else { return Hop::NoRoute };
        let (Some(&port), Some(link)) = (self.outs.get(&route.link), self.view.links.get(&route.link)) else {
            return Hop::NoRoute;
        };
        let Some(MacAddr(source)) = link.mac else { return Hop::NoRoute };
        let mtu = u16::try_from(route.mtu.unwrap_or(link.mtu).min(link.mtu)).unwrap_or(u16::MAX);
        let neighbour = Neighbour { link: route.link, ip: route.gateway.unwrap_or(ip) };
        self.resolve(Unresolved { port, neighbour, mtu }, source)
    }

    /// As [`NextHops::toward`], for somebody who asks again and again: what is known stays in `cache`, and costs
    /// one comparison until routes, neighbours or links change.
    #[inline(always)]
    pub fn toward_cached(&self, ip: IpAddr, cache: &mut CachedEgress) -> Hop {
        match self.cached(cache) {
            Some(egress) => Hop::Ready(*egress),
            None => self.look_up(ip, cache),
        }
    }

    /// What is known there.
    #[inline(always)]
    pub fn cached<'a>(&self, cache: &'a CachedEgress) -> Option<&'a Egress> {
        (cache.version == self.version && self.version != 0).then_some(&cache.egress)
    }

    #[cold]
    fn look_up(&self, ip: IpAddr, cache: &mut CachedEgress) -> Hop {
        let hop = self.toward(ip);
        if let Hop::Ready(egress) = hop {
            *cache = CachedEgress { version: self.version, egress };
        }
        hop
    }

    fn resolve(&self, unresolved: Unresolved, source: [u8; 6]) -> Hop {
        let Unresolved { port, neighbour, mtu } = unresolved;
        match self.view.neighbours.get(&neighbour) {
            Some(MacAddr(destination)) => {
                let mut addresses = [0; 12];
                addresses[..6].copy_from_slice(destination);
                addresses[6..].copy_from_slice(&source);
                Hop::Ready(Egress { port, mtu, addresses })
            }
            None => Hop::Unresolved(unresolved),
        }
    }

    /// What an unresolved next hop, of these next hops or of earlier ones, is by now.
    pub fn again(&self, unresolved: &Unresolved) -> Hop {
        let link = unresolved.neighbour.link;
        match (self.outs.get(&link), self.mac_of(link)) {
            // VLAN interfaces may have got other numbers.
            (Some(&port), Some(MacAddr(source))) => self.resolve(Unresolved { port, ..*unresolved }, source),
            _ => Hop::NoRoute,
        }
    }

    /// Whether an address is one of the director's own.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        self.local.contains(&ip)
    }

    /// The neighbour that packets to an address go to, resolved or not.
    pub fn neighbour_toward(&self, ip: IpAddr) -> Option<Neighbour> {
        let route = self.routes.lookup(ip).filter(|route| self.outs.contains_key(&route.link))?;
        (!self.local.contains(&ip)).then(|| Neighbour { link: route.link, ip: route.gateway.unwrap_or(ip) })
    }

    /// The director's own address that packets to `ip` leave with.
    pub fn source_toward(&self, ip: IpAddr) -> Option<IpAddr> {
        let route = self.routes.lookup(ip)?;
        source_address(&self.view, route, ip)
    }

    /// The name of an interface.
    pub fn name_of(&self, link: IfIndex) -> Option<&str> {
        self.view.links.get(&link).map(|link| link.name.as_str())
    }

    /// Why there is no way to an address.
    pub fn why_no_way(&self, ip: IpAddr) -> NoWay {
        let name = |link: IfIndex| self.name_of(link).unwrap_or("?").to_owned();
        if let Some(route) = self.routes.lookup(ip) {
            return match self.view.links.get(&route.link) {
                Some(link) if self.outs.contains_key(&route.link) && link.mac.is_none() => {
                    NoWay::NoMac(link.name.clone())
                }
                _ => NoWay::NotAPort(name(route.link)),
            };
        }
        // The kernel forgets the routes of an interface that goes down, but not its addresses.
        let is_down = |link: &IfIndex| self.view.links.get(link).is_some_and(|link| !link.up);
        let routes = self.view.routes.iter().map(|route| (route.network, route.prefix_len, route.link));
        let subnets =
            self.view.addresses.iter().map(|address| (address.ip, address.prefix_len, address.link));
        let down = routes
            .chain(subnets)
            .filter(|(network, len, link)| is_down(link) && is_within(ip, *network, *len))
            .max_by_key(|(_, len, _)| *len);
        down.map_or(NoWay::NoRoute, |(.., link)| NoWay::LinkDown(name(link)))
    }

    /// The VLAN interfaces on ports.
    #[inline]
    pub fn vlans(&self) -> &Vlans {
        &self.vlans
    }

    /// The Ethernet address of a port's interface.
    pub fn mac_of(&self, link: IfIndex) -> Option<MacAddr> {
        self.view.links.get(&link).and_then(|link| link.mac)
    }
}
