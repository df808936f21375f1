//! From a connection to the wire: TTL, MTU, rewriting, next hop.

use std::net::IpAddr;

use control::model::ForwardingMethod;

use super::connect::opens;
use super::flow::Flow;
use super::{Action, Pipeline, Verdict, Wait};
use crate::connection::{Address, Tables};
use crate::forward::tunnel::{self, Head};
use crate::forward::{mss, nat};
use crate::nexthop::{Egress, Hop};
use crate::packet::PacketBuf;
use crate::service::{RealServer, Snapshot};
use crate::stats::Reason;
use crate::time::Tick;
use crate::wire::icmp::{self, IcmpError};
use crate::wire::{Family, Side, Transport, ethernet, ipv6, tcp};

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
        port: impl Fn(&Tables) -> u16 + Copy,
        method: ForwardingMethod,
    ) -> Verdict {
        if flow.frame.tcp_flags & tcp::SYN != 0 {
            clamp_request(snapshot, flow, packet, server, method);
        }
        let Hop::Ready(egress) = &server.hop else {
            let port = port(&self.tables);
            return self.send_request_unresolved(snapshot, now, flow, packet, server, port, method);
        };
        match self.rewrite_request(snapshot, now, flow, packet, server, port, method, egress.mtu) {
            Ok((reason, ether_type)) => leave(packet, egress, ether_type, reason),
            Err(verdict) => verdict,
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
            Hop::Local => to_local_server(flow, packet, server, port, method),
            Hop::NoRoute => Verdict::drop(Reason::NoRoute),
            Hop::Ready(_) | Hop::Unresolved(_) => {
                let mtu = server.hop.mtu();
                match self.rewrite_request(snapshot, now, flow, packet, server, |_| port, method, mtu) {
                    Ok((reason, ether_type)) => self.leave_by(packet, &server.hop, ether_type, reason),
                    Err(verdict) => verdict,
                }
            }
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
        port: impl Fn(&Tables) -> u16 + Copy,
        method: ForwardingMethod,
        mtu: u16,
    ) -> Result<(Reason, u16), Verdict> {
        // First of all by method, so that none pays for another one's questions.
        match method {
            ForwardingMethod::Dr => {
                self.pass_on(snapshot, now, flow, packet, server, port, method, mtu)?;
                Ok((Reason::RequestDr, A::ETHER_TYPE))
            }
            ForwardingMethod::Nat => {
                self.pass_on(snapshot, now, flow, packet, server, port, method, mtu)?;
                to_nat_server(flow, packet, server, port(&self.tables))?;
                Ok((Reason::RequestNat, A::ETHER_TYPE))
            }
            ForwardingMethod::Tunnel => {
                let head = snapshot.tunnel(server);
                let mtu = mtu.saturating_sub(head.len);
                self.pass_on(snapshot, now, flow, packet, server, port, method, mtu)?;
                self.encapsulate(snapshot, flow, packet, server, head)?;
                Ok((Reason::RequestTunnel, tunnel::ether_type(server.address)))
            }
        }
    }

    /// What a router does with a client's packet: one hop less, and no more than fits.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // inlined, and called thrice
    fn pass_on<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        server: &RealServer,
        port: impl Fn(&Tables) -> u16,
        method: ForwardingMethod,
        mtu: u16,
    ) -> Result<(), Verdict> {
        let ip = ip_header::<A, P>(packet)?;
        if A::ttl(ip) <= 1 {
            // The virtual address is the director's own, and errors about packets to it come from it.
            let from = Some(flow.frame.destination.into());
            return Err(self.send_error(snapshot, now, flow, packet, IcmpError::TimeExceeded, from));
        }
        // Before the length is looked at, as IPVS does: the quoted packet shows it.
        A::decrement_ttl(ip);
        if flow.frame.total_len > mtu {
            let port = port(&self.tables);
            return Err(self.request_too_long(snapshot, now, flow, packet, server, port, method, mtu));
        }
        Ok(())
    }

    /// A client's packet does not fit its way, though its TTL is lowered already: it goes in pieces, or not at all.
    #[cold]
    #[inline(never)]
    #[allow(clippy::too_many_arguments)] // as `send_request`
    fn request_too_long<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        server: &RealServer,
        port: u16,
        method: ForwardingMethod,
        mtu: u16,
    ) -> Verdict {
        // Without `pmtu_disc` the outer packet is the director's own, whatever the inner one says.
        let is_own = method == ForwardingMethod::Tunnel
            && A::ETHER_TYPE == ethernet::IPV4
            && !snapshot.settings.pmtu_disc;
        if !is_own && let Err(error) = may_be_cut::<A, P>(packet, mtu) {
            let from = Some(flow.frame.destination.into());
            return self.refuse_length(snapshot, now, flow, packet, error, from);
        }
        let changed = match method {
            ForwardingMethod::Dr => Ok((Reason::RequestDr, A::ETHER_TYPE)),
            ForwardingMethod::Nat => {
                to_nat_server(flow, packet, server, port).map(|()| (Reason::RequestNat, A::ETHER_TYPE))
            }
            ForwardingMethod::Tunnel => {
                let head = snapshot.tunnel(server);
                if flow.frame.total_len.checked_add(head.len).is_none() {
                    return Verdict::drop(Reason::NeedsFragmentation);
                }
                self.encapsulate(snapshot, flow, packet, server, head)
                    .map(|()| (Reason::RequestTunnel, tunnel::ether_type(server.address)))
            }
        };
        match changed {
            Ok((reason, ether_type)) => self.leave_in_pieces(packet, &server.hop, ether_type, reason),
            Err(verdict) => verdict,
        }
    }

    /// Puts a tunnel's header in front of a client's packet.
    #[inline(always)]
    pub(super) fn encapsulate<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        flow: &Flow<A>,
        packet: &mut P,
        server: &RealServer,
        head: &Head,
    ) -> Result<(), Verdict> {
        let id = self.take_id();
        if tunnel::encapsulate(packet, &flow.frame, head, &server.address, id, snapshot.settings.pmtu_disc) {
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
        if flow.frame.tcp_flags & tcp::SYN != 0 {
            clamp_reply(snapshot, flow, packet, hop);
        }
        let ip = match ip_header::<A, P>(packet) {
            Ok(ip) => ip,
            Err(verdict) => return verdict,
        };
        // Checked before anything is rewritten, as a router does: the real server must recognise the
        // packet that an error quotes.
        if A::ttl(ip) <= 1 {
            return self.send_error(snapshot, now, flow, packet, IcmpError::TimeExceeded, None);
        }
        if flow.frame.total_len > hop.mtu() {
            return self.reply_too_long(snapshot, now, flow, packet, hop, address, port);
        }
        A::decrement_ttl(ip);
        nat::rewrite(packet.bytes_mut(), &flow.frame, Side::Source, address, port);
        match hop {
            Hop::Ready(egress) => leave(packet, egress, A::ETHER_TYPE, Reason::ReplyNat),
            other => self.leave_by(packet, other, A::ETHER_TYPE, Reason::ReplyNat),
        }
    }

    /// A real server's packet does not fit its way: it goes in pieces, or not at all.
    #[cold]
    #[inline(never)]
    #[allow(clippy::too_many_arguments)] // as `send_reply`
    fn reply_too_long<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        hop: &Hop,
        address: A,
        port: u16,
    ) -> Verdict {
        if let Err(error) = may_be_cut::<A, P>(packet, hop.mtu()) {
            return self.refuse_length(snapshot, now, flow, packet, error, None);
        }
        match ip_header::<A, P>(packet) {
            Ok(ip) => A::decrement_ttl(ip),
            Err(verdict) => return verdict,
        }
        nat::rewrite(packet.bytes_mut(), &flow.frame, Side::Source, address, port);
        self.leave_in_pieces(packet, hop, A::ETHER_TYPE, Reason::ReplyNat)
    }

    /// A packet does not fit and may not be cut.
    fn refuse_length<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        error: Option<IcmpError>,
        from: Option<IpAddr>,
    ) -> Verdict {
        match error {
            Some(error) => self.send_error(snapshot, now, flow, packet, error, from),
            None => Verdict::drop(Reason::NeedsFragmentation),
        }
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

/// Whether a packet may be fragmented; else the error to tell its sender, if it could do anything about it.
fn may_be_cut<A: Address, P: PacketBuf>(packet: &mut P, mtu: u16) -> Result<(), Option<IcmpError>> {
    let Ok(ip) = ip_header::<A, P>(packet) else { return Err(None) };
    // No host need send less than the smallest MTU of IPv6.
    let is_hopeless = A::ETHER_TYPE == ethernet::IPV6 && mtu < ipv6::MIN_MTU;
    match A::is_whole_or_nothing(ip) {
        false => Ok(()),
        true if is_hopeless => Err(None),
        true => Err(Some(IcmpError::TooBig(mtu))),
    }
}

/// Writes the real server's address and port into a client's packet.
#[inline(always)]
fn to_nat_server<A: Address, P: PacketBuf>(
    flow: &Flow<A>,
    packet: &mut P,
    server: &RealServer,
    port: u16,
) -> Result<(), Verdict> {
    let Some(address) = A::of(server.address) else { return Err(Verdict::drop(Reason::NoRoute)) };
    nat::rewrite(packet.bytes_mut(), &flow.frame, Side::Destination, address, port);
    Ok(())
}

/// Gives a client's packet to the kernel, whose real server is the director itself: as it is, but for what NAT changes
/// (Linux `ip_vs_xmit.c`, which leaves TTL and length alone there as well).
#[cold]
fn to_local_server<A: Address, P: PacketBuf>(
    flow: &Flow<A>,
    packet: &mut P,
    server: &RealServer,
    port: u16,
    method: ForwardingMethod,
) -> Verdict {
    if method == ForwardingMethod::Nat
        && let Err(verdict) = to_nat_server(flow, packet, server, port)
    {
        return verdict;
    }
    Verdict::punt(Reason::LocalServer)
}

/// Lowers the maximum segment size in a client's SYN to what fits both ways through the director, if that is asked for.
/// Called for whatever has that flag, be it TCP or not.
#[cold]
#[inline(never)]
fn clamp_request<A: Address, P: PacketBuf>(
    snapshot: &Snapshot,
    flow: &Flow<A>,
    packet: &mut P,
    server: &RealServer,
    method: ForwardingMethod,
) {
    if opens(flow) && snapshot.settings.mss_clamp {
        let overhead = if method == ForwardingMethod::Tunnel { snapshot.tunnel(server).len } else { 0 };
        let back = snapshot.hops.toward(flow.frame.source.into());
        let mtu = server.hop.mtu().saturating_sub(overhead).min(back.mtu());
        mss::clamp(packet.bytes_mut(), &flow.frame, mtu);
    }
}

/// As [`clamp_request`], in a real server's answer.
#[cold]
#[inline(never)]
fn clamp_reply<A: Address, P: PacketBuf>(snapshot: &Snapshot, flow: &Flow<A>, packet: &mut P, hop: &Hop) {
    if opens(flow) && snapshot.settings.mss_clamp {
        let back = snapshot.hops.toward(flow.frame.source.into());
        mss::clamp(packet.bytes_mut(), &flow.frame, hop.mtu().min(back.mtu()));
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
