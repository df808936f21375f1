//! From a connection to the wire: TTL, MTU, rewriting, next hop.

use std::net::Ipv4Addr;

use control::model::ForwardingMethod;

use super::{Action, Flow, Pipeline, Verdict};
use crate::forward::{nat, tunnel};
use crate::nexthop::Hop;
use crate::packet::PacketBuf;
use crate::service::{RealServer, Snapshot};
use crate::stats::Reason;
use crate::time::Tick;
use crate::wire::icmp::{self, IcmpError};
use crate::wire::{ethernet, ipv4};

impl Pipeline {
    /// Sends a client's packet to its real server.
    #[inline]
    pub(super) fn send_request<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
        server: &RealServer,
        method: ForwardingMethod,
    ) -> Verdict {
        match server.hop {
            Hop::Local => return Verdict::punt(Reason::LocalServer),
            Hop::NoRoute => return Verdict::drop(Reason::NoRoute),
            Hop::Ready(_) | Hop::Unresolved(_) => {}
        }
        // The virtual address is the director's own, and errors about packets to it come from it.
        let from = Some(flow.key.destination);
        let overhead = if method == ForwardingMethod::Tunnel { tunnel::OVERHEAD } else { 0 };
        let mtu = server.hop.mtu().saturating_sub(overhead);
        let ip = &mut packet.bytes_mut()[ethernet::HEADER_LEN..];
        if ipv4::ttl(ip) <= 1 {
            return self.send_error(snapshot, now, flow, packet, IcmpError::TimeExceeded, from);
        }
        // Before the length is looked at, as IPVS does: the quoted packet shows it.
        ipv4::decrement_ttl(ip);
        if flow.frame.total_len > mtu {
            return self.too_long(snapshot, now, flow, packet, mtu, from);
        }
        let reason = match method {
            ForwardingMethod::Nat => {
                let std::net::IpAddr::V4(address) = server.address else {
                    return Verdict::drop(Reason::NoRoute);
                };
                nat::rewrite(packet.bytes_mut(), &flow.frame, ipv4::Side::Destination, address, server.port);
                Reason::RequestNat
            }
            ForwardingMethod::Dr => Reason::RequestDr,
            ForwardingMethod::Tunnel => {
                let std::net::IpAddr::V4(address) = server.address else {
                    return Verdict::drop(Reason::NoRoute);
                };
                let id = self.take_id();
                if !tunnel::encapsulate(packet, &flow.frame, server.tunnel_source, address, id) {
                    return Verdict::drop(Reason::NoHeadroom);
                }
                Reason::RequestTunnel
            }
        };
        leave(packet, &server.hop, reason)
    }

    /// Sends a NAT real server's packet to its client, as coming from the virtual service.
    #[inline]
    pub(super) fn send_reply<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
        address: Ipv4Addr,
        port: u16,
    ) -> Verdict {
        let hop = snapshot.hops.toward(flow.key.destination.into());
        // Checked before anything is rewritten, as a router does: the real server must recognise the
        // packet that an error quotes.
        if ipv4::ttl(&packet.bytes()[ethernet::HEADER_LEN..]) <= 1 {
            return self.send_error(snapshot, now, flow, packet, IcmpError::TimeExceeded, None);
        }
        if flow.frame.total_len > hop.mtu() {
            return self.too_long(snapshot, now, flow, packet, hop.mtu(), None);
        }
        nat::rewrite(packet.bytes_mut(), &flow.frame, ipv4::Side::Source, address, port);
        ipv4::decrement_ttl(&mut packet.bytes_mut()[ethernet::HEADER_LEN..]);
        leave(packet, &hop, Reason::ReplyNat)
    }

    /// A packet does not fit the next link.
    #[cold]
    fn too_long<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
        mtu: u16,
        from: Option<Ipv4Addr>,
    ) -> Verdict {
        let flags = ipv4::flags_and_offset(&packet.bytes()[ethernet::HEADER_LEN..]);
        if flags & ipv4::DONT_FRAGMENT == 0 {
            return Verdict::drop(Reason::NeedsFragmentation);
        }
        self.send_error(snapshot, now, flow, packet, IcmpError::FragmentationNeeded(mtu), from)
    }

    /// Answers a packet with an ICMP error. `from` is the address that it comes from; without one, the
    /// director's own toward the packet's source.
    #[cold]
    pub(super) fn send_error<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
        error: IcmpError,
        from: Option<Ipv4Addr>,
    ) -> Verdict {
        if !self.icmp_limit.allow(now) {
            return Verdict::drop(Reason::IcmpLimited);
        }
        let to = flow.key.source;
        let hop = snapshot.hops.toward(to.into());
        let Some(from) = from.or_else(|| snapshot.hops.source_toward_v4(to)) else {
            return Verdict::drop(Reason::NoRoute);
        };
        let id = self.take_id();
        if !icmp::turn_into_error(packet, usize::from(flow.frame.total_len), error, from, id) {
            return Verdict::drop(Reason::NoHeadroom);
        }
        let reason = match error {
            IcmpError::TimeExceeded => Reason::IcmpTimeExceeded,
            IcmpError::PortUnreachable => Reason::IcmpPortUnreachable,
            IcmpError::FragmentationNeeded(_) => Reason::IcmpFragmentationNeeded,
        };
        leave(packet, &hop, reason)
    }

    fn take_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }
}

/// Writes the Ethernet header toward the next hop.
#[inline]
fn leave<P: PacketBuf>(packet: &mut P, hop: &Hop, reason: Reason) -> Verdict {
    let (addresses, action) = match hop {
        Hop::Ready(egress) => (&egress.addresses, Action::Forward(egress.port)),
        Hop::Unresolved(unresolved) => (&[0; 12], Action::Hold(*unresolved)),
        Hop::Local | Hop::NoRoute => return Verdict::drop(Reason::NoRoute),
    };
    ethernet::write_header(packet.bytes_mut(), addresses, ethernet::IPV4);
    Verdict { reason, action }
}
