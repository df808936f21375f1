//! From a cycle counter to nanoseconds and ticks, with one multiplication.

use crate::time::Tick;

/// Nanoseconds since the director started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The same moment for the core.
    #[inline]
    pub fn tick(self) -> Tick {
        // Truncation is the wrapping that a tick has.
        Tick((self.0 / 1_000_000) as u32)
    }
}

/// Turns readings of a cycle counter into nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: u64,
    /// Nanoseconds in a cycle, times 2^32.
    scale: u64,
}

impl Clock {
    /// Of a counter that runs at `hertz` and shows `start` now.
    pub fn new(start: u64, hertz: u64) -> Clock {
        Clock { start, scale: (((1_000_000_000u128) << 32) / u128::from(hertz.max(1))) as u64 }
    }

    /// The moment at which the counter shows `reading`.
    #[inline]
    pub fn at(&self, reading: u64) -> Nanos {
        Nanos(((u128::from(reading.wrapping_sub(self.start)) * u128::from(self.scale)) >> 32) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_at_any_rate_is_a_year() {
        for hertz in [1_000_000_000u64, 2_596_140_000, 25_000_000] {
            let clock = Clock::new(123, hertz);
            let year = 365 * 86_400u64;
            let Nanos(got) = clock.at(123 + year * hertz);
            let wanted = year * 1_000_000_000;
            assert!(got.abs_diff(wanted) < wanted / 100_000_000, "{got} for {wanted}");
        }
    }
}
