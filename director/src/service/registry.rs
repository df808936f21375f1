//! Numbers for virtual services and real servers that stay the same as long as anything refers to
//! them: counters, and connections that outlive a removed real server.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::hash::Hash;

/// Hands out small numbers for keys, keeps those of departed keys until they may be used again.
#[derive(Debug)]
pub(super) struct Registry<K> {
    by_key: HashMap<K, u32>,
    /// By number; `None` where it is free.
    keys: Vec<Option<K>>,
    /// The free numbers among those that were ever handed out. The lowest goes first, so that tables by
    /// number stay short.
    free: BinaryHeap<Reverse<u32>>,
    /// Numbers of departed keys, each with the first snapshot without it.
    departed: BTreeMap<u32, u64>,
    /// The departed number that [`Registry::release`] looks at next.
    next: u32,
    limit: usize,
}

impl<K: Copy + Eq + Hash> Registry<K> {
    /// At most `limit` numbers.
    pub(super) fn new(limit: usize) -> Registry<K> {
        Registry {
            by_key: HashMap::new(),
            keys: Vec::new(),
            free: BinaryHeap::new(),
            departed: BTreeMap::new(),
            next: 0,
            limit,
        }
    }

    /// For how many new keys there are numbers.
    pub(super) fn room(&self) -> usize {
        self.free.len() + self.limit - self.keys.len()
    }

    /// The number of a key, and whether it was given just now. A departed key whose number is still
    /// kept comes back to it. For a new key there must be [`Registry::room`].
    pub(super) fn take(&mut self, key: K) -> (u32, bool) {
        if let Some(&number) = self.by_key.get(&key) {
            self.departed.remove(&number);
            return (number, false);
        }
        debug_assert!(self.room() > 0);
        let number = match self.free.pop() {
            Some(Reverse(number)) => number,
            None => {
                self.keys.push(None);
                self.keys.len() as u32 - 1
            }
        };
        self.keys[number as usize] = Some(key);
        self.by_key.insert(key, number);
        (number, true)
    }

    /// Notes that `version` is the first snapshot without the key of a number.
    pub(super) fn depart(&mut self, number: u32, version: u64) {
        self.departed.entry(number).or_insert(version);
    }

    /// Frees the numbers of departed keys that no lcore can use any more: every lcore has gone on to
    /// the snapshot with which they departed (`quiescent`), and `unused` says so too. Looks at no more
    /// than `budget` departed ones, and goes on after those the next time.
    pub(super) fn release(
        &mut self,
        quiescent: u64,
        budget: usize,
        unused: impl Fn(u32) -> bool,
        mut freed: impl FnMut(u32, K),
    ) {
        let in_turn = self.departed.range(self.next..).chain(self.departed.range(..self.next));
        let looked_at: Vec<(u32, u64)> =
            in_turn.take(budget).map(|(number, since)| (*number, *since)).collect();
        for (number, since) in looked_at {
            self.next = number + 1;
            if since > quiescent || !unused(number) {
                continue;
            }
            self.departed.remove(&number);
            if let Some(key) = self.keys[number as usize].take() {
                self.by_key.remove(&key);
                self.free.push(Reverse(number));
                freed(number, key);
            }
        }
    }

    /// The number of a key, departed or not.
    pub(super) fn get(&self, key: &K) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// All keys with their numbers, departed or not.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &K)> {
        self.keys.iter().enumerate().filter_map(|(number, key)| Some((number as u32, key.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_until_nobody_can_use_it() {
        let mut registry = Registry::new(2);
        assert_eq!(registry.take('a'), (0, true));
        assert_eq!(registry.take('a'), (0, false));
        assert_eq!(registry.take('b'), (1, true));
        registry.depart(0, 5);
        assert_eq!(registry.room(), 0);
        registry.release(4, 9, |_| true, |_, _| panic!("an lcore may still use it"));
        registry.release(5, 9, |_| false, |_, _| panic!("connections still refer to it"));
        // It comes back in time and keeps its number.
        assert_eq!(registry.take('a'), (0, false));
        registry.release(9, 9, |_| true, |_, _| panic!("it is there"));
        registry.depart(0, 10);
        let mut freed = Vec::new();
        registry.release(10, 9, |_| true, |number, key| freed.push((number, key)));
        assert_eq!(freed, [(0, 'a')]);
        assert_eq!((registry.room(), registry.get(&'a')), (1, None));
        assert_eq!(registry.take('c'), (0, true));
    }

    #[test]
    fn free_numbers_go_lowest_first() {
        let mut registry = Registry::new(9);
        for key in 'a'..='f' {
            registry.take(key);
        }
        [4, 1, 3].into_iter().for_each(|number| registry.depart(number, 1));
        registry.release(1, 9, |_| true, |_, _| {});
        assert_eq!(['u', 'v', 'w', 'x'].map(|key| registry.take(key).0), [1, 3, 4, 6]);
    }

    #[test]
    fn a_budget_comes_by_all_in_turn() {
        let mut registry = Registry::new(9);
        for key in 'a'..='f' {
            registry.take(key);
        }
        (0..6).for_each(|number| registry.depart(number, 1));
        let looked_at = std::cell::RefCell::new(Vec::new());
        for _ in 0..4 {
            let unused = |number| {
                looked_at.borrow_mut().push(number);
                number == 1
            };
            registry.release(1, 2, unused, |_, _| {});
        }
        assert_eq!(looked_at.into_inner(), [0, 1, 2, 3, 4, 5, 0, 2]);
    }
}
