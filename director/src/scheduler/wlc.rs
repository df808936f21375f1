//! Weighted least connection: the real server with the least overhead for its weight, where an active
//! connection counts 256 times as much as an inactive one on top of its own count
//! (`ip_vs_dest_conn_overhead`). The first of equals wins.

use super::least::Rating;
use super::{Candidate, overhead};

/// How a real server with so many connections stands.
pub(super) fn rate(candidate: &Candidate, active: u64, inactive: u64) -> Rating {
    Rating { overhead: overhead(active, inactive), weight: candidate.weight }
}

#[cfg(test)]
mod tests {
    use super::super::least::Score;
    use super::super::tests::{Fixed, candidates, least, oracle};
    use super::*;

    fn choose(candidates: &[Candidate], load: &Fixed) -> Option<usize> {
        let chosen = least(Score::Wlc, candidates, load);
        assert_eq!(chosen, oracle(candidates, load));
        chosen
    }

    #[test]
    fn the_least_loaded_for_its_weight_wins_and_the_first_of_equals() {
        let even = candidates(&[1, 1, 1]);
        assert_eq!(choose(&even, &Fixed(&[(1, 0), (0, 256), (0, 257)])), Some(1));
        assert_eq!(choose(&even, &Fixed(&[(1, 0), (0, 257), (0, 257)])), Some(0));
        let weighted = candidates(&[1, 4]);
        assert_eq!(choose(&weighted, &Fixed(&[(1, 0), (3, 0)])), Some(1));
        assert_eq!(choose(&weighted, &Fixed(&[(1, 0), (4, 1)])), Some(0));
    }

    #[test]
    fn weight_0_is_never_chosen() {
        let some = candidates(&[0, 1]);
        assert_eq!(choose(&some, &Fixed(&[(0, 0), (9, 9)])), Some(1));
        assert_eq!(choose(&candidates(&[0]), &Fixed(&[(0, 0)])), None);
    }
}
