//! ICMP errors about packets that were balanced (Linux `ip_vs_in_icmp`, `ip_vs_out_icmp` in `ip_vs_core.c`). Whoever
//! sent the packet is to learn of them, in the words in which it knows the connection.

use std::net::{Ipv4Addr, Ipv6Addr};

use control::model::ForwardingMethod;

use super::bypass::there;
use super::flow::Flow;
use super::open::{port_of, service_of};
use super::send::{ether_type, ip_header};
use super::{Pipeline, Verdict};
use crate::connection::{Address, ConnId, Connection, Direction, Guess, State, UDP_PROTOCOL};
use crate::nexthop::{Hop, MacAddr};
use crate::packet::PacketBuf;
use crate::service::{RealServer, ServerId, Snapshot};
use crate::stats::Reason;
use crate::time::Tick;
use crate::wire::icmp::{self, IcmpError};
use crate::wire::quote::{self, Complaint, Quote};
use crate::wire::{Side, Transport, ethernet, ipv6, write_u16};

/// How long a connection lives that was only made to send an ICMP error on, in milliseconds (Linux
/// `ip_vs_conn_new`).
const FRESH: u32 = 3000;

impl Pipeline {
    /// Decides about an ICMP error, which `quote` has read.
    pub(super) fn relay<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        station: Option<MacAddr>,
        packet: &mut P,
        quote: &Quote,
    ) -> Verdict {
        let gue = self.through_gue(snapshot, packet, quote);
        let quote = gue.as_ref().unwrap_or(quote);
        // The version of the connection, which that of the error need not be.
        if quote.source.0.is_ipv4() {
            self.relay_about::<Ipv4Addr, P>(snapshot, now, station, packet, quote)
        } else {
            self.relay_about::<Ipv6Addr, P>(snapshot, now, station, packet, quote)
        }
    }

    /// What an error is about that is about one of the director's own packets in UDP. Ports alone do not tell.
    fn through_gue<P: PacketBuf>(&self, snapshot: &Snapshot, packet: &P, quote: &Quote) -> Option<Quote> {
        let is_own = quote.protocol == UDP_PROTOCOL
            && snapshot.lookup.is_gue_end(quote.destination)
            && snapshot.hops.is_local(quote.source.0);
        is_own.then(|| quote.through_gue(packet.bytes()))?
    }

    fn relay_about<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        station: Option<MacAddr>,
        packet: &mut P,
        quote: &Quote,
    ) -> Verdict {
        let mut flow = Flow::<A>::NONE;
        if !quote.describe(&mut flow.frame) {
            return Verdict::punt(Reason::OtherProtocol);
        }
        self.go_on(&mut flow, station);
        let key = flow.key();
        let table = A::table(&self.tables);
        let found =
            table.find(flow.hash, &key, Guess::NONE).filter(|(id, _)| !table.get(*id).is_expired(now));
        let (id, direction) = match found {
            Some(found) => found,
            None => {
                if let Some(verdict) = self.hand_over(snapshot, &flow, &key) {
                    return verdict;
                }
                match self.schedule_for_error(snapshot, now, &flow, packet) {
                    Some(id) => (id, Direction::Request),
                    None => return Verdict::punt(Reason::OtherProtocol),
                }
            }
        };
        let connection = *A::table(&self.tables).get(id);
        let server = snapshot.server(connection.server).filter(|server| server.present);
        let is_honest = quote::carrier(packet.bytes()).1 == quote.source.0;
        let relayed = match (flow.frame.transport, direction, server) {
            (Transport::TunnelError, Direction::Request, Some(server)) => {
                self.relay_of_tunnel(snapshot, now, &flow, packet, &connection, server, quote)
            }
            // An honest error goes to where the packet came from.
            (Transport::IcmpError, ..) if !is_honest => Err(Verdict::punt(Reason::OtherProtocol)),
            (Transport::IcmpError, Direction::Request, Some(server)) => {
                self.relay_to_server(snapshot, &flow, packet, &connection, server, quote)
            }
            (Transport::IcmpError, Direction::Reply, _) => {
                self.relay_to_client(snapshot, &flow, packet, &connection, quote)
            }
            (Transport::IcmpError, Direction::Request, None) if connection.server == ServerId::NONE => {
                self.relay_past(snapshot, &flow, packet)
            }
            (_, _, None) => Err(Verdict::drop(Reason::ServerRemoved)),
            _ => Err(Verdict::punt(Reason::OtherProtocol)),
        };
        relayed.unwrap_or_else(|verdict| verdict)
    }

    /// With `schedule_icmp`, an error about an unknown connection finds the real server that would have been chosen:
    /// for directors that share an address.
    fn schedule_for_error<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &P,
    ) -> Option<ConnId> {
        if !snapshot.settings.schedule_icmp || flow.frame.transport != Transport::IcmpError {
            return None;
        }
        let key = flow.key();
        let service = service_of(snapshot, &key, packet)?;
        let state = if key.protocol == UDP_PROTOCOL { State::Udp } else { State::None };
        let choice = self.choose(snapshot, now, service, &key, &[]).ok()?;
        let port = port_of(snapshot, snapshot.server(choice.server)?, &key);
        self.create(snapshot, now, &key, choice, port, (state, FRESH)).ok()
    }

    /// From the client's side, about a reply.
    fn relay_to_server<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        flow: &Flow<A>,
        packet: &mut P,
        connection: &Connection<A>,
        server: &RealServer,
        quote: &Quote,
    ) -> Result<Verdict, Verdict> {
        let method = connection.method;
        let is_nat = method == ForwardingMethod::Nat;
        if is_nat && !quote::is_sound(packet.bytes(), quote) {
            return Err(Verdict::drop(Reason::BadIcmpChecksum));
        }
        let is_local = server.hop == Hop::Local;
        let by_tunnel = method == ForwardingMethod::Tunnel && !is_local;
        let overhead = if by_tunnel { snapshot.tunnel(server).len } else { 0 };
        if !is_local {
            one_hop_on::<A, P>(packet, flow.frame.total_len, server.hop.mtu().saturating_sub(overhead))?;
        }
        if is_nat {
            let (address, port) = (connection.server_address, connection.server_port);
            rewrite(packet, quote, Side::Source, (address, port), Side::Destination);
        } else if by_tunnel {
            self.encapsulate(snapshot, flow, packet, server, snapshot.tunnel(server))?;
        }
        let counters = self.counters.server(connection.server);
        counters.packets_in.add(1);
        counters.bytes_in.add(u64::from(flow.frame.total_len));
        Ok(match server.hop {
            Hop::Local => Verdict::punt(Reason::LocalServer),
            _ => self.leave_by(packet, &server.hop, ether_type::<A>(server, method), Reason::IcmpRequest),
        })
    }

    /// From the client's side, to whom it speaks past a service.
    fn relay_past<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        flow: &Flow<A>,
        packet: &mut P,
    ) -> Result<Verdict, Verdict> {
        let hop = there(snapshot, flow.frame.destination.into()).hop;
        one_hop_on::<A, P>(packet, flow.frame.total_len, hop.mtu())?;
        Ok(self.leave_by(packet, &hop, A::ETHER_TYPE, Reason::IcmpRequest))
    }

    /// From a NAT real server's side, about a request.
    fn relay_to_client<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        flow: &Flow<A>,
        packet: &mut P,
        connection: &Connection<A>,
        quote: &Quote,
    ) -> Result<Verdict, Verdict> {
        if !quote::is_sound(packet.bytes(), quote) {
            return Err(Verdict::drop(Reason::BadIcmpChecksum));
        }
        let hop = snapshot.hops.toward(connection.client.into());
        one_hop_on::<A, P>(packet, flow.frame.total_len, hop.mtu())?;
        // From the virtual address, whichever router it was: clients know no other.
        let (address, port) = (connection.virtual_address, connection.virtual_port);
        rewrite(packet, quote, Side::Destination, (address, port), Side::Source);
        let counters = self.counters.server(connection.server);
        counters.packets_out.add(1);
        counters.bytes_out.add(u64::from(flow.frame.total_len));
        Ok(self.leave_by(packet, &hop, A::ETHER_TYPE, Reason::IcmpReply))
    }

    /// About one of the director's own packets, on the way to a real server by tunnel: the client gets an error about
    /// what was in it.
    #[allow(clippy::too_many_arguments)] // called in one place
    fn relay_of_tunnel<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        connection: &Connection<A>,
        server: &RealServer,
        quote: &Quote,
    ) -> Result<Verdict, Verdict> {
        let Some((other_end, overhead)) = quote.tunnel else {
            return Err(Verdict::punt(Reason::OtherProtocol));
        };
        if connection.method != ForwardingMethod::Tunnel || other_end != server.address {
            return Err(Verdict::punt(Reason::OtherProtocol));
        }
        if !quote::is_sound(packet.bytes(), quote) {
            return Err(Verdict::drop(Reason::BadIcmpChecksum));
        }
        let is_v6 = A::ETHER_TYPE == ethernet::IPV6;
        let error = match quote.complaint {
            Complaint::TooBig(mtu) => {
                let least = if is_v6 { ipv6::MIN_MTU } else { MIN_MTU_V4 };
                // A router of old does not say what would fit.
                if mtu == 0 {
                    return Err(Verdict::drop(Reason::IcmpUndeliverable));
                }
                IcmpError::TooBig(mtu.saturating_sub(overhead).max(least))
            }
            Complaint::TimeExceeded => IcmpError::TimeExceeded,
            Complaint::Unreachable if is_v6 == quote.is_v6 => {
                IcmpError::Relayed(quote.type_and_code.0, quote.type_and_code.1)
            }
            Complaint::Unreachable => IcmpError::HostUnreachable,
        };
        if !self.icmp_limit.allow(now) {
            return Err(Verdict::drop(Reason::IcmpLimited));
        }
        let len = quote.end - quote.ip;
        let frame = packet.bytes_mut();
        frame.copy_within(quote.ip..quote.end, ethernet::HEADER_LEN);
        write_u16(frame, ethernet::HEADER_LEN - 2, A::ETHER_TYPE);
        packet.truncate(ethernet::HEADER_LEN + len);
        let id = self.take_id();
        let from = flow.frame.destination.into();
        if !icmp::turn_into_error::<A, P>(packet, len, error, from, id) {
            return Err(Verdict::drop(Reason::NoHeadroom));
        }
        let hop = snapshot.hops.toward(connection.client.into());
        Ok(self.leave_by(packet, &hop, A::ETHER_TYPE, Reason::IcmpTunnel))
    }
}

/// The least that an IPv4 host may be asked to send (RFC 791).
const MIN_MTU_V4: u16 = 68;

/// Lowers the TTL of an error, which no further error is sent about.
fn one_hop_on<A: Address, P: PacketBuf>(packet: &mut P, len: u16, mtu: u16) -> Result<(), Verdict> {
    let ip = ip_header::<A, P>(packet)?;
    if A::ttl(ip) <= 1 || len > mtu {
        return Err(Verdict::drop(Reason::IcmpUndeliverable));
    }
    A::decrement_ttl(ip);
    Ok(())
}

/// Writes one end of the connection into the packet that an error quotes, and into the error's own header, and mends
/// the checksums.
fn rewrite<A: Address, P: PacketBuf>(
    packet: &mut P,
    quote: &Quote,
    quoted: Side,
    (address, port): (A, u16),
    carrier: Side,
) {
    let frame = packet.bytes_mut();
    quote::rewrite(frame, quote, quoted, address, port);
    let _ = A::rewrite_address(&mut frame[ethernet::HEADER_LEN..], carrier, address);
    quote::write_checksum(frame, quote);
}
