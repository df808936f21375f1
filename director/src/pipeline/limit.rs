//! A token bucket.

use crate::time::Tick;

/// Errors a second (Linux `icmp_msgs_per_sec`).
const RATE: u32 = 1000;
/// Errors at once (Linux `icmp_msgs_burst`).
const BURST: u32 = 50;

/// Limits how many ICMP errors an lcore sends.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    /// In thousandths of an error.
    tokens: u32,
    last: Option<Tick>,
}

impl Default for RateLimit {
    fn default() -> Self {
        RateLimit { tokens: BURST * 1000, last: None }
    }
}

impl RateLimit {
    /// Whether one more is allowed now.
    pub fn allow(&mut self, now: Tick) -> bool {
        let elapsed = self.last.map_or(0, |last| now.since(last));
        self.last = Some(now);
        self.tokens = self.tokens.saturating_add(elapsed.saturating_mul(RATE)).min(BURST * 1000);
        if self.tokens < 1000 {
            return false;
        }
        self.tokens -= 1000;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_thousand_a_second() {
        let mut limit = RateLimit::default();
        let start = Tick(u32::MAX - 100);
        assert_eq!((0..1000).filter(|_| limit.allow(start)).count(), 50);
        let in_a_second =
            (1..=1000u32).flat_map(|ms| [ms; 5]).filter(|ms| limit.allow(start.after(*ms))).count();
        assert_eq!(in_a_second, 1000);
    }
}
