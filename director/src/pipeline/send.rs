//! From a connection to the wire: TTL, MTU, rewriting, next hop.

use std::net::{IpAddr, Ipv4Addr};

use control::model::ForwardingMethod;

use super::{Action, Flow, Pipeline, Verdict, Wait};
use crate::forward::{nat, tunnel};
use crate::nexthop::{Egress, Hop};
use crate::packet::PacketBuf;
use crate::service::{RealServer, Snapshot};
use crate::stats::Reason;
use crate::time::Tick;
use crate::wire::icmp::{self, IcmpError};
use crate::wire::{ethernet, ipv4};

impl Pipeline {
    /// Sends a client's packet to its real server.
    #[inline(always)]
    pub(super) fn send_request<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
        server: &RealServer,
        method: ForwardingMethod,
    ) -> Verdict {
        let Hop::Ready(egress) = &server.hop else {
            return self.send_request_unresolved(snapshot, now, flow, packet, server, method);
        };
        match self.rewrite_request(snapshot, now, flow, packet, server, method, egress.mtu) {
            Ok(reason) => leave(packet, egress, reason),
            Err(verdict) => verdict,
        }
    }

    #[cold]
    #[inline(never)]
    fn send_request_unresolved<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
        server: &RealServer,
        method: ForwardingMethod,
    ) -> Verdict {
        match server.hop {
            Hop::Local => Verdict::punt(Reason::LocalServer),
            Hop::NoRoute => Verdict::drop(Reason::NoRoute),
            Hop::Ready(_) | Hop::Unresolved(_) => {
                let mtu = server.hop.mtu();
                match self.rewrite_request(snapshot, now, flow, packet, server, method, mtu) {
                    Ok(reason) => self.leave_by(packet, &server.hop, reason),
                    Err(verdict) => verdict,
                }
            }
        }
    }

    /// Makes of a client's packet what its real server is to get, within the MTU of the way there. The Ethernet
    /// addresses are left to the next hop.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // inlined into its two callers
    fn rewrite_request<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
        server: &RealServer,
        method: ForwardingMethod,
        mtu: u16,
    ) -> Result<Reason, Verdict> {
        // The virtual address is the director's own, and errors about packets to it come from it.
        let from = Some(flow.frame.destination);
        let overhead = if method == ForwardingMethod::Tunnel { tunnel::OVERHEAD } else { 0 };
        let mtu = mtu.saturating_sub(overhead);
        let ip = ip_header(packet)?;
        if ipv4::ttl(ip) <= 1 {
            return Err(self.send_error(snapshot, now, flow, packet, IcmpError::TimeExceeded, from));
        }
        // Before the length is looked at, as IPVS does: the quoted packet shows it.
        ipv4::decrement_ttl(ip);
        if flow.frame.total_len > mtu {
            return Err(self.too_long(snapshot, now, flow, packet, mtu, from));
        }
        match method {
            ForwardingMethod::Dr => Ok(Reason::RequestDr),
            ForwardingMethod::Nat => {
                let IpAddr::V4(address) = server.address else { return Err(Verdict::drop(Reason::NoRoute)) };
                nat::rewrite(packet.bytes_mut(), &flow.frame, ipv4::Side::Destination, address, server.port);
                Ok(Reason::RequestNat)
            }
            ForwardingMethod::Tunnel => {
                let (IpAddr::V4(address), IpAddr::V4(source)) =
                    (server.address, snapshot.tunnel_source(server))
                else {
                    return Err(Verdict::drop(Reason::NoRoute));
                };
                let id = self.take_id();
                if !tunnel::encapsulate(packet, &flow.frame, source, address, id) {
                    return Err(Verdict::drop(Reason::NoHeadroom));
                }
                Ok(Reason::RequestTunnel)
            }
        }
    }

    /// Sends a NAT real server's packet to its client, as coming from the virtual service.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // inlined into its one caller
    pub(super) fn send_reply<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
        hop: &Hop,
        address: Ipv4Addr,
        port: u16,
    ) -> Verdict {
        let ip = match ip_header(packet) {
            Ok(ip) => ip,
            Err(verdict) => return verdict,
        };
        // Checked before anything is rewritten, as a router does: the real server must recognise the
        // packet that an error quotes.
        if ipv4::ttl(ip) <= 1 {
            return self.send_error(snapshot, now, flow, packet, IcmpError::TimeExceeded, None);
        }
        if flow.frame.total_len > hop.mtu() {
            return self.too_long(snapshot, now, flow, packet, hop.mtu(), None);
        }
        ipv4::decrement_ttl(ip);
        nat::rewrite(packet.bytes_mut(), &flow.frame, ipv4::Side::Source, address, port);
        match hop {
            Hop::Ready(egress) => leave(packet, egress, Reason::ReplyNat),
            other => self.leave_by(packet, other, Reason::ReplyNat),
        }
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
        let to = flow.frame.source;
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
        self.leave_by(packet, &hop, reason)
    }

    /// As [`leave`], by a next hop that may not be known yet.
    #[cold]
    fn leave_by<P: PacketBuf>(&mut self, packet: &mut P, hop: &Hop, reason: Reason) -> Verdict {
        match hop {
            Hop::Ready(egress) => leave(packet, egress, reason),
            Hop::Unresolved(unresolved) => {
                ethernet::write_header(packet.bytes_mut(), &[0; 12], ethernet::IPV4);
                let wait = Wait(self.awaited.len() as u8);
                // One for each packet of a burst at most, for which there is room.
                self.awaited.push(*unresolved);
                Verdict { reason, action: Action::Hold(wait) }
            }
            Hop::Local | Hop::NoRoute => Verdict::drop(Reason::NoRoute),
        }
    }

    fn take_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }
}

/// The IP header of a packet that `wire::parse` accepted, without its options: one check of the length for all
/// that is read and written of it.
#[inline(always)]
fn ip_header<P: PacketBuf>(packet: &mut P) -> Result<&mut [u8; ipv4::MIN_HEADER_LEN], Verdict> {
    let ip = packet.bytes_mut().get_mut(ethernet::HEADER_LEN..).and_then(|ip| ip.first_chunk_mut());
    ip.ok_or_else(|| Verdict::drop(Reason::BadIpv4Header))
}

/// Writes the Ethernet header toward the next hop.
#[inline(always)]
fn leave<P: PacketBuf>(packet: &mut P, egress: &Egress, reason: Reason) -> Verdict {
    ethernet::write_header(packet.bytes_mut(), &egress.addresses, ethernet::IPV4);
    Verdict { reason, action: Action::Forward(egress.port) }
}
