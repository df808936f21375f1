//! Each decision in words.

use std::net::{IpAddr, SocketAddr};

use control::model::{ForwardingMethod, ServiceKey};
use control::protocol::{LeavingPacket, NextHopStatus};

use super::Question;
use crate::connection::Direction;
use crate::nexthop::Hop;
use crate::pipeline::rehearsal::{Origin, Rehearsed};
use crate::pipeline::{Impression, owner};
use crate::service::{RealServer, Snapshot, VirtualService};

pub(super) fn arrival(question: &Question, snapshot: &Snapshot) -> String {
    let port = question.port.0;
    match question.origin {
        Origin::Kernel => {
            format!(
                "sent by the kernel on the mirror of port {port}: {} is its own",
                question.ends.source.ip()
            )
        }
        Origin::Port(_) if question.assumed.contains(&"port") => {
            let way = match snapshot.hops.toward(question.ends.source.ip()) {
                Hop::Ready(_) | Hop::Unresolved(_) => "which leads to its source",
                Hop::Local | Hop::NoRoute => "the first one: no port leads to its source",
            };
            format!("received by port {port}, {way}")
        }
        Origin::Port(_) => format!("received by port {port}, as asked"),
    }
}

pub(super) fn ownership(question: &Question, impression: &Impression) -> String {
    let Some(owner) = question.owner else {
        return "of no virtual service: whichever lcore receives it decides".to_owned();
    };
    if question.lcores == 1 {
        return format!("lcore {}, the only one", owner.0);
    }
    // Which side is the client's, the hash itself tells.
    let by_source = owner::owner(question.ends.source.ip(), question.ends.source.port(), question.lcores);
    let key_side = match impression.connection {
        Some((_, Direction::Reply)) => question.ends.destination,
        Some((_, Direction::Request)) => question.ends.source,
        None if by_source == owner => question.ends.source,
        None => question.ends.destination,
    };
    let hash = owner::toeplitz(owner::fold(key_side.ip(), key_side.port()));
    format!("lcore {} of {}: the hash of {key_side} is {hash:#010x}", owner.0, question.lcores)
}

pub(super) fn connection_found(impression: &Impression, is_known: bool) -> String {
    let Some((connection, direction)) = &impression.connection else {
        return "none is known".to_owned();
    };
    let way = match direction {
        Direction::Request => "from its client",
        Direction::Reply => "from its real server",
    };
    let ends =
        format!("{} {} -> {}", connection.state().name(), connection.client(), connection.virtual_address());
    if connection.is_expired(impression.now) {
        return format!("{ends}, but its time is over");
    }
    let left = f64::from(connection.expires_in(impression.now)) / 1000.0;
    if !is_known {
        return format!("{ends}, which gives way: the packet is scheduled anew");
    }
    format!("{ends}, {way}, {left:.1} s left")
}

pub(super) fn service_found(
    question: &Question,
    rehearsed: &Rehearsed,
    service: &VirtualService,
    is_known: bool,
) -> String {
    let key = service.model.key;
    let how = match key {
        _ if is_known => "that of the connection's real server".to_owned(),
        ServiceKey::Mark { mark, .. } => format!("by the mark {mark} that a rule gives the packet"),
        ServiceKey::Address { address, .. } if address.port() == 0 => {
            "of every port at this address".to_owned()
        }
        ServiceKey::Address { address, .. } if address == question.ends.destination => {
            "at this very address and port".to_owned()
        }
        ServiceKey::Address { .. } => "FTP's, to which its data may go".to_owned(),
    };
    match rehearsed.mark {
        Some(mark) if !key.is_mark() && !is_known => {
            format!("{key}, {how}; the packet's mark {mark} is no service's")
        }
        _ => format!("{key}, {how}"),
    }
}

pub(super) fn template_found(rehearsed: &Rehearsed, impression: &Impression, granularity: u8) -> String {
    let Some((template, may_lead)) = rehearsed.template else {
        return format!(
            "none of this client's network (prefix of {granularity} bits): the scheduler is asked"
        );
    };
    let left = f64::from(template.expires_in(impression.now)) / 1000.0;
    let ends = format!("{} -> {}", template.key.client, template.address);
    match may_lead {
        true => format!("{ends}, {} connections, {left:.0} s left: leads there", template.controlled()),
        false => format!("{ends}, which is over or may not be used: the scheduler is asked"),
    }
}

pub(super) fn forwarding(
    question: &Question,
    method: ForwardingMethod,
    leaves: &LeavingPacket,
    snapshot: &Snapshot,
    server: Option<&RealServer>,
) -> String {
    let end = |ip: IpAddr, port: Option<u16>| {
        port.map_or(ip.to_string(), |port| SocketAddr::new(ip, port).to_string())
    };
    let (source, destination) =
        (end(leaves.source, leaves.source_port), end(leaves.destination, leaves.destination_port));
    match method {
        ForwardingMethod::Nat
            if leaves.source != question.ends.source.ip()
                || leaves.source_port != Some(question.ends.source.port()) =>
        {
            format!("NAT: the source becomes {source}")
        }
        ForwardingMethod::Nat => format!("NAT: the destination becomes {destination}"),
        ForwardingMethod::Dr => {
            "direct routing: the packet stays as it is but for its Ethernet addresses".to_owned()
        }
        ForwardingMethod::Tunnel => {
            let head = server.map(|server| snapshot.tunnel(server));
            let tunnel = head.map_or(String::new(), |head| format!("{:?}, {} bytes", head.tunnel, head.len));
            format!("tunnel ({tunnel}): wrapped from {source} to {destination}, {} bytes in all", leaves.size)
        }
    }
}

pub(super) fn hop_found(hop: &NextHopStatus) -> String {
    let vlans = match &hop.vlans[..] {
        [] => String::new(),
        vlans => format!(" VLAN {}", vlans.iter().map(u16::to_string).collect::<Vec<_>>().join(".")),
    };
    let mac = hop.mac.clone().unwrap_or_else(|| "not known yet".to_owned());
    format!(
        "{} by {} (port {}{vlans}), Ethernet address {mac}, MTU {}",
        hop.address, hop.interface, hop.port, hop.mtu
    )
}
