//! SIP's messages by UDP: what they say is read where they belong to no connection yet, and where each is scheduled by
//! itself. A connection that is there goes before its Call-ID, as with IPVS.

use std::net::{IpAddr, SocketAddr};

use control::model::{ForwardingMethod, PersistenceEngine, ServiceKey};

use super::flow::Flow;
use super::open::{Choice, server_of, service_of, template_key};
use super::{Pipeline, Verdict};
use crate::connection::{Address, ConnId, Direction, FlowKey, Guess, State, UDP_PROTOCOL};
use crate::packet::PacketBuf;
use crate::persistence::{Full, Name, Template, TemplateId};
use crate::service::{RealServer, ServerId, Snapshot, VirtualService};
use crate::sip;
use crate::stats::Reason;
use crate::time::{Tick, milliseconds};
use crate::wire::{Transport, ethernet, udp};

/// What a datagram says, or the first fragment of one; nothing of anything else.
pub(super) fn message_of<'a, A: Address, P: PacketBuf>(flow: &Flow<A>, packet: &'a P) -> &'a [u8] {
    let has_text = matches!(flow.frame.transport, Transport::Udp | Transport::FirstFragment);
    if flow.frame.protocol != UDP_PROTOCOL || !has_text {
        return &[];
    }
    let begin = flow.frame.transport_offset() + udp::HEADER_LEN;
    packet.bytes().get(begin..flow.frame.end()).unwrap_or_default()
}

/// Whether packets of a connection to this real server go by what each says. There is a connection nevertheless, for the
/// fragments of a datagram to find their real server.
pub(super) fn is_by_datagram<A: Address>(snapshot: &Snapshot, server: &RealServer, key: &FlowKey<A>) -> bool {
    key.protocol == UDP_PROTOCOL && snapshot.service(server.service).is_some_and(schedules_messages)
}

fn schedules_messages(service: &VirtualService) -> bool {
    service.model.one_packet && is_by_call(service)
}

fn is_by_call(service: &VirtualService) -> bool {
    service.model.persistence.is_some_and(|persistence| persistence.engine == PersistenceEngine::Sip)
}

impl Pipeline {
    /// A datagram, or a fragment of one, whose connection is only for fragments. It is scheduled by itself, unless it is
    /// a later fragment.
    pub(super) fn read_datagram<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        id: ConnId,
        direction: Direction,
    ) -> Verdict {
        let is_first = flow.frame.transport == Transport::FirstFragment;
        if is_first || flow.frame.transport == Transport::Udp {
            match direction {
                Direction::Request => {
                    let service = service_of(snapshot, &flow.key(), packet);
                    match (service.is_some_and(schedules_messages), is_first) {
                        // Other fragments may still come for the connection.
                        (true, false) => return self.open(snapshot, now, flow, packet),
                        (true, true) => return self.open_anew(snapshot, now, flow, packet, id),
                        // It was, and is no more.
                        (false, _) => {}
                    }
                }
                Direction::Reply => {
                    if let Some(verdict) = self.message_of_server(snapshot, now, flow, packet) {
                        return verdict;
                    }
                }
            }
        }
        self.go_on_with(snapshot, now, flow, packet, id, direction)
    }

    /// What a NAT real server sends unasked is of a call by its Call-ID, and leaves as coming from the virtual service
    /// (Linux `ip_vs_new_conn_out` in `ip_vs_core.c`). `None` where that is not so.
    #[cold]
    pub(super) fn message_of_server<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
    ) -> Option<Verdict> {
        let key = flow.key();
        if key.protocol != UDP_PROTOCOL || flow.frame.transport == Transport::LaterFragment {
            return None;
        }
        let from = SocketAddr::new(key.source.into(), key.source_port);
        let service = snapshot.service(snapshot.lookup.sip_service_of(from.ip(), from.port())?)?;
        let ServiceKey::Address { address: virtual_end, .. } = service.model.key else { return None };
        let virtual_address = A::of(virtual_end.ip())?;
        let server = service.candidates.iter().find(|candidate| candidate.address == from)?.server;
        if snapshot.server(server)?.method != ForwardingMethod::Nat {
            return None;
        }
        let header = &packet.bytes()[ethernet::HEADER_LEN..flow.frame.transport_offset()];
        if !A::checksum_is_valid(header) {
            return Some(Verdict::drop(Reason::BadIpv4Checksum));
        }
        let call_id = sip::call_id(message_of(flow, packet))?;
        let client = key.destination.into();
        let Ok(template) = self.tie(snapshot, now, service, client, call_id, (server, from)) else {
            return Some(Verdict::drop(Reason::TemplateTableFull));
        };
        if service.model.one_packet && flow.frame.transport == Transport::Udp {
            self.templates.assure(template);
            self.templates.release(template, now);
            let counters = self.counters.server(server);
            counters.connections.add(1);
            counters.packets_out.add(1);
            counters.bytes_out.add(u64::from(flow.frame.total_len));
            let hop = snapshot.hops.toward(client);
            let end = (virtual_address, virtual_end.port());
            return Some(self.send_reply(snapshot, now, flow, packet, &hop, end.0, end.1));
        }
        let request = FlowKey {
            source: key.destination,
            source_port: key.destination_port,
            destination: virtual_address,
            destination_port: virtual_end.port(),
            protocol: UDP_PROTOCOL,
        };
        // One that goes elsewhere gives way: the client answers whoever spoke last.
        let table = A::table(&self.tables);
        if let Some((before, _)) = table.find(table.hash(&request), &request, Guess::NONE) {
            self.end::<A>(snapshot, now, before);
        }
        let life = (State::Udp, snapshot.timeouts.of(State::Udp));
        let choice = Choice { server, template };
        Some(match self.create(snapshot, now, &request, choice, from.port(), life) {
            Ok(id) => self.reply(snapshot, now, flow, packet, id),
            Err(_) => Verdict::drop(Reason::TableFull),
        })
    }

    /// The template of a call with one connection more, which leads to this real server and no other.
    fn tie(
        &self,
        snapshot: &Snapshot,
        now: Tick,
        service: &VirtualService,
        client: IpAddr,
        call_id: &[u8],
        (server, address): (ServerId, SocketAddr),
    ) -> Result<TemplateId, Full> {
        let Some(persistence) = service.model.persistence else { return Ok(TemplateId::NONE) };
        let name = Name { key: template_key(&service.model.key, persistence.network(client)), call_id };
        let is_it = |template: &Template| server_of(snapshot, service, template).filter(|id| *id == server);
        if let Some((template, _)) = self.templates.join(&name, now, is_it) {
            return Ok(template);
        }
        let template = Template::new(name.key, (server, address), milliseconds(persistence.timeout), now);
        self.templates.create(template, call_id, now, is_it).map(|(template, _)| template)
    }
}
