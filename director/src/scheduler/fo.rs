//! Weighted failover: the available real server with the greatest weight gets everything (Linux
//! `ip_vs_fo.c`). The first of equals wins.

use super::{Candidate, Load, by_weight};

/// Candidates from the greatest weight down.
#[derive(Clone, Debug)]
pub struct Failover {
    order: Box<[u32]>,
}

impl Failover {
    pub(super) fn build(candidates: &[Candidate]) -> Failover {
        Failover { order: by_weight(candidates) }
    }

    pub(super) fn choose(&self, candidates: &[Candidate], load: &impl Load) -> Option<usize> {
        let mut order = self.order.iter().map(|at| *at as usize);
        order.find(|at| candidates[*at].is_available(load))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Overloaded, candidates};
    use super::*;

    fn choose(weights: &[u16], overloaded: &[u32]) -> Option<usize> {
        let candidates = candidates(weights);
        Failover::build(&candidates).choose(&candidates, &Overloaded(overloaded))
    }

    #[test]
    fn the_greatest_weight_that_is_available() {
        assert_eq!(choose(&[1, 3, 2, 3], &[]), Some(1));
        assert_eq!(choose(&[1, 3, 2, 3], &[1]), Some(3));
        assert_eq!(choose(&[1, 3, 2, 3], &[1, 3]), Some(2));
        assert_eq!(choose(&[0, 0, 1], &[]), Some(2));
        assert_eq!(choose(&[0, 0], &[]), None);
        assert_eq!(choose(&[], &[]), None);
    }
}
