//! The usual packet on its usual way: TCP or UDP by IPv4 of a living connection whose state it does not move, to a next
//! hop that is known. Each of those words is checked before anything is changed; whatever is otherwise goes through
//! `connect`, which decides about all packets, and about these in the same way.

use std::net::{IpAddr, Ipv4Addr};

use control::model::ForwardingMethod;

use super::flow::Flow;
use super::{Action, Flows, MAX_BURST, Pipeline, Verdict};
use crate::connection::{ConnectionTable, FlowHash, Guess, State};
use crate::forward::nat;
use crate::forward::tunnel::UsualTunnel;
use crate::nexthop::{Egress, Hop, MacAddr};
use crate::packet::PacketBuf;
use crate::service::Snapshot;
use crate::stats::{LcoreCounters, Reason};
use crate::time::Tick;
use crate::wire::usual::{Head, IP, Usual};
use crate::wire::{self, Side, ethernet, ipv4, read, tcp};

/// What the stages know of a usual packet: no more than they ask for.
#[derive(Clone, Copy)]
pub(super) struct Lane {
    addresses: u64,
    hash: FlowHash,
    ports: u32,
    guess: Guess,
    total_len: u16,
    /// The number of the state in which it leaves a connection as it is, else [`MOVES`].
    steady: u8,
}

/// The number of no state.
const MOVES: u8 = u8::MAX;

impl Lane {
    pub(super) const NONE: Lane = Lane {
        addresses: 0,
        hash: FlowHash::NONE,
        ports: 0,
        guess: Guess::NONE,
        total_len: 0,
        steady: MOVES,
    };
}

/// Which Ethernet destination a burst has to have: as a number with those of its bits that count.
#[derive(Clone, Copy)]
pub(super) struct AddressedTo {
    address: u64,
    mask: u64,
}

impl AddressedTo {
    /// That of a port, or any.
    pub(super) fn new(station: Option<MacAddr>) -> AddressedTo {
        let number = |MacAddr([a, b, c, d, e, f])| u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        match station {
            Some(station) => AddressedTo { address: number(station), mask: number(MacAddr([0xff; 6])) },
            None => AddressedTo { address: 0, mask: 0 },
        }
    }

    #[inline(always)]
    fn has(self, head: &Head) -> bool {
        (u64::from_le_bytes(read(head, 0)) ^ self.address) & self.mask == 0
    }
}

impl Pipeline {
    /// Reads a packet if it is usual, and fetches where its connection may be.
    #[inline(always)]
    pub(super) fn look<P: PacketBuf>(&self, addressed_to: AddressedTo, packet: &P) -> Option<Lane> {
        let bytes = packet.bytes();
        let head = bytes.first_chunk()?;
        let usual = Usual::read(head, bytes.len())?;
        if !addressed_to.has(head) || !packet.is_whole() {
            return None;
        }
        let hash = self.tables.ipv4().hash_usual(&usual);
        self.tables.ipv4().prefetch_bucket(hash);
        let Usual { addresses, ports, total_len, .. } = usual;
        Some(Lane { addresses, hash, ports, guess: Guess::NONE, total_len, steady: steady(&usual) })
    }

    /// Decides about usual packets, and others of IPv4, which `flows` names, in the order in which they came. `lanes[i]`
    /// is of `packets[i]`, and so is `flows[i]`.
    #[inline(never)]
    #[allow(clippy::too_many_arguments)] // called in two places
    pub(super) fn decide_ipv4<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        from_port: bool,
        flows: Option<&Flows>,
        lanes: &mut [Lane; MAX_BURST],
        packets: &mut [P],
        verdicts: &mut [Verdict; MAX_BURST],
    ) {
        let table = self.tables.ipv4();
        let lanes = &mut lanes[..packets.len().min(MAX_BURST)];
        for lane in lanes.iter_mut() {
            lane.guess = table.prefetch_connection(lane.hash);
        }
        table.touch(lanes.iter().map(|lane| lane.guess));
        let mut at = 0;
        loop {
            at += self.forward_usual(snapshot, now, &lanes[at..], &mut packets[at..], &mut verdicts[at..]);
            let (Some(lane), Some(packet)) = (lanes.get(at), packets.get_mut(at)) else { return };
            let decided = match flows.map(|flows| &flows[at]).filter(|flow| !flow.is_usual) {
                None => Some(self.connect_usual(snapshot, now, from_port, lane, packet)),
                Some(flow) if flow.goes_on => Some(self.connect(snapshot, now, flow, packet)),
                Some(_) => None,
            };
            if let Some(decided) = decided {
                self.decide(&mut verdicts[at], decided);
            }
            at += 1;
        }
    }

    /// Sends packets on until one wants more than that. Returns how many went.
    #[inline(always)]
    fn forward_usual<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        lanes: &[Lane],
        packets: &mut [P],
        verdicts: &mut [Verdict],
    ) -> usize {
        let counters: &LcoreCounters = &self.counters;
        let table = self.tables.ipv4_mut();
        let mut sent = 0;
        for (lane, (packet, verdict)) in lanes.iter().zip(packets.iter_mut().zip(verdicts)) {
            let id = (&mut self.next_id, u16::from(self.lcores));
            match forward(snapshot, now, table, counters, id, lane, packet) {
                Some(decided) => *verdict = decided,
                None => break,
            }
            sent += 1;
        }
        sent
    }

    /// The way of all packets, for a usual one.
    #[inline(never)]
    fn connect_usual<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        from_port: bool,
        lane: &Lane,
        packet: &mut P,
    ) -> Verdict {
        let Lane { hash, guess, .. } = *lane;
        let mut flow = Flow { from_port, goes_on: true, hash, guess, ..Flow::NONE };
        // It was read before.
        let _ = wire::parse(packet.bytes(), &mut flow.frame);
        self.connect(snapshot, now, &flow, packet)
    }
}

/// Sends a packet on. `None`, with nothing changed, where anything is not as usual.
#[inline(always)]
fn forward<P: PacketBuf>(
    snapshot: &Snapshot,
    now: Tick,
    table: &mut ConnectionTable<Ipv4Addr>,
    counters: &LcoreCounters,
    (last_id, lcores): (&mut u16, u16),
    lane: &Lane,
    packet: &mut P,
) -> Option<Verdict> {
    let connection = table.guessed_mut(lane.guess)?;
    let state = connection.state;
    if lane.steady != state as u8 || !connection.is_plain() || connection.is_expired(now) {
        return None;
    }
    let of_server = counters.servers().get(connection.server.0 as usize)?;
    if connection.is_requested_by(lane.addresses, lane.ports) {
        let server = snapshot.server(connection.server).filter(|server| server.present)?;
        let Hop::Ready(egress) = &server.hop else { return None };
        let reason = match connection.method {
            ForwardingMethod::Dr => {
                send(fitting(packet, lane, egress.mtu)?, egress);
                counters.reason(Reason::RequestDr).add(1);
                Reason::RequestDr
            }
            ForwardingMethod::Nat => {
                let head = fitting(packet, lane, egress.mtu)?;
                let to = (connection.server_address, connection.server_port);
                nat::rewrite_usual(head, state == State::Established, Side::Destination, to)?;
                send(head, egress);
                counters.reason(Reason::RequestNat).add(1);
                Reason::RequestNat
            }
            ForwardingMethod::Tunnel => {
                let IpAddr::V4(address) = server.address else { return None };
                let tunnel = snapshot.tunnel(server);
                let (source, gue) = tunnel.plain_ipv4()?;
                if lane.total_len > egress.mtu.saturating_sub(tunnel.len) {
                    return None;
                }
                let way = UsualTunnel {
                    ends: (source, address),
                    id: last_id.wrapping_add(lcores),
                    copy_df: snapshot.settings.pmtu_disc,
                    stations: &egress.addresses,
                };
                match gue {
                    None => way.encapsulate(packet, lane.total_len)?,
                    Some(port) => {
                        let client = (connection.client, connection.client_port);
                        way.encapsulate_by_gue(packet, lane.total_len, port, client)?;
                    }
                }
                *last_id = way.id;
                counters.reason(Reason::RequestTunnel).add(1);
                Reason::RequestTunnel
            }
        };
        connection.note_input();
        connection.note(now, snapshot.timeouts.of(state));
        of_server.packets_in.add(1);
        of_server.bytes_in.add(u64::from(lane.total_len));
        return Some(Verdict { reason, action: Action::Forward(egress.port) });
    }
    if connection.is_replied_by(lane.addresses, lane.ports) {
        let egress = *snapshot.hops.cached(&connection.reply_egress)?;
        let head = fitting(packet, lane, egress.mtu)?;
        let from = (connection.virtual_address, connection.virtual_port);
        nat::rewrite_usual(head, state == State::Established, Side::Source, from)?;
        send(head, &egress);
        connection.note(now, snapshot.timeouts.of(state));
        of_server.packets_out.add(1);
        of_server.bytes_out.add(u64::from(lane.total_len));
        counters.reason(Reason::ReplyNat).add(1);
        return Some(Verdict { reason: Reason::ReplyNat, action: Action::Forward(egress.port) });
    }
    None
}

/// The number of the state in which a packet leaves a connection as it is.
#[inline(always)]
fn steady(usual: &Usual) -> u8 {
    const TELLING: u8 = tcp::FIN | tcp::SYN | tcp::RST | tcp::ACK;
    match usual.protocol {
        ipv4::TCP if usual.tcp_flags & TELLING == tcp::ACK => State::Established as u8,
        ipv4::TCP => MOVES,
        _ => State::Udp as u8,
    }
}

/// The head of a packet that is no longer than the MTU of its way.
#[inline(always)]
fn fitting<'a, P: PacketBuf>(packet: &'a mut P, lane: &Lane, mtu: u16) -> Option<&'a mut Head> {
    if lane.total_len <= mtu { packet.bytes_mut().first_chunk_mut() } else { None }
}

/// What a router does.
#[inline(always)]
fn send(head: &mut Head, egress: &Egress) {
    ipv4::decrement_ttl(&mut head[IP..]);
    ethernet::write_header(head, &egress.addresses, ethernet::IPV4);
}
