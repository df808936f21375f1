//! What leaves, and where.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use control::protocol::{LeavingPacket, NextHopStatus};

use crate::nexthop::MacAddr;
use crate::packet::PacketBuf;
use crate::pipeline::rehearsal::Rehearsed;
use crate::pipeline::{Action, Verdict};
use crate::service::{RealServer, Snapshot};
use crate::stats::Reason;
use crate::wire::{self, Family, Frame, Parsed, Transport, ethernet};

pub(super) fn next_hop(
    snapshot: &Snapshot,
    rehearsed: &Rehearsed,
    verdict: Verdict,
    server: Option<&RealServer>,
    toward: Option<IpAddr>,
) -> Option<NextHopStatus> {
    let (out, mac, mtu) = match (verdict.action, &rehearsed.awaited) {
        (Action::Hold(_), Some(unresolved)) => (unresolved.port, None, unresolved.mtu),
        (Action::Forward(port) | Action::Cut(port), _) if verdict.reason != Reason::KernelsOwn => {
            let mac: MacAddr = ethernet::destination(rehearsed.packet.bytes());
            let hop = match server {
                Some(server) => server.hop,
                None => snapshot.hops.toward(toward?),
            };
            (port, Some(mac), hop.mtu())
        }
        _ => return None,
    };
    let neighbour = match rehearsed.awaited {
        Some(unresolved) => unresolved.neighbour,
        None => snapshot.hops.neighbour_toward(toward?)?,
    };
    let vlan = snapshot.hops.vlans().get(out);
    Some(NextHopStatus {
        address: neighbour.ip,
        interface: snapshot.hops.name_of(neighbour.link).unwrap_or_default().to_owned(),
        port: vlan.map_or(out, |vlan| vlan.port).0,
        vlans: vlan.map_or(Vec::new(), |vlan| vlan.tags.as_slice().iter().map(|tag| tag.id()).collect()),
        mac: mac.map(|mac| mac.to_string()),
        mtu,
    })
}

pub(super) fn leaving(rehearsed: &Rehearsed, verdict: Verdict) -> Option<LeavingPacket> {
    let leaves = match verdict.action {
        Action::Forward(_) | Action::Cut(_) | Action::Hold(_) => true,
        Action::Punt => verdict.reason == Reason::LocalServer,
        _ => false,
    };
    let bytes = rehearsed.packet.bytes();
    let mut v4 = Frame::<Ipv4Addr>::NONE;
    match wire::parse(bytes, &mut v4).ok().filter(|_| leaves)? {
        Parsed::Ipv4 => Some(leaving_of(&v4)),
        Parsed::Ipv6 => {
            let mut v6 = Frame::<Ipv6Addr>::NONE;
            wire::parse_ipv6(bytes, &mut v6).ok()?;
            Some(leaving_of(&v6))
        }
        Parsed::Other => None,
    }
}

fn leaving_of<A: Family>(frame: &Frame<A>) -> LeavingPacket {
    let has_ports = matches!(frame.transport, Transport::Tcp | Transport::Udp | Transport::Sctp);
    LeavingPacket {
        source: frame.source.into(),
        source_port: has_ports.then(|| frame.source_port()),
        destination: frame.destination.into(),
        destination_port: has_ports.then(|| frame.destination_port()),
        size: frame.total_len,
    }
}
