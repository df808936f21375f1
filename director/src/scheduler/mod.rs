//! Which real server gets a new connection: IPVS's schedulers, one file each.
//!
//! Real servers are walked in IPVS's order, the one added last first (`list_add_rcu` in Linux
//! `ip_vs_ctl.c`). State that changes with each choice is shared by all lcores and touched only when
//! a connection is created; where it follows how many connections there are, each lcore has its own.

mod hash;
mod least;
mod mh;
mod rr;
mod sh;
mod wlc;
mod wrr;

use std::net::IpAddr;

use control::model::{self, SchedulerFlags, Settings};

use crate::id::LcoreId;
use crate::service::ServerId;
use crate::time::Tick;

/// A real server, as a scheduler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which one.
    pub server: ServerId,
    /// Its address, for schedulers whose table depends on it.
    pub address: std::net::SocketAddr,
    /// Its weight; 0 gets no new connections.
    pub weight: u16,
    /// The last weight that was not 0.
    pub last_weight: u16,
}

impl Candidate {
    #[inline]
    fn is_available(&self) -> bool {
        self.weight > 0
    }
}

/// What asks for a real server.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The client's address.
    pub source: IpAddr,
    /// The client's port.
    pub source_port: u16,
    /// The virtual address.
    pub destination: IpAddr,
}

/// How many connections real servers have.
pub trait Load {
    /// Active and inactive connections of a real server, over all lcores.
    fn connections(&self, server: ServerId) -> (u64, u64);

    /// Those of them that are on one lcore.
    fn connections_on(&self, lcore: LcoreId, server: ServerId) -> (u64, u64);
}

/// A scheduler with its state.
#[derive(Debug)]
pub enum Scheduler {
    /// Round robin.
    Rr(rr::RoundRobin),
    /// Weighted round robin.
    Wrr(wrr::WeightedRoundRobin),
    /// Weighted least connection.
    Wlc(least::LeastLoaded),
    /// Source hashing.
    Sh(sh::SourceHashing),
    /// Maglev hashing.
    Mh(mh::MaglevHashing),
}

impl Scheduler {
    /// Whether lcores have to say when the connections of a real server change
    /// ([`Scheduler::load_changed`]), in a service with so many candidates.
    pub fn follows_load(kind: model::Scheduler, candidates: usize) -> bool {
        !matches!(
            kind,
            model::Scheduler::Rr | model::Scheduler::Wrr | model::Scheduler::Sh | model::Scheduler::Mh
        ) && least::LeastLoaded::follows_load(candidates)
    }

    /// The scheduler of a service with these candidates, going on from where `previous` was, if that
    /// was of the same kind. So many lcores will use it.
    pub fn build(
        kind: model::Scheduler,
        flags: SchedulerFlags,
        candidates: &[Candidate],
        previous: Option<(&Scheduler, &[Candidate])>,
        lcores: usize,
    ) -> Scheduler {
        match kind {
            model::Scheduler::Rr => Scheduler::Rr(rr::RoundRobin::build(
                candidates,
                match previous {
                    Some((Scheduler::Rr(rr), old)) => Some((rr, old)),
                    _ => None,
                },
            )),
            model::Scheduler::Wrr => Scheduler::Wrr(wrr::WeightedRoundRobin::build(
                candidates,
                match previous {
                    Some((Scheduler::Wrr(wrr), _)) => Some(wrr),
                    _ => None,
                },
            )),
            // Those that have no file of their own yet choose as the default does.
            model::Scheduler::Wlc
            | model::Scheduler::Lc
            | model::Scheduler::Lblc
            | model::Scheduler::Lblcr
            | model::Scheduler::Dh
            | model::Scheduler::Sed
            | model::Scheduler::Nq
            | model::Scheduler::Fo
            | model::Scheduler::Ovf
            | model::Scheduler::Twos => Scheduler::Wlc(least::LeastLoaded::build(
                least::Score::Wlc,
                candidates,
                match previous {
                    Some((Scheduler::Wlc(wlc), _)) => Some(wlc),
                    _ => None,
                },
                lcores,
            )),
            model::Scheduler::Sh => Scheduler::Sh(sh::SourceHashing::build(candidates, flags)),
            model::Scheduler::Mh => Scheduler::Mh(mh::MaglevHashing::build(candidates, flags)),
        }
    }

    /// Chooses for an lcore, at a moment, among the candidates that the scheduler was built with; `None` where
    /// none can be had.
    pub fn choose(
        &self,
        candidates: &[Candidate],
        request: Request,
        load: &impl Load,
        lcore: LcoreId,
        _now: Tick,
        _settings: &Settings,
    ) -> Option<usize> {
        match self {
            Scheduler::Rr(rr) => rr.choose(candidates),
            Scheduler::Wrr(wrr) => wrr.choose(candidates),
            Scheduler::Wlc(wlc) => wlc.choose(candidates, load, lcore),
            Scheduler::Sh(sh) => sh.choose(candidates, request),
            Scheduler::Mh(mh) => mh.choose(candidates, request),
        }
    }

    /// Notes that on an lcore the connections of a candidate are not what they were. That lcore calls
    /// it, each time, after it has changed its counters.
    pub fn load_changed(&self, candidates: &[Candidate], at: usize, load: &impl Load, lcore: LcoreId) {
        match self {
            Scheduler::Wlc(wlc) => wlc.load_changed(candidates, at, load, lcore),
            Scheduler::Rr(_) | Scheduler::Wrr(_) | Scheduler::Sh(_) | Scheduler::Mh(_) => {}
        }
    }
}

/// Greatest common divisor, by which weights are brought down.
fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Candidates with these weights; the n-th is real server n at 10.0.2.(11 + n):80.
    pub(crate) fn candidates(weights: &[u16]) -> Vec<Candidate> {
        weights
            .iter()
            .enumerate()
            .map(|(i, &weight)| Candidate {
                server: ServerId(i as u32),
                address: (std::net::Ipv4Addr::from(0x0a00_020b + i as u32), 80).into(),
                weight,
                last_weight: weight,
            })
            .collect()
    }

    pub(crate) fn request(n: u32) -> Request {
        let source = IpAddr::V4((0x0a00_0100 + n).into());
        Request { source, source_port: 40_000, destination: [10, 99, 0, 1].into() }
    }

    /// Weighted least connection by its definition: every candidate is looked at.
    pub(crate) fn oracle(candidates: &[Candidate], load: &impl Load) -> Option<usize> {
        let overhead = |c: &Candidate| {
            let (active, inactive) = load.connections(c.server);
            u128::from(active) * 257 + u128::from(inactive)
        };
        let mut best: Option<(usize, u128)> = None;
        for (at, candidate) in candidates.iter().enumerate().filter(|(_, c)| c.is_available()) {
            let here = overhead(candidate);
            // least/its weight > here/our weight, without a division.
            let better = best.is_none_or(|(least, overhead)| {
                overhead * u128::from(candidate.weight) > here * u128::from(candidates[least].weight)
            });
            if better {
                best = Some((at, here));
            }
        }
        best.map(|(at, _)| at)
    }
}
