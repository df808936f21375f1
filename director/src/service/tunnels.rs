//! What tunnels put in front of packets, as numbers: an address of IPv6 would make a real server longer than a cache
//! line, and there are few that differ.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use control::model::Tunnel;

use crate::forward::tunnel::{self, Head, UsualHead};

/// One of [`Tunnels`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TunnelId(u32);

impl TunnelId {
    /// Directly, from no address.
    pub const NONE: TunnelId = TunnelId(0);
}

const NO_HEAD: Head = Head {
    source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    tunnel: Tunnel::Ipip,
    len: crate::wire::ipv4::MIN_HEADER_LEN as u16,
};

/// What tunnels put in front, by number. What was there once stays.
#[derive(Clone, Debug)]
pub struct Tunnels(Arc<[(Head, Option<UsualHead>)]>);

impl Tunnels {
    /// One of them; that of [`TunnelId::NONE`] for a number of another table.
    #[inline]
    pub fn get(&self, id: TunnelId) -> &Head {
        self.0.get(id.0 as usize).map_or(&NO_HEAD, |(head, _)| head)
    }

    /// As [`Tunnels::get`], for usual packets: `None` where none are.
    #[inline(always)]
    pub fn usual(&self, id: TunnelId) -> Option<&UsualHead> {
        self.0.get(id.0 as usize)?.1.as_ref()
    }

    /// The number of what leaves with an address, or with none, toward a real server.
    pub(super) fn number(&mut self, source: Option<IpAddr>, toward: IpAddr, tunnel: Tunnel) -> TunnelId {
        let head = head(source, toward, tunnel);
        let known = self.0.iter().position(|(known, _)| *known == head);
        let at = known.unwrap_or_else(|| {
            self.0 = self.0.iter().copied().chain([(head, head.usual())]).collect();
            self.0.len() - 1
        });
        TunnelId(at as u32)
    }
}

fn head(source: Option<IpAddr>, toward: IpAddr, tunnel: Tunnel) -> Head {
    let none = if toward.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    Head { source: source.unwrap_or(none), tunnel, len: tunnel::overhead(toward, tunnel) }
}

impl Default for Tunnels {
    fn default() -> Self {
        Tunnels(Arc::new([(NO_HEAD, NO_HEAD.usual())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_its_head_for_ever() {
        let mut tunnels = Tunnels::default();
        let [four, six]: [IpAddr; 2] = ["10.0.2.254", "2001:db8::fe"].map(|ip| ip.parse().unwrap());
        let ids = [
            (Some(four), four, Tunnel::Ipip),
            (Some(six), six, Tunnel::Ipip),
            (None, four, Tunnel::Ipip),
            (Some(four), four, Tunnel::Ipip),
            (Some(four), four, Tunnel::Gre { checksum: true }),
        ]
        .map(|(source, toward, tunnel)| tunnels.number(source, toward, tunnel));
        let before = tunnels.clone();
        let none = tunnels.number(None, six, Tunnel::Ipip);
        let heads = ids.map(|id| (tunnels.get(id).source, tunnels.get(id).len));
        let nobody = Ipv4Addr::UNSPECIFIED.into();
        assert_eq!(heads, [(four, 20), (six, 40), (nobody, 20), (four, 20), (four, 28)]);
        assert_eq!((ids[0], ids[2]), (ids[3], TunnelId::NONE));
        assert_eq!(tunnels.get(none).source, IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        assert_eq!(before.get(ids[1]).source, six, "older snapshots read their own");
    }
}
