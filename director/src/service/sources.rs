//! The director's own addresses that tunnels leave with, as numbers: the address of IPv6 would make a
//! real server longer than a cache line, and there are few of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// An address of [`TunnelSources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceId(u32);

impl SourceId {
    /// No address is known.
    pub const NONE: SourceId = SourceId(0);
}

/// Addresses by number. One that was there once stays.
#[derive(Clone, Debug)]
pub struct TunnelSources(Arc<[IpAddr]>);

impl TunnelSources {
    /// An address; the unspecified one of IPv4 for [`SourceId::NONE`].
    #[inline]
    pub fn get(&self, id: SourceId) -> &IpAddr {
        self.0.get(id.0 as usize).unwrap_or(&IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// The number of an address, or of none toward a real server of this family.
    pub(super) fn number(&mut self, source: Option<IpAddr>, toward: IpAddr) -> SourceId {
        let none = if toward.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let source = source.unwrap_or(none);
        let known = self.0.iter().position(|address| *address == source);
        let at = known.unwrap_or_else(|| {
            self.0 = self.0.iter().copied().chain([source]).collect();
            self.0.len() - 1
        });
        SourceId(at as u32)
    }
}

impl Default for TunnelSources {
    fn default() -> Self {
        TunnelSources(Arc::new([Ipv4Addr::UNSPECIFIED.into()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_its_address_for_ever() {
        let mut sources = TunnelSources::default();
        let [four, six]: [IpAddr; 2] = ["10.0.2.254", "2001:db8::fe"].map(|ip| ip.parse().unwrap());
        let ids = [Some(four), Some(six), None, Some(four)].map(|source| sources.number(source, four));
        let before = sources.clone();
        let none = sources.number(None, six);
        assert_eq!(ids.map(|id| *sources.get(id)), [four, six, Ipv4Addr::UNSPECIFIED.into(), four]);
        assert_eq!(ids[2], SourceId::NONE);
        assert_eq!(*sources.get(none), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        assert_eq!(*before.get(ids[1]), six, "older snapshots read their own");
    }
}
