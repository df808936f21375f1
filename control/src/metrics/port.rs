//! Of ports and their receive queues.

use std::fmt;

use super::Reading;
use super::writer::{About, Labels, Writer};
use crate::protocol::PortStats;

struct Row<'a> {
    number: String,
    port: &'a PortStats,
}

impl Row<'_> {
    fn with<'a>(&'a self, key: &'static str, value: &'a str) -> Labels<'a, 3> {
        [("port", &self.number), ("device", &self.port.device), (key, value)]
    }
}

pub(super) fn write(writer: &mut Writer<'_>, reading: &Reading) -> fmt::Result {
    let rows: Vec<Row<'_>> =
        reading.stats.ports.iter().map(|port| Row { number: port.port.to_string(), port }).collect();
    let about = About::new(
        "port",
        "What a port is: its mirror interface, its Ethernet address, and what it spreads packets by.",
    );
    let details = |row: &Row<'_>| {
        let PortStats { device, mirror, mac, rss, .. } = row.port;
        let mirror = mirror.clone().unwrap_or_default();
        [
            ("port", row.number.clone()),
            ("device", device.clone()),
            ("mirror", mirror),
            ("mac", mac.clone()),
            ("rss", rss.clone()),
        ]
    };
    writer.info(about, rows.iter().map(details))?;
    let both = |values: fn(&PortStats) -> [u64; 2]| {
        rows.iter().flat_map(move |row| {
            let [received, sent] = values(row.port);
            [(row.with("direction", "rx"), received), (row.with("direction", "tx"), sent)]
        })
    };
    let about = About::new("port_packets", "Packets that a port received (rx) and sent (tx).");
    writer.counter(about, both(|port| [port.rx_packets, port.tx_packets]))?;
    let about =
        About::bytes("port", "Bytes that a port received (rx) and sent (tx), as its driver counts them.");
    writer.counter(about, both(|port| [port.rx_bytes, port.tx_bytes]))?;
    let about = About::new(
        "port_lost_packets",
        "Packets lost by a port: rx_missed for want of a descriptor, rx_no_mbuf of an mbuf; rx_errors and tx_errors.",
    );
    let causes = |row: &'_ Row<'_>| -> [(&'static str, u64); 4] {
        let PortStats { rx_missed, rx_errors, rx_no_mbuf, tx_errors, .. } = row.port;
        [
            ("rx_missed", *rx_missed),
            ("rx_errors", *rx_errors),
            ("rx_no_mbuf", *rx_no_mbuf),
            ("tx_errors", *tx_errors),
        ]
    };
    let lost =
        rows.iter().flat_map(|row| causes(row).map(|(cause, count)| (row.with("cause", cause), count)));
    writer.counter(about, lost)?;

    let queues: Vec<_> = rows
        .iter()
        .flat_map(|row| {
            row.port.wrong_lcore.iter().zip(0..).map(move |(count, n): (_, u32)| (row, n.to_string(), *count))
        })
        .collect();
    let about = About::new(
        "queue_wrong_lcore_packets",
        "Packets that a receive queue brought to an lcore that does not own their connection.",
    );
    writer.counter(about, queues.iter().map(|(row, queue, count)| (row.with("queue", queue), *count)))
}
