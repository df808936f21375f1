//! All drains, those that go on and those that have ended lately.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Drain, End, Plan};
use crate::model::{Service, ServiceKey, Weight};
use crate::protocol::{DrainList, DrainStatus};

/// For so long an ended drain can be asked about.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// So many ended drains can be asked about, at most.
const MOST: usize = 1024;

/// A drain whose end has come; the real server is to be removed, or kept with weight 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The virtual service.
    pub service: ServiceKey,
    /// The real server.
    pub server: SocketAddr,
    /// Whether its connections are gone or its time is over.
    pub end: End,
    /// Whether it stays.
    pub keep: bool,
}

#[derive(Clone, Debug)]
struct Ended {
    service: ServiceKey,
    server: SocketAddr,
    drain: Drain,
    end: End,
    at: Instant,
}

/// All drains of a director.
#[derive(Clone, Debug, Default)]
pub struct Drains {
    going: BTreeMap<(ServiceKey, SocketAddr), Drain>,
    /// The oldest first, no real server twice.
    ended: VecDeque<Ended>,
}

impl Drains {
    /// Begins a drain of a real server that had this weight and has so many connections, active and inactive. One that
    /// is drained already has another plan from now on, and keeps the weight that it will be given back.
    pub fn begin(
        &mut self,
        (service, server): (ServiceKey, SocketAddr),
        plan: Plan,
        weight: Weight,
        left: (u64, u64),
        now: Instant,
    ) {
        match self.going.get_mut(&(service, server)) {
            Some(drain) => drain.replan(plan, now),
            None => {
                self.ended.retain(|ended| (ended.service, ended.server) != (service, server));
                self.going.insert((service, server), Drain::new(plan, weight, left, now));
            }
        }
    }

    /// The drain of a real server, if it goes on.
    pub fn get(&self, service: ServiceKey, server: SocketAddr) -> Option<&Drain> {
        self.going.get(&(service, server))
    }

    /// Whether there is none that goes on.
    pub fn is_empty(&self) -> bool {
        self.going.is_empty()
    }

    /// A virtual service is from now on like this, or gone. Drains of real servers that are gone or have a weight again
    /// end by that.
    pub fn follow(&mut self, key: ServiceKey, service: Option<&Service>, now: Instant) {
        let over: Vec<(SocketAddr, End)> = self
            .going
            .keys()
            .filter(|(service, _)| *service == key)
            .filter_map(|&(_, address)| {
                let server = service.and_then(|s| s.servers.iter().find(|s| s.address == address));
                match server {
                    None => Some((address, End::Deleted)),
                    Some(server) if server.weight != Weight(0) => Some((address, End::Edited)),
                    Some(_) => None,
                }
            })
            .collect();
        for (server, end) in over {
            if let Some(drain) = self.take(key, server) {
                self.close(key, server, drain, end, now);
            }
        }
    }

    /// Counts what is left, and says whose end has come. They go on, and are said again, until they are
    /// taken out.
    pub fn count(&mut self, now: Instant, left: impl Fn(ServiceKey, SocketAddr) -> (u64, u64)) -> Vec<Due> {
        let due = |(&(service, server), drain): (&(ServiceKey, SocketAddr), &mut Drain)| {
            let end = drain.record(left(service, server), now)?;
            Some(Due { service, server, end, keep: drain.plan.keep })
        };
        self.going.iter_mut().filter_map(due).collect()
    }

    /// Takes a drain that goes on out of the list, for its end to be carried out, of which it must not hear as of an
    /// edit. Then it is for [`Drains::close`], or for [`Drains::resume`].
    pub fn take(&mut self, service: ServiceKey, server: SocketAddr) -> Option<Drain> {
        self.going.remove(&(service, server))
    }

    /// A drain has ended.
    pub fn close(&mut self, service: ServiceKey, server: SocketAddr, drain: Drain, end: End, now: Instant) {
        while self.ended.len() >= MOST {
            self.ended.pop_front();
        }
        self.ended.push_back(Ended { service, server, drain, end, at: now });
    }

    /// The end of a drain could not be carried out: it goes on.
    pub fn resume(&mut self, service: ServiceKey, server: SocketAddr, drain: Drain) {
        self.going.insert((service, server), drain);
    }

    /// Drains that go on and those that have ended within the last hour, of all real servers that fit.
    pub fn list(
        &self,
        service: Option<ServiceKey>,
        server: Option<SocketAddr>,
        now: Instant,
        comes_back: impl Fn(ServiceKey) -> bool,
    ) -> DrainList {
        let fits = |key: ServiceKey, address: SocketAddr| {
            service.is_none_or(|service| service == key) && server.is_none_or(|server| server == address)
        };
        let going = self.going.iter().filter(|((key, address), _)| fits(*key, *address)).map(
            |(&(service, server), drain)| DrainStatus {
                persistent_clients: comes_back(service),
                ..status((service, server), drain, now)
            },
        );
        let ended = self.ended.iter().rev().filter(|ended| {
            fits(ended.service, ended.server) && now.saturating_duration_since(ended.at) < REMEMBERED
        });
        let ended = ended.map(|ended| DrainStatus {
            ended: Some(ended.end),
            ended_ms: Some(milliseconds(now.saturating_duration_since(ended.at))),
            deadline_ms: 0,
            estimate_ms: None,
            ..status((ended.service, ended.server), &ended.drain, now)
        });
        DrainList { drains: going.chain(ended).collect() }
    }
}

fn status((service, server): (ServiceKey, SocketAddr), drain: &Drain, now: Instant) -> DrainStatus {
    DrainStatus {
        service,
        server,
        weight: drain.weight,
        keep: drain.plan.keep,
        active_only: drain.plan.active_only,
        begun_ms: milliseconds(now.saturating_duration_since(drain.begun)),
        deadline_ms: milliseconds(drain.deadline.saturating_duration_since(now)),
        at_first: drain.at_first.0.saturating_add(drain.at_first.1),
        active: drain.left.0,
        inactive: drain.left.1,
        estimate_ms: drain.estimate().map(milliseconds),
        persistent_clients: false,
        ended: None,
        ended_ms: None,
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "drains_tests.rs"]
mod tests;
