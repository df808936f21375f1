//! From a packet to its connection: the one it belongs to, or a new one.

use std::net::{IpAddr, Ipv4Addr};

use super::{Flow, Pipeline, Verdict, note_end};
use crate::connection::{
    ConnId, Connection, Direction, Event, NewConnection, Path, State, TCP_PROTOCOL, UDP_PROTOCOL, next_state,
};
use crate::packet::PacketBuf;
use crate::scheduler::Client;
use crate::service::{RealServer, Snapshot};
use crate::stats::{LcoreCounters, Reason};
use crate::time::Tick;
use crate::wire::icmp::IcmpError;
use crate::wire::{ethernet, ipv4, tcp};

/// FTP's data port, from which no connection is scheduled (Linux `ip_vs_schedule`).
const FTP_DATA: u16 = 20;

impl Pipeline {
    /// Decides about a TCP or UDP packet that this lcore owns.
    #[inline]
    pub(super) fn connect<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
    ) -> Verdict {
        if let Some((id, direction)) = self.table.find(flow.hash, &flow.key) {
            if self.table.get(id).is_expired(now) {
                self.end(snapshot, id);
            } else if direction == Direction::Reply {
                return self.reply(snapshot, now, flow, packet, id);
            } else if begins_anew(flow, self.table.get(id), snapshot) {
                self.end(snapshot, id);
            } else {
                return self.request(snapshot, now, flow, packet, id);
            }
        }
        self.open(snapshot, now, flow, packet)
    }

    /// A packet from a client, of a known connection.
    #[inline]
    fn request<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
        id: ConnId,
    ) -> Verdict {
        let connection = self.table.get_mut(id);
        let Some(server) = snapshot.server(connection.server).filter(|server| server.present) else {
            return Verdict::drop(Reason::ServerRemoved);
        };
        let path = if connection.is_input_only() { Path::InputOnly } else { Path::Input };
        if touch(&self.counters, connection, snapshot, now, path, flow.tcp_flags) {
            snapshot.load_changed(connection.server, &self.fleet, self.lcore);
        }
        let counters = self.counters.server(connection.server);
        counters.packets_in.add(1);
        counters.bytes_in.add(u64::from(flow.frame.total_len));
        let method = connection.method;
        self.send_request(snapshot, now, flow, packet, server, method)
    }

    /// A packet from a NAT real server, of a known connection.
    #[inline]
    fn reply<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
        id: ConnId,
    ) -> Verdict {
        let connection = self.table.get_mut(id);
        connection.note_output();
        if touch(&self.counters, connection, snapshot, now, Path::Output, flow.tcp_flags) {
            snapshot.load_changed(connection.server, &self.fleet, self.lcore);
        }
        let counters = self.counters.server(connection.server);
        counters.packets_out.add(1);
        counters.bytes_out.add(u64::from(flow.frame.total_len));
        let (address, port) = (connection.virtual_address, connection.virtual_port);
        self.send_reply(snapshot, now, flow, packet, address, port)
    }

    /// A packet that belongs to no connection: it opens one, or it is not ours.
    fn open<P: PacketBuf>(&mut self, snapshot: &Snapshot, now: Tick, flow: &Flow, packet: &mut P) -> Verdict {
        let key = flow.key;
        let service = snapshot
            .lookup
            .service(key.destination.into(), key.destination_port, key.protocol)
            .and_then(|id| snapshot.service(id));
        let Some(service) = service else { return Verdict::punt(Reason::NoService) };
        if !may_open(flow) {
            return Verdict::punt(Reason::NoConnection);
        }
        // Later packets of a connection only carry a wrong checksum on; none of them creates state.
        let header = &packet.bytes()[ethernet::HEADER_LEN..flow.frame.transport_offset()];
        if !ipv4::checksum_is_valid(header) {
            return Verdict::drop(Reason::BadIpv4Checksum);
        }
        let client = Client { address: key.source.into(), port: key.source_port };
        let chosen = service.scheduler.choose(&service.candidates, client, &self.fleet, self.lcore);
        let candidate = chosen.and_then(|at| service.candidates.get(at));
        let server = candidate.and_then(|c| Some((c.server, snapshot.server(c.server)?)));
        let Some((server_id, server @ RealServer { address: IpAddr::V4(address), .. })) = server else {
            return self.send_error(
                snapshot,
                now,
                flow,
                packet,
                IcmpError::PortUnreachable,
                Some(key.destination),
            );
        };
        let state = match key.protocol {
            UDP_PROTOCOL => State::Udp,
            _ => Event::of(flow.tcp_flags)
                .map_or(State::None, |event| next_state(Path::Input, event, State::None)),
        };
        let new = NewConnection {
            key,
            server_address: *address,
            server_port: server.port,
            service: service.id,
            server: server_id,
            method: server.method,
            state,
            timeout: snapshot.timeouts.of(state),
        };
        if self.table.insert(&new, now).is_err() {
            return Verdict::drop(Reason::TableFull);
        }
        let counters = self.counters.server(server_id);
        counters.connections.add(1);
        if state.is_active() {
            counters.active.add(1);
        } else {
            counters.inactive.add(1);
        }
        snapshot.load_changed(server_id, &self.fleet, self.lcore);
        counters.packets_in.add(1);
        counters.bytes_in.add(u64::from(flow.frame.total_len));
        self.send_request(snapshot, now, flow, packet, server, server.method)
    }

    /// Ends a connection before the wheel does.
    fn end(&mut self, snapshot: &Snapshot, id: ConnId) {
        let connection = self.table.get(id);
        note_end(&self.counters, connection);
        snapshot.load_changed(connection.server, &self.fleet, self.lcore);
        self.table.remove(id);
    }
}

/// A TCP segment that asks for a new connection, be it on a known one.
#[inline]
fn opens(flow: &Flow) -> bool {
    flow.key.protocol == TCP_PROTOCOL && flow.tcp_flags & tcp::SYN != 0
}

/// Whether a packet of a known connection is scheduled anew. A SYN is where the connection is over
/// (`conn_reuse_mode` 1). A SYN or a datagram is where the real server was removed: IPVS drops it unless
/// `expire_nodest_conn`, but whoever may open a connection loses nothing by a real server that is there.
#[inline]
fn begins_anew(flow: &Flow, connection: &Connection<Ipv4Addr>, snapshot: &Snapshot) -> bool {
    let is_udp = flow.key.protocol == UDP_PROTOCOL;
    if !is_udp && !opens(flow) {
        return false;
    }
    let is_over = matches!(connection.state, State::TimeWait | State::Close);
    is_over || !snapshot.server(connection.server).is_some_and(|server| server.present)
}

/// Whether a packet of no connection may open one.
fn may_open(flow: &Flow) -> bool {
    let by_flags = flow.key.protocol == UDP_PROTOCOL || opens(flow) && flow.tcp_flags & tcp::RST == 0;
    by_flags && flow.key.source_port != FTP_DATA
}

/// Notes a packet in its connection: state, timeout, moment; and in its real server's load. True when
/// that changed.
#[inline]
fn touch(
    counters: &LcoreCounters,
    connection: &mut Connection<Ipv4Addr>,
    snapshot: &Snapshot,
    now: Tick,
    path: Path,
    tcp_flags: u8,
) -> bool {
    let before = connection.state;
    let mut load_changed = false;
    if connection.protocol == TCP_PROTOCOL
        && let Some(event) = Event::of(tcp_flags)
    {
        connection.state = next_state(path, event, before);
        if connection.state.is_active() != before.is_active() {
            let server = counters.server(connection.server);
            let (more, less) = if before.is_active() {
                (&server.inactive, &server.active)
            } else {
                (&server.active, &server.inactive)
            };
            more.add(1);
            less.sub(1);
            load_changed = true;
        }
    }
    connection.timeout = snapshot.timeouts.of(connection.state);
    connection.last_seen = now;
    load_changed
}
