//! Real servers that are the director itself, by NAT: the kernel's answers on their way from a mirror interface. By
//! the other methods answers come from the virtual address, and nothing is to be done about them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::flow::Flow;
use super::{Pipeline, Verdict, owner};
use crate::connection::{Address, Direction, FlowKey, Guess, SCTP_PROTOCOL};
use crate::id::LcoreId;
use crate::packet::PacketBuf;
use crate::service::Snapshot;
use crate::time::Tick;
use crate::wire::quote::Quote;
use crate::wire::{self, Family, Parsed, Transport, ethernet};

/// Packets that the kernel may be sending in fragments at a time, by one lcore.
const FRAGMENTED: usize = 8;

/// Ports of packets that the kernel sends in fragments. It sends those of one packet in a row, the first one first.
#[derive(Debug, Default)]
pub(super) struct KernelFragments {
    known: [Option<(FragmentName, u32)>; FRAGMENTED],
    next: usize,
}

/// Source, destination, protocol, identification.
type FragmentName = (IpAddr, IpAddr, u8, u32);

impl KernelFragments {
    fn note(&mut self, name: FragmentName, ports: u32) {
        self.known[self.next] = Some((name, ports));
        self.next = (self.next + 1) % FRAGMENTED;
    }

    fn ports(&self, name: FragmentName) -> Option<u32> {
        self.known.iter().flatten().rev().find(|(known, _)| *known == name).map(|(_, ports)| *ports)
    }
}

/// A frame of the kernel's that may be an answer.
#[allow(clippy::large_enum_variant)] // never kept
enum Read {
    Ipv4(Flow<Ipv4Addr>),
    Ipv6(Flow<Ipv6Addr>),
    /// An ICMP error; its flow is that of what it is about, turned round.
    ErrorOfIpv4(Flow<Ipv4Addr>, Quote),
    ErrorOfIpv6(Flow<Ipv6Addr>, Quote),
}

impl Pipeline {
    /// The lcore that owns the connection of which a frame of the kernel's may be an answer; `None` where it cannot be
    /// one. Frames must be shown to one lcore in the order in which the kernel has sent them.
    #[cold]
    pub fn answerer<P: PacketBuf>(&mut self, snapshot: &Snapshot, packet: &mut P) -> Option<LcoreId> {
        let client = match self.read_kernels(packet, true)? {
            Read::Ipv4(flow) | Read::ErrorOfIpv4(flow, _) => client_of(snapshot, &flow.key())?,
            Read::Ipv6(flow) | Read::ErrorOfIpv6(flow, _) => client_of(snapshot, &flow.key())?,
        };
        Some(owner::owner(client.0, client.1, self.lcores))
    }

    /// Decides about such a frame, at the lcore that [`Pipeline::answerer`] has named. `None` where it is of no
    /// connection: it is to be sent as it is.
    #[cold]
    pub fn answer<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        packet: &mut P,
    ) -> Option<Verdict> {
        self.awaited.clear();
        let verdict = match self.read_kernels(packet, false)? {
            Read::Ipv4(flow) => self.answer_of(snapshot, now, flow, packet),
            Read::Ipv6(flow) => self.answer_of(snapshot, now, flow, packet),
            Read::ErrorOfIpv4(flow, quote) => self.error_of(snapshot, now, &flow, packet, &quote),
            Read::ErrorOfIpv6(flow, quote) => self.error_of(snapshot, now, &flow, packet, &quote),
        }?;
        self.counters.reason(verdict.reason).add(1);
        Some(verdict)
    }

    /// Reads a frame. The ports of a fragment are noted, or stand beside it already.
    fn read_kernels<P: PacketBuf>(&mut self, packet: &mut P, is_new: bool) -> Option<Read> {
        let mut flow = Flow::<Ipv4Addr>::NONE;
        match wire::parse(packet.bytes(), &mut flow.frame).ok()? {
            Parsed::Ipv4 => Some(match self.read_transport(&mut flow, packet, is_new)? {
                None => Read::Ipv4(flow),
                Some(quote) => Read::ErrorOfIpv4(flow, quote),
            }),
            Parsed::Ipv6 => {
                let mut flow = Flow::<Ipv6Addr>::NONE;
                wire::parse_ipv6(packet.bytes(), &mut flow.frame).ok()?;
                Some(match self.read_transport(&mut flow, packet, is_new)? {
                    None => Read::Ipv6(flow),
                    Some(quote) => Read::ErrorOfIpv6(flow, quote),
                })
            }
            Parsed::Other => None,
        }
    }

    /// Completes a flow; with the quote of what is an ICMP error, `None` of what cannot be an answer.
    fn read_transport<A: Address, P: PacketBuf>(
        &mut self,
        flow: &mut Flow<A>,
        packet: &mut P,
        is_new: bool,
    ) -> Option<Option<Quote>> {
        let frame = &flow.frame;
        let quote = match frame.transport {
            Transport::Tcp | Transport::Udp | Transport::Sctp => None,
            Transport::FirstFragment | Transport::LaterFragment => {
                if is_new {
                    let name = name_of(packet.bytes(), flow);
                    if frame.transport == Transport::FirstFragment {
                        self.kernel_fragments.note(name, frame.ports());
                    }
                    packet.set_note(self.kernel_fragments.ports(name)?);
                }
                flow.frame.set_ports(packet.note());
                None
            }
            Transport::Icmp => {
                let is_v6 = A::ETHER_TYPE == ethernet::IPV6;
                let quote = Quote::read(packet.bytes(), frame.transport_offset(), frame.end(), is_v6)?;
                Some(quote)
                    .filter(|quote| quote.describe(&mut flow.frame))
                    .filter(|_| flow.frame.transport == Transport::IcmpError)?
                    .into()
            }
            _ => return None,
        };
        self.go_on(flow, None);
        Some(quote)
    }

    fn answer_of<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        mut flow: Flow<A>,
        packet: &mut P,
    ) -> Option<Verdict> {
        let Some(direction) = self.direction_of_living(&flow, now) else {
            let may_be_data = super::connect::opens(&flow) && self.templates.expectations().any();
            return if may_be_data { self.expected(snapshot, now, &flow, packet) } else { None };
        };
        match direction {
            Direction::Request => None,
            Direction::Reply if flow.frame.protocol == SCTP_PROTOCOL => {
                Some(self.associate(snapshot, now, &mut flow, packet))
            }
            Direction::Reply => Some(self.connect(snapshot, now, &flow, packet)),
        }
    }

    fn error_of<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flow: &Flow<A>,
        packet: &mut P,
        quote: &Quote,
    ) -> Option<Verdict> {
        let is_answer = self.direction_of_living(flow, now) == Some(Direction::Reply);
        is_answer.then(|| self.relay(snapshot, now, None, packet, quote))
    }

    fn direction_of_living<A: Address>(&self, flow: &Flow<A>, now: Tick) -> Option<Direction> {
        let table = A::table(&self.tables);
        let found = table.find(flow.hash, &flow.key(), Guess::NONE);
        found.filter(|(id, _)| !table.get(*id).is_expired(now)).map(|(_, direction)| direction)
    }
}

/// The client to whom a packet from a NAT real server goes.
fn client_of<A: Address>(snapshot: &Snapshot, key: &FlowKey<A>) -> Option<(IpAddr, u16)> {
    let (source, port) = (key.source.into(), key.source_port);
    let lookup = &snapshot.lookup;
    let is_server =
        lookup.is_nat_server(source, port, key.protocol) || lookup.was_nat_server(source, port, key.protocol);
    is_server.then(|| (key.destination.into(), key.destination_port))
}

fn name_of<A: Family>(frame: &[u8], flow: &Flow<A>) -> FragmentName {
    let piece = A::piece(&frame[ethernet::HEADER_LEN..], &flow.frame);
    (flow.frame.source.into(), flow.frame.destination.into(), flow.frame.protocol, piece.id)
}
