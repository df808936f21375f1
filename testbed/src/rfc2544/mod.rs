//! Throughput without loss and latency of a director on other machines, or of whatever forwards UDP, after RFC 2544: a
//! generator on two ports of any DPDK device.

mod search;
mod stream;
mod trial;

use std::net::SocketAddrV4;
use std::time::Duration;

use clap::Args;
use director::dpdk::{Eal, EalOptions, Hugepages, MbufPool, PoolConfig, Port, PortConfig};
use director::id::PortId;
use director::nexthop::MacAddr;
use serde::Serialize;

use self::search::Search;
use self::stream::{FCS, SIZES, Stream};
use self::trial::{Outcome, Plan, Rig};
use crate::ensure;
use crate::error::{Context as _, Result};

/// What a frame takes on an Ethernet link beside its bytes: preamble and gap.
const AROUND: f64 = 20.0;
/// Connections are opened at this pace, in millions of frames a second, before anything counts.
const OPENING_MPPS: f64 = 0.1;

/// What to measure.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Device to send by: a PCI address, or a virtual device as DPDK's --vdev takes it
    #[arg(long, value_name = "DEVICE")]
    tx: String,
    /// Device to receive by; the same one where it is left out
    #[arg(long, value_name = "DEVICE")]
    rx: Option<String>,
    /// Ethernet address to send to: that of the director's port
    #[arg(long, value_name = "MAC", value_parser = mac)]
    mac: MacAddr,
    /// Virtual service, by UDP
    #[arg(long, value_name = "ADDRESS:PORT")]
    service: SocketAddrV4,
    /// Frame sizes in bytes, FCS included
    #[arg(long, value_delimiter = ',', default_values_t = SIZES)]
    sizes: Vec<u16>,
    /// Clients, each with a connection of its own, from 198.18.0.0/15
    #[arg(long, default_value_t = 10_000)]
    clients: u32,
    /// Seconds of each trial
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Seconds to wait for the last frames
    #[arg(long, default_value_t = 2.0)]
    wait: f64,
    /// Greatest rate to try, in millions of frames a second; as many as go where it is left out
    #[arg(long, value_name = "MPPS")]
    max_mpps: Option<f64>,
    /// How exactly to search, in percent of the rate
    #[arg(long, default_value_t = 0.5, value_name = "PERCENT")]
    resolution: f64,
    /// Use ordinary memory instead of hugepages
    #[arg(long)]
    no_huge: bool,
    /// Print one line of JSON for each size
    #[arg(long)]
    json: bool,
}

/// What was found for one size.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// Bytes of a frame, FCS included.
    pub size: u16,
    /// The greatest rate that lost nothing, in millions of frames a second; 0 where every rate lost something.
    pub mpps: f64,
    /// The same in bits on the link, preamble and gap included.
    pub gbit_per_second: f64,
    /// Frames sent and received at that rate.
    pub frames: u64,
    /// At that rate, in microseconds.
    pub latency_us: Percentiles,
    /// How many rates were tried.
    pub trials: u32,
}

/// Latency, from when a frame was due until it was received.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "their names say it")]
pub struct Percentiles {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// Measures, and prints what is found as it is found.
///
/// # Errors
/// Options that cannot be, EAL or ports that cannot be had, or an lcore that ends.
pub fn run(options: &Options) -> Result<()> {
    let span = seconds("--seconds", options.seconds)?;
    let wait = seconds("--wait", options.wait)?;
    ensure!(
        options.resolution >= 0.01 && options.resolution <= 50.0,
        "--resolution {} cannot be: give from 0.01 to 50 percent",
        options.resolution
    );
    ensure!(options.max_mpps.is_none_or(|mpps| mpps.is_finite() && mpps > 0.0), "--max-mpps must be above 0");
    let devices: Vec<&String> = [Some(&options.tx), options.rx.as_ref().filter(|rx| **rx != options.tx)]
        .into_iter()
        .flatten()
        .collect();
    let is_pci = |device: &&&String| !device.starts_with("net_");
    let eal = Eal::init(&EalOptions {
        program: "director-bench".to_owned(),
        hugepages: if options.no_huge { Hugepages::No } else { Hugepages::Auto },
        memory_mb: 256,
        worker_cpus: crate::bench::worker_cpus(2),
        pci: devices.iter().filter(is_pci).map(|device| (*device).clone()).collect(),
        ..EalOptions::default()
    });
    let eal = eal.context(|| "EAL")?;
    let mtu = options.sizes.iter().max().copied().unwrap_or(1518).max(1518) - FCS - 14;
    let pool = PoolConfig { mtu, ..PoolConfig::default() };
    let pool = MbufPool::new(&eal, &pool).context(|| "the pool")?;
    let config = PortConfig { mtu, ..PortConfig::default() };
    let mut ports = Vec::new();
    for (n, device) in devices.iter().enumerate() {
        let port = Port::open(&eal, PortId(n as u8), device, &config, &pool);
        ports.push(port.context(|| format!("the port {device}"))?);
    }
    let source = ports[0].mac();
    for port in &ports {
        eprintln!("port {} has the Ethernet address {}", port.device(), port.mac());
    }
    let tx = ports[0].take_tx_queue(0).context(|| "no transmit queue")?;
    let last = ports.len() - 1;
    let rx = ports[last].take_rx_queue(0).context(|| "no receive queue")?;
    let mut rig = Rig::new(eal, pool, tx, rx);
    if !options.json {
        println!(
            "{:>6} {:>9} {:>9} {:>12} {:>9} {:>9} {:>9} {:>9} {:>7}",
            "bytes", "Mpps", "Gbit/s", "frames", "p50 us", "p99 us", "p99.9 us", "max us", "trials"
        );
    }
    for &size in &options.sizes {
        let stream = Stream::new(size, options.clients, source, options.mac, options.service)?;
        let opening = Plan {
            mpps: Some(options.max_mpps.unwrap_or(OPENING_MPPS).min(OPENING_MPPS)),
            frames: options.clients.into(),
            span: Duration::MAX,
            wait,
        };
        let opened = rig.run(&stream, opening)?;
        ensure!(
            opened.received > 0,
            "of {} frames none came back: see whether --mac is the director's, the service exists, and what becomes of \
             the packets by `directorctl stats`; its real servers must lead to the port that receives",
            opened.sent
        );
        let found = measure(
            &mut rig,
            &stream,
            size,
            options,
            Plan { mpps: options.max_mpps, frames: u64::MAX, span, wait },
        )?;
        if options.json {
            println!("{}", serde_json::to_string(&found).context(|| "what was found")?);
        } else {
            let Percentiles { p50, p99, p999, max } = found.latency_us;
            println!(
                "{size:>6} {:>9.3} {:>9.3} {:>12} {p50:>9.1} {p99:>9.1} {p999:>9.1} {max:>9.1} {:>7}",
                found.mpps, found.gbit_per_second, found.frames, found.trials
            );
        }
    }
    Ok(())
}

fn mac(text: &str) -> Result<MacAddr, String> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|byte| {
            let is_byte = byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
            u8::from_str_radix(byte, 16).ok().filter(|_| is_byte)
        })
        .collect();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.map(MacAddr).ok_or_else(|| "an Ethernet address is written as 02:00:00:00:00:01".to_owned())
}

fn seconds(name: &str, value: f64) -> Result<Duration> {
    ensure!((0.01..=86_400.0).contains(&value), "{name} {value} cannot be: give from 0.01 to 86400 seconds");
    Ok(Duration::from_secs_f64(value))
}

/// The greatest rate of one size: the first trial at the greatest of all, then by halves.
fn measure(rig: &mut Rig, stream: &Stream, size: u16, options: &Options, plan: Plan) -> Result<Found> {
    let first = rig.run(stream, plan)?;
    let mut trials = 1;
    let best = if first.lost() == 0 {
        Some(first)
    } else {
        let mut best = None;
        let mut search = Search::below(first.mpps(), options.resolution / 100.0);
        while let Some(mpps) = search.next() {
            let outcome = rig.run(stream, Plan { mpps: Some(mpps), ..plan })?;
            trials += 1;
            let lost = outcome.lost() > 0;
            search.record(mpps, lost);
            if !lost {
                best = Some(outcome);
            }
        }
        best
    };
    let percentiles = |outcome: &Outcome| {
        let at = |percent| outcome.latency.value_at_percentile(percent) as f64 / 1000.0;
        Percentiles { p50: at(50.0), p99: at(99.0), p999: at(99.9), max: at(100.0) }
    };
    let mpps = best.as_ref().map_or(0.0, Outcome::mpps);
    Ok(Found {
        size,
        mpps,
        gbit_per_second: mpps * (f64::from(size) + AROUND) * 8.0 / 1000.0,
        frames: best.as_ref().map_or(0, |outcome| outcome.sent),
        latency_us: best.as_ref().map(percentiles).unwrap_or_default(),
        trials,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ethernet_address_is_six_bytes() {
        assert_eq!(mac("02:00:0a:00:00:ff"), Ok(MacAddr([2, 0, 10, 0, 0, 255])));
        for bad in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "2:0:0:0:0:1",
            "02-00-00-00-00-01",
            "02:00:00:00:00:+1",
        ] {
            assert!(mac(bad).is_err(), "{bad}");
        }
    }
}
