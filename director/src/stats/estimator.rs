//! IPVS's rate estimator: what is counted per second, smoothed (Linux `ip_vs_est.c`).
//!
//! Every two seconds the rate since the last time comes in with a weight of a quarter. Rates are kept as the
//! kernel keeps them, in fixed point: connections and packets with ten binary places, bytes with five.

use std::time::Duration;

use super::ServerTotals;

/// Binary places of connections and packets per second.
const SCALE: u32 = 10;
/// Binary places of bytes per second.
const BYTE_SCALE: u32 = 5;
/// A new rate has a weight of 1 to 2 to the power of this.
const WEIGHT: u32 = 2;

/// The rates of whatever [`ServerTotals`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimator {
    last: ServerTotals,
    scaled: ServerTotals,
}

/// Binary places of each rate.
const PLACES: ServerTotals = ServerTotals {
    connections: SCALE as u64,
    packets_in: SCALE as u64,
    packets_out: SCALE as u64,
    bytes_in: BYTE_SCALE as u64,
    bytes_out: BYTE_SCALE as u64,
};

impl Estimator {
    /// How often [`Estimator::tick`] is to be called.
    pub const INTERVAL: Duration = Duration::from_secs(2);

    /// Begins where so much has been counted already.
    pub fn since(totals: ServerTotals) -> Estimator {
        Estimator { last: totals, scaled: ServerTotals::default() }
    }

    /// Two seconds have passed, and so much has been counted until now.
    pub fn tick(&mut self, totals: ServerTotals) {
        // One binary place less than the scale: the difference is that of two seconds.
        let rates = totals.since(self.last).zip(PLACES, |counted, places| counted << (places - 1));
        self.last = totals;
        self.scaled = self.scaled.zip(rates, |before, rate| {
            let step = (rate.wrapping_sub(before) as i64) >> WEIGHT;
            before.wrapping_add(step as u64)
        });
    }

    /// Per second, rounded as the kernel rounds (`ip_vs_read_estimator`).
    pub fn rates(&self) -> ServerTotals {
        self.scaled.zip(PLACES, |scaled, places| (scaled + (1 << (places - 1)) - 1) >> places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `ip_vs_est.c` as it is written there, for one counter of packets and one of bytes.
    #[derive(Default)]
    struct Kernel {
        last: [u64; 2],
        rate: [u64; 2],
    }

    impl Kernel {
        fn tick(&mut self, now: [u64; 2]) {
            for (n, shift) in [9, 4].into_iter().enumerate() {
                let rate = now[n].wrapping_sub(self.last[n]) << shift;
                self.last[n] = now[n];
                self.rate[n] = (self.rate[n] as i64 + ((rate as i64 - self.rate[n] as i64) >> 2)) as u64;
            }
        }

        fn read(&self) -> [u64; 2] {
            [(self.rate[0] + 0x1ff) >> 10, (self.rate[1] + 0xf) >> 5]
        }
    }

    fn totals(packets: u64, bytes: u64) -> ServerTotals {
        ServerTotals {
            connections: packets,
            packets_in: packets,
            packets_out: packets,
            bytes_in: bytes,
            bytes_out: bytes,
        }
    }

    #[test]
    fn a_steady_rate_is_approached_by_a_quarter_each_time() {
        let mut estimator = Estimator::default();
        let mut shown = Vec::new();
        for n in 1..=30 {
            estimator.tick(totals(n * 2000, n * 2_000_000));
            shown.push(estimator.rates().packets_in);
        }
        assert_eq!(shown[..4], [250, 437, 578, 684]);
        assert_eq!(shown[29], 1000);
        assert_eq!(estimator.rates().bytes_out.next_multiple_of(1000), 1_000_000);
        // And nothing more comes.
        for _ in 0..60 {
            estimator.tick(totals(60_000, 60_000_000));
        }
        assert_eq!(estimator.rates(), ServerTotals::default());
    }

    #[test]
    fn what_was_counted_before_is_no_rate() {
        let mut estimator = Estimator::since(totals(1_000_000, 1_000_000));
        estimator.tick(totals(1_000_008, 1_000_080));
        assert_eq!(estimator.rates(), totals(1, 10));
    }

    proptest! {
        #[test]
        fn it_is_the_kernels_arithmetic(steps in proptest::collection::vec((0u64..1 << 40, 0u64..1 << 45), 1..60)) {
            let (mut estimator, mut kernel) = (Estimator::default(), Kernel::default());
            let mut now = [0, 0];
            for (packets, bytes) in steps {
                now = [now[0] + packets, now[1] + bytes];
                estimator.tick(totals(now[0], now[1]));
                kernel.tick(now);
                prop_assert_eq!(estimator.rates(), totals(kernel.read()[0], kernel.read()[1]));
            }
        }
    }
}
