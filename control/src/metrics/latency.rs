//! Of the latency that the director adds to packets.

use std::fmt;

use super::Reading;
use super::writer::{About, Writer};
use crate::protocol::LatencyDistribution;

/// The greatest finite bound, as a power of two: 16.8 ms.
const GREATEST: u32 = 24;

pub(super) fn write(writer: &mut Writer<'_>, reading: &Reading) -> fmt::Result {
    let about = About::seconds(
        "latency",
        "Time that packets spent in the director, from the burst they came in with to the one they left with.",
    );
    let rows: Vec<_> = reading.latency.distributions.iter().map(|one| (one.lcore.to_string(), one)).collect();
    let series = rows.iter().map(|(name, one)| ([("lcore", &**name)], one.sum_ns as f64 / 1e9, buckets(one)));
    writer.histogram(about, series)
}

/// Buckets by powers of two, where those of the director have bounds as well, so that none is guessed.
fn buckets(histogram: &LatencyDistribution) -> Vec<(f64, u64)> {
    let least = LatencyDistribution::LEAST_NS.ilog2();
    let mut buckets: Vec<(f64, u64)> =
        (least..=GREATEST).map(|power| ((1_u64 << power) as f64 / 1e9, 0)).collect();
    buckets.push((f64::INFINITY, 0));
    for bucket in &histogram.buckets {
        let power = bucket.below_ns.max(1).next_power_of_two().ilog2().clamp(least, GREATEST + 1);
        buckets[(power - least) as usize].1 += bucket.count;
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::LatencyBucket;

    #[test]
    fn what_took_less_than_a_power_of_two_is_in_its_bucket() {
        let bucket = |below_ns, count| LatencyBucket { below_ns, count };
        let found = [bucket(64, 1), bucket(80, 2), bucket(128, 4), bucket(1 << 24, 8), bucket(5 << 22, 16)];
        let buckets = buckets(&LatencyDistribution { lcore: 0, sum_ns: 0, buckets: found.into() });
        let filled: Vec<_> = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(64e-9, 1), (128e-9, 6), (16.777_216e-3, 8), (f64::INFINITY, 16)]);
    }
}
