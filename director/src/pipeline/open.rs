//! Packets that belong to no connection of this lcore: some of them open one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use control::model::{Family, ForwardingMethod, Persistence, PersistenceEngine, ServiceKey};

use super::connect::{is_quiescent, opens};
use super::flow::Flow;
use super::ftp::is_control;
use super::mark::mark_of;
use super::sip::{is_by_datagram, message_of};
use super::{Action, Pipeline, Verdict, owner};
use crate::connection::{
    Address, ConnId, Event, FlowKey, Full, NewConnection, Path, SCTP_PROTOCOL, State, UDP_PROTOCOL,
    next_association_state, next_state, protocol_number,
};
use crate::packet::PacketBuf;
use crate::persistence::{Name, Template, TemplateId, TemplateKey};
use crate::scheduler::Request;
use crate::service::{RealServer, ServerId, Snapshot, VirtualService};
use crate::sip;
use crate::stats::Reason;
use crate::time::{Tick, milliseconds};
use crate::wire::icmp::IcmpError;
use crate::wire::{Transport, ethernet, sctp};

/// FTP's data port, from which no connection is scheduled (Linux `ip_vs_schedule`).
const FTP_DATA: u16 = 20;
/// FTP's port for commands.
const FTP: u16 = 21;

/// The real server of a new connection, and the template that it was chosen by.
pub(super) struct Choice {
    pub(super) server: ServerId,
    pub(super) template: TemplateId,
}

/// Why there is no choice.
pub(super) enum NoChoice {
    NoServer,
    NoRoomForTemplate,
    WithoutCallId,
}

impl Pipeline {
    /// A packet that belongs to no connection of this lcore: it is another lcore's, it opens a connection, or it is
    /// not ours.
    #[inline(never)]
    pub(super) fn open<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
    ) -> Verdict {
        let key = flow.key();
        if let Some(verdict) = self.hand_over(snapshot, flow, &key) {
            return verdict;
        }
        if flow.frame.transport == Transport::Ipsec {
            // It follows a key exchange, or is the kernel's (Linux `ip_vs_proto_ah_esp.c`).
            return Verdict::punt(Reason::OtherProtocol);
        }
        if opens(flow)
            && self.templates.expectations().any()
            && let Some(verdict) = self.expected(snapshot, now, flow, packet)
        {
            return verdict;
        }
        let Some(service) = service_of(snapshot, &key, packet) else {
            return self.not_ours(snapshot, now, flow, packet);
        };
        if flow.frame.transport == Transport::LaterFragment {
            return Verdict::drop(Reason::FragmentNoConnection);
        }
        if !may_open(snapshot, flow) {
            return Verdict::punt(Reason::NoConnection);
        }
        // Later packets of a connection only carry a wrong checksum on; none of them creates state.
        let header = &packet.bytes()[ethernet::HEADER_LEN..flow.frame.transport_offset()];
        if !A::checksum_is_valid(header) {
            return Verdict::drop(Reason::BadIpv4Checksum);
        }
        if self.defence.drops_packet() {
            return Verdict::drop(Reason::DropPacket);
        }
        let message = message_of(flow, packet);
        let choice = match self.choose(snapshot, now, service, &key, message) {
            Ok(choice) => choice,
            Err(NoChoice::WithoutCallId) => return Verdict::drop(Reason::NoCallId),
            Err(NoChoice::NoRoomForTemplate) => return Verdict::drop(Reason::TemplateTableFull),
            Err(NoChoice::NoServer) => {
                return self.nobody_serves(snapshot, now, flow, packet, service);
            }
        };
        let server_id = choice.server;
        let Some(server) = snapshot.server(server_id) else { return Verdict::drop(Reason::ServerRemoved) };
        let is_part = flow.frame.transport == Transport::FirstFragment;
        if is_part && flow.frame.protocol == SCTP_PROTOCOL && server.method == ForwardingMethod::Nat {
            self.templates.release(choice.template, now);
            return Verdict::drop(Reason::FragmentOfSctp);
        }
        let is_all = flow.frame.transport == Transport::Udp;
        if service.model.one_packet && is_all {
            // No connection: the next packet is scheduled anew. The rest of a fragmented one must find its server.
            self.templates.release(choice.template, now);
            self.counters.server(server_id).connections.add(1);
        } else {
            let state = self.first_state(flow, server.method);
            let life = (state, snapshot.timeouts.of(state));
            let port = port_of(snapshot, server, &key);
            if self.create(snapshot, now, &key, choice, port, life).is_err() {
                return Verdict::drop(Reason::TableFull);
            }
        }
        let counters = self.counters.server(server_id);
        counters.packets_in.add(1);
        counters.bytes_in.add(u64::from(flow.frame.total_len));
        let port = port_of(snapshot, server, &key);
        self.send_request(snapshot, now, flow, packet, server, |_| port, server.method)
    }

    /// Adds a connection, with its real server's port, its state, and its timeout in milliseconds.
    pub(super) fn create<A: Address>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        key: &FlowKey<A>,
        choice: Choice,
        server_port: u16,
        (state, timeout): (State, u32),
    ) -> Result<ConnId, Full> {
        let Choice { server: server_id, template } = choice;
        let server = snapshot.server(server_id).ok_or(Full)?;
        let new = NewConnection {
            key: *key,
            server_address: A::of(server.address).unwrap_or(A::UNSPECIFIED),
            server_port,
            template,
            server: server_id,
            method: server.method,
            read_along: is_control(snapshot, key, server.method) || is_by_datagram(snapshot, server, key),
            state,
            timeout,
        };
        let id = A::table_mut(&mut self.tables)
            .insert(&new, now)
            .inspect_err(|Full| self.templates.release(template, now))?;
        let counters = self.counters.server(server_id);
        counters.connections.add(1);
        if state.is_active() {
            counters.active.add(1);
        } else {
            counters.inactive.add(1);
        }
        snapshot.load_changed(server_id, &self.fleet, self.lcore);
        Ok(id)
    }

    /// The verdict about a packet that another lcore owns.
    #[inline(always)]
    pub(super) fn hand_over<A: Address>(
        &self,
        snapshot: &Snapshot,
        flow: &Flow<A>,
        key: &FlowKey<A>,
    ) -> Option<Verdict> {
        if self.lcores == 1 || !flow.from_port {
            return None;
        }
        let owner =
            owner::owner_of(key, &snapshot.lookup, self.lcores).filter(|owner| *owner != self.lcore)?;
        Some(Verdict { reason: Reason::OtherLcore, action: Action::HandOver(owner) })
    }

    /// For no virtual service. A NAT real server that answers where nobody asked can be told so.
    #[cold]
    fn not_ours<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
    ) -> Verdict {
        let key = flow.key();
        if let Some(verdict) = self.message_of_server(snapshot, now, flow, packet) {
            return verdict;
        }
        if snapshot.settings.nat_icmp_send
            && !flow.frame.is_reset()
            && snapshot.lookup.is_nat_server_at(key.source.into(), key.source_port, key.protocol)
        {
            return self.send_error(snapshot, now, flow, packet, IcmpError::PortUnreachable, None);
        }
        Verdict::punt(Reason::NoService)
    }

    /// For a virtual service without an available real server (Linux `ip_vs_leave`).
    #[cold]
    fn nobody_serves<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        service: &VirtualService,
    ) -> Verdict {
        let to = flow.frame.destination_port();
        if service.model.key.port() == FTP && to != FTP {
            // It has come to FTP's service for want of another one, and need not be FTP's data.
            return Verdict::punt(Reason::NoService);
        }
        if Pipeline::may_pass_by(snapshot, service, flow) {
            return self.open_bypass(snapshot, now, flow, packet, service);
        }
        let from = Some(flow.frame.destination.into());
        self.send_error(snapshot, now, flow, packet, IcmpError::PortUnreachable, from)
    }

    /// The real server of a new connection: the template's, if the service is persistent and the client known to it,
    /// else the scheduler's (Linux `ip_vs_sched_persist`, `ip_vs_schedule`). `message` is what the packet says, of which
    /// there is something in UDP alone.
    pub(super) fn choose<A: Address>(
        &self,
        snapshot: &Snapshot,
        now: Tick,
        service: &VirtualService,
        key: &FlowKey<A>,
        message: &[u8],
    ) -> Result<Choice, NoChoice> {
        let schedule = || {
            let request = Request {
                source: key.source.into(),
                source_port: key.source_port,
                destination: key.destination.into(),
            };
            let (scheduler, candidates, settings) =
                (&service.scheduler, &service.candidates, &snapshot.settings);
            let chosen = scheduler.choose(candidates, request, &self.fleet, self.lcore, now, settings);
            chosen.and_then(|at| service.candidates.get(at)).map(|c| c.server).ok_or(NoChoice::NoServer)
        };
        let Some(persistence) = service.model.persistence else {
            return Ok(Choice { server: schedule()?, template: TemplateId::NONE });
        };
        let name =
            name_of(service, persistence, key.source.into(), message).ok_or(NoChoice::WithoutCallId)?;
        let call_id = name.call_id;
        let server_of = |template: &Template| server_of(snapshot, service, template);
        if let Some((template, server)) = self.templates.join(&name, now, server_of) {
            return Ok(Choice { server, template });
        }
        let server = schedule()?;
        let Some(RealServer { address, port, .. }) = snapshot.server(server) else {
            return Err(NoChoice::NoServer);
        };
        let tied = (server, SocketAddr::new(*address, *port));
        let template = Template::new(name.key, tied, milliseconds(persistence.timeout), now);
        let joined = self.templates.create(template, call_id, now, server_of);
        joined.map(|(template, server)| Choice { server, template }).map_err(|_| NoChoice::NoRoomForTemplate)
    }

    fn first_state<A: Address>(&self, flow: &Flow<A>, method: ForwardingMethod) -> State {
        if flow.frame.protocol == UDP_PROTOCOL {
            return State::Udp;
        }
        let path = if method == ForwardingMethod::Nat { Path::Input } else { Path::InputOnly };
        if flow.frame.protocol == SCTP_PROTOCOL {
            return next_association_state(path, flow.frame.tcp_flags, State::None);
        }
        let event = Event::of(flow.frame.tcp_flags);
        event.map_or(State::None, |event| next_state(self.defence.strictness(), path, event, State::None))
    }
}

/// The virtual service of a packet: that of its mark, else that of where it goes.
pub(super) fn service_of<'a, A: Address, P: PacketBuf>(
    snapshot: &'a Snapshot,
    key: &FlowKey<A>,
    packet: &P,
) -> Option<&'a VirtualService> {
    let destination = key.destination.into();
    let mark = mark_of(&snapshot.lookup, key, packet);
    let id = match mark.and_then(|mark| snapshot.lookup.marked(mark, destination)) {
        Some(id) => id,
        None => snapshot.lookup.service(destination, key.destination_port, key.protocol)?,
    };
    snapshot.service(id)
}

/// What the template of a client is found by; `None` where that goes by a Call-ID and the message has none.
pub(super) fn name_of<'a>(
    service: &VirtualService,
    persistence: Persistence,
    client: IpAddr,
    message: &'a [u8],
) -> Option<Name<'a>> {
    let call_id = match persistence.engine {
        PersistenceEngine::None => &[],
        PersistenceEngine::Sip => sip::call_id(message)?,
    };
    Some(Name { key: template_key(&service.model.key, persistence.network(client)), call_id })
}

/// What a template of a service's clients goes by. A mark stands in the place of an address, which has no protocol 0
/// (Linux `ip_vs_sched_persist`).
pub(super) fn template_key(service: &ServiceKey, client: IpAddr) -> TemplateKey {
    let (virtual_address, virtual_port, protocol) = match *service {
        ServiceKey::Address { protocol, address } => {
            // Commands and data of FTP belong together.
            let port = if address.port() == FTP { 0 } else { address.port() };
            (address.ip(), port, protocol_number(protocol))
        }
        ServiceKey::Mark { mark, family: Family::Ipv4 } => (Ipv4Addr::from_bits(mark.0.get()).into(), 0, 0),
        ServiceKey::Mark { mark, family: Family::Ipv6 } => {
            (Ipv6Addr::from_bits(mark.0.get().into()).into(), 0, 0)
        }
    };
    TemplateKey { client, virtual_address, virtual_port, protocol }
}

/// The real server's port of a new connection: what the client asked for, unless that is the service's very port, or
/// the service one by mark, and the real server has another one. A service by mark that is persistent has no port of
/// its own to compare with, and leaves packets theirs (Linux `ip_vs_schedule`, `ip_vs_sched_persist`).
pub(super) fn port_of<A: Address>(snapshot: &Snapshot, server: &RealServer, key: &FlowKey<A>) -> u16 {
    let is_asked_for = snapshot.service(server.service).is_some_and(|service| match service.model.key {
        ServiceKey::Address { address, .. } => address.port() == key.destination_port,
        ServiceKey::Mark { .. } => service.model.persistence.is_none(),
    });
    if server.port != 0 && is_asked_for { server.port } else { key.destination_port }
}

/// Whether a packet of no connection may open one.
fn may_open<A: Address>(snapshot: &Snapshot, flow: &Flow<A>) -> bool {
    let by_flags = match flow.frame.protocol {
        UDP_PROTOCOL => true,
        // Linux `sctp_conn_schedule` in `ip_vs_proto_sctp.c`.
        SCTP_PROTOCOL => {
            (flow.frame.has_chunk(sctp::INIT) || snapshot.settings.sloppy_sctp) && !flow.frame.is_reset()
        }
        _ => (opens(flow) || snapshot.settings.sloppy_tcp) && !flow.frame.is_reset(),
    };
    by_flags && flow.frame.source_port() != FTP_DATA
}

/// The real server that a template leads to, if it may go on leading there (Linux `ip_vs_check_template`). One that was
/// removed and is back counts as the same.
pub(super) fn server_of(
    snapshot: &Snapshot,
    service: &VirtualService,
    template: &Template,
) -> Option<ServerId> {
    let is_the_same = |server: &RealServer| {
        let address = SocketAddr::new(server.address, server.port);
        server.present && server.service == service.id && address == template.address
    };
    let server = match snapshot.server(template.server) {
        Some(server) if is_the_same(server) => template.server,
        _ => service.candidates.iter().find(|candidate| candidate.address == template.address)?.server,
    };
    let expires = snapshot.settings.expire_quiescent_template && is_quiescent(snapshot, server);
    (!expires).then_some(server)
}
