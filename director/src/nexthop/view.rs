//! What the kernel knows that forwarding needs: links, addresses, routes, neighbours. Plain data,
//! kept up to date by netlink (`kernel::netlink`) and written by hand in tests.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use crate::id::IfIndex;
use crate::wire::vlan::Tag;

/// An Ethernet address, in the order of transmission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl std::fmt::Display for MacAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name, e.g. `dir0`.
    pub name: String,
    /// Its Ethernet address; `None` where it has none (a tun device).
    pub mac: Option<MacAddr>,
    /// The largest IP packet, in bytes.
    pub mtu: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// What it is on another interface of this network namespace, where it is a VLAN interface.
    pub vlan: Option<VlanLink>,
}

/// What makes an interface a VLAN interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanLink {
    /// The interface that carries its frames, tagged.
    pub parent: IfIndex,
    /// Their tag, without priority.
    pub tag: Tag,
}

/// A local address of the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The interface that holds it.
    pub link: IfIndex,
    /// The address.
    pub ip: IpAddr,
    /// Length of the network's prefix, in bits.
    pub prefix_len: u8,
}

/// A unicast route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Destination network.
    pub network: IpAddr,
    /// Length of its prefix, in bits; 0 for a default route.
    pub prefix_len: u8,
    /// The interface it leaves by.
    pub link: IfIndex,
    /// The router; `None` where the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Preferred source address (`src`).
    pub source: Option<IpAddr>,
    /// Preference among routes to the same network; the lowest wins.
    pub metric: u32,
    /// `mtu` of the route, in bytes, where one is set.
    pub mtu: Option<u32>,
}

/// A neighbour whose Ethernet address is known and usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// The interface it is on.
    pub link: IfIndex,
    /// Its address.
    pub ip: IpAddr,
}

/// All of it, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelView {
    /// Interfaces by index.
    pub links: BTreeMap<IfIndex, Link>,
    /// Local addresses, sorted.
    pub addresses: Vec<Address>,
    /// Unicast routes of the main table, sorted.
    pub routes: Vec<Route>,
    /// Neighbours whose state is usable (reachable, stale, delay, probe, permanent, noarp).
    pub neighbours: HashMap<Neighbour, MacAddr>,
    /// Those of them that the kernel never asks for: written down by somebody (permanent), or without ARP.
    pub fixed: HashSet<Neighbour>,
}
