//! The mark of a packet of no connection.

use control::model::Mark;

use crate::connection::{Address, FlowKey};
use crate::id::PortId;
use crate::packet::PacketBuf;
use crate::service::{ServiceLookup, Subject};
use crate::wire::{ethernet, ipv4, ipv6};

/// The mark that the operator's rules give a packet of this flow.
#[inline]
pub(super) fn mark_of<A: Address, P: PacketBuf>(
    lookup: &ServiceLookup,
    key: &FlowKey<A>,
    packet: &P,
) -> Option<Mark> {
    if lookup.marks().any() { by_rules(lookup, key, packet) } else { None }
}

#[cold]
fn by_rules<A: Address, P: PacketBuf>(lookup: &ServiceLookup, key: &FlowKey<A>, packet: &P) -> Option<Mark> {
    let ip = &packet.bytes()[ethernet::HEADER_LEN..];
    // Of an ICMP error it is the error's own.
    let traffic_class = if ip[0] >> 4 == 6 { ipv6::traffic_class(ip) } else { ipv4::tos(ip) };
    let subject = Subject {
        source: (key.source.into(), key.source_port),
        destination: (key.destination.into(), key.destination_port),
        protocol: key.protocol,
        ingress: PortId(packet.ingress()),
        dscp: traffic_class >> 2,
    };
    lookup.marks().mark_of(&subject)
}
