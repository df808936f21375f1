//! Weighted least connection: the real server with the least overhead for its weight, where an active
//! connection counts 256 times as much as an inactive one on top of its own count
//! (`ip_vs_dest_conn_overhead`). The first of equals wins.

use super::{Candidate, Load};

pub(super) fn choose(candidates: &[Candidate], load: &impl Load) -> Option<usize> {
    let overhead = |c: &Candidate| {
        let (active, inactive) = load.connections(c.server);
        u128::from(active) * 257 + u128::from(inactive)
    };
    let mut best: Option<(usize, u128)> = None;
    for (at, candidate) in candidates.iter().enumerate().filter(|(_, c)| c.is_available()) {
        let here = overhead(candidate);
        // least/its weight > here/our weight, without a division.
        let better = best.is_none_or(|(least, overhead)| {
            overhead * u128::from(candidate.weight) > here * u128::from(candidates[least].weight)
        });
        if better {
            best = Some((at, here));
        }
    }
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::super::tests::candidates;
    use super::*;
    use crate::service::ServerId;

    struct Fixed(&'static [(u64, u64)]);

    impl Load for Fixed {
        fn connections(&self, server: ServerId) -> (u64, u64) {
            self.0[server.0 as usize]
        }
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
