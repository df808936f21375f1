//! Numbers for virtual services and real servers that stay the same as long as anything refers to
//! them: counters, and connections that outlive a removed real server.

use std::collections::HashMap;
use std::hash::Hash;

/// Hands out small numbers for keys, keeps those of departed keys until they may be used again.
#[derive(Debug)]
pub(super) struct Registry<K> {
    by_key: HashMap<K, u32>,
    slots: Vec<Slot<K>>,
    limit: usize,
}

#[derive(Debug)]
struct Slot<K> {
    key: Option<K>,
    /// The snapshot with which the key departed; 0 while it is there.
    departed: u64,
}

impl<K: Copy + Eq + Hash> Registry<K> {
    /// At most `limit` numbers.
    pub(super) fn new(limit: usize) -> Registry<K> {
        Registry { by_key: HashMap::new(), slots: Vec::new(), limit }
    }

    /// The number of a key, and whether it was given just now. A departed key whose number is still
    /// kept comes back to it. `None` where no number is free.
    pub(super) fn take(&mut self, key: K) -> Option<(u32, bool)> {
        if let Some(&number) = self.by_key.get(&key) {
            self.slots[number as usize].departed = 0;
            return Some((number, false));
        }
        let number = match self.slots.iter().position(|slot| slot.key.is_none()) {
            Some(free) => free,
            None if self.slots.len() < self.limit => {
                self.slots.push(Slot { key: None, departed: 0 });
                self.slots.len() - 1
            }
            None => return None,
        };
        self.slots[number] = Slot { key: Some(key), departed: 0 };
        self.by_key.insert(key, number as u32);
        Some((number as u32, true))
    }

    /// Notes that `version` is the first snapshot without the keys for which `stays` is false.
    pub(super) fn depart(&mut self, version: u64, stays: impl Fn(&K) -> bool) {
        for slot in &mut self.slots {
            if slot.departed == 0 && slot.key.as_ref().is_some_and(|key| !stays(key)) {
                slot.departed = version;
            }
        }
    }

    /// Frees the numbers of departed keys that no lcore can use any more: every lcore has gone on to
    /// the snapshot with which they departed (`quiescent`), and `unused` says so too.
    pub(super) fn release(
        &mut self,
        quiescent: u64,
        unused: impl Fn(u32) -> bool,
        mut freed: impl FnMut(u32, K),
    ) {
        for number in 0..self.slots.len() as u32 {
            let slot = &mut self.slots[number as usize];
            if slot.departed == 0 || slot.departed > quiescent || !unused(number) {
                continue;
            }
            slot.departed = 0;
            if let Some(key) = slot.key.take() {
                self.by_key.remove(&key);
                freed(number, key);
            }
        }
    }

    /// The number of a key, departed or not.
    pub(super) fn get(&self, key: &K) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// All keys with their numbers and whether they are still there.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &K, bool)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(number, slot)| Some((number as u32, slot.key.as_ref()?, slot.departed == 0)))
    }

    /// One more than the greatest number that was ever handed out.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_until_nobody_can_use_it() {
        let mut registry = Registry::new(2);
        assert_eq!(registry.take('a'), Some((0, true)));
        assert_eq!(registry.take('a'), Some((0, false)));
        assert_eq!(registry.take('b'), Some((1, true)));
        registry.depart(5, |key| *key != 'a');
        assert_eq!(registry.take('c'), None);
        registry.release(4, |_| true, |_, _| panic!("an lcore may still use it"));
        registry.release(5, |_| false, |_, _| panic!("connections still refer to it"));
        // It comes back in time and keeps its number.
        assert_eq!(registry.take('a'), Some((0, false)));
        registry.release(9, |_| true, |_, _| panic!("it is there"));
        registry.depart(10, |key| *key != 'a');
        let mut freed = Vec::new();
        registry.release(10, |_| true, |number, key| freed.push((number, key)));
        assert_eq!(freed, [(0, 'a')]);
        assert_eq!(registry.take('c'), Some((0, true)));
    }
}
