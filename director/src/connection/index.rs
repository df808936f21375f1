//! The hot part of a table: buckets of one cache line, eight slots of a 16-bit tag and a place.
//!
//! A key's home is its first bucket; only when that is full does it live in its second one, and
//! `overflow` of the first counts such guests elsewhere. A lookup therefore reads one cache line
//! unless its first bucket has overflowed. When both buckets are full, one slot of the first is moved
//! to its own other bucket, so that the index takes everything up to its design load.

use super::entry::ConnId;
use super::key::FlowHash;
use crate::memory::Arena;
use crate::prefetch::prefetch;

const SLOTS: usize = 8;

/// Highest share of slots in use that the index is sized for, in percent.
const DESIGN_LOAD: usize = 70;

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
    /// One bit for each slot that holds `tag`. Compiles to one comparison of a vector on machines
    /// that have them.
    #[inline]
    fn matches(&self, tag: u16) -> u8 {
        let mut mask = 0;
        for (i, t) in self.tags.iter().enumerate() {
            mask |= u8::from(*t == tag) << i;
        }
        mask
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
        prefetch(&self.buckets[hash.first(self.buckets.len())]);
    }

    /// The first place that a lookup would examine, for prefetching; touches one bucket.
    #[inline]
    pub(super) fn candidate(&self, hash: FlowHash) -> Option<ConnId> {
        let bucket = &self.buckets[hash.first(self.buckets.len())];
        let mask = bucket.matches(hash.tag());
        (mask != 0).then(|| ConnId(bucket.places[mask.trailing_zeros() as usize & (SLOTS - 1)]))
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
        match self.make_room(first, rehash) {
            Some(slot) => {
                self.put(first, slot, hash.tag(), place);
                true
            }
            None => false,
        }
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

    /// Moves one slot of `bucket` to that key's other bucket and says which slot is vacant now.
    fn make_room(
        &mut self,
        bucket: usize,
        rehash: impl Fn(ConnId) -> [Option<FlowHash>; 2],
    ) -> Option<usize> {
        let buckets = self.buckets.len();
        for slot in 0..SLOTS {
            let tag = self.buckets[bucket].tags[slot];
            let place = ConnId(self.buckets[bucket].places[slot]);
            let mut here = rehash(place)
                .into_iter()
                .flatten()
                .filter(|h| h.tag() == tag && (h.first(buckets) == bucket || h.second(buckets) == bucket));
            // Both keys of a NAT connection could fit this slot; then leave it where it is.
            let (Some(hash), None) = (here.next(), here.next()) else { continue };
            let first = hash.first(buckets);
            let (other, at_home) =
                if first == bucket { (hash.second(buckets), true) } else { (first, false) };
            let Some(vacant) = self.buckets[other].vacant() else { continue };
            self.put(other, vacant, tag, place);
            self.buckets[bucket].tags[slot] = 0;
            if at_home {
                self.buckets[bucket].overflow += 1;
            } else {
                self.buckets[other].overflow -= 1;
            }
            return Some(slot);
        }
        None
    }
}

#[inline]
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
