//! Time as the core sees it: a number it is handed, never a clock it reads.

use std::time::Duration;

/// A moment, in milliseconds since the director started; wraps after 49.7 days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tick(pub u32);

impl Tick {
    /// Milliseconds from `earlier` to this moment. Right as long as less than 49.7 days lie between.
    #[inline]
    pub fn since(self, earlier: Tick) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// As [`Tick::since`], of a moment that another lcore may have noted. Each reads its clock once in a turn, so that one
    /// may note what is still to come for another: then 0. Right as long as less than 37 days lie between.
    #[inline]
    pub fn since_anyones(self, earlier: Tick) -> u32 {
        let elapsed = self.since(earlier);
        if elapsed > u32::MAX / 2 + u32::MAX / 4 { 0 } else { elapsed }
    }

    /// The moment `milliseconds` later.
    #[inline]
    pub fn after(self, milliseconds: u32) -> Tick {
        Tick(self.0.wrapping_add(milliseconds))
    }
}

/// A duration in whole milliseconds, for comparison with [`Tick::since`]; at most 49.7 days.
pub fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
