//! How long a measurement takes, and what is made of several.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long to wait before measuring, and how long to measure.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Span {
    /// In milliseconds.
    pub warm_up_ms: u64,
    /// In milliseconds.
    pub run_ms: u64,
}

impl Span {
    /// Until caches hold what they will.
    #[must_use]
    pub fn warm_up(self) -> Duration {
        Duration::from_millis(self.warm_up_ms)
    }

    /// The measurement itself.
    #[must_use]
    pub fn run(self) -> Duration {
        Duration::from_millis(self.run_ms)
    }
}

/// The middle one, or the mean of the two in the middle; 0 of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n.is_multiple_of(2) => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
        n => sorted[n / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
