//! Which rate to try next: halving between the greatest one that lost nothing and the least one that lost something.

/// A search for the greatest rate without loss (RFC 2544 §26.1), in any unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Search {
    /// The greatest rate that lost nothing.
    good: f64,
    /// The least rate that lost something.
    bad: f64,
    /// How near both have to come, as a share of `bad`.
    resolution: f64,
}

impl Search {
    /// One below a rate that lost something.
    ///
    /// # Panics
    /// When the resolution is not above 0: the search would never end.
    #[must_use]
    pub(super) fn below(bad: f64, resolution: f64) -> Search {
        assert!(resolution > 0.0, "a resolution of {resolution}");
        Search { good: 0.0, bad, resolution }
    }

    /// The next rate to try; `None` where it is known well enough.
    #[must_use]
    pub(super) fn next(&self) -> Option<f64> {
        let is_known = self.bad - self.good <= self.bad * self.resolution;
        // A device that loses something at any rate would be asked for ever smaller ones.
        let is_hopeless = self.good == 0.0 && self.bad < 1e-6;
        (!is_known && !is_hopeless).then(|| f64::midpoint(self.good, self.bad))
    }

    /// What came of a rate. It is kept to be between those that are known.
    pub(super) fn record(&mut self, rate: f64, lost: bool) {
        let rate = rate.clamp(self.good, self.bad);
        if lost {
            self.bad = rate;
        } else {
            self.good = rate;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A device that loses above its capacity and nothing below is found out, within the resolution.
        #[test]
        fn finds_the_capacity(capacity in 0.001f64..100.0, above in 1.0001f64..1000.0, resolution in 0.0005f64..0.1) {
            let mut search = Search::below(capacity * above, resolution);
            let mut trials = 0;
            while let Some(rate) = search.next() {
                search.record(rate, rate > capacity);
                trials += 1;
                prop_assert!(trials < 40, "{search:?}");
            }
            prop_assert!(search.good <= capacity);
            prop_assert!(search.good >= capacity * (1.0 - 2.0 * resolution), "{search:?} for {capacity}");
        }
    }

    #[test]
    fn a_device_that_always_loses_ends_the_search() {
        let mut search = Search::below(10.0, 0.01);
        for trials in 0.. {
            let Some(rate) = search.next() else { break };
            search.record(rate, true);
            assert!(trials < 100);
        }
        assert_eq!(search.good, 0.0);
    }
}
