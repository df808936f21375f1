//! Weighted least connection: the real server with the least overhead for its weight, where an active
//! connection counts 256 times as much as an inactive one on top of its own count
//! (`ip_vs_dest_conn_overhead`). The first of equals wins.

use super::Candidate;
use super::least::Rating;

/// How a real server with so many connections stands.
pub(super) fn rate(candidate: &Candidate, active: u64, inactive: u64) -> Rating {
    Rating { overhead: active.saturating_mul(257).saturating_add(inactive), weight: candidate.weight }
}

#[cfg(test)]
mod tests {
    use super::super::least::{LeastLoaded, Score};
    use super::super::tests::{candidates, oracle};
    use super::*;
    use crate::id::LcoreId;
    use crate::scheduler::Load;
    use crate::service::ServerId;

    struct Fixed(&'static [(u64, u64)]);

    impl Load for Fixed {
        fn connections(&self, server: ServerId) -> (u64, u64) {
            self.0[server.0 as usize]
        }

        fn connections_on(&self, _: LcoreId, server: ServerId) -> (u64, u64) {
            self.connections(server)
        }
    }

    fn choose(candidates: &[Candidate], load: &Fixed) -> Option<usize> {
        let wlc = LeastLoaded::build(Score::Wlc, candidates, None, 1);
        let chosen = wlc.choose(candidates, load, LcoreId(0));
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
