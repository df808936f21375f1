//! Of health checks and what follows from them.

use std::fmt;

use super::Reading;
use super::writer::{About, Writer};
use crate::protocol::{CheckHealth, ServerHealth, ServiceHealth};

pub(super) fn services(writer: &mut Writer<'_>, reading: &Reading) -> fmt::Result {
    let rows = names(reading);
    let of = |value: fn(&ServiceHealth) -> u64| {
        rows.iter().map(move |(name, health)| ([("service", &**name)], value(health)))
    };
    let about = About::new("service_has_quorum", "Whether a virtual service that is checked has its quorum.");
    writer.gauge(about, of(|health| health.has_quorum.into()))?;
    let about =
        About::new("service_quorum", "The sum of weights that makes up the quorum of a virtual service.");
    writer.gauge(about, of(|health| health.quorum.into()))?;
    let about = About::new(
        "service_live_weight",
        "The weights together of a virtual service's real servers that are up.",
    );
    writer.gauge(about, of(|health| health.live_weight))
}

struct Server<'a> {
    service: &'a str,
    name: String,
    health: &'a ServerHealth,
}

fn names(reading: &Reading) -> Vec<(String, &ServiceHealth)> {
    reading.health.health.iter().map(|health| (health.service.to_string(), health)).collect()
}

fn rows<'a>(services: &'a [(String, &'a ServiceHealth)]) -> Vec<Server<'a>> {
    let each =
        services.iter().flat_map(|(name, health)| health.servers.iter().map(move |server| (name, server)));
    each.map(|(service, health)| Server { service, name: health.address.to_string(), health }).collect()
}

pub(super) fn servers(writer: &mut Writer<'_>, reading: &Reading) -> fmt::Result {
    let services = names(reading);
    let rows = rows(&services);
    let about = About::new("server_up", "Whether all health checks of a real server count as passed.");
    let series =
        rows.iter().map(|row| ([("service", row.service), ("server", &row.name)], u64::from(row.health.up)));
    writer.gauge(about, series)?;
    let about = About::new(
        "server_standing",
        "What has become of a real server for the sake of its health: always 1, the label says what.",
    );
    let standing = |row: &Server<'_>| ("standing", row.health.standing.word());
    writer.gauge(
        about,
        rows.iter().map(|row| ([("service", row.service), ("server", &row.name), standing(row)], 1_u64)),
    )
}

struct Check<'a> {
    server: &'a Server<'a>,
    /// Two checks of a real server may read alike.
    number: String,
    health: &'a CheckHealth,
}

impl Check<'_> {
    fn labels(&self) -> [(&'static str, &str); 4] {
        [
            ("service", self.server.service),
            ("server", &self.server.name),
            ("number", &self.number),
            ("check", &self.health.check),
        ]
    }
}

pub(super) fn checks(writer: &mut Writer<'_>, reading: &Reading) -> fmt::Result {
    let services = names(reading);
    let servers = rows(&services);
    let each =
        servers.iter().flat_map(|server| server.health.checks.iter().zip(1..).map(move |it| (server, it)));
    let rows: Vec<Check<'_>> = each
        .map(|(server, (health, number)): (_, (_, u32))| Check { server, number: number.to_string(), health })
        .collect();
    let about = About::new("check_up", "Whether a health check counts as passed, by rise and fall.");
    writer.gauge(about, rows.iter().map(|row| (row.labels(), u64::from(row.health.up))))?;
    let about = About::seconds("check_duration", "How long the last run of a health check took.");
    let timed = rows.iter().filter_map(|row| Some((row.labels(), row.health.latency_us? as f64 / 1e6)));
    writer.gauge(about, timed)?;
    let about = About::new("check_runs", "Runs of a health check, by what came of them.");
    let results = rows.iter().flat_map(|row| {
        let ([service, server, number, check], health) = (row.labels(), row.health);
        let labels = |result| [service, server, number, check, ("result", result)];
        [(labels("passed"), health.passed), (labels("failed"), health.failed)]
    });
    writer.counter(about, results)
}
