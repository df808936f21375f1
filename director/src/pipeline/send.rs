//! From a connection to the wire: TTL, MTU, rewriting, next hop.

use std::net::IpAddr;

use control::model::ForwardingMethod;

use super::flow::Flow;
use super::{Action, Pipeline, Verdict, Wait};
use crate::connection::{Address, Tables};
use crate::forward::{nat, tunnel};
use crate::nexthop::{Egress, Hop};
use crate::packet::PacketBuf;
use crate::service::{RealServer, Snapshot};
use crate::stats::Reason;
use crate::time::Tick;
use crate::wire::icmp::{self, IcmpError};
use crate::wire::{Family, Side, Transport, ethernet, ipv6};

/// Why a packet is not just rewritten and sent.
enum Obstacle {
    /// It was decided about.
    Decided(Verdict),
    /// It is too long for its way, and may be cut. Its TTL is lowered already.
    TooLong,
}

impl From<Verdict> for Obstacle {
    fn from(verdict: Verdict) -> Obstacle {
        Obstacle::Decided(verdict)
    }
}

impl Pipeline {
    /// Sends a client's packet to its real server. `port` is that of the connection there, which NAT alone asks for.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // inlined into its two callers
    pub(super) fn send_request<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        server: &RealServer,
        port: impl Fn(&Tables) -> u16,
        method: ForwardingMethod,
    ) -> Verdict {
        let Hop::Ready(egress) = &server.hop else {
            let port = port(&self.tables);
            return self.send_request_unresolved(snapshot, now, flow, packet, server, port, method);
        };
        match self.rewrite_request(snapshot, now, flow, packet, server, &port, method, egress.mtu) {
            Ok((reason, ether_type)) => leave(packet, egress, ether_type, reason),
            Err(Obstacle::Decided(verdict)) => verdict,
            Err(Obstacle::TooLong) => {
                let port = port(&self.tables);
                self.send_request_in_pieces(snapshot, flow, packet, server, port, method)
            }
        }
    }

    #[cold]
    #[inline(never)]
    #[allow(clippy::too_many_arguments)] // as `send_request`
    fn send_request_unresolved<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        server: &RealServer,
        port: u16,
        method: ForwardingMethod,
    ) -> Verdict {
        match server.hop {
            Hop::Local => Verdict::punt(Reason::LocalServer),
            Hop::NoRoute => Verdict::drop(Reason::NoRoute),
            Hop::Ready(_) | Hop::Unresolved(_) => {
                let mtu = server.hop.mtu();
                match self.rewrite_request(snapshot, now, flow, packet, server, |_| port, method, mtu) {
                    Ok((reason, ether_type)) => self.leave_by(packet, &server.hop, ether_type, reason),
                    Err(Obstacle::Decided(verdict)) => verdict,
                    Err(Obstacle::TooLong) => {
                        self.send_request_in_pieces(snapshot, flow, packet, server, port, method)
                    }
                }
            }
        }
    }

    /// As [`Pipeline::send_request`], of a packet that does not fit its way and whose TTL is lowered already.
    #[cold]
    #[inline(never)]
    fn send_request_in_pieces<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        flow: &Flow<A>,
        packet: &mut P,
        server: &RealServer,
        port: u16,
        method: ForwardingMethod,
    ) -> Verdict {
        match self.change_request(snapshot, flow, packet, server, |_| port, method) {
            Ok((reason, ether_type)) => self.leave_in_pieces(packet, &server.hop, ether_type, reason),
            Err(verdict) => verdict,
        }
    }

    /// Makes of a client's packet what its real server is to get, within the MTU of the way there. The Ethernet
    /// header is left to the next hop; returns its type.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // inlined into its two callers
    fn rewrite_request<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        server: &RealServer,
        port: impl Fn(&Tables) -> u16,
        method: ForwardingMethod,
        mtu: u16,
    ) -> Result<(Reason, u16), Obstacle> {
        // First of all by method, so that none pays for another one's questions.
        let mtu = match method {
            ForwardingMethod::Dr | ForwardingMethod::Nat => mtu,
            ForwardingMethod::Tunnel => mtu.saturating_sub(tunnel::overhead(server.address)),
        };
        self.pass_on(snapshot, now, flow, packet, method, mtu)?;
        Ok(self.change_request(snapshot, flow, packet, server, port, method)?)
    }

    /// What the forwarding method changes in a client's packet.
    #[inline(always)]
    fn change_request<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        flow: &Flow<A>,
        packet: &mut P,
        server: &RealServer,
        port: impl Fn(&Tables) -> u16,
        method: ForwardingMethod,
    ) -> Result<(Reason, u16), Verdict> {
        match method {
            ForwardingMethod::Dr => Ok((Reason::RequestDr, A::ETHER_TYPE)),
            ForwardingMethod::Nat => {
                let Some(address) = A::of(server.address) else { return Err(Verdict::drop(Reason::NoRoute)) };
                let port = port(&self.tables);
                nat::rewrite(packet.bytes_mut(), &flow.frame, Side::Destination, address, port);
                Ok((Reason::RequestNat, A::ETHER_TYPE))
            }
            ForwardingMethod::Tunnel => {
                self.encapsulate(snapshot, flow, packet, server)?;
                Ok((Reason::RequestTunnel, tunnel::ether_type(server.address)))
            }
        }
    }

    /// What a router does with a client's packet: one hop less, and no more than fits.
    #[inline(always)]
    fn pass_on<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        method: ForwardingMethod,
        mtu: u16,
    ) -> Result<(), Obstacle> {
        // The virtual address is the director's own, and errors about packets to it come from it.
        let from = || Some(flow.frame.destination.into());
        let ip = ip_header::<A, P>(packet)?;
        if A::ttl(ip) <= 1 {
            return Err(self.send_error(snapshot, now, flow, packet, IcmpError::TimeExceeded, from()).into());
        }
        // Before the length is looked at, as IPVS does: the quoted packet shows it.
        A::decrement_ttl(ip);
        if flow.frame.total_len > mtu {
            return Err(self.too_long(snapshot, now, flow, packet, method, mtu, from()));
        }
        Ok(())
    }

    /// Puts a tunnel's header in front of a client's packet.
    #[inline(always)]
    pub(super) fn encapsulate<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        flow: &Flow<A>,
        packet: &mut P,
        server: &RealServer,
    ) -> Result<(), Verdict> {
        let id = self.take_id();
        let ends = (snapshot.tunnel_source(server), &server.address);
        if tunnel::encapsulate(packet, &flow.frame, ends, id, snapshot.settings.pmtu_disc) {
            Ok(())
        } else {
            Err(Verdict::drop(Reason::NoHeadroom))
        }
    }

    /// Sends a NAT real server's packet to its client, as coming from the virtual service.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // inlined into its one caller
    pub(super) fn send_reply<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        hop: &Hop,
        address: A,
        port: u16,
    ) -> Verdict {
        let ip = match ip_header::<A, P>(packet) {
            Ok(ip) => ip,
            Err(verdict) => return verdict,
        };
        // Checked before anything is rewritten, as a router does: the real server must recognise the
        // packet that an error quotes.
        if A::ttl(ip) <= 1 {
            return self.send_error(snapshot, now, flow, packet, IcmpError::TimeExceeded, None);
        }
        let fits = flow.frame.total_len <= hop.mtu();
        if !fits
            && let Obstacle::Decided(verdict) =
                self.too_long(snapshot, now, flow, packet, ForwardingMethod::Nat, hop.mtu(), None)
        {
            return verdict;
        }
        let ip = match ip_header::<A, P>(packet) {
            Ok(ip) => ip,
            Err(verdict) => return verdict,
        };
        A::decrement_ttl(ip);
        nat::rewrite(packet.bytes_mut(), &flow.frame, Side::Source, address, port);
        match hop {
            _ if !fits => self.leave_in_pieces(packet, hop, A::ETHER_TYPE, Reason::ReplyNat),
            Hop::Ready(egress) => leave(packet, egress, A::ETHER_TYPE, Reason::ReplyNat),
            other => self.leave_by(packet, other, A::ETHER_TYPE, Reason::ReplyNat),
        }
    }

    /// A packet does not fit the next link.
    #[cold]
    #[allow(clippy::too_many_arguments)] // called in two places
    fn too_long<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        method: ForwardingMethod,
        mtu: u16,
        from: Option<IpAddr>,
    ) -> Obstacle {
        // The outer packet is the director's own.
        let is_own = method == ForwardingMethod::Tunnel
            && A::ETHER_TYPE == ethernet::IPV4
            && !snapshot.settings.pmtu_disc;
        let may_be_cut = is_own
            || match ip_header::<A, P>(packet) {
                Ok(ip) => !A::is_whole_or_nothing(ip),
                Err(verdict) => return verdict.into(),
            };
        // No host need send less than the smallest MTU of IPv6.
        let is_hopeless = A::ETHER_TYPE == ethernet::IPV6 && mtu < ipv6::MIN_MTU;
        if may_be_cut {
            return Obstacle::TooLong;
        }
        if is_hopeless {
            return Verdict::drop(Reason::NeedsFragmentation).into();
        }
        self.send_error(snapshot, now, flow, packet, IcmpError::TooBig(mtu), from).into()
    }

    /// Answers a packet with an ICMP error. `from` is the address that it comes from; without one, the
    /// director's own toward the packet's source.
    #[cold]
    pub(super) fn send_error<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        error: IcmpError,
        from: Option<IpAddr>,
    ) -> Verdict {
        // Never about another fragment than the first (RFC 1122 §3.2.2).
        if flow.frame.transport == Transport::LaterFragment {
            return Verdict::drop(Reason::IcmpUndeliverable);
        }
        if !self.icmp_limit.allow(now) {
            return Verdict::drop(Reason::IcmpLimited);
        }
        let to: IpAddr = flow.frame.source.into();
        let hop = snapshot.hops.toward(to);
        let Some(from) = from.or_else(|| snapshot.hops.source_toward(to)) else {
            return Verdict::drop(Reason::NoRoute);
        };
        let id = self.take_id();
        if !icmp::turn_into_error::<A, P>(packet, usize::from(flow.frame.total_len), error, from, id) {
            return Verdict::drop(Reason::NoHeadroom);
        }
        let reason = match error {
            IcmpError::TimeExceeded => Reason::IcmpTimeExceeded,
            IcmpError::TooBig(_) => Reason::IcmpTooBig,
            _ => Reason::IcmpPortUnreachable,
        };
        self.leave_by(packet, &hop, A::ETHER_TYPE, reason)
    }

    /// As [`leave`], by a next hop that may not be known yet.
    #[cold]
    pub(super) fn leave_by<P: PacketBuf>(
        &mut self,
        packet: &mut P,
        hop: &Hop,
        ether_type: u16,
        reason: Reason,
    ) -> Verdict {
        match hop {
            Hop::Ready(egress) => leave(packet, egress, ether_type, reason),
            Hop::Unresolved(unresolved) => {
                ethernet::write_header(packet.bytes_mut(), &[0; 12], ether_type);
                let wait = Wait(self.awaited.len() as u8);
                // One for each packet of a burst at most, for which there is room.
                self.awaited.push(*unresolved);
                Verdict { reason, action: Action::Hold(wait) }
            }
            Hop::Local | Hop::NoRoute => Verdict::drop(Reason::NoRoute),
        }
    }

    /// As [`Pipeline::leave_by`], of a packet that is longer than the MTU of that way.
    #[cold]
    fn leave_in_pieces<P: PacketBuf>(
        &mut self,
        packet: &mut P,
        hop: &Hop,
        ether_type: u16,
        reason: Reason,
    ) -> Verdict {
        let whole = self.leave_by(packet, hop, ether_type, reason);
        match whole.action {
            Action::Forward(port) => {
                packet.set_note(hop.mtu().into());
                Verdict { action: Action::Cut(port), ..whole }
            }
            _ => whole,
        }
    }

    /// The next identification. No two lcores give the same one out: a real server that gets fragments of both would
    /// put them together.
    pub(super) fn take_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(u16::from(self.lcores));
        self.next_id
    }
}

/// EtherType of what a real server gets.
#[inline(always)]
pub(super) fn ether_type<A: Family>(server: &RealServer, method: ForwardingMethod) -> u16 {
    if method == ForwardingMethod::Tunnel { tunnel::ether_type(server.address) } else { A::ETHER_TYPE }
}

/// The IP header of a packet that `wire::parse` accepted, without its options.
#[inline(always)]
pub(super) fn ip_header<A: Family, P: PacketBuf>(packet: &mut P) -> Result<&mut A::Header, Verdict> {
    let ip = packet.bytes_mut().get_mut(ethernet::HEADER_LEN..).and_then(A::header);
    ip.ok_or_else(|| Verdict::drop(Reason::BadIpv4Header))
}

/// Writes the Ethernet header toward the next hop.
#[inline(always)]
pub(super) fn leave<P: PacketBuf>(
    packet: &mut P,
    egress: &Egress,
    ether_type: u16,
    reason: Reason,
) -> Verdict {
    ethernet::write_header(packet.bytes_mut(), &egress.addresses, ether_type);
    Verdict { reason, action: Action::Forward(egress.port) }
}
