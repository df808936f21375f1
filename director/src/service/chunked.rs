//! Arrays of which each version shares with the one before whatever did not change.

use std::sync::Arc;

/// Places by number, some of them empty, in chunks of `N`. A clone costs a reference count. A change
/// copies the chunk that it falls into and the list of chunks, if a clone still uses them; so `N` near
/// the square root of the number of places copies least. Reading takes one load more than of a `Vec`.
#[derive(Clone, Debug)]
pub struct Chunked<T, const N: usize> {
    chunks: Arc<[Arc<Chunk<T, N>>]>,
}

/// The unit of sharing.
type Chunk<T, const N: usize> = [Option<T>; N];

impl<T, const N: usize> Chunked<T, N> {
    /// What is at a place.
    #[inline]
    pub fn get(&self, at: usize) -> Option<&T> {
        self.chunks.get(at / N)?[at % N].as_ref()
    }

    /// How many places there are, empty ones included.
    pub fn places(&self) -> usize {
        self.chunks.len() * N
    }

    /// What there is, by rising place.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let places = self.chunks.iter().flat_map(|chunk| chunk.iter());
        places.enumerate().filter_map(|(at, place)| Some((at, place.as_ref()?)))
    }
}

impl<T: Clone, const N: usize> Chunked<T, N> {
    /// Puts something into a place, or empties it.
    pub(super) fn set(&mut self, at: usize, value: Option<T>) {
        if self.chunks.len() * N <= at {
            let more = (self.chunks.len()..=at / N).map(|_| Arc::new([const { None }; N]));
            self.chunks = self.chunks.iter().cloned().chain(more).collect();
        }
        let chunk = &mut Arc::make_mut(&mut self.chunks)[at / N];
        Arc::make_mut(chunk)[at % N] = value;
    }
}

impl<T, const N: usize> Default for Chunked<T, N> {
    fn default() -> Self {
        Chunked { chunks: Arc::default() }
    }
}

#[cfg(test)]
impl<T, const N: usize> Chunked<T, N> {
    /// Whether two share all they have.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks)
    }

    /// Which chunks two do not share.
    pub(super) fn differing(&self, other: &Self) -> Vec<usize> {
        let pairs = self.chunks.iter().zip(other.chunks.iter()).enumerate();
        pairs.filter(|(_, (a, b))| !Arc::ptr_eq(a, b)).map(|(n, _)| n).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Every version stays what a map of the standard library was when it was made.
        #[test]
        fn versions_are_what_maps_are(steps in proptest::collection::vec((0usize..40, proptest::option::of(any::<u8>()), any::<bool>()), 1..60)) {
            let (mut array, mut map) = (Chunked::<u8, 4>::default(), BTreeMap::new());
            let mut versions = Vec::new();
            for (at, value, keep) in steps {
                array.set(at, value);
                match value {
                    Some(value) => map.insert(at, value),
                    None => map.remove(&at),
                };
                if keep {
                    versions.push((array.clone(), map.clone()));
                }
            }
            versions.push((array, map));
            for (array, map) in versions {
                prop_assert!(array.iter().map(|(at, value)| (at, *value)).eq(map.clone()));
                prop_assert!((0..50).all(|at| array.get(at) == map.get(&at)));
            }
        }
    }

    #[test]
    fn a_change_copies_its_own_chunk() {
        let mut array = Chunked::<u8, 4>::default();
        (0..12).for_each(|at| array.set(at, Some(0)));
        let before = array.clone();
        assert!(array.is_same(&before));
        array.set(5, Some(1));
        assert_eq!(array.differing(&before), [1]);
        array.set(40, Some(1));
        assert_eq!(array.differing(&before), [1]);
    }
}
