//! Maglev hashing: each real server prefers the slots of a table of 4093 in an order of its own, and
//! they take turns at choosing (Eisenbud et al., "Maglev", NSDI 2016, §3.4). When real servers come or
//! go, few clients move.
//!
//! Table size, hash function and keys are those of Linux `ip_vs_mh.c`, so that a kernel director
//! beside this one would choose alike. A weight of 0 keeps the slots of the last weight that was not:
//! its clients are refused unless `mh-fallback`, and find it again when it is back.

use std::hash::Hasher;

use control::model::SchedulerFlags;
use siphasher::sip::SipHasher13;

use super::hash::{fallback, fold};
use super::{Candidate, Load, Request, gcd};

/// A prime (`CONFIG_IP_VS_MH_TAB_INDEX=12`).
const SIZE: u32 = 4093;
/// Weights are shifted down until the greatest fits this many bits.
const WEIGHT_BITS: u32 = 6;
/// Knuth's multiplicative constant, the key of the first hash.
const KEY_1: u64 = 2_654_435_761;
/// The key of the second hash.
const KEY_2: u64 = 2_654_446_892;
const NOBODY: u32 = u32::MAX;

/// Linux `hsiphash` of one 32-bit word on a 64-bit machine: SipHash-1-3, lower half.
fn hash(address: u32, port: u16, key: u64, offset: u32) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(key, key);
    hasher.write(&offset.wrapping_add(u32::from(port)).wrapping_add(address).to_le_bytes());
    hasher.finish() as u32
}

/// The table.
#[derive(Clone, Debug)]
pub struct MaglevHashing {
    /// Slot to candidate.
    table: Box<[u32]>,
    flags: SchedulerFlags,
}

/// One real server's way through the table.
struct Preference {
    at: u32,
    skip: u32,
    turns: u32,
}

fn preferences(candidates: &[Candidate]) -> Vec<Preference> {
    let weights = || candidates.iter().map(|c| u32::from(c.last_weight)).filter(|w| *w > 0);
    let divisor = weights().fold(0, gcd).max(1);
    let greatest = weights().max().unwrap_or(0) / divisor;
    let shift = (u32::BITS - greatest.leading_zeros()).saturating_sub(WEIGHT_BITS);
    candidates
        .iter()
        .map(|c| {
            let (address, port) = (fold(c.address.ip()), c.address.port());
            let weight = u32::from(c.last_weight);
            Preference {
                at: hash(address, port, KEY_1, 0) % SIZE,
                skip: hash(address, port, KEY_2, 0) % (SIZE - 1) + 1,
                turns: ((weight / divisor) >> shift).max(u32::from(weight > 0)),
            }
        })
        .collect()
}

impl MaglevHashing {
    pub(super) fn build(candidates: &[Candidate], flags: SchedulerFlags) -> MaglevHashing {
        let mut table = vec![NOBODY; SIZE as usize];
        let mut preferences = preferences(candidates);
        let mut vacant = if preferences.iter().any(|p| p.turns > 0) { SIZE } else { 0 };
        'filling: while vacant > 0 {
            for (at, preference) in preferences.iter_mut().enumerate() {
                for _ in 0..preference.turns {
                    while table[preference.at as usize] != NOBODY {
                        preference.at = (preference.at + preference.skip) % SIZE;
                    }
                    table[preference.at as usize] = at as u32;
                    vacant -= 1;
                    if vacant == 0 {
                        break 'filling;
                    }
                }
            }
        }
        MaglevHashing { table: table.into(), flags }
    }

    /// The slot of a request, of how many, and whose it is.
    pub(super) fn slot(&self, request: Request) -> (u32, u32, Option<usize>) {
        let slot = self.hash(request, 0);
        let at = self.table[slot as usize];
        (slot, SIZE, (at != NOBODY).then_some(at as usize))
    }

    /// The slot of a request, the first way or another one.
    fn hash(&self, request: Request, offset: u32) -> u32 {
        let port = if self.flags.port { request.source_port } else { 0 };
        hash(fold(request.source), port, KEY_1, offset) % SIZE
    }

    pub(super) fn choose(
        &self,
        candidates: &[Candidate],
        request: Request,
        load: &impl Load,
    ) -> Option<usize> {
        let slot = |offset: u32| self.hash(request, offset);
        let available = |slot: u32| {
            let at = self.table[slot as usize];
            candidates.get(at as usize).filter(|c| c.is_available(load)).map(|_| at as usize)
        };
        let first = slot(0);
        available(first).or_else(|| {
            if !self.flags.fallback || self.table[first as usize] == NOBODY {
                return None;
            }
            fallback(SIZE, first, slot, available)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NONE, candidates, request};
    use super::*;

    fn build(candidates: &[Candidate], fallback: bool) -> MaglevHashing {
        MaglevHashing::build(candidates, SchedulerFlags { fallback, port: false })
    }

    fn slots(mh: &MaglevHashing, n: usize) -> Vec<usize> {
        (0..n).map(|at| mh.table.iter().filter(|slot| **slot == at as u32).count()).collect()
    }

    #[test]
    fn slots_go_by_weight() {
        let even = slots(&build(&candidates(&[1, 1, 1]), false), 3);
        assert!(even.iter().all(|n| (1364..=1365).contains(n)), "{even:?}");
        let weighted = slots(&build(&candidates(&[30, 10, 20]), false), 3);
        for (slots, share) in weighted.iter().zip([3.0, 1.0, 2.0]) {
            assert!((*slots as f64 - 4093.0 * share / 6.0).abs() < 4.0, "{weighted:?}");
        }
    }

    #[test]
    fn siphash_is_the_published_one() {
        // SipHash-1-3 of the four bytes 00 01 02 03 with key 00..0f, from the reference
        // implementation's family of vectors, computed here a second time by the standard library's
        // generic definition: one compression round, three finalisation rounds.
        let (k0, k1) = (0x0706_0504_0302_0100u64, 0x0f0e_0d0c_0b0a_0908u64);
        let mut v = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        let round = |v: &mut [u64; 4]| {
            v[0] = v[0].wrapping_add(v[1]);
            v[1] = v[1].rotate_left(13) ^ v[0];
            v[0] = v[0].rotate_left(32);
            v[2] = v[2].wrapping_add(v[3]);
            v[3] = v[3].rotate_left(16) ^ v[2];
            v[0] = v[0].wrapping_add(v[3]);
            v[3] = v[3].rotate_left(21) ^ v[0];
            v[2] = v[2].wrapping_add(v[1]);
            v[1] = v[1].rotate_left(17) ^ v[2];
            v[2] = v[2].rotate_left(32);
        };
        let last = 4u64 << 56 | 0x0302_0100;
        v[3] ^= last;
        round(&mut v);
        v[0] ^= last;
        v[2] ^= 0xff;
        (0..3).for_each(|_| round(&mut v));
        let mut hasher = SipHasher13::new_with_keys(k0, k1);
        hasher.write(&[0, 1, 2, 3]);
        assert_eq!(hasher.finish(), v[0] ^ v[1] ^ v[2] ^ v[3]);
    }

    #[test]
    fn few_clients_move_when_a_real_server_goes() {
        let four = candidates(&[1, 1, 1, 1]);
        let three = &four[..3];
        let (before, after) = (build(&four, false), build(three, false));
        let stayed = (0..4000).filter(|n| {
            let was = before.choose(&four, request(*n), &NONE).unwrap();
            was < 3 && after.choose(three, request(*n), &NONE) == Some(was)
        });
        let stayed = stayed.count();
        // Three quarters were on the others; nearly all of those stay.
        assert!(stayed > 2700, "{stayed}");
    }

    #[test]
    fn weight_0_keeps_its_slots() {
        let mut three = candidates(&[1, 1, 1]);
        let before = build(&three, false);
        three[1].weight = 0;
        let after = build(&three, false);
        let kind = build(&three, true);
        assert_eq!(slots(&before, 3), slots(&after, 3));
        for n in 0..500 {
            let was = before.choose(
                &three.iter().map(|c| Candidate { weight: 1, ..*c }).collect::<Vec<_>>(),
                request(n),
                &NONE,
            );
            match was {
                Some(1) => {
                    assert_eq!(after.choose(&three, request(n), &NONE), None);
                    assert!(matches!(kind.choose(&three, request(n), &NONE), Some(0 | 2)));
                }
                other => assert_eq!(after.choose(&three, request(n), &NONE), other),
            }
        }
        assert_eq!(build(&[], true).choose(&[], request(1), &NONE), None);
        let never_had_weight = candidates(&[0, 0]);
        assert_eq!(build(&never_had_weight, true).choose(&never_had_weight, request(1), &NONE), None);
    }
}
