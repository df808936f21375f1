//! What the kernel knows, followed live: links, addresses, routes, neighbours.
//!
//! Events only say that something has changed; the truth is always a fresh dump. Events that were
//! lost because too many came (ENOBUFS) are therefore no loss, and no half-understood event can make
//! the view drift from the kernel's own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteType,
};
use rtnetlink::sys::AsyncSocket as _;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::sync::watch;

use crate::id::IfIndex;
use crate::nexthop::{Address, KernelView, Link, MacAddr, Neighbour, Route, VlanLink};
use crate::wire::vlan::{CUSTOMER, Tag};

/// How long events are collected before the kernel is asked.
const SETTLE: Duration = Duration::from_millis(1);
/// Without any event the kernel is asked that often.
const AT_LEAST: Duration = Duration::from_secs(5);
/// A neighbour is asked for that often at most.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Netlink does not work.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("netlink: no socket: {0}: is this a Linux kernel with CONFIG_NET?")]
    Socket(#[from] std::io::Error),
    /// A request failed.
    #[error("netlink: the kernel refused a request: {0}")]
    Request(#[from] rtnetlink::Error),
}

/// A view that follows the kernel.
pub struct Netlink {
    handle: Handle,
    view: watch::Receiver<Arc<KernelView>>,
    asked: std::sync::Mutex<HashMap<Neighbour, Instant>>,
}

impl Netlink {
    /// Reads everything once, then follows in a task of the current tokio runtime.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub async fn start() -> Result<Netlink, NetlinkError> {
        // Subscribed before the first dump: no change falls between them.
        let (mut connection, _, mut events) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])?;
        connection.socket_mut().socket_mut().set_no_enobufs(true)?;
        tokio::spawn(connection);
        let (requests, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(requests);

        let (publish, view) = watch::channel(Arc::new(dump(&handle).await?));
        let asker = handle.clone();
        tokio::spawn(async move {
            loop {
                let ended = tokio::select! {
                    event = events.next() => event.is_none(),
                    () = tokio::time::sleep(AT_LEAST) => false,
                    () = publish.closed() => true,
                };
                if ended {
                    return;
                }
                tokio::time::sleep(SETTLE).await;
                // Everything up to here is in the dump that comes now.
                while events.try_recv().is_ok() {}
                match dump(&asker).await {
                    Ok(fresh) => {
                        publish.send_if_modified(|view| {
                            let news = **view != fresh;
                            if news {
                                *view = Arc::new(fresh);
                            }
                            news
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot read the kernel's tables; the last view stays");
                    }
                }
            }
        });
        Ok(Netlink { handle, view, asked: std::sync::Mutex::default() })
    }

    /// The view, to be watched.
    pub fn view(&self) -> watch::Receiver<Arc<KernelView>> {
        self.view.clone()
    }

    /// Asks the kernel to find a neighbour's Ethernet address, or to make sure that it is still right.
    /// Asking often costs little: the same neighbour is asked for a few times a second at most.
    pub async fn resolve(&self, neighbour: Neighbour) {
        // "Use" takes the state of a permanent one away (`NEIGH_UPDATE_F_USE` in Linux `neighbour.c`, from 5.16 on), and with
        // it what somebody has written down.
        if self.view.borrow().fixed.contains(&neighbour) {
            return;
        }
        {
            let mut asked = self.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let now = Instant::now();
            asked.retain(|_, when| now.duration_since(*when) < ASK_AGAIN);
            if asked.contains_key(&neighbour) {
                return;
            }
            asked.insert(neighbour, now);
        }
        let request = self
            .handle
            .neighbours()
            .add(neighbour.link.0, neighbour.ip)
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace();
        if let Err(error) = request.execute().await {
            tracing::debug!(ip = %neighbour.ip, %error, "the kernel does not look for a neighbour");
        }
    }
}

/// Everything, now.
async fn dump(handle: &Handle) -> Result<KernelView, NetlinkError> {
    let mut view = KernelView::default();
    let mut links = handle.link().get().execute();
    while let Some(message) = links.try_next().await? {
        view.links.insert(IfIndex(message.header.index), link_of(message));
    }
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await? {
        let (mut address, mut local) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Local(ip) => local = Some(*ip),
                _ => {}
            }
        }
        // On a point-to-point link `Address` is the other end's.
        if let Some(ip) = local.or(address) {
            view.addresses.push(Address {
                link: IfIndex(message.header.index),
                ip,
                prefix_len: message.header.prefix_len,
            });
        }
    }
    for wanted in [
        RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
        RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
    ] {
        let mut routes = handle.route().get(wanted).execute();
        while let Some(message) = routes.try_next().await? {
            view.routes.extend(route_of(&message));
        }
    }
    view.routes.sort();
    view.routes.dedup();
    let mut neighbours = handle.neighbours().get().execute();
    while let Some(message) = neighbours.try_next().await? {
        let found = neighbour_of(&message);
        if matches!(message.header.state, NeighbourState::Permanent | NeighbourState::Noarp) {
            view.fixed.extend(found.map(|(neighbour, _)| neighbour));
        }
        view.neighbours.extend(found);
    }
    Ok(view)
}

fn link_of(message: LinkMessage) -> Link {
    let up = message.header.flags.contains(LinkFlags::Up);
    let mut link = Link { name: String::new(), mac: None, mtu: 0, up, vlan: None };
    let (mut parent, mut tag, mut is_elsewhere) = (None, None, false);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(MacAddr),
            LinkAttribute::Link(index) => parent = Some(IfIndex(index)),
            // The parent is in another network namespace, and its index one of that.
            LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
            LinkAttribute::LinkInfo(infos) => tag = infos.iter().find_map(tag_of),
            _ => {}
        }
    }
    link.vlan = parent.zip(tag).filter(|_| !is_elsewhere).map(|(parent, tag)| VlanLink { parent, tag });
    link
}

/// The tag of a VLAN interface (Linux `vlan_fill_info` in `net/8021q/vlan_netlink.c`).
fn tag_of(info: &LinkInfo) -> Option<Tag> {
    let LinkInfo::Data(InfoData::Vlan(data)) = info else { return None };
    let id = data.iter().find_map(|info| if let InfoVlan::Id(id) = info { Some(*id) } else { None })?;
    // A kernel before 3.10 does not say, and knows one kind alone.
    let tpid = data
        .iter()
        .find_map(|info| if let InfoVlan::Protocol(kind) = info { Some(u16::from(*kind)) } else { None });
    Some(Tag { tpid: tpid.unwrap_or(CUSTOMER), tci: id & 0x0fff })
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// A unicast route of the main table; of several next hops the first.
fn route_of(message: &RouteMessage) -> Option<Route> {
    let mut table = u32::from(message.header.table);
    let (mut network, mut link, mut gateway, mut source, mut metric, mut mtu) =
        (None, None, None, None, 0, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Destination(ip) => network = ip_of(ip),
            RouteAttribute::Oif(index) => link = Some(IfIndex(*index)),
            RouteAttribute::Gateway(ip) => gateway = ip_of(ip),
            RouteAttribute::PrefSource(ip) => source = ip_of(ip),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics
                    .iter()
                    .find_map(|m| if let RouteMetric::Mtu(mtu) = m { Some(*mtu) } else { None });
            }
            RouteAttribute::MultiPath(hops) => {
                let first = hops.first()?;
                link = Some(IfIndex(first.interface_index));
                gateway = first.attributes.iter().find_map(|a| match a {
                    RouteAttribute::Gateway(ip) => ip_of(ip),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) || message.header.kind != RouteType::Unicast {
        return None;
    }
    let anywhere: IpAddr = match message.header.address_family {
        netlink_packet_route::AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        netlink_packet_route::AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    Some(Route {
        network: network.unwrap_or(anywhere),
        prefix_len: message.header.destination_prefix_length,
        link: link?,
        gateway,
        source,
        metric,
        mtu,
    })
}

/// A neighbour whose address can be used.
fn neighbour_of(message: &NeighbourMessage) -> Option<(Neighbour, MacAddr)> {
    let usable = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    if !usable {
        return None;
    }
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.clone().try_into().ok().map(MacAddr),
            _ => {}
        }
    }
    Some((Neighbour { link: IfIndex(message.header.ifindex), ip: ip? }, mac?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::vlan::SERVICE;
    use netlink_packet_core::Parseable as _;

    /// An attribute: length, type, value, padding; in the order of this machine (`struct rtattr`).
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = 4 + value.len();
        let mut bytes = [(len as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(len.next_multiple_of(4), 0);
        bytes
    }

    /// What a kernel tells of `dir0.100@dir0`, an interface that is up.
    fn message(data: &[Vec<u8>], more: &[Vec<u8>]) -> LinkMessage {
        let info = [attribute(1, b"vlan\0"), attribute(2, &data.concat())].concat();
        let mut bytes = vec![0, 0, 1, 0];
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(0x1_1043u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(attribute(3, b"dir0.100\0"));
        bytes.extend(attribute(1, &[2, 0, 0, 0, 0, 1]));
        bytes.extend(attribute(4, &1496u32.to_ne_bytes()));
        bytes.extend(attribute(5, &3u32.to_ne_bytes()));
        bytes.extend(more.concat());
        bytes.extend(attribute(18, &info));
        LinkMessage::parse(&bytes[..]).unwrap()
    }

    #[test]
    fn a_vlan_interface_has_a_parent_and_a_tag() {
        let id = attribute(1, &100u16.to_ne_bytes());
        let protocol = |kind: u16| attribute(5, &kind.to_be_bytes());
        let link = link_of(message(&[id.clone(), protocol(SERVICE)], &[]));
        assert_eq!((link.name.as_str(), link.mtu, link.up), ("dir0.100", 1496, true));
        assert_eq!(link.mac, Some(MacAddr([2, 0, 0, 0, 0, 1])));
        let vlan = |tpid| Some(VlanLink { parent: IfIndex(3), tag: Tag { tpid, tci: 100 } });
        assert_eq!(link.vlan, vlan(SERVICE));
        assert_eq!(link_of(message(&[id.clone(), protocol(CUSTOMER)], &[])).vlan, vlan(CUSTOMER));
        assert_eq!(link_of(message(std::slice::from_ref(&id), &[])).vlan, vlan(CUSTOMER));
        assert_eq!(link_of(message(&[protocol(CUSTOMER)], &[])).vlan, None);
        let elsewhere = attribute(37, &0i32.to_ne_bytes());
        assert_eq!(link_of(message(&[id], &[elsewhere])).vlan, None, "of another namespace");
    }
}
