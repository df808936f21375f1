//! Weighted round robin, IPVS's: passes over the list with a falling current weight; each pass takes
//! the real servers whose weight reaches it. High weights therefore come in bursts.
//!
//! The current weight starts at the greatest weight less the greatest common divisor plus one, and
//! falls by that divisor, so that the last pass asks for weight 1.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Candidate, Load, gcd};

/// Before the first candidate.
const HEAD: u32 = u32::MAX;

/// Where the passes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// The candidate used last.
    at: u32,
    /// The weight that a candidate must reach in this pass.
    current: u32,
}

impl Mark {
    fn pack(self) -> u64 {
        u64::from(self.at) << 32 | u64::from(self.current)
    }

    fn unpack(bits: u64) -> Mark {
        Mark { at: (bits >> 32) as u32, current: bits as u32 }
    }
}

/// Remembers the pass and the candidate used last.
#[derive(Debug)]
pub struct WeightedRoundRobin {
    mark: AtomicU64,
    /// Greatest common divisor of the weights.
    step: u32,
    /// What a pass starts from; 0 where no real server has a weight.
    top: u32,
}

impl WeightedRoundRobin {
    /// Starts at the head of the list; keeps the pass of `previous` as far as the new weights know it
    /// (`ip_vs_wrr_dest_changed`).
    pub(super) fn build(
        candidates: &[Candidate],
        previous: Option<&WeightedRoundRobin>,
    ) -> WeightedRoundRobin {
        let weights = || candidates.iter().map(|c| u32::from(c.weight));
        let step = weights().fold(0, gcd).max(1);
        let top = (weights().max().unwrap_or(0) + 1).saturating_sub(step);
        let current = match previous.map(|p| Mark::unpack(p.mark.load(Ordering::Relaxed)).current) {
            Some(current) if current != 0 && current <= top => {
                if step > 1 {
                    current / step * step + 1
                } else {
                    current
                }
            }
            _ => top,
        };
        WeightedRoundRobin { mark: AtomicU64::new(Mark { at: HEAD, current }.pack()), step, top }
    }

    /// Before the first choice.
    pub(super) fn copy(&self) -> WeightedRoundRobin {
        let WeightedRoundRobin { step, top, .. } = *self;
        WeightedRoundRobin { mark: AtomicU64::new(Mark { at: HEAD, current: top }.pack()), step, top }
    }

    /// Goes on where `other` is.
    pub(super) fn take_after(&self, other: &WeightedRoundRobin) {
        self.mark.store(other.mark.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The candidate used last, if any was, and the weight that one must reach in this pass.
    pub(super) fn last(&self) -> (Option<usize>, u32) {
        let Mark { at, current } = Mark::unpack(self.mark.load(Ordering::Relaxed));
        ((at != HEAD).then_some(at as usize), current)
    }

    pub(super) fn choose(&self, candidates: &[Candidate], load: &impl Load) -> Option<usize> {
        if self.top == 0 {
            return None;
        }
        let mut bits = self.mark.load(Ordering::Relaxed);
        loop {
            let next = self.advance(Mark::unpack(bits), candidates, load)?;
            match self.mark.compare_exchange_weak(bits, next.pack(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(next.at as usize),
                Err(now) => bits = now,
            }
        }
    }

    fn advance(&self, mut mark: Mark, candidates: &[Candidate], load: &impl Load) -> Option<Mark> {
        let mut from = if mark.at == HEAD { 0 } else { mark.at as usize + 1 };
        // The rest of this pass, a whole one and, where those with great weights are overloaded, one more.
        for pass in 0..3 {
            let rest = candidates.get(from..).unwrap_or_default();
            let reaches = |c: &Candidate| u32::from(c.weight) >= mark.current && c.is_available(load);
            if let Some(ahead) = rest.iter().position(reaches) {
                return Some(Mark { at: (from + ahead) as u32, ..mark });
            }
            mark.current = match mark.current.saturating_sub(self.step) {
                0 => self.top,
                lower => lower,
            };
            if pass > 0 {
                // Passes that would find nobody are left out.
                let available = candidates.iter().filter(|c| c.is_available(load));
                let most = available.map(|c| u32::from(c.weight)).max()?;
                let passes = mark.current.saturating_sub(most).div_ceil(self.step);
                mark.current = mark.current.saturating_sub(passes * self.step).max(1);
            }
            from = 0;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NONE, Overloaded, candidates};
    use super::*;
    use proptest::prelude::*;

    fn choices(wrr: &WeightedRoundRobin, candidates: &[Candidate], n: usize) -> Vec<usize> {
        (0..n).map(|_| wrr.choose(candidates, &NONE).unwrap()).collect()
    }

    #[test]
    fn high_weights_come_in_bursts() {
        let candidates = candidates(&[4, 3, 2]);
        let wrr = WeightedRoundRobin::build(&candidates, None);
        assert_eq!(choices(&wrr, &candidates, 10), [0, 0, 1, 0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn weights_with_a_common_divisor_are_as_if_divided() {
        let big = candidates(&[400, 300, 200]);
        let small = candidates(&[4, 3, 2]);
        let (a, b) = (WeightedRoundRobin::build(&big, None), WeightedRoundRobin::build(&small, None));
        assert_eq!(choices(&a, &big, 27), choices(&b, &small, 27));
    }

    #[test]
    fn the_overloaded_take_no_turn() {
        let three = candidates(&[4, 3, 2]);
        let wrr = WeightedRoundRobin::build(&three, None);
        let chosen: Vec<_> = (0..6).map(|_| wrr.choose(&three, &Overloaded(&[0]))).collect();
        assert_eq!(chosen, [1, 1, 2, 1, 2, 1].map(Some));
        // However far the greatest weight is above the others.
        let far = candidates(&[60_000, 1, 2]);
        let wrr = WeightedRoundRobin::build(&far, None);
        let chosen: Vec<_> = (0..6).map(|_| wrr.choose(&far, &Overloaded(&[0]))).collect();
        assert_eq!(chosen, [2, 1, 2, 2, 1, 2].map(Some));
        assert_eq!(wrr.choose(&far, &Overloaded(&[0, 1, 2])), None);
    }

    #[test]
    fn nobody_has_a_weight() {
        for weights in [&[][..], &[0], &[0, 0, 0]] {
            let candidates = candidates(weights);
            assert_eq!(WeightedRoundRobin::build(&candidates, None).choose(&candidates, &NONE), None);
        }
    }

    proptest! {
        /// Over a whole cycle each real server is chosen as often as its weight says.
        #[test]
        fn a_cycle_is_exact(weights in proptest::collection::vec(0u16..40, 1..8)) {
            let candidates = candidates(&weights);
            let wrr = WeightedRoundRobin::build(&candidates, None);
            let cycle: u32 = weights.iter().map(|w| u32::from(*w)).sum::<u32>() / wrr.step;
            prop_assume!(cycle > 0);
            for _ in 0..3 {
                let mut count = vec![0u32; weights.len()];
                for at in choices(&wrr, &candidates, cycle as usize) {
                    count[at] += 1;
                }
                for (count, weight) in count.iter().zip(&weights) {
                    prop_assert_eq!(count * wrr.step, u32::from(*weight));
                }
            }
        }

        /// Whatever changes, a choice has a weight, and there is one as long as somebody has.
        #[test]
        fn changes_never_lead_astray(steps in proptest::collection::vec((proptest::collection::vec(0u16..10, 0..6), 0usize..9), 1..20)) {
            let mut previous: Option<WeightedRoundRobin> = None;
            for (weights, n) in steps {
                let candidates = candidates(&weights);
                let wrr = WeightedRoundRobin::build(&candidates, previous.as_ref());
                for _ in 0..n {
                    match wrr.choose(&candidates, &NONE) {
                        Some(at) => prop_assert!(weights[at] > 0),
                        None => prop_assert!(weights.iter().all(|w| *w == 0)),
                    }
                }
                previous = Some(wrr);
            }
        }
    }
}
