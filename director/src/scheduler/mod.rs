//! Which real server gets a new connection: IPVS's schedulers, one file each.
//!
//! Real servers are walked in IPVS's order, the one added last first (`list_add_rcu` in Linux
//! `ip_vs_ctl.c`). State that changes with each choice is shared by all lcores and touched only when
//! a connection is created; where it follows how many connections there are, each lcore has its own.

mod account;
mod cache;
mod copy;
mod dh;
mod fo;
mod hash;
mod lblc;
mod lblcr;
mod lc;
mod least;
mod mh;
mod moves;
mod nq;
mod ovf;
mod rr;
mod sed;
mod sh;
mod twos;
mod wlc;
mod wrr;

use std::net::IpAddr;

use control::model::{self, SchedulerFlags, Settings, Thresholds};

use crate::id::LcoreId;
use crate::service::ServerId;
use crate::time::Tick;

pub use moves::{Share, moved};

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
    /// With how many connections it is overloaded.
    pub thresholds: Thresholds,
}

impl Candidate {
    /// Whether it gets new connections: it has a weight and is not overloaded (Linux `IP_VS_DEST_F_OVERLOAD`).
    #[inline]
    pub fn is_available(&self, load: &impl Load) -> bool {
        self.weight > 0 && !(self.thresholds.any() && load.is_overloaded(self.server))
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

    /// Whether a real server has reached its upper threshold and not fallen below its lower one since.
    fn is_overloaded(&self, server: ServerId) -> bool;

    /// Notes whether it has.
    fn set_overloaded(&self, server: ServerId, overloaded: bool);
}

/// What IPVS compares connections by: an active one counts 256 times as much as an inactive one on top of its
/// own count (`ip_vs_dest_conn_overhead` in Linux `ip_vs.h`).
fn overhead(active: u64, inactive: u64) -> u64 {
    active.saturating_mul(257).saturating_add(inactive)
}

/// Candidates from the greatest weight down, equals in their order; those without weight left out.
fn by_weight(candidates: &[Candidate]) -> Box<[u32]> {
    let mut order: Vec<u32> = (0..candidates.len() as u32).collect();
    order.retain(|at| candidates[*at as usize].weight > 0);
    order.sort_by_key(|at| std::cmp::Reverse(candidates[*at as usize].weight));
    order.into()
}

/// A scheduler with its state.
#[derive(Debug)]
pub enum Scheduler {
    /// Round robin.
    Rr(rr::RoundRobin),
    /// Weighted round robin.
    Wrr(wrr::WeightedRoundRobin),
    /// One that looks for the least: `lc`, `wlc`, `sed`, `nq`.
    Least(model::Scheduler, least::LeastLoaded),
    /// Locality-based least connection.
    Lblc(lblc::LocalityBased),
    /// Locality-based least connection with replication.
    Lblcr(lblcr::Replicating),
    /// Destination hashing.
    Dh(dh::DestinationHashing),
    /// Source hashing.
    Sh(sh::SourceHashing),
    /// Maglev hashing.
    Mh(mh::MaglevHashing),
    /// Weighted failover.
    Fo(fo::Failover),
    /// Weighted overflow.
    Ovf(ovf::Overflow),
    /// The better of two random choices.
    Twos(twos::TwoChoices),
}

impl Scheduler {
    /// Whether lcores have to say when the connections of a real server change
    /// ([`Scheduler::load_changed`]), in a service with so many candidates.
    pub fn follows_load(kind: model::Scheduler, candidates: usize) -> bool {
        use model::Scheduler::{Lblc, Lblcr, Lc, Nq, Sed, Wlc};
        matches!(kind, Lc | Wlc | Lblc | Lblcr | Sed | Nq) && least::LeastLoaded::follows_load(candidates)
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
        // What `previous` has, if it was of the same kind.
        macro_rules! same {
            ($kind:ident) => {
                match previous {
                    Some((Scheduler::$kind(scheduler), _)) => Some(scheduler),
                    _ => None,
                }
            };
        }
        let least = |score| {
            let previous = match previous {
                Some((Scheduler::Least(before, least), _)) if *before == kind => Some(least),
                _ => None,
            };
            Scheduler::Least(kind, least::LeastLoaded::build(score, candidates, previous, lcores))
        };
        match kind {
            model::Scheduler::Rr => {
                let previous = same!(Rr).zip(previous.map(|(_, candidates)| candidates));
                Scheduler::Rr(rr::RoundRobin::build(candidates, previous))
            }
            model::Scheduler::Wrr => Scheduler::Wrr(wrr::WeightedRoundRobin::build(candidates, same!(Wrr))),
            model::Scheduler::Lc => least(least::Score::Lc),
            model::Scheduler::Wlc => least(least::Score::Wlc),
            model::Scheduler::Sed => least(least::Score::Sed),
            model::Scheduler::Nq => least(least::Score::Nq),
            model::Scheduler::Lblc => {
                Scheduler::Lblc(lblc::LocalityBased::build(candidates, same!(Lblc), lcores))
            }
            model::Scheduler::Lblcr => {
                Scheduler::Lblcr(lblcr::Replicating::build(candidates, same!(Lblcr), lcores))
            }
            model::Scheduler::Dh => Scheduler::Dh(dh::DestinationHashing::build(candidates)),
            model::Scheduler::Sh => Scheduler::Sh(sh::SourceHashing::build(candidates, flags)),
            model::Scheduler::Mh => Scheduler::Mh(mh::MaglevHashing::build(candidates, flags)),
            model::Scheduler::Fo => Scheduler::Fo(fo::Failover::build(candidates)),
            model::Scheduler::Ovf => Scheduler::Ovf(ovf::Overflow::build(candidates)),
            model::Scheduler::Twos => {
                Scheduler::Twos(twos::TwoChoices::build(candidates, same!(Twos), lcores))
            }
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
        now: Tick,
        settings: &Settings,
    ) -> Option<usize> {
        match self {
            Scheduler::Rr(rr) => rr.choose(candidates, load),
            Scheduler::Wrr(wrr) => wrr.choose(candidates, load),
            Scheduler::Least(_, least) => least.choose(candidates, load, lcore),
            Scheduler::Lblc(lblc) => lblc.choose(candidates, request, load, lcore, now, settings),
            Scheduler::Lblcr(lblcr) => lblcr.choose(candidates, request, load, lcore, now, settings),
            Scheduler::Dh(dh) => dh.choose(candidates, request, load),
            Scheduler::Sh(sh) => sh.choose(candidates, request, load),
            Scheduler::Mh(mh) => mh.choose(candidates, request, load),
            Scheduler::Fo(fo) => fo.choose(candidates, load),
            Scheduler::Ovf(ovf) => ovf.choose(candidates, load),
            Scheduler::Twos(twos) => twos.choose(candidates, load, lcore),
        }
    }

    /// Notes that on an lcore the connections of a candidate are not what they were. That lcore calls
    /// it, each time, after it has changed its counters.
    pub fn load_changed(&self, candidates: &[Candidate], at: usize, load: &impl Load, lcore: LcoreId) {
        match self {
            Scheduler::Least(_, least) => least.load_changed(candidates, at, load, lcore),
            Scheduler::Lblc(lblc) => lblc.load_changed(candidates, at, load, lcore),
            Scheduler::Lblcr(lblcr) => lblcr.load_changed(candidates, at, load, lcore),
            Scheduler::Rr(_)
            | Scheduler::Wrr(_)
            | Scheduler::Dh(_)
            | Scheduler::Sh(_)
            | Scheduler::Mh(_)
            | Scheduler::Fo(_)
            | Scheduler::Ovf(_)
            | Scheduler::Twos(_) => {}
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
                // None has any unless the test's load says so.
                thresholds: Thresholds { upper: u32::MAX, lower: 0 },
            })
            .collect()
    }

    pub(crate) fn request(n: u32) -> Request {
        let source = IpAddr::V4((0x0a00_0100 + n).into());
        Request { source, source_port: 40_000, destination: [10, 99, 0, 1].into() }
    }

    /// So many active and inactive connections, by number of the real server.
    pub(crate) struct Fixed(pub(crate) &'static [(u64, u64)]);

    /// Nobody has any, but these are overloaded.
    pub(crate) struct Overloaded<'a>(pub(crate) &'a [u32]);

    /// Nobody has any.
    pub(crate) const NONE: Overloaded<'static> = Overloaded(&[]);

    /// Connections that a test sets as it goes on.
    pub(crate) struct Table(Vec<std::cell::Cell<(u64, u64)>>);

    impl Table {
        pub(crate) fn new(servers: usize) -> Table {
            Table((0..servers).map(|_| Default::default()).collect())
        }

        pub(crate) fn set(&self, server: usize, connections: (u64, u64)) {
            self.0[server].set(connections);
        }
    }

    /// All connections are on one lcore, and nobody notes anything.
    macro_rules! load {
        ($type:ty, |$self:ident, $server:ident| $connections:expr, $overloaded:expr) => {
            impl Load for $type {
                fn connections(&$self, $server: ServerId) -> (u64, u64) {
                    $connections
                }

                fn connections_on(&self, _: LcoreId, server: ServerId) -> (u64, u64) {
                    self.connections(server)
                }

                fn is_overloaded(&$self, $server: ServerId) -> bool {
                    $overloaded
                }

                fn set_overloaded(&self, _: ServerId, _: bool) {}
            }
        };
    }

    load!(Fixed, |self, server| self.0[server.0 as usize], server.0 == u32::MAX);
    load!(Table, |self, server| self.0[server.0 as usize].get(), server.0 == u32::MAX);
    load!(Overloaded<'_>, |self, server| (0, u64::from(server.0 == u32::MAX)), self.0.contains(&server.0));

    /// Whom a scheduler that looks for the least chooses.
    pub(super) fn least(score: least::Score, candidates: &[Candidate], load: &impl Load) -> Option<usize> {
        least::LeastLoaded::build(score, candidates, None, 1).choose(candidates, load, LcoreId(0))
    }

    /// Weighted least connection by its definition: every candidate is looked at.
    pub(crate) fn oracle(candidates: &[Candidate], load: &impl Load) -> Option<usize> {
        let overhead = |c: &Candidate| {
            let (active, inactive) = load.connections(c.server);
            u128::from(active) * 257 + u128::from(inactive)
        };
        let mut best: Option<(usize, u128)> = None;
        for (at, candidate) in candidates.iter().enumerate().filter(|(_, c)| c.is_available(load)) {
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
