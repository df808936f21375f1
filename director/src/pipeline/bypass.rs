//! Connections without a real server: with `cache_bypass` a service by mark that has none available lets packets pass
//! to where they were going (Linux `ip_vs_leave`, `ip_vs_bypass_xmit`).

use std::net::IpAddr;

use control::model::ForwardingMethod;

use super::flow::Flow;
use super::{Pipeline, Verdict};
use crate::connection::{
    Address, ConnId, Event, NewConnection, Path, SCTP_PROTOCOL, State, TCP_PROTOCOL, UDP_PROTOCOL,
    next_association_state, next_state,
};
use crate::nexthop::Hop;
use crate::packet::PacketBuf;
use crate::persistence::TemplateId;
use crate::service::{RealServer, ServerId, ServiceId, Snapshot, TunnelId, VirtualService};
use crate::stats::Reason;
use crate::time::Tick;
use crate::wire::Transport;

impl Pipeline {
    /// Whether a packet for a service without an available real server may pass it by.
    pub(super) fn may_pass_by<A: Address>(
        snapshot: &Snapshot,
        service: &VirtualService,
        flow: &Flow<A>,
    ) -> bool {
        let to: IpAddr = flow.frame.destination.into();
        snapshot.settings.cache_bypass
            && service.model.key.is_mark()
            && is_unicast(to)
            && !snapshot.hops.is_local(to)
    }

    /// Opens a connection past a service.
    #[cold]
    pub(super) fn open_bypass<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        service: &VirtualService,
    ) -> Verdict {
        if service.model.one_packet && flow.frame.transport == Transport::Udp {
            return self.pass_by(snapshot, now, flow, packet);
        }
        let state = self.state_of_bypass(flow, State::None);
        let new = NewConnection {
            key: flow.key(),
            server_address: A::UNSPECIFIED,
            server_port: 0,
            template: TemplateId::NONE,
            server: ServerId::NONE,
            method: ForwardingMethod::Dr,
            read_along: false,
            state,
            timeout: snapshot.timeouts.of(state),
        };
        let table = A::table_mut(&mut self.tables);
        let Ok(id) = table.insert(&new, now) else { return Verdict::drop(Reason::TableFull) };
        // It goes by the states of connections of which both ends are seen, though they are not.
        table.get_mut(id).note_output();
        self.pass_by(snapshot, now, flow, packet)
    }

    /// A packet of a connection past a service.
    #[cold]
    #[inline(never)]
    pub(super) fn bypass<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        id: ConnId,
    ) -> Verdict {
        let before = A::table(&self.tables).get(id).state;
        let state = match flow.frame.transport {
            Transport::LaterFragment => before,
            _ => self.state_of_bypass(flow, before),
        };
        let connection = A::table_mut(&mut self.tables).get_mut(id);
        connection.note_input(1);
        connection.state = state;
        connection.timeout = snapshot.timeouts.of(state);
        connection.last_seen = now;
        self.pass_by(snapshot, now, flow, packet)
    }

    fn state_of_bypass<A: Address>(&self, flow: &Flow<A>, before: State) -> State {
        match flow.frame.protocol {
            UDP_PROTOCOL => State::Udp,
            SCTP_PROTOCOL => next_association_state(Path::Input, flow.frame.tcp_flags, before),
            TCP_PROTOCOL => Event::of(flow.frame.tcp_flags)
                .map_or(before, |event| next_state(self.defence.strictness(), Path::Input, event, before)),
            _ => before,
        }
    }

    /// Sends a packet on to where it is going, as a router does.
    fn pass_by<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
    ) -> Verdict {
        let there = there(snapshot, flow.frame.destination.into());
        let verdict = self.send_request(snapshot, now, flow, packet, &there, |_| 0, ForwardingMethod::Dr);
        match verdict.reason {
            Reason::RequestDr => Verdict { reason: Reason::RequestBypass, ..verdict },
            _ => verdict,
        }
    }
}

/// Where a packet is going, as if that were its real server.
pub(super) fn there(snapshot: &Snapshot, address: IpAddr) -> RealServer {
    let hop = match snapshot.hops.toward(address) {
        // By now the director's own, to which nothing passes by.
        Hop::Local => Hop::NoRoute,
        hop => hop,
    };
    RealServer {
        address,
        port: 0,
        method: ForwardingMethod::Dr,
        present: true,
        hop,
        tunnel: TunnelId::NONE,
        service: ServiceId::NONE,
        seat: None,
    }
}

fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            !(v4.is_multicast() || v4.is_broadcast() || v4.is_unspecified() || v4.is_loopback())
        }
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_unspecified() || v6.is_loopback()),
    }
}
