//! Weighted overflow: the available real server with the greatest weight, as long as it has no more active
//! connections than its weight; then the next (Linux `ip_vs_ovf.c`). Where all are full, nobody. UDP has no
//! active connections and never overflows. The first of equals wins.

use super::{Candidate, Load, by_weight};

/// Candidates from the greatest weight down.
#[derive(Clone, Debug)]
pub struct Overflow {
    order: Box<[u32]>,
}

impl Overflow {
    pub(super) fn build(candidates: &[Candidate]) -> Overflow {
        Overflow { order: by_weight(candidates) }
    }

    pub(super) fn choose(&self, candidates: &[Candidate], load: &impl Load) -> Option<usize> {
        let mut order = self.order.iter().map(|at| *at as usize);
        order.find(|at| {
            let candidate = &candidates[*at];
            candidate.is_available(load)
                && load.connections(candidate.server).0 <= u64::from(candidate.weight)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fixed, candidates};
    use super::*;

    fn choose(weights: &[u16], load: &Fixed) -> Option<usize> {
        let candidates = candidates(weights);
        Overflow::build(&candidates).choose(&candidates, load)
    }

    #[test]
    fn one_more_than_its_weight_and_then_the_next() {
        assert_eq!(choose(&[1, 3, 2], &Fixed(&[(0, 0), (0, 0), (0, 0)])), Some(1));
        assert_eq!(
            choose(&[1, 3, 2], &Fixed(&[(0, 0), (3, 9), (0, 0)])),
            Some(1),
            "not more than its weight"
        );
        assert_eq!(choose(&[1, 3, 2], &Fixed(&[(0, 0), (4, 0), (0, 0)])), Some(2));
        assert_eq!(choose(&[1, 3, 2], &Fixed(&[(0, 0), (4, 0), (3, 0)])), Some(0));
        assert_eq!(choose(&[1, 3, 2], &Fixed(&[(2, 0), (4, 0), (3, 0)])), None);
        assert_eq!(choose(&[0], &Fixed(&[(0, 0)])), None);
    }
}
