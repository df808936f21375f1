//! The hot part of a table: buckets of one cache line, eight slots of a 16-bit tag and a place.
//!
//! A key's home is its first bucket; only when that is full does it live in its second one, and
//! `overflow` of the first counts such guests elsewhere. A lookup therefore reads one cache line
//! unless its first bucket has overflowed. When both buckets are full, one slot of the first is moved
//! to its own other bucket, so that the index takes everything up to its design load.

use super::entry::ConnId;
use super::key::FlowHash;
use super::tags::{self, SLOTS};
use crate::memory::Arena;
use crate::prefetch::prefetch_at;

/// Highest share of slots in use that the index is sized for, in percent. At 70 % a connection takes 9 bytes less,
/// but 4 % of the keys live in their second bucket instead of 0.8 %, and each of those costs one more miss of the
/// cache.
const DESIGN_LOAD: usize = 50;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Bucket {
    /// 0 is an empty slot.
    tags: [u16; SLOTS],
    places: [u32; SLOTS],
    /// How many keys whose first bucket this is live in their second one.
    overflow: u32,
}

const EMPTY: Bucket = Bucket { tags: [0; SLOTS], places: [0; SLOTS], overflow: 0 };

impl Bucket {
    /// One bit for each slot that holds `tag`.
    #[inline(always)]
    fn matches(&self, tag: u16) -> u8 {
        tags::matches(&self.tags, tag)
    }

    fn vacant(&self) -> Option<usize> {
        let mask = self.matches(0);
        (mask != 0).then(|| mask.trailing_zeros() as usize)
    }
}

impl FlowHash {
    #[inline]
    fn tag(self) -> u16 {
        // 0 marks an empty slot.
        ((self.0 >> 48) as u16).max(1)
    }

    /// First bucket of `buckets`: multiplication instead of a division (Lemire's fast range).
    #[inline]
    fn first(self, buckets: usize) -> usize {
        (((self.0 & 0xffff_ffff) * buckets as u64) >> 32) as usize
    }

    /// Second bucket; never the first where there are two or more.
    #[inline]
    fn second(self, buckets: usize) -> usize {
        let step = 1 + (((self.0 >> 16 & 0xffff_ffff) * (buckets as u64 - 1)) >> 32) as usize;
        let second = self.first(buckets) + step;
        if second >= buckets { second - buckets } else { second }
    }
}

/// Index of the places of a table.
pub(super) struct Index {
    buckets: Arena<Bucket>,
}

impl Index {
    /// An index that holds `slots` keys at its design load.
    pub(super) fn new(slots: usize, hugepages: bool) -> std::io::Result<Index> {
        let buckets = (slots * 100).div_ceil(SLOTS * DESIGN_LOAD).max(2);
        Ok(Index { buckets: Arena::filled(buckets, EMPTY, hugepages)? })
    }

    pub(super) fn mapped_bytes(&self) -> usize {
        self.buckets.mapped_bytes()
    }

    #[inline]
    pub(super) fn prefetch(&self, hash: FlowHash) {
        prefetch_at(&self.buckets, hash.first(self.buckets.len()));
    }

    /// The first place that a lookup would examine, for prefetching.
    #[inline(always)]
    pub(super) fn candidate(&self, hash: FlowHash) -> Option<ConnId> {
        let first = &self.buckets[hash.first(self.buckets.len())];
        let place_in = |bucket: &Bucket| {
            let mask = bucket.matches(hash.tag());
            (mask != 0).then(|| ConnId(bucket.places[mask.trailing_zeros() as usize & (SLOTS - 1)]))
        };
        // Waiting for the second bucket here, other packets' lookups go on; in the last step they would wait too.
        place_in(first).or_else(|| match first.overflow {
            0 => None,
            _ => place_in(&self.buckets[hash.second(self.buckets.len())]),
        })
    }

    /// The place for which `confirm` says something, among those whose tag fits.
    #[inline]
    pub(super) fn find<R>(
        &self,
        hash: FlowHash,
        mut confirm: impl FnMut(ConnId) -> Option<R>,
    ) -> Option<(ConnId, R)> {
        let first = &self.buckets[hash.first(self.buckets.len())];
        if let found @ Some(_) = find_in(first, hash.tag(), &mut confirm) {
            return found;
        }
        if first.overflow == 0 {
            return None;
        }
        self.find_in_second(hash, confirm)
    }

    /// One lookup in some twenty comes here at the design load.
    #[inline(never)]
    fn find_in_second<R>(
        &self,
        hash: FlowHash,
        mut confirm: impl FnMut(ConnId) -> Option<R>,
    ) -> Option<(ConnId, R)> {
        find_in(&self.buckets[hash.second(self.buckets.len())], hash.tag(), &mut confirm)
    }

    /// Adds a place. `rehash` gives, for a place already there, the hash of the key under which a
    /// bucket and tag hold it. False where there is no room.
    pub(super) fn insert(
        &mut self,
        hash: FlowHash,
        place: ConnId,
        rehash: impl Fn(ConnId) -> [Option<FlowHash>; 2],
    ) -> bool {
        let first = hash.first(self.buckets.len());
        if let Some(slot) = self.buckets[first].vacant() {
            self.put(first, slot, hash.tag(), place);
            return true;
        }
        let second = hash.second(self.buckets.len());
        if let Some(slot) = self.buckets[second].vacant() {
            self.put(second, slot, hash.tag(), place);
            self.buckets[first].overflow += 1;
            return true;
        }
        let Some(slot) = self.make_room(first, &rehash).or_else(|| self.make_more_room(first, &rehash))
        else {
            return false;
        };
        self.put(first, slot, hash.tag(), place);
        true
    }

    /// Takes a place out again; it must have been inserted under this hash.
    pub(super) fn remove(&mut self, hash: FlowHash, place: ConnId) {
        let first = hash.first(self.buckets.len());
        let second = hash.second(self.buckets.len());
        for (at, elsewhere) in [(first, false), (second, true)] {
            let bucket = &mut self.buckets[at];
            for slot in 0..SLOTS {
                if bucket.tags[slot] == hash.tag() && bucket.places[slot] == place.0 {
                    bucket.tags[slot] = 0;
                    if elsewhere {
                        self.buckets[first].overflow -= 1;
                    }
                    return;
                }
            }
        }
        debug_assert!(false, "removed a key that is not in the index");
    }

    fn put(&mut self, bucket: usize, slot: usize, tag: u16, place: ConnId) {
        let bucket = &mut self.buckets[bucket];
        bucket.tags[slot] = tag;
        bucket.places[slot] = place.0;
    }

    /// The key that a slot holds: its hash, and the other bucket that it may live in. `None` where the two
    /// keys of a NAT connection both fit the slot; that one stays where it is.
    fn resident(
        &self,
        bucket: usize,
        slot: usize,
        rehash: &impl Fn(ConnId) -> [Option<FlowHash>; 2],
    ) -> Option<(FlowHash, usize)> {
        let buckets = self.buckets.len();
        let tag = self.buckets[bucket].tags[slot];
        let place = ConnId(self.buckets[bucket].places[slot]);
        let mut here = rehash(place)
            .into_iter()
            .flatten()
            .filter(|h| h.tag() == tag && (h.first(buckets) == bucket || h.second(buckets) == bucket));
        let (Some(hash), None) = (here.next(), here.next()) else { return None };
        let first = hash.first(buckets);
        Some((hash, if first == bucket { hash.second(buckets) } else { first }))
    }

    /// Moves one slot of `bucket` to that key's other bucket and says which slot is vacant now.
    fn make_room(
        &mut self,
        bucket: usize,
        rehash: &impl Fn(ConnId) -> [Option<FlowHash>; 2],
    ) -> Option<usize> {
        (0..SLOTS).find(|&slot| {
            let Some((hash, other)) = self.resident(bucket, slot, rehash) else { return false };
            let Some(vacant) = self.buckets[other].vacant() else { return false };
            self.relocate(bucket, slot, other, vacant, hash);
            true
        })
    }

    /// As [`Index::make_room`], where every other bucket is full too: makes room in one of those first. Seldom is
    /// not never, and a table that is not full refuses nobody.
    #[cold]
    fn make_more_room(
        &mut self,
        bucket: usize,
        rehash: &impl Fn(ConnId) -> [Option<FlowHash>; 2],
    ) -> Option<usize> {
        (0..SLOTS).find(|&slot| {
            let Some((hash, other)) = self.resident(bucket, slot, rehash) else { return false };
            // Nothing moves into `bucket`, which is full.
            let Some(vacant) = self.make_room(other, rehash) else { return false };
            self.relocate(bucket, slot, other, vacant, hash);
            true
        })
    }

    /// Moves what a slot holds to a vacant one of its other bucket.
    fn relocate(&mut self, from: usize, slot: usize, to: usize, vacant: usize, hash: FlowHash) {
        let place = ConnId(self.buckets[from].places[slot]);
        self.put(to, vacant, hash.tag(), place);
        self.buckets[from].tags[slot] = 0;
        if hash.first(self.buckets.len()) == from {
            self.buckets[from].overflow += 1;
        } else {
            self.buckets[to].overflow -= 1;
        }
    }
}

#[inline(always)]
fn find_in<R>(
    bucket: &Bucket,
    tag: u16,
    confirm: &mut impl FnMut(ConnId) -> Option<R>,
) -> Option<(ConnId, R)> {
    let mut mask = bucket.matches(tag);
    while mask != 0 {
        let place = ConnId(bucket.places[mask.trailing_zeros() as usize & (SLOTS - 1)]);
        if let Some(result) = confirm(place) {
            return Some((place, result));
        }
        mask &= mask - 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_one_cache_line() {
        assert_eq!(size_of::<Bucket>(), 64);
    }

    fn hash(n: u32) -> FlowHash {
        // Any mixer will do: this is splitmix64's.
        let mut z = u64::from(n).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        FlowHash(z ^ z >> 31)
    }

    /// Moving one resident alone fills it to 77 % before something is refused; at 70 % that was one in a million.
    #[test]
    fn takes_far_more_than_its_design_load_and_finds_all_of_it() {
        let mut index = Index { buckets: Arena::filled(20_000, EMPTY, false).unwrap() };
        let slots = index.buckets.len() * SLOTS;
        let refused =
            (0..slots as u32).find(|&n| !index.insert(hash(n), ConnId(n), |id| [Some(hash(id.0)), None]));
        let taken = refused.unwrap() as usize;
        assert!(taken * 100 > slots * 92, "{taken} of {slots}");
        for n in 0..taken as u32 {
            assert!(index.find(hash(n), |id| (id.0 == n).then_some(())).is_some(), "{n} is lost");
        }
        for n in 0..taken as u32 {
            index.remove(hash(n), ConnId(n));
        }
        assert!(index.buckets.iter().all(|bucket| bucket.overflow == 0 && bucket.matches(0) == 0xff));
    }

    #[test]
    fn the_second_bucket_is_never_the_first() {
        for buckets in [2, 3, 7, 1000] {
            for i in 0..10_000u64 {
                let hash = FlowHash(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                assert!(hash.first(buckets) < buckets && hash.second(buckets) < buckets);
                assert_ne!(hash.first(buckets), hash.second(buckets));
            }
        }
    }
}
