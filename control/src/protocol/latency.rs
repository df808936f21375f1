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

/// The distribution of the latency that one lcore adds, in a few dozen buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyDistribution {
    /// The lcore it is about.
    pub lcore: u8,
    /// All that was measured, added up.
    pub sum_ns: u64,
    /// Those that are not empty, from the shortest time to the longest. Between two powers of two there are four.
    pub buckets: Vec<LatencyBucket>,
}

/// One bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyBucket {
    /// All in it took less than this, and not less than the bucket below reaches.
    pub below_ns: u64,
    /// How many packets.
    pub count: u64,
}

impl LatencyDistribution {
    /// What takes less is not told apart.
    pub const LEAST_NS: u64 = 64;

    /// The buckets of a histogram whose values are nanoseconds.
    pub fn from_histogram(lcore: u8, histogram: &Histogram<u64>) -> Self {
        let mut all = LatencyDistribution { lcore, ..LatencyDistribution::default() };
        for step in histogram.iter_recorded() {
            let (value, count) = (step.value_iterated_to(), step.count_at_value());
            all.sum_ns = all.sum_ns.saturating_add(value.saturating_mul(count));
            let below_ns = Self::bound_above(value);
            match all.buckets.last_mut() {
                Some(last) if last.below_ns == below_ns => last.count += count,
                _ => all.buckets.push(LatencyBucket { below_ns, count }),
            }
        }
        all
    }

    /// The least bound of a bucket that is greater than this.
    fn bound_above(value: u64) -> u64 {
        if value < Self::LEAST_NS {
            return Self::LEAST_NS;
        }
        let quarter = (value.ilog2() - 2).min(60);
        ((value >> quarter) + 1) << quarter
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

    #[test]
    fn a_bucket_has_what_is_less_than_its_bound() {
        let bounds: Vec<u64> =
            [0, 63, 64, 79, 80, 127, 128, 159, 1023, 1024].map(LatencyDistribution::bound_above).into();
        assert_eq!(bounds, [64, 64, 80, 80, 96, 128, 160, 160, 1024, 1280]);
    }

    #[test]
    fn buckets_hold_everything_once_and_in_order() {
        let mut histogram = Histogram::<u64>::new(3).expect("3 significant digits");
        for value in 1..=2_000u64 {
            histogram.record(value).expect("an auto-resizing histogram takes every value");
        }
        let buckets = LatencyDistribution::from_histogram(3, &histogram);
        assert_eq!((buckets.lcore, buckets.sum_ns), (3, 2_000 * 2_001 / 2));
        assert!(buckets.buckets.is_sorted_by(|a, b| a.below_ns < b.below_ns));
        assert_eq!(buckets.buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 2_000);
        let below_1024: u64 =
            buckets.buckets.iter().filter(|bucket| bucket.below_ns <= 1024).map(|bucket| bucket.count).sum();
        assert_eq!(below_1024, 1023);
        assert_eq!(buckets.buckets[0], LatencyBucket { below_ns: 64, count: 63 });
    }
}
