//! A latency distribution in a few numbers.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Summary of one histogram of nanoseconds. All zero when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// The lcore it is about; null: all lcores together.
    pub lcore: Option<u8>,
    /// How many packets were measured.
    pub count: u64,
    /// Smallest.
    pub min_ns: u64,
    /// Arithmetic mean, rounded.
    pub mean_ns: u64,
    /// Half of the packets took at most this long.
    pub p50_ns: u64,
    /// 90 % took at most this long.
    pub p90_ns: u64,
    /// 99 %.
    pub p99_ns: u64,
    /// 99.9 %.
    pub p99_9_ns: u64,
    /// 99.99 %.
    pub p99_99_ns: u64,
    /// Largest.
    pub max_ns: u64,
}

impl LatencySummary {
    /// Summarises a histogram whose values are nanoseconds.
    pub fn from_histogram(lcore: Option<u8>, histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return LatencySummary { lcore, ..LatencySummary::default() };
        }
        LatencySummary {
            lcore,
            count: histogram.len(),
            min_ns: histogram.min(),
            mean_ns: histogram.mean().round() as u64,
            p50_ns: histogram.value_at_quantile(0.5),
            p90_ns: histogram.value_at_quantile(0.9),
            p99_ns: histogram.value_at_quantile(0.99),
            p99_9_ns: histogram.value_at_quantile(0.999),
            p99_99_ns: histogram.value_at_quantile(0.9999),
            max_ns: histogram.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_measured_is_all_zero() {
        let histogram = Histogram::<u64>::new(3).expect("3 significant digits");
        let summary = LatencySummary::from_histogram(Some(2), &histogram);
        assert_eq!(summary, LatencySummary { lcore: Some(2), ..LatencySummary::default() });
    }

    #[test]
    fn percentiles_of_one_to_ten_thousand() {
        let mut histogram = Histogram::<u64>::new(3).expect("3 significant digits");
        for value in 1..=10_000u64 {
            histogram.record(value).expect("an auto-resizing histogram takes every value");
        }
        let summary = LatencySummary::from_histogram(None, &histogram);
        assert_eq!((summary.count, summary.min_ns), (10_000, 1));
        for (got, want) in [
            (summary.mean_ns, 5_000),
            (summary.p50_ns, 5_000),
            (summary.p90_ns, 9_000),
            (summary.p99_ns, 9_900),
            (summary.p99_9_ns, 9_990),
            (summary.p99_99_ns, 9_999),
            (summary.max_ns, 10_000),
        ] {
            assert!(got.abs_diff(want) * 1_000 <= want * 2, "{got} is not {want} within 0.2 %");
        }
    }
}
