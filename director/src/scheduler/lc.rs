//! Least connection: as weighted least connection, but weights are only 0 or not (Linux `ip_vs_lc.c`).
//! The first of equals wins.

use super::least::Rating;
use super::overhead;

/// How a real server with so many connections stands.
pub(super) fn rate(active: u64, inactive: u64) -> Rating {
    Rating { overhead: overhead(active, inactive), weight: 1 }
}

#[cfg(test)]
mod tests {
    use super::super::least::Score;
    use super::super::tests::{Fixed, candidates, least};

    #[test]
    fn weights_do_not_count_but_0_does() {
        let some = candidates(&[100, 1, 0, 1]);
        assert_eq!(least(Score::Lc, &some, &Fixed(&[(2, 0), (1, 1), (0, 0), (1, 0)])), Some(3));
        assert_eq!(least(Score::Lc, &some, &Fixed(&[(1, 0), (1, 0), (0, 0), (1, 0)])), Some(0));
        assert_eq!(least(Score::Lc, &some, &Fixed(&[(1, 0), (0, 256), (0, 0), (1, 0)])), Some(1));
        assert_eq!(least(Score::Lc, &candidates(&[0, 0]), &Fixed(&[(0, 0), (0, 0)])), None);
    }
}
