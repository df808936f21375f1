//! What the locality-based schedulers remember of destination addresses. All lcores share it and touch it
//! only when a connection is created.
//!
//! Fixed memory: 16,384 places (`CONFIG_IP_VS_LBLC_TAB_BITS` 10, times 16), in buckets of eight. Where a
//! bucket is full, whoever was not used for longest makes room. It is cut into shards with a lock each, held
//! for some tens of nanoseconds; an lcore that does not get one at once tries [`SPINS`] times and then goes on
//! without.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use crate::time::Tick;

const SHARDS: usize = 64;
const BUCKETS: usize = 32;
const WAYS: usize = 8;
/// How often a lock is tried; all of it takes less than a microsecond.
const SPINS: usize = 32;

/// The lock was not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// Something about each of many addresses.
#[derive(Debug)]
pub(super) struct Cache<V> {
    shards: Box<[Mutex<Shard<V>>]>,
}

type Shard<V> = Box<[Place<V>]>;

#[derive(Clone, Copy, Debug)]
struct Place<V> {
    address: Option<IpAddr>,
    used: Tick,
    value: V,
}

fn hash(address: IpAddr) -> usize {
    let bits = match address {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            (bits >> 64) as u64 ^ (bits as u64).rotate_left(29)
        }
    };
    (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

impl<V: Copy + Default> Cache<V> {
    pub(super) fn new() -> Cache<V> {
        let place = Place { address: None, used: Tick(0), value: V::default() };
        let shard = || vec![place; BUCKETS * WAYS].into_boxed_slice();
        Cache { shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect() }
    }

    fn lock(&self, hash: usize) -> Result<MutexGuard<'_, Shard<V>>, Busy> {
        for _ in 0..SPINS {
            match self.shards[hash % SHARDS].try_lock() {
                Ok(shard) => return Ok(shard),
                // Nothing that holds it can panic half way.
                Err(TryLockError::Poisoned(poisoned)) => return Ok(PoisonError::into_inner(poisoned)),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        Err(Busy)
    }

    fn bucket(shard: &mut Shard<V>, hash: usize) -> &mut [Place<V>] {
        let first = hash / SHARDS % BUCKETS * WAYS;
        &mut shard[first..first + WAYS]
    }

    /// Knows of an address, and of those that would make room for it, what `other` knows, if it gets the lock.
    pub(super) fn take_after(&self, other: &Cache<V>, address: IpAddr) -> Result<(), Busy> {
        let hash = hash(address);
        let (mut own, mut from) = (self.lock(hash)?, other.lock(hash)?);
        Self::bucket(&mut own, hash).copy_from_slice(Self::bucket(&mut from, hash));
        Ok(())
    }

    /// What is known of an address, however old. Counts as no use.
    pub(super) fn peek(&self, address: IpAddr) -> Option<V> {
        let hash = hash(address);
        let mut shard = self.lock(hash).ok()?;
        let mut places = Self::bucket(&mut shard, hash).iter();
        places.find(|place| place.address == Some(address)).map(|place| place.value)
    }

    /// What is known of an address, unless it was not used for so many milliseconds. Counts as a use.
    pub(super) fn get(&self, address: IpAddr, now: Tick, life: u32) -> Result<Option<V>, Busy> {
        let hash = hash(address);
        let mut shard = self.lock(hash)?;
        let mut places = Self::bucket(&mut shard, hash).iter_mut();
        let place =
            places.find(|place| place.address == Some(address) && now.since_anyones(place.used) <= life);
        Ok(place.map(|place| {
            place.used = now;
            place.value
        }))
    }

    /// Remembers something of an address instead of what was known, if it gets the lock.
    pub(super) fn put(&self, address: IpAddr, now: Tick, value: V) {
        let hash = hash(address);
        let Ok(mut shard) = self.lock(hash) else { return };
        let bucket = Self::bucket(&mut shard, hash);
        let own = bucket.iter().position(|place| place.address == Some(address));
        let at = own.unwrap_or_else(|| {
            let age = |place: &Place<V>| match place.address {
                Some(_) => u64::from(now.since_anyones(place.used)),
                None => u64::MAX,
            };
            (0..WAYS).max_by_key(|at| age(&bucket[*at])).unwrap_or_default()
        });
        bucket[at] = Place { address: Some(address), used: now, value };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn what_was_put_is_there_as_long_as_it_is_used() {
        let cache = Cache::<u32>::new();
        let start = Tick(u32::MAX - 50);
        assert_eq!(cache.get(address(1), start, 100), Ok(None));
        cache.put(address(1), start, 7);
        assert_eq!(cache.get(address(1), start.after(100), 100), Ok(Some(7)));
        assert_eq!(cache.get(address(1), start.after(200), 100), Ok(Some(7)), "the use before counts");
        assert_eq!(cache.get(address(1), start.after(301), 100), Ok(None));
        cache.put(address(1), start.after(301), 8);
        assert_eq!(cache.get(address(1), start.after(301), 100), Ok(Some(8)));
    }

    #[test]
    fn a_full_bucket_forgets_who_was_not_used_for_longest() {
        let cache = Cache::<u32>::new();
        let same = (0..).filter(|n| hash(address(*n)).is_multiple_of(SHARDS * BUCKETS));
        let all: Vec<u32> = same.take(WAYS + 1).collect();
        for (age, n) in all[..WAYS].iter().enumerate() {
            cache.put(address(*n), Tick(age as u32), *n);
        }
        assert_eq!(cache.get(address(all[0]), Tick(100), 1000), Ok(Some(all[0])));
        cache.put(address(all[WAYS]), Tick(101), 9);
        let known = all.iter().map(|n| cache.get(address(*n), Tick(102), 1000).unwrap().is_some());
        assert_eq!(known.collect::<Vec<_>>(), [true, false, true, true, true, true, true, true, true]);
    }

    #[test]
    fn nobody_waits_for_a_lock() {
        let cache = Cache::<u32>::new();
        cache.put(address(1), Tick(0), 7);
        let held = cache.lock(hash(address(1))).unwrap();
        assert_eq!(cache.get(address(1), Tick(0), 100), Err(Busy));
        cache.put(address(1), Tick(0), 8);
        drop(held);
        assert_eq!(cache.get(address(1), Tick(0), 100), Ok(Some(7)));
    }
}
