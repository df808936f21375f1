//! Shortest expected delay: the least active connections for its weight, the new one counted in; inactive
//! ones count nothing (Linux `ip_vs_sed.c`). The first of equals wins.

use super::Candidate;
use super::least::Rating;

/// How a real server with so many connections stands.
pub(super) fn rate(candidate: &Candidate, active: u64) -> Rating {
    Rating { overhead: active.saturating_add(1), weight: candidate.weight }
}

#[cfg(test)]
mod tests {
    use super::super::least::Score;
    use super::super::tests::{Fixed, candidates, least};

    #[test]
    fn the_new_connection_counts_for_each() {
        let some = candidates(&[1, 3]);
        // 1/1 against 3/3: the first; 1/1 against 2/3: the second, busy as it is.
        assert_eq!(least(Score::Sed, &some, &Fixed(&[(0, 0), (2, 0)])), Some(0));
        assert_eq!(least(Score::Sed, &some, &Fixed(&[(0, 0), (1, 0)])), Some(1));
        assert_eq!(least(Score::Sed, &some, &Fixed(&[(0, 9), (2, 0)])), Some(0), "inactive ones are nothing");
        assert_eq!(least(Score::Sed, &candidates(&[0, 1]), &Fixed(&[(0, 0), (9, 0)])), Some(1));
    }
}
