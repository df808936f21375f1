//! A histogram that one lcore writes and anyone may read at any time.
//!
//! The crate `hdrhistogram` either wants a lock or makes its reader wait for its writer; an lcore may
//! do neither. So the lcore counts in an array of its own, laid out as an HdrHistogram is (linear
//! steps within powers of two), and the reader turns it into a `hdrhistogram::Histogram`.

use hdrhistogram::Histogram;

use super::counters::Counter;

/// Linear steps within a power of two, as a power of two: values are kept to better than 1 %.
const STEP_BITS: u32 = 7;
const STEPS: usize = 1 << STEP_BITS;
/// Values from 2^MAX_BITS nanoseconds (1.07 s) on are counted as the greatest one below.
const MAX_BITS: u32 = 30;
const CELLS: usize = (MAX_BITS - STEP_BITS + 1) as usize * STEPS;

/// Counts of durations, in nanoseconds.
#[derive(Debug)]
pub struct LatencyCounters(Box<[Counter; CELLS]>);

impl Default for LatencyCounters {
    fn default() -> Self {
        let cells: Vec<Counter> = (0..CELLS).map(|_| Counter::default()).collect();
        LatencyCounters(cells.try_into().unwrap_or_else(|_| unreachable!("CELLS of them were made")))
    }
}

fn cell_of(nanoseconds: u64) -> usize {
    let value = nanoseconds.min((1 << MAX_BITS) - 1);
    // 0 for all values below two linear laps, then one more for each power of two.
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(STEP_BITS + 1);
    shift as usize * STEPS + (value >> shift) as usize
}

/// The greatest value that is counted in a cell.
fn greatest_in(cell: usize) -> u64 {
    let shift = (cell / STEPS).saturating_sub(1);
    let step = (cell - shift * STEPS) as u64;
    ((step + 1) << shift) - 1
}

impl LatencyCounters {
    /// `packets` packets took this long.
    #[inline]
    pub fn record(&self, nanoseconds: u64, packets: u64) {
        self.0[cell_of(nanoseconds)].add(packets);
    }

    /// Forgets everything. For the one who writes, or while nobody does.
    pub fn clear(&self) {
        for cell in self.0.iter() {
            cell.set(0);
        }
    }

    /// An empty histogram of the right range, for [`LatencyCounters::add_to`].
    pub fn histogram() -> Histogram<u64> {
        Histogram::new_with_bounds(1, 1 << MAX_BITS, 3)
            .unwrap_or_else(|_| unreachable!("the bounds are constants"))
    }

    /// All that was counted.
    pub fn to_histogram(&self) -> Histogram<u64> {
        let mut histogram = LatencyCounters::histogram();
        self.add_to(&mut histogram);
        histogram
    }

    /// Adds all that was counted to a histogram.
    pub fn add_to(&self, histogram: &mut Histogram<u64>) {
        for (cell, count) in self.0.iter().enumerate() {
            let count = count.get();
            if count > 0 {
                histogram.saturating_record_n(greatest_in(cell), count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cells_are_in_order_and_all_used() {
        assert_eq!(cell_of(0), 0);
        assert_eq!(cell_of(255), 255);
        assert_eq!(cell_of(256), 256);
        assert_eq!(cell_of(u64::MAX), CELLS - 1);
        for cell in 0..CELLS {
            assert_eq!(cell_of(greatest_in(cell)), cell);
        }
    }

    proptest! {
        /// What is read back is what was recorded, to better than 1 %.
        #[test]
        fn a_value_comes_back(value in 0u64..(1 << MAX_BITS), packets in 1u64..1000) {
            let counters = LatencyCounters::default();
            counters.record(value, packets);
            let mut histogram = LatencyCounters::histogram();
            counters.add_to(&mut histogram);
            prop_assert_eq!(histogram.len(), packets);
            let read = histogram.max() as f64;
            prop_assert!((read - value as f64).abs() <= value as f64 * 0.01 + 1.0, "{} for {}", read, value);
        }
    }
}
