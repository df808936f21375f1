//! What is done with usual packets, by method and direction.

use std::net::{IpAddr, Ipv4Addr};

use control::model::ForwardingMethod;

use super::lane::Lane;
use super::train::{Sent, Together};
use crate::connection::{ConnectionTable, State};
use crate::forward::nat::Translation;
use crate::forward::tunnel::{UsualTunnel, entropy};
use crate::nexthop::{Egress, Hop};
use crate::packet::PacketBuf;
use crate::service::Snapshot;
use crate::stats::{LcoreCounters, Reason};
use crate::time::Tick;
use crate::wire::usual::{Head, IP};
use crate::wire::{Side, ethernet, ipv4};

/// The same for all packets of one connection in one direction.
pub(super) trait Way {
    /// Makes a packet ready to leave. Returns the length that it came with, by its IP header; `None`, with nothing changed,
    /// where that is not as usual.
    fn send<P: PacketBuf>(&mut self, packet: &mut P) -> Option<u16>;
}

/// Routed as it is.
struct Direct<'a> {
    egress: &'a Egress,
}

impl Way for Direct<'_> {
    #[inline(always)]
    fn send<P: PacketBuf>(&mut self, packet: &mut P) -> Option<u16> {
        let (head, total_len) = fitting(packet, self.egress.mtu)?;
        ipv4::decrement_ttl(&mut head[IP..]);
        ethernet::write_header(head, &self.egress.addresses, ethernet::IPV4);
        Some(total_len)
    }
}

/// By NAT, with one end rewritten.
struct Translated<'a> {
    egress: &'a Egress,
    translation: Translation,
}

impl Way for Translated<'_> {
    #[inline(always)]
    fn send<P: PacketBuf>(&mut self, packet: &mut P) -> Option<u16> {
        let (head, total_len) = fitting(packet, self.egress.mtu)?;
        self.translation.translate(head)?;
        ethernet::write_header(head, &self.egress.addresses, ethernet::IPV4);
        Some(total_len)
    }
}

/// By a tunnel: directly, or by GUE, each with code of its own.
struct Tunnelled<'a, const BY_GUE: bool> {
    tunnel: UsualTunnel<'a>,
    /// The longest packet that still fits, in bytes.
    mtu: u16,
    /// The ports of GUE, source and destination, where it is by that.
    ports: (u16, u16),
    last_id: &'a mut u16,
    lcores: u16,
}

impl<const BY_GUE: bool> Way for Tunnelled<'_, BY_GUE> {
    #[inline(always)]
    fn send<P: PacketBuf>(&mut self, packet: &mut P) -> Option<u16> {
        let (_, total_len) = fitting(packet, self.mtu)?;
        let id = self.last_id.wrapping_add(self.lcores);
        if BY_GUE {
            self.tunnel.encapsulate_by_gue(packet, total_len, id, self.ports)?;
        } else {
            self.tunnel.encapsulate(packet, total_len, id)?;
        }
        *self.last_id = id;
        Some(total_len)
    }
}

/// The head of a usual packet and its length, which is no more than the MTU of its way.
#[inline(always)]
fn fitting<P: PacketBuf>(packet: &mut P, mtu: u16) -> Option<(&mut Head, u16)> {
    let head: &mut Head = packet.bytes_mut().first_chunk_mut()?;
    let total_len = ipv4::total_len(&head[IP..]);
    (total_len <= mtu).then_some((head, total_len))
}

/// What ways are found by.
pub(super) struct Ways<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) now: Tick,
    /// Whether `table` knows whose all replies are.
    pub(super) has_indexed_replies: bool,
    pub(super) table: &'a mut ConnectionTable<Ipv4Addr>,
    pub(super) counters: &'a LcoreCounters,
    /// Identification of the last packet that the lcore made itself; it takes every `lcores`-th.
    pub(super) last_id: &'a mut u16,
    pub(super) lcores: u16,
}

impl Ways<'_> {
    /// Sends packets of a lane on. `None`, with nothing changed, where the first one is not as usual.
    #[inline(always)]
    pub(super) fn forward<P: PacketBuf>(&mut self, lane: &Lane, together: impl Together<P>) -> Option<Sent> {
        let Ways { snapshot, now, counters, .. } = *self;
        let connection = self.table.guessed_mut(lane.guess)?;
        let state = connection.state;
        if lane.steady != state as u8 || !connection.is_plain() || connection.is_expired(now) {
            return None;
        }
        let of_server = counters.servers().get(connection.server.0 as usize)?;
        let key = (lane.addresses, lane.ports);
        let is_tcp = state == State::Established;
        let sent = if connection.is_requested_by(key) {
            let server = snapshot.server(connection.server)?;
            // One that was removed has no next hop.
            let Hop::Ready(egress) = &server.hop else { return None };
            let sent = match connection.method {
                ForwardingMethod::Dr => together.send(Reason::RequestDr, egress, Direct { egress })?,
                ForwardingMethod::Nat => {
                    let to = (connection.server_address, connection.server_port);
                    let translation = Translation::of_usual(is_tcp, Side::Destination, key, to);
                    together.send(Reason::RequestNat, egress, Translated { egress, translation })?
                }
                ForwardingMethod::Tunnel => {
                    let IpAddr::V4(address) = server.address else { return None };
                    let head = snapshot.usual_tunnel(server)?;
                    let ends = (head.source, address);
                    let tunnel = UsualTunnel::new(ends, snapshot.settings.pmtu_disc, &egress.addresses);
                    let mtu = egress.mtu.saturating_sub(head.len);
                    let Ways { ref mut last_id, lcores, .. } = *self;
                    match head.gue_port {
                        None => {
                            let ports = (0, 0);
                            let way = Tunnelled::<false> { tunnel, mtu, ports, last_id, lcores };
                            together.send(Reason::RequestTunnel, egress, way)?
                        }
                        Some(port) => {
                            let client = (connection.client, connection.client_port);
                            let ports = (entropy(client), port.get());
                            let way = Tunnelled::<true> { tunnel, mtu, ports, last_id, lcores };
                            together.send(Reason::RequestTunnel, egress, way)?
                        }
                    }
                }
            };
            connection.note_input(sent.packets);
            of_server.packets_in.add(sent.packets as u64);
            of_server.bytes_in.add(sent.bytes);
            sent
        } else if self.has_indexed_replies && connection.is_replied_by(key) {
            let egress = snapshot.hops.cached(&connection.reply_egress)?;
            let to = (connection.virtual_address, connection.virtual_port);
            let translation = Translation::of_usual(is_tcp, Side::Source, key, to);
            let sent = together.send(Reason::ReplyNat, egress, Translated { egress, translation })?;
            of_server.packets_out.add(sent.packets as u64);
            of_server.bytes_out.add(sent.bytes);
            sent
        } else {
            return None;
        };
        connection.note(now, snapshot.timeouts.of(state));
        counters.reason(sent.reason).add(sent.packets as u64);
        Some(sent)
    }
}
