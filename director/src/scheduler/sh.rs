//! Source hashing: a table of 256 slots, filled in turn with each real server as often as its weight
//! says; the client's address (with `sh-port` its port too) names the slot.

use control::model::SchedulerFlags;

use super::hash::{SLOTS, fallback, slot};
use super::{Candidate, Load, Request};

/// The table.
#[derive(Clone, Debug)]
pub struct SourceHashing {
    /// Slot to candidate.
    table: Box<[u32]>,
    flags: SchedulerFlags,
}

impl SourceHashing {
    pub(super) fn build(candidates: &[Candidate], flags: SchedulerFlags) -> SourceHashing {
        // A weight of 0 still takes a slot in each lap.
        let laps = (0..candidates.len() as u32).cycle().flat_map(|at| {
            let times = usize::from(candidates[at as usize].weight).max(1);
            std::iter::repeat_n(at, times)
        });
        let table = if candidates.is_empty() { Vec::new() } else { laps.take(SLOTS as usize).collect() };
        SourceHashing { table: table.into(), flags }
    }

    /// The slot of a request, and whose it is.
    pub(super) fn slot(&self, request: Request) -> (u32, Option<usize>) {
        let slot = slot(request.source, if self.flags.port { request.source_port } else { 0 });
        (slot, self.table.get(slot as usize).map(|at| *at as usize))
    }

    pub(super) fn choose(
        &self,
        candidates: &[Candidate],
        request: Request,
        load: &impl Load,
    ) -> Option<usize> {
        let hash = self.slot(request).0;
        let slot = |offset: u32| offset.wrapping_add(hash) % SLOTS;
        let available = |slot: u32| {
            let at = *self.table.get(slot as usize)? as usize;
            candidates[at].is_available(load).then_some(at)
        };
        available(slot(0)).or_else(|| {
            if !self.flags.fallback {
                return None;
            }
            fallback(SLOTS, slot(0), slot, available)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NONE, candidates, request};
    use super::*;

    fn flags(fallback: bool, port: bool) -> SchedulerFlags {
        SchedulerFlags { fallback, port }
    }

    #[test]
    fn slots_go_by_weight_and_weight_0_takes_one() {
        let sh = SourceHashing::build(&candidates(&[2, 0, 3]), flags(false, false));
        assert_eq!(sh.table[..12], [0, 0, 1, 2, 2, 2, 0, 0, 1, 2, 2, 2]);
        assert_eq!(sh.table.len(), 256);
    }

    #[test]
    fn the_slot_is_the_one_that_linux_computes() {
        // hash_32(10.0.1.1, 8) = (0x0a000101 * 0x61c88647 mod 2^32) >> 24, worked out by hand.
        let product = 0x0a00_0101u64 * 0x61C8_8647 % (1 << 32);
        let slot = (product >> 24) as usize;
        let candidates = candidates(&[1; 256]);
        let sh = SourceHashing::build(&candidates, flags(false, false));
        assert_eq!(sh.choose(&candidates, request(1), &NONE), Some(slot));
    }

    #[test]
    fn a_client_stays_and_its_port_counts_only_when_asked() {
        let candidates = candidates(&[1, 1, 1]);
        let plain = SourceHashing::build(&candidates, flags(false, false));
        let by_port = SourceHashing::build(&candidates, flags(false, true));
        let at = |sh: &SourceHashing, port| {
            sh.choose(&candidates, Request { source_port: port, ..request(7) }, &NONE)
        };
        assert!((0..100).all(|port| at(&plain, port) == at(&plain, 0)));
        assert!((0..100).any(|port| at(&by_port, port) != at(&by_port, 0)));
    }

    #[test]
    fn an_unavailable_real_server_refuses_unless_fallback() {
        let candidates = candidates(&[0, 1]);
        let strict = SourceHashing::build(&candidates, flags(false, false));
        let kind = SourceHashing::build(&candidates, flags(true, false));
        let refused = (0..200).filter(|n| strict.choose(&candidates, request(*n), &NONE).is_none()).count();
        assert!((60..140).contains(&refused), "{refused}");
        assert!((0..200).all(|n| kind.choose(&candidates, request(n), &NONE) == Some(1)));
        assert_eq!(SourceHashing::build(&[], flags(true, true)).choose(&[], request(1), &NONE), None);
    }
}
