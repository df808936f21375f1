//! Of worker lcores.

use std::fmt;

use super::Reading;
use super::writer::{About, Writer};
use crate::protocol::{LcoreStats, Outcome};

pub(super) fn write(writer: &mut Writer<'_>, reading: &Reading) -> fmt::Result {
    let rows: Vec<_> = reading.stats.lcores.iter().map(|lcore| (lcore.lcore.to_string(), lcore)).collect();
    let of = |value: fn(&LcoreStats) -> u64| {
        rows.iter().map(move |(name, lcore)| ([("lcore", &**name)], value(lcore)))
    };
    let cpus: Vec<_> = rows.iter().map(|(name, lcore)| (name, lcore.cpu.to_string())).collect();
    let about = About::new("lcore", "The CPU that a worker lcore is pinned to.");
    writer.info(about, cpus.iter().map(|(name, cpu)| [("lcore", &***name), ("cpu", &**cpu)]))?;

    let about = About::new("lcore_received_packets", "Packets that a worker lcore received from ports.");
    writer.counter(about, of(|lcore| lcore.received))?;
    let about = About::new("lcore_taken_over_packets", "Packets that a worker lcore took over from others.");
    writer.counter(about, of(|lcore| lcore.taken_over))?;
    let about = About::new(
        "lcore_pieces",
        "Fragments beyond the packets themselves that a worker lcore cut some into.",
    );
    writer.counter(about, of(|lcore| lcore.pieces))?;
    let about = About::new("lcore_outcome_packets", "What became of packets on a worker lcore.");
    let outcomes = |(name, lcore): &(String, &LcoreStats)| -> [([(&'static str, String); 2], u64); 4] {
        [
            (Outcome::Forwarded, lcore.forwarded),
            (Outcome::HandedOver, lcore.handed_over),
            (Outcome::Punted, lcore.punted),
            (Outcome::Dropped, lcore.dropped),
        ]
        .map(|(outcome, count)| ([("lcore", name.clone()), ("outcome", outcome.word().to_owned())], count))
    };
    writer.counter(about, rows.iter().flat_map(outcomes))?;
    let about = About::new("lcore_held_packets", "Packets that wait on a worker lcore.");
    writer.gauge(about, of(|lcore| lcore.held))?;
    let about = About::new("lcore_conserved", "Whether every packet of a worker lcore is accounted for.");
    writer.gauge(about, of(|lcore| lcore.conserved.into()))?;
    let about =
        About::new("lcore_from_kernel_packets", "Packets that a worker lcore sent on behalf of the kernel.");
    writer.counter(about, of(|lcore| lcore.from_kernel))?;
    let about = About::new(
        "lcore_from_kernel_lost_packets",
        "The kernel's packets that were lost because a port did not take them.",
    );
    writer.counter(about, of(|lcore| lcore.from_kernel_lost))?;
    let about = About::new("lcore_connections", "Connections in a worker lcore's table.");
    writer.gauge(about, of(|lcore| lcore.connections))?;
    let about =
        About::new("lcore_connections_capacity", "Connections that a worker lcore's table has room for.");
    writer.gauge(about, of(|lcore| lcore.capacity))?;
    let about = About::new("lcore_loops", "Rounds of a worker lcore's polling loop.");
    writer.counter(about, of(|lcore| lcore.loops))?;
    let about =
        About::new("lcore_busy_loops", "Rounds of a worker lcore's polling loop that found a packet.");
    writer.counter(about, of(|lcore| lcore.busy_loops))?;

    // Each from the start, with 0: what a series begins with, no rate shows.
    let about = About::new(
        "lcore_reason_packets",
        "Packets by the reason for what became of them; docs/reasons.md has them all.",
    );
    let reasons = rows.iter().flat_map(|(name, lcore)| {
        reading.reasons.reasons.iter().map(move |about| {
            let labels = [("lcore", &**name), ("outcome", about.outcome.word()), ("reason", &*about.reason)];
            (labels, lcore.reasons.get(&about.reason).copied().unwrap_or_default())
        })
    });
    writer.counter(about, reasons)
}
