//! The better of two: two real servers are drawn at random by weight, and the one with the lesser overhead
//! for its weight wins, the first one if they are equal (Linux `ip_vs_twos.c`).
//!
//! The kernel draws from 0 to the sum of all weights inclusive, so that the first real server has one chance
//! more than its weight; so it does here.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::{Candidate, Load, overhead};
use crate::id::LcoreId;
use crate::stats::Counter;

/// How often somebody overloaded is drawn before the others are looked at one by one.
const TRIES: usize = 8;

/// Sums of weights to draw from, and each lcore's dice.
#[derive(Debug)]
pub struct TwoChoices {
    /// Of each candidate the sum of the weights up to and including its own.
    sums: Box<[u64]>,
    dice: Arc<[Dice]>,
}

/// One lcore's random numbers: xorshift64* (Marsaglia, "Xorshift RNGs", 2003; Vigna 2016). On a cache line of
/// its own.
#[derive(Debug)]
#[repr(align(64))]
struct Dice(Counter);

impl Dice {
    fn new() -> Dice {
        let dice = Dice(Counter::default());
        // Never 0, from which it would not move.
        dice.0.set(RandomState::new().hash_one(0) | 1);
        dice
    }

    /// From 0 to `most` inclusive.
    fn up_to(&self, most: u64) -> u64 {
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        let random = x.wrapping_mul(0x2545_F491_4F6C_DD1D);
        ((u128::from(random) * (u128::from(most) + 1)) >> 64) as u64
    }
}

impl TwoChoices {
    pub(super) fn build(
        candidates: &[Candidate],
        previous: Option<&TwoChoices>,
        lcores: usize,
    ) -> TwoChoices {
        let mut sum = 0;
        let sums = candidates.iter().map(|candidate| {
            sum += u64::from(candidate.weight);
            sum
        });
        let dice = match previous.filter(|previous| previous.dice.len() == lcores) {
            Some(previous) => previous.dice.clone(),
            None => (0..lcores).map(|_| Dice::new()).collect(),
        };
        TwoChoices { sums: sums.collect(), dice }
    }

    /// With dice that have not been thrown.
    pub(super) fn copy(&self) -> TwoChoices {
        TwoChoices { sums: self.sums.clone(), dice: self.dice.iter().map(|_| Dice::new()).collect() }
    }

    /// Throws what an lcore would throw next with `other`. For that lcore.
    pub(super) fn take_after(&self, other: &TwoChoices, lcore: LcoreId) {
        let at = usize::from(lcore.0);
        if let (Some(dice), Some(from)) = (self.dice.get(at), other.dice.get(at)) {
            dice.0.set(from.0.get());
        }
    }

    pub(super) fn choose(&self, candidates: &[Candidate], load: &impl Load, lcore: LcoreId) -> Option<usize> {
        let dice = self.dice.get(usize::from(lcore.0))?;
        let total = self.sums.last().copied().filter(|total| *total > 0)?;
        let draw = || self.draw(candidates, load, dice, total);
        Some(better(candidates, load, draw()?, draw()?))
    }

    /// One that is available, by weight.
    fn draw(&self, candidates: &[Candidate], load: &impl Load, dice: &Dice, total: u64) -> Option<usize> {
        // The sums count the overloaded too; whoever draws one draws again.
        for _ in 0..TRIES {
            let at = match dice.up_to(total) {
                0 => candidates.iter().position(|candidate| candidate.is_available(load))?,
                wanted => self.sums.partition_point(|sum| *sum < wanted),
            };
            if candidates[at].is_available(load) {
                return Some(at);
            }
        }
        let available = || candidates.iter().enumerate().filter(|(_, c)| c.is_available(load));
        let mut rest = dice.up_to(available().map(|(_, c)| u64::from(c.weight)).sum()).max(1);
        available().find_map(|(at, candidate)| {
            let weight = u64::from(candidate.weight);
            if rest <= weight {
                return Some(at);
            }
            rest -= weight;
            None
        })
    }
}

fn better(candidates: &[Candidate], load: &impl Load, first: usize, second: usize) -> usize {
    let of = |at: usize| {
        let (active, inactive) = load.connections(candidates[at].server);
        (u128::from(overhead(active, inactive)), u128::from(candidates[at].weight))
    };
    let ((first_overhead, first_weight), (second_overhead, second_weight)) = (of(first), of(second));
    if second_weight * first_overhead > first_weight * second_overhead { second } else { first }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fixed, Overloaded, candidates};
    use super::*;

    fn counts(candidates: &[Candidate], load: &impl Load) -> Vec<usize> {
        let twos = TwoChoices::build(candidates, None, 2);
        let mut counts = vec![0; candidates.len()];
        for n in 0..20_000u32 {
            counts[twos.choose(candidates, load, LcoreId((n % 2) as u8)).unwrap()] += 1;
        }
        counts
    }

    /// Whether a share of 20,000 is as expected, within five standard deviations.
    fn about(count: usize, share: f64) -> bool {
        (count as f64 - 20_000.0 * share).abs() < 5.0 * (20_000.0 * share * (1.0 - share)).sqrt() + 1.0
    }

    #[test]
    fn equals_are_drawn_by_weight() {
        // The first of the two draws stands where both are equal. Of 0..=6, the first has 0 and 1.
        let drawn = counts(&candidates(&[1, 2, 0, 3]), &Overloaded(&[]));
        assert!(about(drawn[0], 2.0 / 7.0) && about(drawn[1], 2.0 / 7.0), "{drawn:?}");
        assert!(drawn[2] == 0 && about(drawn[3], 3.0 / 7.0), "{drawn:?}");
    }

    #[test]
    fn the_less_loaded_of_two_wins() {
        let drawn = counts(&candidates(&[1, 1]), &Fixed(&[(5, 0), (0, 1)]));
        // The first only where both draws are it: (2/3)^2.
        assert!(about(drawn[0], 4.0 / 9.0), "{drawn:?}");
        let drawn = counts(&candidates(&[1, 3]), &Fixed(&[(1, 0), (4, 0)]));
        // Less for its weight is the first: the second wins where both draws are it, (3/5)^2.
        assert!(about(drawn[1], 9.0 / 25.0), "{drawn:?}");
    }

    #[test]
    fn the_overloaded_are_not_drawn() {
        let drawn = counts(&candidates(&[5, 1, 2]), &Overloaded(&[0]));
        assert!(drawn[0] == 0 && about(drawn[1], 2.0 / 4.0), "{drawn:?}");
        let twos = |weights: &[u16], overloaded: &[u32]| {
            let candidates = candidates(weights);
            TwoChoices::build(&candidates, None, 1).choose(&candidates, &Overloaded(overloaded), LcoreId(0))
        };
        assert_eq!([twos(&[], &[]), twos(&[0, 0], &[]), twos(&[1, 1], &[0, 1])], [None; 3]);
    }
}
