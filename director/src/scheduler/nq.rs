//! Never queue: the first real server without active connections, whatever its weight; where all have some,
//! as shortest expected delay (Linux `ip_vs_nq.c`).

use super::least::Rating;
use super::{Candidate, sed};

/// How a real server with so many connections stands. Idle ones are before all others and equal, so that the
/// first of them wins.
pub(super) fn rate(candidate: &Candidate, active: u64) -> Rating {
    match active {
        0 => Rating { overhead: 0, weight: candidate.weight },
        active => sed::rate(candidate, active),
    }
}

#[cfg(test)]
mod tests {
    use super::super::least::Score;
    use super::super::tests::{Fixed, candidates, least};

    #[test]
    fn the_first_idle_one_whatever_its_weight() {
        let some = candidates(&[9, 1, 5]);
        assert_eq!(least(Score::Nq, &some, &Fixed(&[(1, 0), (0, 7), (0, 0)])), Some(1));
        let none = candidates(&[9, 0, 5]);
        assert_eq!(least(Score::Nq, &none, &Fixed(&[(1, 0), (0, 0), (0, 0)])), Some(2));
    }

    #[test]
    fn where_none_is_idle_the_shortest_delay() {
        let some = candidates(&[1, 3]);
        assert_eq!(least(Score::Nq, &some, &Fixed(&[(1, 0), (4, 0)])), Some(1));
        assert_eq!(least(Score::Nq, &some, &Fixed(&[(1, 0), (5, 0)])), Some(0));
    }
}
