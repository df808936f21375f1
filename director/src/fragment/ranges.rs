//! Which bytes of a packet have come.

/// How many gaps between what has come are remembered. Pieces of the longest packet, every other one missing, leave 22
/// on a link of 1500 bytes.
const MAX_RANGES: usize = 24;

/// What a piece is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// All new.
    New,
    /// Nothing new: a copy, in whole or in part.
    Old,
    /// It says something else about bytes that have come, or about where the packet ends (RFC 5722), or there are
    /// more gaps than an honest packet has.
    Contradiction,
}

/// Ranges of bytes that have come, in order and apart from each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranges {
    /// Begin and end.
    ranges: [(u16, u16); MAX_RANGES],
    count: u8,
    /// Where the packet ends, once its last piece has come.
    end: Option<u16>,
}

impl Ranges {
    pub(super) const NONE: Ranges = Ranges { ranges: [(0, 0); MAX_RANGES], count: 0, end: None };

    /// Adds a piece, which is the packet's last where `more` is false.
    pub(super) fn add(&mut self, from: u16, to: u16, more: bool) -> Fit {
        let ranges = &self.ranges[..usize::from(self.count)];
        if ranges.iter().any(|(a, b)| *a <= from && to <= *b) {
            return Fit::Old;
        }
        let reaches_over = self.end.is_some_and(|end| to > end || !more && to != end);
        let ends_too_early = !more && ranges.last().is_some_and(|(_, b)| *b > to);
        if reaches_over || ends_too_early || ranges.iter().any(|(a, b)| from < *b && *a < to) {
            return Fit::Contradiction;
        }
        if !self.insert(from, to) {
            return Fit::Contradiction;
        }
        if !more {
            self.end = Some(to);
        }
        Fit::New
    }

    /// False where there are too many already.
    fn insert(&mut self, from: u16, to: u16) -> bool {
        let count = usize::from(self.count);
        let at = self.ranges[..count].partition_point(|(a, _)| *a < from);
        let joins_left = at > 0 && self.ranges[at - 1].1 == from;
        let joins_right = at < count && self.ranges[at].0 == to;
        match (joins_left, joins_right) {
            (true, true) => {
                self.ranges[at - 1].1 = self.ranges[at].1;
                self.ranges.copy_within(at + 1..count, at);
                self.count -= 1;
            }
            (true, false) => self.ranges[at - 1].1 = to,
            (false, true) => self.ranges[at].0 = from,
            (false, false) => {
                if count == MAX_RANGES {
                    return false;
                }
                self.ranges.copy_within(at..count, at + 1);
                self.ranges[at] = (from, to);
                self.count += 1;
            }
        }
        true
    }

    /// Whether all of the packet has come.
    pub(super) fn is_whole(&self) -> bool {
        self.count == 1 && self.ranges[0].0 == 0 && Some(self.ranges[0].1) == self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn copies_are_old_and_contradictions_are_told() {
        let mut ranges = Ranges::NONE;
        assert_eq!(ranges.add(8, 16, true), Fit::New);
        assert_eq!(ranges.add(8, 16, true), Fit::Old);
        assert_eq!(ranges.add(0, 16, true), Fit::Contradiction, "reaches over");
        assert_eq!(ranges.add(0, 8, true), Fit::New);
        assert_eq!(ranges.add(0, 8, false), Fit::Old);
        assert!(!ranges.is_whole());
        assert_eq!(ranges.add(24, 30, false), Fit::New);
        assert_eq!(ranges.add(32, 40, true), Fit::Contradiction, "behind the end");
        assert_eq!(ranges.add(16, 20, false), Fit::Contradiction, "another end");
        assert_eq!(ranges.add(16, 24, true), Fit::New);
        assert!(ranges.is_whole());
    }

    #[test]
    fn gaps_are_bounded() {
        let mut ranges = Ranges::NONE;
        let every_other = |at: usize| (at as u16 * 16, at as u16 * 16 + 8);
        for (from, to) in (0..MAX_RANGES).map(every_other) {
            assert_eq!(ranges.add(from, to, true), Fit::New);
        }
        let (from, to) = every_other(MAX_RANGES);
        assert_eq!(ranges.add(from, to, true), Fit::Contradiction);
    }

    proptest! {
        /// Whatever order the pieces of a packet come in, and however often: what is new is new once, and only then is
        /// the packet whole when all have come.
        #[test]
        fn a_packet_is_whole_when_all_of_it_has_come(
            cuts in proptest::collection::btree_set(1u16..40, 0..20),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 60),
        ) {
            let ends: Vec<u16> = cuts.iter().chain(&[40]).map(|cut| cut * 8).collect();
            let mut begin = 0;
            let pieces: Vec<(u16, u16)> = ends.iter().map(|end| (std::mem::replace(&mut begin, *end), *end)).collect();
            let (mut ranges, mut come) = (Ranges::NONE, std::collections::HashSet::new());
            for index in order {
                let (from, to) = *index.get(&pieces);
                let fit = ranges.add(from, to, to != 320);
                prop_assert_eq!(fit, if come.insert(from) { Fit::New } else { Fit::Old });
                prop_assert_eq!(ranges.is_whole(), come.len() == pieces.len());
            }
        }

        /// Nothing that anybody sends makes bytes come twice.
        #[test]
        fn no_byte_comes_twice(pieces in proptest::collection::vec((0u16..64, 1u16..20, any::<bool>()), 0..60)) {
            let mut ranges = Ranges::NONE;
            let mut come = [false; 1024];
            for (at, len, more) in pieces {
                let (from, to) = (at * 8, at * 8 + len * 8);
                let bytes = &mut come[usize::from(from)..usize::from(to)];
                match ranges.add(from, to, more) {
                    Fit::New => {
                        prop_assert!(bytes.iter().all(|come| !come));
                        bytes.fill(true);
                    }
                    Fit::Old => prop_assert!(bytes.iter().all(|come| *come)),
                    Fit::Contradiction => {}
                }
            }
        }
    }
}
