//! What would become of a packet, tried out: the pipeline itself decides about it, with copies of all that its decisions
//! change. Connection, template, counters, scheduler and defences are copies, and the snapshot has but the services that
//! the packet may concern, so that whatever happens, nothing that lcores use is touched.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use control::model::Mark;

use super::impression::{AnyConnection, Impression};
use super::mark::mark_of;
use super::open::{name_of, server_of, service_of};
use super::{Arrival, MAX_BURST, Pipeline, Verdict};
use crate::connection::{Address, Capacity, Connection, Direction, FlowKey, Guess, Tables};
use crate::id::PortId;
use crate::nexthop::Unresolved;
use crate::packet::{BytesPacket, PacketBuf};
use crate::persistence::{Name, Template, TemplateCopy, Templates};
use crate::pipeline::Action;
use crate::scheduler::Scheduler;
use crate::service::{ServerId, ServiceId, Snapshot, VirtualService};
use crate::stats::Fleet;
use crate::time::Tick;
use crate::wire;
use crate::wire::{Parsed, udp};

/// Where a packet comes from that is tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was received by a port.
    Port(PortId),
    /// The kernel sends it on the mirror of a port: of a real server that is the director itself.
    Kernel,
}

/// What would become of a packet.
#[derive(Debug)]
pub struct Rehearsed {
    /// The verdict; `None` where the kernel sends the packet and it leaves as it is.
    pub verdict: Option<Verdict>,
    /// The packet as it would leave.
    pub packet: BytesPacket,
    /// The next hop that it would wait for.
    pub awaited: Option<Unresolved>,
    /// The mark that the operator's rules give it. No packet of a known connection is asked for it.
    pub mark: Option<Mark>,
    /// The virtual service of that mark, else of where it goes. No packet of a known connection is asked for it.
    pub service: Option<ServiceId>,
    /// The template of its client there, be it over or not, and whether it may go on leading where it leads.
    pub template: Option<(Template, bool)>,
    /// The real server that it would be counted for.
    pub server: Option<ServerId>,
    /// Whether it would open a connection there, or be scheduled by itself.
    pub opens: bool,
    /// The connection that it would belong to afterwards, and which way it goes in that.
    pub connection: Option<(AnyConnection, Direction)>,
}

/// What is shared by all lcores, to be copied.
#[derive(Clone, Copy, Debug)]
pub struct Shared<'a> {
    /// What lcores decide by: the same as that of the impression.
    pub snapshot: &'a Snapshot,
    /// Their counters.
    pub fleet: &'a Fleet,
    /// Persistence templates.
    pub templates: &'a Templates,
}

/// Tries out what would become of a packet on the lcore that `impression` is of.
///
/// # Errors
/// What the kernel says when there is not enough memory.
pub fn rehearse(
    impression: &Impression,
    shared: Shared<'_>,
    origin: Origin,
    packet: BytesPacket,
) -> std::io::Result<Rehearsed> {
    match impression.ends.source.ip() {
        IpAddr::V4(_) => rehearse_family::<Ipv4Addr>(impression, shared, origin, packet, AnyConnection::V4),
        IpAddr::V6(_) => rehearse_family::<Ipv6Addr>(impression, shared, origin, packet, AnyConnection::V6),
    }
}

fn rehearse_family<A: Address>(
    impression: &Impression,
    shared: Shared<'_>,
    origin: Origin,
    mut packet: BytesPacket,
    any: fn(Connection<A>) -> AnyConnection,
) -> std::io::Result<Rehearsed> {
    let Shared { snapshot, fleet, templates } = shared;
    let now = impression.now;
    let Some(key) = impression.ends.key::<A>() else {
        return Err(std::io::Error::other("the addresses are not of the same version of IP"));
    };
    if let Origin::Port(port) = origin {
        packet.set_ingress(port.0);
    }
    let message = message_of(packet.bytes());
    let known = impression.connection.as_ref().and_then(|(connection, _)| of_family::<A>(connection));

    let service = service_of(snapshot, &key, &packet);
    let name = template_name(snapshot, &key, service.map(|service| service.id), &message);
    let copied = templates.copy(name.as_ref(), now);
    let template = copied.known.map(|(template, ..)| {
        let service = service.or_else(|| snapshot.service(sip_service(snapshot, &key)?));
        let may_lead = !template.is_over(now)
            && service.is_some_and(|service| server_of(snapshot, service, &template).is_some());
        (template, may_lead)
    });

    let concerned = concerned(impression, shared, &key, service, known.as_ref());
    let room = snapshot.servers.places();
    let fleet = fleet.copy(room, concerned.iter().copied().filter(|server| (server.0 as usize) < room));
    let others = concerned.iter().filter_map(|server| snapshot.server(*server)).map(|server| server.service);
    let copy = snapshot.copy(schedulers(impression, snapshot, others, fleet.lcores().len()));
    let mut pipeline = copied_pipeline(impression, templates, copied, known, fleet.clone())?;

    let mark = mark_of(&snapshot.lookup, &key, &packet);
    let mut packets = [packet];
    let verdict = match origin {
        Origin::Port(port) => {
            let mut verdicts = [Verdict::UNDECIDED; MAX_BURST];
            pipeline.process(&copy, now, Arrival::Port(port), &mut packets, &mut verdicts);
            Some(verdicts[0])
        }
        Origin::Kernel => pipeline.answer(&copy, now, &mut packets[0]),
    };
    let [packet] = packets;
    let awaited = verdict.and_then(|verdict| match verdict.action {
        Action::Hold(wait) => Some(pipeline.awaited(wait)),
        _ => None,
    });
    let connection =
        pipeline.connection_of(&key, now).map(|(connection, direction)| (any(connection), direction));
    let server = counted(&fleet, &concerned);
    let opens = server.is_some_and(|server| fleet.totals(server).connections > 0);
    let service = service.map(|service| service.id);
    Ok(Rehearsed { verdict, packet, awaited, mark, service, template, server, opens, connection })
}

/// The real servers that may be chosen, or may lose a connection.
fn concerned<A: Address>(
    impression: &Impression,
    shared: Shared<'_>,
    key: &FlowKey<A>,
    service: Option<&VirtualService>,
    known: Option<&Connection<A>>,
) -> Vec<ServerId> {
    let of = |service: &VirtualService| service.candidates.iter().map(|candidate| candidate.server).collect();
    let sip = sip_service(shared.snapshot, key).and_then(|id| shared.snapshot.service(id));
    let mut all: Vec<ServerId> = service.map(of).unwrap_or_default();
    all.extend(sip.map(of).unwrap_or_default());
    all.extend(known.map(|connection| connection.server).filter(|server| *server != ServerId::NONE));
    all.extend(shared.templates.expectations().servers(impression.ends.source, impression.ends.destination));
    all
}

/// Schedulers of their own for the services that the packet may concern.
fn schedulers(
    impression: &Impression,
    snapshot: &Snapshot,
    others: impl Iterator<Item = ServiceId>,
    lcores: usize,
) -> Vec<(ServiceId, Scheduler)> {
    let mut schedulers: Vec<(ServiceId, Scheduler)> = Vec::new();
    if let Some((id, scheduler)) = &impression.scheduler {
        // The impression may be tried out more than once.
        let copy = scheduler.copy(impression.lcore);
        copy.take_after(scheduler, impression.request(), impression.lcore);
        schedulers.push((*id, copy));
    }
    for id in others {
        let is_new = !schedulers.iter().any(|(known, _)| *known == id);
        if let Some(service) = snapshot.service(id).filter(|_| is_new) {
            // Nobody is chosen there: connections may end, of which a scheduler is told.
            let (model, candidates) = (&service.model, &service.candidates);
            schedulers.push((id, Scheduler::build(model.scheduler, model.flags, candidates, None, lcores)));
        }
    }
    schedulers
}

/// A pipeline with what the lcore knows and with room for what it has room for.
fn copied_pipeline<A: Address>(
    impression: &Impression,
    templates: &Templates,
    copied: TemplateCopy,
    known: Option<Connection<A>>,
    fleet: Fleet,
) -> std::io::Result<Pipeline> {
    let mut tables = Tables::new(Capacity { ipv4: 2, ipv6: 2 }, false, impression.now)?;
    let table = A::table_mut(&mut tables);
    if let Some(mut connection) = known {
        connection.template = copied.translate(connection.template);
        table.adopt(&connection, impression.now);
    }
    if !impression.has_room {
        table.close();
    }
    let control = known.map(|connection| (connection.client.into(), connection.server));
    let ends = impression.ends;
    let expectations = templates.expectations().copy(ends.source, ends.destination, control);
    let templates = Arc::new(copied.templates.expecting(expectations));
    let mut pipeline = Pipeline::new(impression.lcore, fleet, tables, templates);
    (pipeline.defence, pipeline.icmp_limit) = (impression.defence, impression.icmp_limit);
    Ok(pipeline)
}

impl Pipeline {
    fn connection_of<A: Address>(&self, key: &FlowKey<A>, now: Tick) -> Option<(Connection<A>, Direction)> {
        let table = A::table(&self.tables);
        let (id, direction) = table.find(table.hash(key), key, Guess::NONE)?;
        Some((*table.get(id), direction)).filter(|(connection, _)| !connection.is_expired(now))
    }
}

fn of_family<A: Address>(connection: &AnyConnection) -> Option<Connection<A>> {
    // Only one of the two can be it.
    let connection: &dyn std::any::Any = match connection {
        AnyConnection::V4(connection) => connection,
        AnyConnection::V6(connection) => connection,
    };
    connection.downcast_ref().copied()
}

/// The first of these that anything was counted for.
fn counted(fleet: &Fleet, servers: &[ServerId]) -> Option<ServerId> {
    servers.iter().copied().find(|server| {
        let totals = fleet.totals(*server);
        totals.connections + totals.packets_in + totals.packets_out > 0
    })
}

/// What a datagram says; nothing of anything else.
fn message_of(frame: &[u8]) -> Vec<u8> {
    let of = |transport: usize, end: usize| frame.get(transport + udp::HEADER_LEN..end).unwrap_or_default();
    let mut v4 = wire::Frame::<Ipv4Addr>::NONE;
    let text = match wire::parse(frame, &mut v4) {
        Ok(Parsed::Ipv4) if v4.transport == wire::Transport::Udp => of(v4.transport_offset(), v4.end()),
        Ok(Parsed::Ipv6) => {
            let mut v6 = wire::Frame::<Ipv6Addr>::NONE;
            match wire::parse_ipv6(frame, &mut v6) {
                Ok(()) if v6.transport == wire::Transport::Udp => of(v6.transport_offset(), v6.end()),
                _ => &[],
            }
        }
        _ => &[],
    };
    text.to_vec()
}

/// The virtual service by whose Call-IDs a real server's message is told apart.
fn sip_service<A: Address>(snapshot: &Snapshot, key: &FlowKey<A>) -> Option<ServiceId> {
    snapshot.lookup.sip_service_of(key.source.into(), key.source_port)
}

/// The name of the template that the packet may ask for.
fn template_name<'a, A: Address>(
    snapshot: &Snapshot,
    key: &FlowKey<A>,
    service: Option<ServiceId>,
    message: &'a [u8],
) -> Option<Name<'a>> {
    let (id, client): (ServiceId, IpAddr) = match service {
        Some(id) => (id, key.source.into()),
        None => (sip_service(snapshot, key)?, key.destination.into()),
    };
    let service = snapshot.service(id)?;
    name_of(service, service.model.persistence?, client, message)
}
