//! Of real servers.

use std::fmt;

use super::Reading;
use super::service::{effective_weight, health_of};
use super::writer::{About, Labels, Writer};
use crate::model::Weight;
use crate::protocol::ServerStatus;

struct Row<'a> {
    service: &'a str,
    name: String,
    status: &'a ServerStatus,
    effective_weight: Weight,
}

impl Row<'_> {
    fn labels(&self) -> Labels<'_, 2> {
        [("service", self.service), ("server", &self.name)]
    }
}

pub(super) fn write(writer: &mut Writer<'_>, reading: &Reading) -> fmt::Result {
    let health = health_of(reading);
    let services: Vec<_> = reading.services.services.iter().map(|s| (s.service.to_string(), s)).collect();
    let rows: Vec<Row<'_>> = services
        .iter()
        .flat_map(|(name, service)| service.servers.iter().map(move |server| (name, service.service, server)))
        .map(|(service, key, status)| Row {
            service,
            name: status.address.to_string(),
            status,
            effective_weight: effective_weight(&health, key, status),
        })
        .collect();
    let of = |value: fn(&Row<'_>) -> u64| rows.iter().map(move |row| (row.labels(), value(row)));

    let about = About::new("server_weight", "The operator's weight of a real server.");
    writer.gauge(about, of(|row| row.status.weight.0.into()))?;
    let about = About::new(
        "server_effective_weight",
        "The weight of a real server that schedulers see, by its health.",
    );
    writer.gauge(about, of(|row| row.effective_weight.0.into()))?;
    let about = About::new(
        "server_overloaded",
        "Whether a real server gets no new connections for its upper threshold.",
    );
    writer.gauge(about, of(|row| row.status.overloaded.into()))?;
    let about = About::new(
        "server_active_connections",
        "Active connections of a real server, as ipvsadm's ActiveConn.",
    );
    writer.gauge(about, of(|row| row.status.active))?;
    let about = About::new(
        "server_inactive_connections",
        "Other connections of a real server, as ipvsadm's InActConn.",
    );
    writer.gauge(about, of(|row| row.status.inactive))?;

    let about = About::new("server_connections", "Connections made to a real server.");
    writer.counter(about, of(|row| row.status.counters.connections))?;
    let both = |values: fn(&Row<'_>) -> [u64; 2]| {
        rows.iter().flat_map(move |row| {
            let ([service, server], [incoming, outgoing]) = (row.labels(), values(row));
            let labels = |direction| [service, server, ("direction", direction)];
            [(labels("in"), incoming), (labels("out"), outgoing)]
        })
    };
    let about =
        About::new("server_packets", "Packets of a real server, from clients (in) and to them (out).");
    writer.counter(about, both(|row| [row.status.counters.packets_in, row.status.counters.packets_out]))?;
    let about =
        About::bytes("server", "Bytes of IP packets of a real server, from clients (in) and to them (out).");
    writer.counter(about, both(|row| [row.status.counters.bytes_in, row.status.counters.bytes_out]))
}
