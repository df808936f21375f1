//! The hot part of a table: buckets of one cache line, eight slots of a 16-bit tag and a place. Those of one page make an
//! index of their own.
//!
//! A key's home is its first bucket; only when that is full does it live in its second one, and
//! `overflow` of the first counts such guests elsewhere. A lookup therefore reads one cache line
//! unless its first bucket has overflowed. When both buckets are full, one slot of the first is moved
//! to its own other bucket, so that the index takes everything up to its design load.

use super::entry::ConnId;
use super::key::FlowHash;
use super::tags::{self, SLOTS};

/// Eight slots.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Bucket {
    /// 0 is an empty slot.
    tags: [u16; SLOTS],
    places: [u32; SLOTS],
    /// How many keys whose first bucket this is live in their second one.
    overflow: u32,
}

impl Bucket {
    pub(super) const EMPTY: Bucket = Bucket { tags: [0; SLOTS], places: [0; SLOTS], overflow: 0 };

    /// One bit for each slot that holds `tag`.
    #[inline(always)]
    fn matches(&self, tag: u16) -> u8 {
        tags::matches(&self.tags, tag)
    }

    /// The place in the first of these slots, of which there is one.
    #[inline(always)]
    fn first_of(&self, slots: u8) -> ConnId {
        ConnId(self.places[slots.trailing_zeros() as usize & (SLOTS - 1)])
    }

    /// The first place with a hash's tag.
    #[inline(always)]
    pub(super) fn candidate(&self, hash: FlowHash) -> Option<ConnId> {
        let mask = self.matches(hash.tag());
        (mask != 0).then(|| self.first_of(mask))
    }

    /// Whether keys whose first bucket this is live in their second one.
    #[inline(always)]
    pub(super) fn has_overflowed(&self) -> bool {
        self.overflow != 0
    }

    fn vacant(&self) -> Option<usize> {
        let mask = self.matches(0);
        (mask != 0).then(|| mask.trailing_zeros() as usize)
    }
}

impl FlowHash {
    /// The lowest bits; a page goes by those above. 0 marks an empty slot.
    #[inline(always)]
    fn tag(self) -> u16 {
        self.0 as u16 | 1
    }

    /// Its page among so many: multiplication instead of a division (Lemire's fast range).
    #[inline(always)]
    pub(super) fn page(self, pages: usize) -> usize {
        (((self.0 & 0xffff_ffff) * pages as u64) >> 32) as usize
    }

    /// First bucket of so many in its page.
    #[inline(always)]
    pub(super) fn first(self, buckets: usize) -> usize {
        ((self.0 >> 48) as usize * buckets) >> 16
    }

    /// Second bucket; never the first where there are two or more.
    #[inline]
    fn second(self, buckets: usize) -> usize {
        let step = 1 + (((self.0 >> 32 & 0xffff) as usize * (buckets - 1)) >> 16);
        let second = self.first(buckets) + step;
        if second >= buckets { second - buckets } else { second }
    }
}

/// The index of a page, for reading.
pub(super) struct Index<'a>(pub(super) &'a [Bucket]);

impl Index<'_> {
    /// The first place that a lookup would examine in the second bucket.
    #[inline(never)]
    pub(super) fn candidate_in_second(self, hash: FlowHash) -> Option<ConnId> {
        self.0[hash.second(self.0.len())].candidate(hash)
    }

    /// The place for which `confirm` says something, among those whose tag fits.
    #[inline]
    pub(super) fn find<R>(
        self,
        hash: FlowHash,
        mut confirm: impl FnMut(ConnId) -> Option<R>,
    ) -> Option<(ConnId, R)> {
        let first = &self.0[hash.first(self.0.len())];
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
        self,
        hash: FlowHash,
        mut confirm: impl FnMut(ConnId) -> Option<R>,
    ) -> Option<(ConnId, R)> {
        find_in(&self.0[hash.second(self.0.len())], hash.tag(), &mut confirm)
    }
}

/// The index of a page, to be changed.
pub(super) struct IndexMut<'a>(pub(super) &'a mut [Bucket]);

impl IndexMut<'_> {
    /// Adds a place where a slot is vacant. False where none is.
    #[inline]
    pub(super) fn put_vacant(&mut self, hash: FlowHash, place: ConnId) -> bool {
        let first = hash.first(self.0.len());
        if let Some(slot) = self.0[first].vacant() {
            self.put(first, slot, hash.tag(), place);
            return true;
        }
        let second = hash.second(self.0.len());
        if let Some(slot) = self.0[second].vacant() {
            self.put(second, slot, hash.tag(), place);
            self.0[first].overflow += 1;
            return true;
        }
        false
    }

    /// Adds a place where none is, by moving others. `rehash` gives, for a place already there, the hashes of its keys: that
    /// under which a bucket and tag hold it is one of them. False where there is no room.
    #[cold]
    pub(super) fn put_moving(
        &mut self,
        hash: FlowHash,
        place: ConnId,
        rehash: impl Fn(ConnId) -> [Option<FlowHash>; 2],
    ) -> bool {
        let first = hash.first(self.0.len());
        let Some(slot) = self.make_room(first, &rehash).or_else(|| self.make_more_room(first, &rehash))
        else {
            return false;
        };
        self.put(first, slot, hash.tag(), place);
        true
    }

    /// Takes a place out again; it must have been inserted under this hash.
    pub(super) fn remove(&mut self, hash: FlowHash, place: ConnId) {
        let first = hash.first(self.0.len());
        let second = hash.second(self.0.len());
        for (at, elsewhere) in [(first, false), (second, true)] {
            let bucket = &mut self.0[at];
            for slot in 0..SLOTS {
                if bucket.tags[slot] == hash.tag() && bucket.places[slot] == place.0 {
                    bucket.tags[slot] = 0;
                    if elsewhere {
                        self.0[first].overflow -= 1;
                    }
                    return;
                }
            }
        }
        debug_assert!(false, "removed a key that is not in the index");
    }

    fn put(&mut self, bucket: usize, slot: usize, tag: u16, place: ConnId) {
        let bucket = &mut self.0[bucket];
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
        let buckets = self.0.len();
        let tag = self.0[bucket].tags[slot];
        let place = ConnId(self.0[bucket].places[slot]);
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
            let Some(vacant) = self.0[other].vacant() else { return false };
            self.relocate(bucket, slot, other, vacant, hash);
            true
        })
    }

    /// As [`IndexMut::make_room`], where every other bucket is full too: makes room in one of those first. Seldom is
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
        let place = ConnId(self.0[from].places[slot]);
        self.put(to, vacant, hash.tag(), place);
        self.0[from].tags[slot] = 0;
        if hash.first(self.0.len()) == from {
            self.0[from].overflow += 1;
        } else {
            self.0[to].overflow -= 1;
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
        let place = bucket.first_of(mask);
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

    /// The index of a page is sized for half of its slots; chance gives some pages more.
    #[test]
    fn takes_far_more_than_its_design_load_and_finds_all_of_it() {
        for seed in 0..200 {
            let hash = |n| hash(n + seed * 10_000);
            let mut buckets = [Bucket::EMPTY; 21];
            let slots = buckets.len() * SLOTS;
            let mut put = |n: u32| {
                let mut index = IndexMut(&mut buckets);
                index.put_vacant(hash(n), ConnId(n))
                    || index.put_moving(hash(n), ConnId(n), |id| [Some(hash(id.0)), None])
            };
            let taken = (0..slots as u32).find(|&n| !put(n)).unwrap_or(slots as u32);
            assert!(taken as usize * 100 > slots * 80, "{taken} of {slots}");
            for n in 0..taken {
                assert!(
                    Index(&buckets).find(hash(n), |id| (id.0 == n).then_some(())).is_some(),
                    "{n} is lost"
                );
            }
            for n in 0..taken {
                IndexMut(&mut buckets).remove(hash(n), ConnId(n));
            }
            assert!(buckets.iter().all(|bucket| bucket.overflow == 0 && bucket.matches(0) == 0xff));
        }
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
