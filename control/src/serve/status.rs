//! What the status page shows, as JSON. A page of it: there may be thousands of services.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde::Serialize;

use super::query::{Order, Query};
use crate::health::Standing;
use crate::metrics::Reading;
use crate::model::{ForwardingMethod, ServiceKey};
use crate::protocol::{
    ClientError, Counters, LatencyBucket, LatencySummary, LcoreStats, Outcome, PortStats, RateList, Rates,
    ServerHealth, ServiceHealth, ServiceRates, ServiceStatus,
};

/// Up to so many services are opened unasked.
const OPEN_UNASKED: usize = 12;
/// Most real servers of a service that are shown.
const MOST_SERVERS: usize = 256;

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Status<'a> {
    /// Why the director did not answer; null: it did.
    error: Option<String>,
    /// What it answered; null: it did not.
    director: Option<Director<'a>>,
}

#[derive(Debug, Serialize)]
struct Director<'a> {
    version: &'a str,
    dpdk: &'a str,
    uptime_ms: u64,
    conserved: bool,
    counters: Counters,
    rates: Rates,
    active: u64,
    inactive: u64,
    lcores: &'a [LcoreStats],
    ports: &'a [PortStats],
    drops: Vec<Drop<'a>>,
    latency: Latency<'a>,
    services: Services<'a>,
}

/// Packets that were dropped for a reason.
#[derive(Debug, Serialize)]
struct Drop<'a> {
    reason: &'a str,
    meaning: &'a str,
    count: u64,
}

#[derive(Debug, Serialize)]
struct Latency<'a> {
    all: LatencySummary,
    lcores: &'a [LatencySummary],
    /// Of all lcores together.
    buckets: Vec<LatencyBucket>,
}

/// A page of services.
#[derive(Debug, Serialize)]
struct Services<'a> {
    /// How many there are.
    total: usize,
    /// How many of them are in trouble.
    troubled: usize,
    /// How many real servers there are.
    servers: usize,
    /// How many services the query is about.
    found: usize,
    /// The first of them on this page.
    from: usize,
    page: Vec<Service<'a>>,
}

#[derive(Debug, Serialize)]
struct Service<'a> {
    name: String,
    scheduler: String,
    persistent: bool,
    one_packet: bool,
    active: u64,
    inactive: u64,
    counters: Counters,
    rates: Rates,
    trouble: Trouble,
    quorum: Option<Quorum>,
    /// How many real servers it has, and how many of them get new connections.
    total: usize,
    available: usize,
    /// How many of them the query is about.
    found: usize,
    open: bool,
    /// Those of them that are shown; none while it is not open.
    servers: Vec<Server<'a>>,
}

#[derive(Debug, Serialize)]
struct Quorum {
    has: bool,
    quorum: u32,
    live_weight: u64,
    sorry_server: Option<SocketAddr>,
}

#[derive(Debug, Serialize)]
struct Server<'a> {
    address: SocketAddr,
    method: ForwardingMethod,
    weight: u16,
    effective_weight: u16,
    active: u64,
    inactive: u64,
    counters: Counters,
    rates: Rates,
    overloaded: bool,
    standing: Option<Standing>,
    /// What its checks say that fail.
    failures: Vec<Failure<'a>>,
}

#[derive(Debug, Serialize)]
struct Failure<'a> {
    check: &'a str,
    error: &'a str,
}

/// How a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Trouble {
    /// Nobody serves, or the quorum is lost.
    Down,
    /// Some real servers do not serve as they should.
    Degraded,
    /// None.
    None,
}

/// What is known of services beside their list.
struct Known<'a> {
    health: HashMap<ServiceKey, &'a ServiceHealth>,
    rates: HashMap<ServiceKey, &'a ServiceRates>,
}

impl<'a> Status<'a> {
    /// What the query is about.
    pub(super) fn of(
        query: &Query,
        reading: Result<&'a Reading, &ClientError>,
        rates: Option<&'a RateList>,
    ) -> Status<'a> {
        match reading {
            Ok(reading) => Status { error: None, director: Some(Director::of(query, reading, rates)) },
            Err(error) => Status { error: Some(error.to_string()), director: None },
        }
    }

    /// As JSON.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| unreachable!("every key is a string"))
    }
}

impl<'a> Director<'a> {
    fn of(query: &Query, reading: &'a Reading, rates: Option<&'a RateList>) -> Director<'a> {
        let Reading { version, stats, latency, services, health, .. } = reading;
        let known = Known {
            health: health.health.iter().map(|health| (health.service, health)).collect(),
            rates: rates.iter().flat_map(|list| &list.services).map(|rates| (rates.service, rates)).collect(),
        };
        let all = || services.services.iter().flat_map(|service| &service.servers);
        Director {
            version: &version.director,
            dpdk: &version.dpdk,
            uptime_ms: stats.uptime_ms,
            conserved: stats.conserved,
            counters: stats.counters,
            rates: stats.rates,
            active: all().map(|server| server.active).sum(),
            inactive: all().map(|server| server.inactive).sum(),
            lcores: &stats.lcores,
            ports: &stats.ports,
            drops: drops(reading),
            latency: Latency { all: latency.all, lcores: &latency.lcores, buckets: merged(reading) },
            services: Services::of(query, &services.services, &known),
        }
    }
}

/// By how many they are.
fn drops(reading: &Reading) -> Vec<Drop<'_>> {
    let dropped = reading.reasons.reasons.iter().filter(|about| about.outcome == Outcome::Dropped);
    let counted = dropped.map(|about| {
        let count = reading.stats.lcores.iter().filter_map(|lcore| lcore.reasons.get(&about.reason)).sum();
        Drop { reason: &about.reason, meaning: &about.meaning, count }
    });
    let mut drops: Vec<Drop<'_>> = counted.filter(|drop| drop.count > 0).collect();
    drops.sort_by_key(|drop| std::cmp::Reverse(drop.count));
    drops
}

fn merged(reading: &Reading) -> Vec<LatencyBucket> {
    let mut sums = std::collections::BTreeMap::new();
    for bucket in reading.latency.distributions.iter().flat_map(|one| &one.buckets) {
        *sums.entry(bucket.below_ns).or_default() += bucket.count;
    }
    sums.into_iter().map(|(below_ns, count)| LatencyBucket { below_ns, count }).collect()
}

impl<'a> Services<'a> {
    fn of(query: &Query, all: &'a [ServiceStatus], known: &Known<'a>) -> Services<'a> {
        let mut troubled = 0;
        let mut found: Vec<(&ServiceStatus, String, Trouble)> = Vec::new();
        for service in all {
            let trouble = known.trouble(service);
            troubled += usize::from(trouble != Trouble::None);
            let name = service.service.to_string();
            let about = query.finds(&name)
                || service.servers.iter().any(|server| query.finds(&server.address.to_string()));
            if about && (!query.troubled || trouble != Trouble::None) {
                found.push((service, name, trouble));
            }
        }
        match query.order {
            Order::Name => {}
            Order::Trouble => found.sort_by_key(|(_, _, trouble)| *trouble),
            Order::Traffic => found.sort_by_key(|(service, _, _)| {
                std::cmp::Reverse(known.of(service.service).inpps + known.of(service.service).outpps)
            }),
            Order::Connections => found.sort_by_key(|(service, _, _)| {
                std::cmp::Reverse(
                    service.servers.iter().map(|server| server.active + server.inactive).sum::<u64>(),
                )
            }),
        }
        // What has gone away since leaves its last page, not an empty one.
        let from = query.from.min(found.len().saturating_sub(1) / query.limit * query.limit);
        let unasked = found.len() <= OPEN_UNASKED;
        let shown = found.iter().skip(from).take(query.limit);
        let page = shown
            .map(|(service, name, trouble)| Service::of(query, service, name, *trouble, unasked, known))
            .collect();
        let servers = all.iter().map(|service| service.servers.len()).sum();
        Services { total: all.len(), troubled, servers, found: found.len(), from, page }
    }
}

impl<'a> Known<'a> {
    fn of(&self, service: ServiceKey) -> Rates {
        self.rates.get(&service).map(|rates| rates.rates).unwrap_or_default()
    }

    fn trouble(&self, service: &ServiceStatus) -> Trouble {
        let health = self.health.get(&service.service);
        let quorum_lost = health.is_some_and(|health| !health.has_quorum);
        let serves = |server: &crate::protocol::ServerStatus| {
            let out =
                matches!(server.health, Some(Standing::Inhibited | Standing::Removed | Standing::Aside));
            server.weight.0 > 0 && !server.overloaded && !out
        };
        let available = service.servers.iter().filter(|server| serves(server)).count();
        if quorum_lost || available == 0 {
            return Trouble::Down;
        }
        let ill = service.servers.iter().any(|server| {
            server.overloaded || !matches!(server.health, None | Some(Standing::In | Standing::Ramping))
        });
        if ill { Trouble::Degraded } else { Trouble::None }
    }
}

impl<'a> Service<'a> {
    fn of(
        query: &Query,
        status: &'a ServiceStatus,
        name: &str,
        trouble: Trouble,
        unasked: bool,
        known: &Known<'a>,
    ) -> Service<'a> {
        let health = known.health.get(&status.service).copied();
        let healths: HashMap<SocketAddr, &ServerHealth> =
            health.iter().flat_map(|health| &health.servers).map(|server| (server.address, server)).collect();
        let rates = known.rates.get(&status.service).copied();
        let rates_of: HashMap<SocketAddr, Rates> = rates
            .iter()
            .flat_map(|rates| &rates.servers)
            .map(|server| (server.address, server.rates))
            .collect();
        let whole = query.finds(name);
        let mut servers: Vec<Server<'a>> = Vec::new();
        let (mut found, mut available) = (0, 0);
        let open = query.opens(name, unasked);
        for server in &status.servers {
            let health = healths.get(&server.address).copied();
            let effective_weight = health.map_or(server.weight, |health| health.effective_weight).0;
            available += usize::from(effective_weight > 0 && !server.overloaded);
            if !whole && !query.finds(&server.address.to_string()) {
                continue;
            }
            found += 1;
            if !open || servers.len() >= MOST_SERVERS {
                continue;
            }
            let failing = health.iter().flat_map(|health| &health.checks).filter(|check| !check.up);
            servers.push(Server {
                address: server.address,
                method: server.method,
                weight: server.weight.0,
                effective_weight,
                active: server.active,
                inactive: server.inactive,
                counters: server.counters,
                rates: rates_of.get(&server.address).copied().unwrap_or_default(),
                overloaded: server.overloaded,
                standing: health.map(|health| health.standing).or(server.health),
                failures: failing
                    .map(|check| Failure {
                        check: &check.check,
                        error: check.error.as_deref().unwrap_or("has not been passed yet"),
                    })
                    .collect(),
            });
        }
        Service {
            name: name.to_owned(),
            scheduler: status.scheduler.to_string(),
            persistent: status.persistence.is_some(),
            one_packet: status.one_packet,
            active: status.servers.iter().map(|server| server.active).sum(),
            inactive: status.servers.iter().map(|server| server.inactive).sum(),
            counters: status.counters,
            rates: rates.map(|rates| rates.rates).unwrap_or_default(),
            trouble,
            quorum: health.map(|health| Quorum {
                has: health.has_quorum,
                quorum: health.quorum,
                live_weight: health.live_weight,
                sorry_server: health.sorry_server,
            }),
            total: status.servers.len(),
            available,
            found,
            open,
            servers,
        }
    }
}
