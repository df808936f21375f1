//! Round robin: the next real server after the one used last, passing over those of weight 0.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Candidate, Load};

/// Before the first candidate.
const HEAD: usize = usize::MAX;

/// Remembers which candidate was used last.
#[derive(Debug)]
pub struct RoundRobin {
    last: AtomicUsize,
}

impl RoundRobin {
    /// Goes on after the candidate that `previous` used last or, when that is gone, after the nearest
    /// one before it that is still there.
    pub(super) fn build(
        candidates: &[Candidate],
        previous: Option<(&RoundRobin, &[Candidate])>,
    ) -> RoundRobin {
        let last = previous.and_then(|(previous, old)| {
            let last = previous.last.load(Ordering::Relaxed);
            let used = old.get(..=last.min(old.len().checked_sub(1)?)).filter(|_| last != HEAD)?;
            used.iter().rev().find_map(|old| candidates.iter().position(|new| new.server == old.server))
        });
        RoundRobin { last: AtomicUsize::new(last.unwrap_or(HEAD)) }
    }

    /// Before the first choice.
    pub(super) fn copy(&self) -> RoundRobin {
        RoundRobin { last: AtomicUsize::new(HEAD) }
    }

    /// Goes on where `other` is.
    pub(super) fn take_after(&self, other: &RoundRobin) {
        self.last.store(other.last.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The candidate used last, if any was.
    pub(super) fn last(&self) -> Option<usize> {
        Some(self.last.load(Ordering::Relaxed)).filter(|last| *last != HEAD)
    }

    pub(super) fn choose(&self, candidates: &[Candidate], load: &impl Load) -> Option<usize> {
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let start = if last == HEAD { 0 } else { last + 1 };
            let next = (0..candidates.len())
                .map(|step| (start + step) % candidates.len())
                .find(|&at| candidates[at].is_available(load))?;
            match self.last.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(next),
                Err(now) => last = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NONE, Overloaded, candidates};
    use super::*;

    fn choices(rr: &RoundRobin, candidates: &[Candidate], n: usize) -> Vec<usize> {
        (0..n).map(|_| rr.choose(candidates, &NONE).unwrap()).collect()
    }

    #[test]
    fn takes_turns_whatever_the_weights() {
        let candidates = candidates(&[5, 1, 9]);
        let rr = RoundRobin::build(&candidates, None);
        assert_eq!(choices(&rr, &candidates, 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn passes_over_weight_0_and_fails_where_all_are() {
        let some = candidates(&[0, 1, 0, 1]);
        assert_eq!(choices(&RoundRobin::build(&some, None), &some, 3), [1, 3, 1]);
        let none = candidates(&[0, 0]);
        assert_eq!(RoundRobin::build(&none, None).choose(&none, &NONE), None);
        assert_eq!(RoundRobin::build(&[], None).choose(&[], &NONE), None);
    }

    #[test]
    fn passes_over_the_overloaded() {
        let three = candidates(&[1, 1, 1]);
        let rr = RoundRobin::build(&three, None);
        let chosen = |overloaded| rr.choose(&three, &Overloaded(overloaded));
        assert_eq!(
            [chosen(&[1]), chosen(&[1]), chosen(&[2]), chosen(&[0, 1, 2])],
            [Some(0), Some(2), Some(0), None]
        );
    }

    #[test]
    fn goes_on_where_it_was_when_the_real_servers_change() {
        let four = candidates(&[1, 1, 1, 1]);
        let rr = RoundRobin::build(&four, None);
        assert_eq!(choices(&rr, &four, 2), [0, 1]);
        // Real server 1, used last, goes: the next in turn is still real server 2.
        let three = [four[0], four[2], four[3]];
        let rr = RoundRobin::build(&three, Some((&rr, &four)));
        assert_eq!(choices(&rr, &three, 3), [1, 2, 0]);
        // All go, others come.
        let other = &candidates(&[1, 1, 1, 1, 1])[4..];
        assert_eq!(choices(&RoundRobin::build(other, Some((&rr, &three))), other, 2), [0, 0]);
        assert_eq!(RoundRobin::build(&[], Some((&rr, &three))).choose(&[], &NONE), None);
    }
}
