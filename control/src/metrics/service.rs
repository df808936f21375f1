//! Of virtual services.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;

use super::Reading;
use super::writer::{About, Writer};
use crate::health::Standing;
use crate::model::{ServiceKey, Weight};
use crate::protocol::{ServerHealth, ServerStatus, ServiceStatus};

/// The health of real servers by what names them.
pub(super) type HealthOf<'a> = HashMap<(ServiceKey, SocketAddr), &'a ServerHealth>;

pub(super) fn health_of(reading: &Reading) -> HealthOf<'_> {
    let services = reading.health.health.iter();
    services
        .flat_map(|service| service.servers.iter().map(|server| ((service.service, server.address), server)))
        .collect()
}

/// The weight that schedulers see.
pub(super) fn effective_weight(health: &HealthOf<'_>, service: ServiceKey, server: &ServerStatus) -> Weight {
    match health.get(&(service, server.address)) {
        Some(health) => health.effective_weight,
        None => match server.health {
            // It has come to be checked between two questions.
            Some(Standing::Inhibited | Standing::Removed | Standing::Aside) => Weight(0),
            _ => server.weight,
        },
    }
}

struct Row<'a> {
    name: String,
    status: &'a ServiceStatus,
    available: u64,
}

pub(super) fn write(writer: &mut Writer<'_>, reading: &Reading) -> fmt::Result {
    let health = health_of(reading);
    let available = |service: &ServiceStatus| {
        let takes = |server: &&ServerStatus| {
            effective_weight(&health, service.service, server).0 > 0 && !server.overloaded
        };
        service.servers.iter().filter(takes).count() as u64
    };
    let rows: Vec<Row<'_>> = reading
        .services
        .services
        .iter()
        .map(|status| Row { name: status.service.to_string(), status, available: available(status) })
        .collect();

    let about = About::new("service", "What a virtual service is; a mark has neither protocol nor address.");
    let details: Vec<_> = rows.iter().map(details).collect();
    writer
        .info(about, details.iter().map(|labels| labels.each_ref().map(|(key, value)| (*key, &**value))))?;
    let of = |value: fn(&Row<'_>) -> u64| rows.iter().map(move |row| ([("service", &*row.name)], value(row)));
    let about = About::new("service_servers", "Real servers of a virtual service.");
    writer.gauge(about, of(|row| row.status.servers.len() as u64))?;
    let about = About::new(
        "service_available_servers",
        "Real servers of a virtual service that get new connections: with a weight, and below their thresholds.",
    );
    writer.gauge(about, of(|row| row.available))?;
    let about = About::new(
        "service_active_connections",
        "Active connections of a virtual service, as ipvsadm's ActiveConn.",
    );
    writer.gauge(about, of(|row| row.status.servers.iter().map(|server| server.active).sum()))?;
    let about = About::new(
        "service_inactive_connections",
        "Other connections of a virtual service, as ipvsadm's InActConn.",
    );
    writer.gauge(about, of(|row| row.status.servers.iter().map(|server| server.inactive).sum()))?;

    let about = About::new("service_connections", "Connections made for a virtual service.");
    writer.counter(about, of(|row| row.status.counters.connections))?;
    let both = |values: fn(&Row<'_>) -> [u64; 2]| {
        rows.iter().flat_map(move |row| {
            let [incoming, outgoing] = values(row);
            let labels = |direction| [("service", &*row.name), ("direction", direction)];
            [(labels("in"), incoming), (labels("out"), outgoing)]
        })
    };
    let about =
        About::new("service_packets", "Packets of a virtual service, from clients (in) and to them (out).");
    writer.counter(about, both(|row| [row.status.counters.packets_in, row.status.counters.packets_out]))?;
    let about = About::bytes(
        "service",
        "Bytes of IP packets of a virtual service, from clients (in) and to them (out).",
    );
    writer.counter(about, both(|row| [row.status.counters.bytes_in, row.status.counters.bytes_out]))
}

fn details(row: &Row<'_>) -> [(&'static str, String); 6] {
    let service = row.status.service;
    let (protocol, address) = match service {
        ServiceKey::Address { protocol, address } => (protocol.to_string(), address.to_string()),
        ServiceKey::Mark { .. } => (String::new(), String::new()),
    };
    let family = if service.ip().is_ipv4() { "ipv4" } else { "ipv6" };
    [
        ("service", row.name.clone()),
        ("protocol", protocol),
        ("address", address),
        ("family", family.to_owned()),
        ("scheduler", row.status.scheduler.to_string()),
        ("persistent", row.status.persistence.is_some().to_string()),
    ]
}
