//! From a packet to its connection: the one it belongs to, or a new one.

use std::net::{IpAddr, Ipv4Addr};

use super::{Action, Flow, Pipeline, Verdict, note_end, owner};
use crate::connection::{
    ConnId, Connection, Direction, Event, NewConnection, Path, State, TCP_PROTOCOL, UDP_PROTOCOL, next_state,
};
use crate::packet::PacketBuf;
use crate::scheduler::Request;
use crate::service::{RealServer, Snapshot};
use crate::stats::{Reason, ServerCounters};
use crate::time::Tick;
use crate::wire::icmp::IcmpError;
use crate::wire::{ethernet, ipv4, tcp};

/// FTP's data port, from which no connection is scheduled (Linux `ip_vs_schedule`).
const FTP_DATA: u16 = 20;

impl Pipeline {
    /// Decides about a TCP or UDP packet. One whose connection is in the table is this lcore's; whose another one
    /// is gets looked at only when it is not.
    #[inline(always)]
    pub(super) fn connect<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
    ) -> Verdict {
        let Some((id, direction)) = self.table.find(flow.hash, &flow.key(), flow.guess) else {
            return self.open(snapshot, now, flow, packet);
        };
        let connection = self.table.get_mut(id);
        if connection.is_expired(now) {
            return self.open_anew(snapshot, now, flow, packet, id);
        }
        if direction == Direction::Reply {
            return self.reply(snapshot, now, flow, packet, id);
        }
        // A SYN on a connection that is over opens a new one (`conn_reuse_mode` 1).
        if opens(flow) && matches!(connection.state, State::TimeWait | State::Close) {
            return self.open_anew(snapshot, now, flow, packet, id);
        }
        match snapshot.server(connection.server) {
            Some(server) if server.present => self.request(snapshot, now, flow, packet, id, server),
            _ => self.departed(snapshot, now, flow, packet, id),
        }
    }

    /// A packet from a client, of a known connection.
    #[inline(always)]
    fn request<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
        id: ConnId,
        server: &RealServer,
    ) -> Verdict {
        let connection = self.table.get_mut(id);
        let counters = self.counters.server(connection.server);
        let path = |c: &Connection<_>| if c.is_input_only() { Path::InputOnly } else { Path::Input };
        if touch(counters, connection, snapshot, now, path, flow.frame.tcp_flags) {
            snapshot.load_changed(connection.server, &self.fleet, self.lcore);
        }
        counters.packets_in.add(1);
        counters.bytes_in.add(u64::from(flow.frame.total_len));
        let method = connection.method;
        self.send_request(snapshot, now, flow, packet, server, method)
    }

    /// A packet from a NAT real server, of a known connection.
    #[inline(always)]
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
        let counters = self.counters.server(connection.server);
        if touch(counters, connection, snapshot, now, |_| Path::Output, flow.frame.tcp_flags) {
            snapshot.load_changed(connection.server, &self.fleet, self.lcore);
        }
        counters.packets_out.add(1);
        counters.bytes_out.add(u64::from(flow.frame.total_len));
        let hop = snapshot.hops.toward_cached(flow.frame.destination.into(), &mut connection.reply_egress);
        let (address, port) = (connection.virtual_address, connection.virtual_port);
        self.send_reply(snapshot, now, flow, packet, &hop, address, port)
    }

    /// A packet of a connection whose real server was removed. IPVS drops it unless `expire_nodest_conn`, but
    /// whoever may open a connection loses nothing by a real server that is there.
    #[cold]
    #[inline(never)]
    fn departed<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
        id: ConnId,
    ) -> Verdict {
        if flow.frame.protocol == UDP_PROTOCOL || opens(flow) {
            return self.open_anew(snapshot, now, flow, packet, id);
        }
        Verdict::drop(Reason::ServerRemoved)
    }

    /// A packet whose connection is over: it may open another one.
    #[cold]
    #[inline(never)]
    fn open_anew<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow,
        packet: &mut P,
        id: ConnId,
    ) -> Verdict {
        self.end(snapshot, id);
        self.open(snapshot, now, flow, packet)
    }

    /// A packet that belongs to no connection of this lcore: it is another lcore's, it opens a connection, or it is
    /// not ours.
    #[inline(never)]
    fn open<P: PacketBuf>(&mut self, snapshot: &Snapshot, now: Tick, flow: &Flow, packet: &mut P) -> Verdict {
        let key = flow.key();
        if self.lcores > 1 && flow.from_port {
            let owner = owner::owner_of(&key, &snapshot.lookup, self.lcores);
            if let Some(owner) = owner.filter(|owner| *owner != self.lcore) {
                return Verdict { reason: Reason::OtherLcore, action: Action::HandOver(owner) };
            }
        }
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
        let request = Request {
            source: key.source.into(),
            source_port: key.source_port,
            destination: key.destination.into(),
        };
        let (scheduler, candidates, settings) = (&service.scheduler, &service.candidates, &snapshot.settings);
        let chosen = scheduler.choose(candidates, request, &self.fleet, self.lcore, now, settings);
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
            _ => Event::of(flow.frame.tcp_flags)
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
    flow.frame.protocol == TCP_PROTOCOL && flow.frame.tcp_flags & tcp::SYN != 0
}

/// Whether a packet of no connection may open one.
fn may_open(flow: &Flow) -> bool {
    let by_flags = flow.frame.protocol == UDP_PROTOCOL || opens(flow) && flow.frame.tcp_flags & tcp::RST == 0;
    by_flags && flow.frame.source_port() != FTP_DATA
}

/// Notes a packet in its connection: state, timeout, moment; and in its real server's load. True when that
/// changed.
#[inline(always)]
#[must_use = "a scheduler that goes by load is to be told"]
fn touch(
    counters: &ServerCounters,
    connection: &mut Connection<Ipv4Addr>,
    snapshot: &Snapshot,
    now: Tick,
    path: impl FnOnce(&Connection<Ipv4Addr>) -> Path,
    tcp_flags: u8,
) -> bool {
    let before = connection.state;
    if connection.protocol == TCP_PROTOCOL
        && let Some(event) = Event::of(tcp_flags)
    {
        connection.state = next_state(path(connection), event, before);
    }
    connection.timeout = snapshot.timeouts.of(connection.state);
    connection.last_seen = now;
    let changed = connection.state.is_active() != before.is_active();
    if changed {
        change_activity(counters, before.is_active());
    }
    changed
}

/// A connection became inactive, or active.
#[cold]
fn change_activity(counters: &ServerCounters, was_active: bool) {
    let (more, less) = if was_active {
        (&counters.inactive, &counters.active)
    } else {
        (&counters.active, &counters.inactive)
    };
    more.add(1);
    less.sub(1);
}
