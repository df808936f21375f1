//! What runs, in the protocol's words.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use control::protocol::{
    ConnectionFilter, ConnectionList, ConnectionStatus, Counters, DEFAULT_PAGE, HistogramList, Latency,
    LatencyDistribution, LatencyHistogram, LatencySummary, LcoreStats, MAX_PAGE, PortStats, RateList, Rates,
    Refusal, Reply, ServerRates, ServerStatus, ServiceList, ServiceRates, ServiceStatus, Stats,
};

use super::controller::Controller;
use super::start::rss_word;
use crate::connection::{State, protocol_number, protocol_of};
use crate::lcore::query::{self, ConnectionRow, CounterCopy, Place, Query};
use crate::scheduler::Load;
use crate::stats::{LatencyCounters, Reason, ServerTotals};

fn counters(totals: ServerTotals) -> Counters {
    Counters {
        connections: totals.connections,
        packets_in: totals.packets_in,
        packets_out: totals.packets_out,
        bytes_in: totals.bytes_in,
        bytes_out: totals.bytes_out,
    }
}

/// Virtual services and their real servers.
pub(super) fn services(controller: &Controller) -> Reply {
    let now = Instant::now();
    let state = controller.state();
    let totals = state.compiler.service_totals();
    let services = state.model.services().values().map(|service| ServiceStatus {
        service: service.key,
        scheduler: service.scheduler,
        flags: service.flags,
        persistence: service.persistence,
        one_packet: service.one_packet,
        counters: counters(totals.get(&service.key).copied().unwrap_or_default()),
        servers: service
            .servers
            .iter()
            .map(|server| {
                let id = state.compiler.server_id(service.key, server.address);
                let (active, inactive) = id.map_or((0, 0), |id| controller.fleet.connections(id));
                ServerStatus {
                    address: server.address,
                    method: server.method,
                    tunnel: server.tunnel,
                    weight: server.weight,
                    thresholds: server.thresholds,
                    // One that came back without thresholds may still be marked.
                    overloaded: server.thresholds.any()
                        && id.is_some_and(|id| controller.fleet.is_overloaded(id)),
                    health: state.board.standing(service.key, server.address),
                    drain_ends_in_ms: state.drains.get(service.key, server.address).map(|drain| {
                        let left = drain.deadline.saturating_duration_since(now);
                        u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
                    }),
                    active,
                    inactive,
                    counters: counters(id.map(|id| state.compiler.server_totals(id)).unwrap_or_default()),
                }
            })
            .collect(),
    });
    Reply::ServiceList(ServiceList { services: services.collect() })
}

/// Rates of virtual services and their real servers.
pub(super) fn rates(controller: &Controller) -> Reply {
    let state = controller.state();
    let services = state.model.services().values().map(|service| ServiceRates {
        service: service.key,
        rates: per_second(state.estimates.service(service.key)),
        servers: service
            .servers
            .iter()
            .map(|server| {
                let id = state.compiler.server_id(service.key, server.address);
                let rates = id.map(|id| state.estimates.server(service.key, server.address, id));
                ServerRates { address: server.address, rates: per_second(rates.unwrap_or_default()) }
            })
            .collect(),
    });
    let services = services.collect();
    Reply::Rates(RateList { all: per_second(state.estimates.all()), services })
}

fn per_second(totals: ServerTotals) -> Rates {
    Rates {
        cps: totals.connections,
        inpps: totals.packets_in,
        outpps: totals.packets_out,
        inbps: totals.bytes_in,
        outbps: totals.bytes_out,
    }
}

fn refuse(code: &str, message: String, remedy: &str) -> Refusal {
    Refusal::new(code, message, remedy)
}

/// How long a page is filled, beyond which what there is of it is the page.
pub(super) const PAGE_TIME: Duration = Duration::from_millis(300);

/// A page of connections: of one lcore, from a place of its table on.
pub(super) async fn connections(
    controller: &Controller,
    filter: ConnectionFilter,
    cursor: Option<&str>,
    limit: Option<u32>,
) -> Result<Reply, Refusal> {
    let filter = query::ConnectionFilter {
        protocol: filter.protocol.map(protocol_number),
        service: filter.service,
        server: filter.server,
        client: filter.client,
        state: match filter.state {
            None => None,
            Some(name) => Some(State::by_name(&name).ok_or_else(|| {
                refuse(
                    "no-such-state",
                    format!("{name:?} is no state of a connection"),
                    "use a state's name as ESTABLISHED",
                )
            })?),
        },
    };
    let (mut lcore, mut place) = match cursor {
        None => (0, Place::default()),
        Some(cursor) => parse_cursor(cursor).ok_or_else(|| {
            refuse(
                "bad-cursor",
                format!("{cursor:?} is no cursor"),
                "pass on `next` of the reply before, as it is",
            )
        })?,
    };
    let room = limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE) as usize;
    let queries = controller.queries.lock().await;
    let begun = Instant::now();
    let mut connections = Vec::new();
    while let Some(query_box) = queries.get(lcore) {
        let question = Query::Connections {
            cursor: place,
            filter,
            found: Vec::with_capacity(room - connections.len()),
            next: None,
        };
        let Some(Query::Connections { found, next, .. }) = Controller::ask(query_box, question).await else {
            return Err(refuse(
                "lcore-silent",
                format!("lcore {lcore} does not answer"),
                "see the director's log",
            ));
        };
        connections.extend(found.iter().map(|c| connection(c, lcore)));
        (lcore, place) = match next {
            Some(next) => (lcore, next),
            None => (lcore + 1, Place::default()),
        };
        if connections.len() >= room || begun.elapsed() >= PAGE_TIME {
            break;
        }
    }
    let next = (lcore < queries.len()).then(|| format_cursor(lcore, place));
    Ok(Reply::ConnectionList(ConnectionList { connections, next }))
}

fn format_cursor(lcore: usize, place: Place) -> String {
    format!("{lcore}:{}:{}", if place.ipv6 { 6 } else { 4 }, place.at)
}

fn parse_cursor(cursor: &str) -> Option<(usize, Place)> {
    let mut parts = cursor.split(':');
    let (lcore, family, at) = (parts.next()?, parts.next()?, parts.next()?);
    let ipv6 = match family {
        "4" => false,
        "6" => true,
        _ => return None,
    };
    parts.next().is_none().then_some((lcore.parse().ok()?, Place { ipv6, at: at.parse().ok()? }))
}

fn connection(c: &ConnectionRow, lcore: usize) -> ConnectionStatus {
    ConnectionStatus {
        protocol: protocol_of(c.protocol),
        client: c.client,
        virtual_address: c.virtual_address,
        server: c.server,
        method: c.method,
        state: c.state.name().into(),
        expires_in_ms: c.expires_in.into(),
        lcore: lcore as u8,
    }
}

/// Counters of lcores and ports.
pub(super) async fn stats(controller: &Controller) -> Reply {
    let queries = controller.queries.lock().await;
    let mut lcores = Vec::new();
    for (n, (query_box, counters)) in queries.iter().zip(controller.fleet.lcores()).enumerate() {
        let question = Query::Counters(Box::new(CounterCopy::of(counters)));
        // From the lcore itself, so that all are of one moment between bursts; of a silent one as they are.
        let copy = match Controller::ask(query_box, question).await {
            Some(Query::Counters(copy)) => *copy,
            _ => CounterCopy::of(counters),
        };
        lcores.push(lcore_stats(n, &copy, controller));
    }
    drop(queries);
    let ports = controller.ports.iter().enumerate().map(|(n, open)| {
        let stats = open.port.stats();
        PortStats {
            port: n as u16,
            device: open.port.device().into(),
            mirror: open.interface.clone(),
            mac: open.port.mac().to_string(),
            rss: rss_word(&open.port).to_owned(),
            rx_packets: stats.rx_packets,
            rx_bytes: stats.rx_bytes,
            tx_packets: stats.tx_packets,
            tx_bytes: stats.tx_bytes,
            rx_missed: stats.rx_missed,
            rx_errors: stats.rx_errors,
            rx_no_mbuf: stats.rx_no_mbuf,
            tx_errors: stats.tx_errors,
            wrong_lcore: open.counters.iter().map(|queue| queue.wrong_lcore.get()).collect(),
        }
    });
    let (totals, rates) = {
        let state = controller.state();
        (state.compiler.all_totals(), state.estimates.all())
    };
    Reply::Stats(Stats {
        counters: counters(totals),
        rates: per_second(rates),
        uptime_ms: u64::try_from(controller.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        conserved: lcores.iter().all(|lcore: &LcoreStats| lcore.conserved),
        lcores,
        ports: ports.collect(),
        slow_path: controller.slow_path.as_ref().map(|counters| counters.read()).unwrap_or_default(),
    })
}

fn lcore_stats(n: usize, copy: &CounterCopy, controller: &Controller) -> LcoreStats {
    let reasons: BTreeMap<String, u64> = Reason::ALL
        .iter()
        .zip(copy.reasons)
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.name().to_owned(), count))
        .collect();
    LcoreStats {
        lcore: n as u8,
        cpu: controller.cpus.get(n).copied().unwrap_or_default(),
        received: copy.received,
        taken_over: copy.taken_over,
        forwarded: copy.forwarded,
        handed_over: copy.handed_over,
        punted: copy.punted,
        dropped: copy.dropped,
        held: copy.held,
        pieces: copy.pieces,
        from_kernel: copy.from_kernel,
        from_kernel_lost: copy.from_kernel_lost,
        connections: copy.connections,
        capacity: controller.capacity.into(),
        loops: copy.loops,
        busy_loops: copy.busy_loops,
        conserved: copy.conserved,
        reasons,
    }
}

/// Time from receive burst to transmit burst.
pub(super) fn latency(controller: &Controller) -> Reply {
    let mut all = LatencyCounters::histogram();
    let (mut lcores, mut distributions) = (Vec::new(), Vec::new());
    for (n, counters) in controller.fleet.lcores().iter().enumerate() {
        let one = counters.latency.to_histogram();
        counters.latency.add_to(&mut all);
        lcores.push(LatencySummary::from_histogram(Some(n as u8), &one));
        distributions.push(LatencyDistribution::from_histogram(n as u8, &one));
    }
    Reply::Latency(Latency { lcores, all: LatencySummary::from_histogram(None, &all), distributions })
}

/// All that was measured of that time.
pub(super) fn histograms(controller: &Controller) -> Reply {
    let lcores = controller
        .fleet
        .lcores()
        .iter()
        .enumerate()
        .map(|(n, counters)| LatencyHistogram::of(n as u8, &counters.latency.to_histogram()));
    let histograms = lcores.collect();
    let uptime_ms = u64::try_from(controller.since.elapsed().as_millis()).unwrap_or(u64::MAX);
    Reply::Histograms(HistogramList { uptime_ms, histograms })
}
