//! Locality-based least connection: a destination address keeps its real server until that is gone,
//! unavailable or overloaded; then weighted least connection names another (Linux `ip_vs_lblc.c`).
//!
//! "Overloaded" means here, as in the kernel: more active connections than its weight, while somebody else
//! has less than half as many as their weight. The kernel goes on using one that has reached its upper
//! threshold; here nobody does.

use std::sync::Arc;

use control::model::Settings;

use super::cache::{Busy, Cache};
use super::least::{LeastLoaded, Score};
use super::{Candidate, Load, Request};
use crate::id::LcoreId;
use crate::service::ServerId;
use crate::time::{Tick, milliseconds};

/// What is remembered of a destination address: its real server, and which candidate that was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub(super) server: ServerId,
    at: u32,
}

impl Default for Holder {
    fn default() -> Self {
        Holder { server: ServerId(u32::MAX), at: 0 }
    }
}

impl Holder {
    pub(super) fn of(candidates: &[Candidate], at: usize) -> Holder {
        Holder { server: candidates[at].server, at: at as u32 }
    }

    /// Which candidate it is by now, if it is one.
    pub(super) fn find(self, candidates: &[Candidate]) -> Option<usize> {
        let here = |candidate: &Candidate| candidate.server == self.server;
        if candidates.get(self.at as usize).is_some_and(here) {
            return Some(self.at as usize);
        }
        candidates.iter().position(here)
    }
}

impl PartialEq for Holder {
    fn eq(&self, other: &Self) -> bool {
        self.server == other.server
    }
}

/// Who has the least, and whether anybody has little: what both locality-based schedulers ask.
#[derive(Debug)]
pub(super) struct Loads {
    wlc: LeastLoaded,
    active: LeastLoaded,
}

impl Loads {
    pub(super) fn build(candidates: &[Candidate], previous: Option<&Loads>, lcores: usize) -> Loads {
        let build = |score, previous| LeastLoaded::build(score, candidates, previous, lcores);
        Loads {
            wlc: build(Score::Wlc, previous.map(|p| &p.wlc)),
            active: build(Score::Active, previous.map(|p| &p.active)),
        }
    }

    /// Whom weighted least connection names.
    pub(super) fn least(&self, candidates: &[Candidate], load: &impl Load, lcore: LcoreId) -> Option<usize> {
        self.wlc.choose(candidates, load, lcore)
    }

    /// Whether a candidate has too much while another has little.
    pub(super) fn is_overloaded(
        &self,
        candidates: &[Candidate],
        at: usize,
        load: &impl Load,
        lcore: LcoreId,
    ) -> bool {
        let active = |at: usize| load.connections(candidates[at].server).0;
        let weight = |at: usize| u64::from(candidates[at].weight);
        // If anybody has less than half, whoever has the least for its weight has.
        active(at) > weight(at)
            && self
                .active
                .choose(candidates, load, lcore)
                .is_some_and(|idle| active(idle).saturating_mul(2) < weight(idle))
    }

    /// For one lcore alone, without what it knows.
    pub(super) fn copy(&self, lcore: LcoreId) -> Loads {
        Loads { wlc: self.wlc.copy(lcore), active: self.active.copy(lcore) }
    }

    /// Knows what `other` knows on an lcore; for that lcore.
    pub(super) fn take_after(&self, other: &Loads, lcore: LcoreId) {
        self.wlc.take_after(&other.wlc, lcore);
        self.active.take_after(&other.active, lcore);
    }

    pub(super) fn changed(&self, candidates: &[Candidate], at: usize, load: &impl Load, lcore: LcoreId) {
        self.wlc.load_changed(candidates, at, load, lcore);
        self.active.load_changed(candidates, at, load, lcore);
    }
}

/// Whom each destination address has.
#[derive(Debug)]
pub struct LocalityBased {
    cache: Arc<Cache<Holder>>,
    loads: Loads,
}

impl LocalityBased {
    pub(super) fn build(
        candidates: &[Candidate],
        previous: Option<&LocalityBased>,
        lcores: usize,
    ) -> LocalityBased {
        let cache = previous.map_or_else(|| Arc::new(Cache::new()), |previous| previous.cache.clone());
        LocalityBased { cache, loads: Loads::build(candidates, previous.map(|p| &p.loads), lcores) }
    }

    /// For one lcore alone, without what it knows.
    pub(super) fn copy(&self, lcore: LcoreId) -> LocalityBased {
        LocalityBased { cache: Arc::new(Cache::new()), loads: self.loads.copy(lcore) }
    }

    /// Knows of a destination what `other` knows on an lcore; for that lcore.
    pub(super) fn take_after(&self, other: &LocalityBased, request: Request, lcore: LcoreId) {
        self.loads.take_after(&other.loads, lcore);
        // The lock is somebody's for some tens of nanoseconds. Without it nothing is known of the destination.
        let _ = self.cache.take_after(&other.cache, request.destination);
    }

    /// Whom the destination of a request had last.
    pub(super) fn holder(&self, request: Request) -> Option<ServerId> {
        self.cache.peek(request.destination).map(|holder| holder.server)
    }

    pub(super) fn choose(
        &self,
        candidates: &[Candidate],
        request: Request,
        load: &impl Load,
        lcore: LcoreId,
        now: Tick,
        settings: &Settings,
    ) -> Option<usize> {
        let life = milliseconds(settings.lblc_expiration);
        let known = self.cache.get(request.destination, now, life);
        let holder = known.ok().flatten().and_then(|holder| holder.find(candidates));
        if let Some(at) = holder
            && candidates[at].is_available(load)
            && !self.loads.is_overloaded(candidates, at, load, lcore)
        {
            return Some(at);
        }
        let at = self.loads.least(candidates, load, lcore)?;
        if known != Err(Busy) {
            self.cache.put(request.destination, now, Holder::of(candidates, at));
        }
        Some(at)
    }

    pub(super) fn load_changed(&self, candidates: &[Candidate], at: usize, load: &impl Load, lcore: LcoreId) {
        self.loads.changed(candidates, at, load, lcore);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Table, candidates, request};
    use super::*;

    struct World {
        candidates: Vec<Candidate>,
        lblc: LocalityBased,
        load: Table,
        now: Tick,
    }

    impl World {
        fn new(weights: &[u16]) -> World {
            let candidates = candidates(weights);
            let lblc = LocalityBased::build(&candidates, None, 1);
            World { load: Table::new(weights.len()), lblc, candidates, now: Tick(5) }
        }

        fn choose(&self, destination: u8) -> Option<usize> {
            let request = Request { destination: [10, 99, 0, destination].into(), ..request(1) };
            let settings = Settings::default();
            self.lblc.choose(&self.candidates, request, &self.load, LcoreId(0), self.now, &settings)
        }

        fn edit(&mut self, candidates: Vec<Candidate>) {
            self.lblc = LocalityBased::build(&candidates, Some(&self.lblc), 1);
            self.candidates = candidates;
        }
    }

    #[test]
    fn a_destination_keeps_its_real_server_though_others_have_less() {
        let world = World::new(&[4, 4, 4]);
        assert_eq!(world.choose(1), Some(0));
        world.load.set(0, (4, 0));
        assert_eq!(world.choose(1), Some(0), "not more than its weight");
        assert_eq!(world.choose(2), Some(1), "another destination goes to the least loaded");
        world.load.set(0, (5, 0));
        world.load.set(1, (2, 0));
        world.load.set(2, (2, 0));
        assert_eq!(world.choose(1), Some(0), "nobody has less than half of the weight");
        world.load.set(2, (1, 0));
        assert_eq!(world.choose(1), Some(2));
        world.load.set(0, (0, 0));
        assert_eq!(world.choose(1), Some(2), "it stays where it is now");
    }

    #[test]
    fn a_real_server_that_is_not_available_loses_its_destinations() {
        let mut world = World::new(&[1, 1]);
        assert_eq!(world.choose(1), Some(0));
        let mut quiet = world.candidates.clone();
        quiet[0].weight = 0;
        world.edit(quiet);
        assert_eq!(world.choose(1), Some(1));
        // The list is another one: real server 1 is the first now.
        world.edit(vec![world.candidates[1]]);
        assert_eq!(world.choose(1), Some(0));
        world.edit(Vec::new());
        assert_eq!(world.choose(1), None);
    }

    #[test]
    fn an_edit_keeps_what_is_known() {
        let mut world = World::new(&[1, 1]);
        assert_eq!(world.choose(1), Some(0));
        world.load.set(0, (1, 0));
        world.edit(vec![world.candidates[1], world.candidates[0]]);
        assert_eq!(world.choose(1), Some(1), "real server 0, wherever it stands");
    }

    #[test]
    fn another_lcores_clock_may_be_ahead() {
        let mut world = World::new(&[1, 1]);
        assert_eq!(world.choose(1), Some(0));
        world.load.set(0, (1, 0));
        world.now = Tick(world.now.0.wrapping_sub(1));
        assert_eq!(world.choose(1), Some(0));
    }

    #[test]
    fn what_is_not_used_for_a_day_is_forgotten() {
        let mut world = World::new(&[1, 1]);
        assert_eq!(world.choose(1), Some(0));
        world.load.set(0, (1, 0));
        world.now = world.now.after(86_400_000);
        assert_eq!(world.choose(1), Some(0));
        world.now = world.now.after(86_400_001);
        assert_eq!(world.choose(1), Some(1));
    }
}
