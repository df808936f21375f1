//! Locality-based least connection with replication: each destination address has a set of real servers, of
//! which the least loaded serves; where that is overloaded, the set gets whom weighted least connection names.
//! A set that has not changed for `lblcr_expiration` loses its most loaded member (Linux `ip_vs_lblcr.c`).
//!
//! The kernel's sets have no bound; here a set has at most [`MOST`] members. Who would be one more serves
//! without becoming a member.

use std::sync::Arc;

use control::model::Settings;

use super::cache::Cache;
use super::lblc::{Holder, Loads};
use super::{Candidate, Load, Request, overhead};
use crate::id::LcoreId;
use crate::service::ServerId;
use crate::time::{Tick, milliseconds};

/// How many real servers a set has at most.
const MOST: usize = 16;

/// The real servers of a destination address, the newest first.
#[derive(Clone, Copy, Debug, Default)]
struct Set {
    members: [Holder; MOST],
    len: u8,
    changed: Tick,
}

impl Set {
    fn of(member: Holder, now: Tick) -> Set {
        let mut set = Set::default();
        set.insert(member, now);
        set
    }

    fn members(&self) -> &[Holder] {
        &self.members[..usize::from(self.len)]
    }

    fn insert(&mut self, member: Holder, now: Tick) {
        let len = usize::from(self.len);
        if len < MOST && !self.members().contains(&member) {
            self.members.copy_within(..len, 1);
            self.members[0] = member;
            self.len += 1;
            self.changed = now;
        }
    }

    fn remove(&mut self, at: usize, now: Tick) {
        self.members.copy_within(at + 1..usize::from(self.len), at);
        self.len -= 1;
        self.changed = now;
    }

    /// Without those that are candidates no longer.
    fn prune(&mut self, candidates: &[Candidate], now: Tick) {
        while let Some(at) = self.members().iter().position(|member| member.find(candidates).is_none()) {
            self.remove(at, now);
        }
    }
}

/// Whom each destination address has.
#[derive(Debug)]
pub struct Replicating {
    cache: Arc<Cache<Set>>,
    loads: Loads,
}

/// Overhead and weight of a candidate, to be compared crosswise.
fn share(candidates: &[Candidate], at: usize, load: &impl Load) -> (u128, u128) {
    let (active, inactive) = load.connections(candidates[at].server);
    (u128::from(overhead(active, inactive)), u128::from(candidates[at].weight))
}

impl Replicating {
    pub(super) fn build(
        candidates: &[Candidate],
        previous: Option<&Replicating>,
        lcores: usize,
    ) -> Replicating {
        let cache = previous.map_or_else(|| Arc::new(Cache::new()), |previous| previous.cache.clone());
        Replicating { cache, loads: Loads::build(candidates, previous.map(|p| &p.loads), lcores) }
    }

    /// For one lcore alone, without what it knows.
    pub(super) fn copy(&self, lcore: LcoreId) -> Replicating {
        Replicating { cache: Arc::new(Cache::new()), loads: self.loads.copy(lcore) }
    }

    /// Knows of a destination what `other` knows on an lcore; for that lcore.
    pub(super) fn take_after(&self, other: &Replicating, request: Request, lcore: LcoreId) {
        self.loads.take_after(&other.loads, lcore);
        // The lock is somebody's for some tens of nanoseconds. Without it nothing is known of the destination.
        let _ = self.cache.take_after(&other.cache, request.destination);
    }

    /// Whom the destination of a request had last.
    pub(super) fn holders(&self, request: Request) -> Vec<ServerId> {
        let set = self.cache.peek(request.destination).unwrap_or_default();
        set.members().iter().map(|holder| holder.server).collect()
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
        let life = milliseconds(settings.lblcr_expiration);
        let Ok(known) = self.cache.get(request.destination, now, life) else {
            return self.loads.least(candidates, load, lcore);
        };
        let Some(mut set) = known else {
            let at = self.loads.least(candidates, load, lcore)?;
            self.cache.put(request.destination, now, Set::of(Holder::of(candidates, at), now));
            return Some(at);
        };
        let before = set;
        set.prune(candidates, now);
        let chosen = least(&set, candidates, load);
        if set.len > 1
            && now.since_anyones(set.changed) > life
            && let Some(at) = most(&set, candidates, load)
        {
            set.remove(at, now);
        }
        let overloaded = chosen.is_none_or(|at| self.loads.is_overloaded(candidates, at, load, lcore));
        let chosen = if overloaded {
            let at = self.loads.least(candidates, load, lcore);
            if let Some(at) = at {
                set.insert(Holder::of(candidates, at), now);
            }
            at
        } else {
            chosen
        };
        if set.members() != before.members() {
            self.cache.put(request.destination, now, set);
        }
        chosen
    }

    pub(super) fn load_changed(&self, candidates: &[Candidate], at: usize, load: &impl Load, lcore: LcoreId) {
        self.loads.changed(candidates, at, load, lcore);
    }
}

/// The available candidate with the least overhead for its weight, the first of equals.
fn least(set: &Set, candidates: &[Candidate], load: &impl Load) -> Option<usize> {
    let members = set.members().iter().filter_map(|member| member.find(candidates));
    members.filter(|at| candidates[*at].is_available(load)).reduce(|best, at| {
        let (best_share, share) = (share(candidates, best, load), share(candidates, at, load));
        if best_share.0 * share.1 > share.0 * best_share.1 { at } else { best }
    })
}

/// Which member with a weight has the most overhead for it, the first of equals.
fn most(set: &Set, candidates: &[Candidate], load: &impl Load) -> Option<usize> {
    let members = set.members().iter().enumerate();
    let members = members.filter_map(|(n, member)| Some((n, member.find(candidates)?)));
    let worst = members.filter(|(_, at)| candidates[*at].weight > 0).reduce(|worst, next| {
        let (worst_share, share) = (share(candidates, worst.1, load), share(candidates, next.1, load));
        if worst_share.0 * share.1 < share.0 * worst_share.1 { next } else { worst }
    });
    worst.map(|(n, _)| n)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Table, candidates, request};
    use super::*;

    struct World {
        candidates: Vec<Candidate>,
        lblcr: Replicating,
        load: Table,
        now: Tick,
    }

    impl World {
        fn new(weights: &[u16]) -> World {
            let candidates = candidates(weights);
            let lblcr = Replicating::build(&candidates, None, 1);
            World { load: Table::new(weights.len()), lblcr, candidates, now: Tick(u32::MAX - 10) }
        }

        fn choose(&self) -> Option<usize> {
            let settings = Settings::default();
            self.lblcr.choose(&self.candidates, request(1), &self.load, LcoreId(0), self.now, &settings)
        }

        fn set(&self) -> Vec<usize> {
            let set = self.lblcr.cache.get(request(1).destination, self.now, u32::MAX).unwrap().unwrap();
            set.members().iter().filter_map(|member| member.find(&self.candidates)).collect()
        }

        fn edit(&mut self, candidates: Vec<Candidate>) {
            self.lblcr = Replicating::build(&candidates, Some(&self.lblcr), 1);
            self.candidates = candidates;
        }
    }

    /// Two real servers serve the destination.
    fn grown() -> World {
        let world = World::new(&[4, 4, 4]);
        assert_eq!((world.choose(), world.set()), (Some(0), vec![0]));
        world.load.set(0, (4, 0));
        assert_eq!((world.choose(), world.set()), (Some(0), vec![0]));
        world.load.set(0, (5, 0));
        assert_eq!((world.choose(), world.set()), (Some(1), vec![1, 0]), "overloaded, and others are idle");
        world
    }

    #[test]
    fn a_set_grows_when_it_is_overloaded_and_its_least_loaded_serves() {
        let world = grown();
        world.load.set(1, (3, 0));
        world.load.set(0, (2, 0));
        assert_eq!(world.choose(), Some(0));
        world.load.set(0, (5, 0));
        world.load.set(1, (5, 0));
        world.load.set(2, (2, 0));
        assert_eq!((world.choose(), world.set()), (Some(1), vec![1, 0]), "nobody has less than half");
        world.load.set(2, (1, 0));
        assert_eq!((world.choose(), world.set()), (Some(2), vec![2, 1, 0]));
    }

    #[test]
    fn a_set_without_change_for_a_day_loses_its_most_loaded() {
        let mut world = grown();
        world.load.set(1, (1, 0));
        for _ in 0..24 {
            assert_eq!((world.choose(), world.set()), (Some(1), vec![1, 0]));
            world.now = world.now.after(3_600_000);
        }
        world.now = world.now.after(1);
        assert_eq!((world.choose(), world.set()), (Some(1), vec![1]));
        world.now = world.now.after(86_400_000);
        assert_eq!((world.choose(), world.set()), (Some(1), vec![1]), "the last one stays");
    }

    #[test]
    fn another_lcores_clock_may_be_ahead() {
        let mut world = grown();
        let before = (world.choose(), world.set());
        world.now = Tick(world.now.0.wrapping_sub(1));
        assert_eq!((world.choose(), world.set()), before);
    }

    #[test]
    fn who_is_gone_is_no_member() {
        let mut world = grown();
        world.edit(vec![world.candidates[1], world.candidates[2]]);
        assert_eq!((world.choose(), world.set()), (Some(0), vec![0]));
        let mut quiet = world.candidates.clone();
        quiet[0].weight = 0;
        world.edit(quiet);
        assert_eq!((world.choose(), world.set()), (Some(1), vec![1, 0]), "one of weight 0 may come back");
        world.edit(Vec::new());
        assert_eq!(world.choose(), None);
    }

    #[test]
    fn a_set_has_a_bound() {
        let many = candidates(&[1; 20]);
        let mut set = Set::default();
        (0..20).for_each(|at| set.insert(Holder::of(&many, at), Tick(at as u32)));
        assert_eq!((set.members().len(), set.changed), (MOST, Tick(15)));
        set.insert(Holder::of(&many, 3), Tick(99));
        assert_eq!(set.changed, Tick(15), "a member already");
        set.prune(&many[4..], Tick(100));
        assert_eq!(set.members().len(), MOST - 4);
    }
}
