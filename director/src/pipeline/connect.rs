//! From a packet to the connection that it belongs to.

use super::defence::Defence;
use super::flow::Flow;
use super::ftp::lives_on;
use super::{Pipeline, Verdict, note_end};
use crate::connection::{
    Address, ConnId, Connection, Direction, Event, Path, State, TCP_PROTOCOL, Tables, UDP_PROTOCOL,
    next_state,
};
use crate::packet::PacketBuf;
use crate::service::{RealServer, ServerId, Snapshot};
use crate::stats::Reason;
use crate::time::Tick;
use crate::wire::tcp;

impl Pipeline {
    /// Decides about a TCP or UDP packet. One whose connection is in the table is this lcore's; whose another one
    /// is gets looked at only when it is not.
    #[inline(always)]
    pub(super) fn connect<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
    ) -> Verdict {
        let table = A::table_mut(&mut self.tables);
        let Some((id, direction)) = table.find(flow.hash, &flow.key(), flow.guess) else {
            return self.open(snapshot, now, flow, packet);
        };
        let connection = table.get_mut(id);
        if connection.is_expired(now) {
            return self.over(snapshot, now, flow, packet, id, direction);
        }
        if connection.is_read_along() {
            return self.read_along(snapshot, now, flow, packet, id, direction);
        }
        self.go_on_with(snapshot, now, flow, packet, id, direction)
    }

    /// As [`Pipeline::connect`], of a living connection.
    #[inline(always)]
    pub(super) fn go_on_with<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        id: ConnId,
        direction: Direction,
    ) -> Verdict {
        if direction == Direction::Reply {
            return self.reply(snapshot, now, flow, packet, id);
        }
        if opens(flow) && self.asks_again(snapshot, flow, id) {
            return self.open_anew(snapshot, now, flow, packet, id);
        }
        let connection = A::table(&self.tables).get(id);
        match snapshot.server(connection.server) {
            Some(server) if server.present => self.request(snapshot, now, flow, packet, id, server),
            _ => self.departed(snapshot, now, flow, packet, id),
        }
    }

    /// As [`Pipeline::go_on_with`], of a connection whose text says something to the director as well.
    #[cold]
    #[inline(never)]
    fn read_along<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        id: ConnId,
        direction: Direction,
    ) -> Verdict {
        if flow.frame.protocol == UDP_PROTOCOL {
            return self.read_datagram(snapshot, now, flow, packet, id, direction);
        }
        let held = match direction {
            Direction::Request => {
                self.read_ftp_client(now, flow, packet, id);
                None
            }
            Direction::Reply => self.read_ftp_server(now, flow, packet, id),
        };
        held.unwrap_or_else(|| self.go_on_with(snapshot, now, flow, packet, id, direction))
    }

    /// A packet from a client, of a known connection.
    #[inline(always)]
    pub(super) fn request<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        id: ConnId,
        server: &RealServer,
    ) -> Verdict {
        let connection = A::table_mut(&mut self.tables).get_mut(id);
        connection.note_input(1);
        let counters = self.counters.server(connection.server);
        counters.packets_in.add(1);
        counters.bytes_in.add(u64::from(flow.frame.total_len));
        let (method, before) = (connection.method, connection.state);
        let path = |c: &Connection<A>| if c.is_input_only() { Path::InputOnly } else { Path::Input };
        touch(connection, snapshot, now, &self.defence, path, flow.frame.tcp_flags);
        if connection.state != before {
            self.state_changed::<A>(snapshot, id, before);
        }
        let port = |tables: &Tables| A::table(tables).get(id).server_port;
        self.send_request(snapshot, now, flow, packet, server, port, method)
    }

    /// A packet from a NAT real server, of a known connection.
    #[inline(always)]
    pub(super) fn reply<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        id: ConnId,
    ) -> Verdict {
        let connection = A::table_mut(&mut self.tables).get_mut(id);
        let is_first = connection.note_output();
        let counters = self.counters.server(connection.server);
        counters.packets_out.add(1);
        counters.bytes_out.add(u64::from(flow.frame.total_len));
        let hop = snapshot.hops.toward_cached(flow.frame.destination.into(), &mut connection.reply_egress);
        let (address, port) = (connection.virtual_address, connection.virtual_port);
        let before = connection.state;
        touch(connection, snapshot, now, &self.defence, |_| Path::Output, flow.frame.tcp_flags);
        if connection.state != before || is_first {
            self.replied::<A>(snapshot, id, before, is_first);
        }
        self.send_reply(snapshot, now, flow, packet, &hop, address, port)
    }

    /// A SYN of the client of a known connection, which may be a sign that its real server does not answer. True if it
    /// means a new connection.
    #[cold]
    #[inline(never)]
    fn asks_again<A: Address>(&mut self, snapshot: &Snapshot, flow: &Flow<A>, id: ConnId) -> bool {
        let connection = A::table_mut(&mut self.tables).get_mut(id);
        // Whoever sends a SYN with an ACK answers one, and does not wait for an answer.
        if flow.frame.tcp_flags & tcp::ACK == 0 && connection.note_asked_again() {
            self.counters.server(connection.server).signs.count_unanswered();
        }
        is_reused(snapshot, connection)
    }

    /// By a packet of its real server a connection's state is another one, or that was the first packet.
    #[cold]
    #[inline(never)]
    fn replied<A: Address>(&mut self, snapshot: &Snapshot, id: ConnId, before: State, is_first: bool) {
        let connection = A::table(&self.tables).get(id);
        if is_first && connection.protocol == TCP_PROTOCOL {
            self.counters.server(connection.server).signs.count_answered();
        }
        self.state_changed::<A>(snapshot, id, before);
    }

    /// A connection's state is another one, or its real server has answered the first time.
    #[cold]
    #[inline(never)]
    pub(super) fn state_changed<A: Address>(&mut self, snapshot: &Snapshot, id: ConnId, before: State) {
        let connection = A::table(&self.tables).get(id);
        if connection.state.is_established() || connection.has_answered_udp() {
            self.templates.assure(connection.template);
        }
        if connection.state.is_active() == before.is_active() {
            return;
        }
        let counters = self.counters.server(connection.server);
        let (more, less) = if before.is_active() {
            (&counters.inactive, &counters.active)
        } else {
            (&counters.active, &counters.inactive)
        };
        more.add(1);
        less.sub(1);
        snapshot.load_changed(connection.server, &self.fleet, self.lcore);
    }

    /// A packet of a connection whose real server was removed, or that never had one. IPVS drops the former unless `expire_nodest_conn`, but
    /// whoever may open a connection loses nothing by a real server that is there.
    #[cold]
    #[inline(never)]
    fn departed<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        id: ConnId,
    ) -> Verdict {
        if A::table(&self.tables).get(id).server == ServerId::NONE {
            return self.bypass(snapshot, now, flow, packet, id);
        }
        if snapshot.settings.expire_nodest_conn || flow.frame.protocol == UDP_PROTOCOL || opens(flow) {
            return self.open_anew(snapshot, now, flow, packet, id);
        }
        Verdict::drop(Reason::ServerRemoved)
    }

    /// A packet of a connection whose time is over.
    #[cold]
    #[inline(never)]
    fn over<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        id: ConnId,
        direction: Direction,
    ) -> Verdict {
        let connection = A::table_mut(&mut self.tables).get_mut(id);
        if lives_on(self.templates.expectations(), connection, now) {
            return self.read_along(snapshot, now, flow, packet, id, direction);
        }
        self.open_anew(snapshot, now, flow, packet, id)
    }

    /// A packet whose connection is over: it may open another one.
    #[cold]
    #[inline(never)]
    pub(super) fn open_anew<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        id: ConnId,
    ) -> Verdict {
        self.end::<A>(snapshot, now, id);
        self.open(snapshot, now, flow, packet)
    }

    /// Ends a connection before the wheel does.
    pub(super) fn end<A: Address>(&mut self, snapshot: &Snapshot, now: Tick, id: ConnId) {
        let connection = A::table(&self.tables).get(id);
        note_end(&self.counters, &self.templates, connection, now);
        snapshot.load_changed(connection.server, &self.fleet, self.lcore);
        A::table_mut(&mut self.tables).remove(id);
    }
}

/// Notes a packet in its connection: state, timeout, moment.
#[inline(always)]
fn touch<A: Address>(
    connection: &mut Connection<A>,
    snapshot: &Snapshot,
    now: Tick,
    defence: &Defence,
    path: impl FnOnce(&Connection<A>) -> Path,
    tcp_flags: u8,
) {
    if connection.protocol == TCP_PROTOCOL
        && let Some(event) = Event::of(tcp_flags)
    {
        connection.state = next_state(defence.strictness(), path(connection), event, connection.state);
    }
    connection.timeout = snapshot.timeouts.of(connection.state);
    connection.last_seen = now;
}

/// A TCP segment that asks for a new connection, be it on a known one.
#[inline]
pub(super) fn opens<A: Address>(flow: &Flow<A>) -> bool {
    flow.frame.protocol == TCP_PROTOCOL && flow.frame.tcp_flags & tcp::SYN != 0
}

/// Whether a SYN on a connection means a new one (`is_new_conn_expected` and its caller in Linux `ip_vs_core.c`).
#[cold]
fn is_reused<A: Address>(snapshot: &Snapshot, connection: &Connection<A>) -> bool {
    is_to_be_replaced(snapshot, connection, |mode| match connection.state {
        State::TimeWait | State::Close => true,
        State::FinWait => mode & 2 != 0 && connection.is_input_only(),
        _ => false,
    })
}

/// Whether a packet that asks for a connection ends the one that there is, which may be over by `is_over` of
/// `conn_reuse_mode`.
#[cold]
pub(super) fn is_to_be_replaced<A: Address>(
    snapshot: &Snapshot,
    connection: &Connection<A>,
    is_over: impl FnOnce(u8) -> bool,
) -> bool {
    let mode = snapshot.settings.conn_reuse_mode;
    if mode == 0 {
        return false;
    }
    if snapshot.settings.expire_nodest_conn && is_quiescent(snapshot, connection.server) {
        return true;
    }
    !connection.template.is_some() && is_over(mode)
}

/// Whether a real server is there, but has weight 0. Looks at all of its service's.
pub(super) fn is_quiescent(snapshot: &Snapshot, server: ServerId) -> bool {
    let service = snapshot.server(server).filter(|entry| entry.present).map(|entry| entry.service);
    let candidates = service.and_then(|id| snapshot.service(id)).map(|service| &service.candidates[..]);
    candidates.unwrap_or_default().iter().any(|candidate| candidate.server == server && candidate.weight == 0)
}
