//! Of the exporter and of the director as a whole.

use std::fmt;

use super::writer::{About, Writer};
use super::{Reading, Scrape};
use crate::model::SettingValue;

/// What there is even while the director is away.
pub(super) fn exporter(writer: &mut Writer<'_>, scrape: &Scrape) -> fmt::Result {
    let up = About::new("up", "Whether the director answers on its control socket.");
    writer.single(up, u32::from(scrape.reading.is_some()))?;
    let took = About::seconds("scrape_duration", "How long asking the director took.");
    writer.single(took, scrape.took.as_secs_f64())?;
    let about = About::new("exporter", "The version of directorctl serve.");
    writer.info(about, [[("version", env!("CARGO_PKG_VERSION"))]])
}

pub(super) fn director(writer: &mut Writer<'_>, reading: &Reading) -> fmt::Result {
    let Reading { version, stats, settings, timeouts, services, .. } = reading;
    let protocol = version.protocol.to_string();
    let labels = [("version", &*version.director), ("dpdk", &*version.dpdk), ("protocol", &*protocol)];
    writer.info(
        About::new("build", "The versions of the director, of DPDK and of the control protocol."),
        [labels],
    )?;
    let about = About::seconds("uptime", "Time since the director started.");
    writer.single(about, stats.uptime_ms as f64 / 1e3)?;
    let about = About::new("conserved", "Whether every packet is accounted for, on all lcores.");
    writer.single(about, u32::from(stats.conserved))?;
    writer.single(About::new("services", "Virtual services."), services.services.len() as u64)?;

    let all = &stats.counters;
    let none = || [("", ""); 0];
    let about =
        About::new("all_connections", "Connections made for all virtual services, deleted ones included.");
    writer.counter(about, [(none(), all.connections)])?;
    let about =
        About::new("all_packets", "Packets of all virtual services, from clients (in) and to them (out).");
    writer.counter(
        about,
        [([("direction", "in")], all.packets_in), ([("direction", "out")], all.packets_out)],
    )?;
    let about = About::bytes(
        "all",
        "Bytes of IP packets of all virtual services, from clients (in) and to them (out).",
    );
    writer
        .counter(about, [([("direction", "in")], all.bytes_in), ([("direction", "out")], all.bytes_out)])?;

    let about = About::new("slow_path", "What the way to and from the kernel counts.");
    writer.counter(about, stats.slow_path.iter().map(|(name, count)| ([("counter", &**name)], *count)))?;
    let about = About::new("setting", "Settings by the names of IPVS's sysctls; on is 1, off is 0.");
    let number = |value: &SettingValue| match value {
        SettingValue::Flag(flag) => i64::from(*flag),
        SettingValue::Number(number) => *number,
    };
    writer.gauge(
        about,
        settings.settings.iter().map(|(name, value)| ([("setting", &**name)], number(value))),
    )?;
    let about = About::seconds("timeout", "When a connection without packets times out, as ipvsadm --set.");
    let kinds = [("tcp", timeouts.tcp), ("tcp_fin", timeouts.tcp_fin), ("udp", timeouts.udp)];
    writer.gauge(about, kinds.map(|(kind, seconds)| ([("kind", kind)], seconds)))
}
