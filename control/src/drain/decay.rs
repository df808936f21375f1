//! How fast connections go, and when by that the last one will have gone.

use std::time::{Duration, Instant};

/// What is older than this counts for half, and so on: a drain's end is told by how it goes now.
const HALF: Duration = Duration::from_secs(120);
/// As many must have gone for their pace to mean something: its standard error is then a half at most.
const ENOUGH: f64 = 4.0;
/// An end further off than this is none that could be told.
const FAR: Duration = Duration::from_secs(31 * 24 * 3600);

/// Watches a number of connections go down.
///
/// Connections are taken to end independently of each other and of their age, at a rate that is the same for all. The
/// likeliest rate is then the number of those that went, divided by the time that all of them together were there; and
/// of `n` connections the last one goes, on average, after `1 + 1/2 + ... + 1/n` times the mean life.
#[derive(Clone, Debug, PartialEq)]
pub struct Decay {
    last: Instant,
    left: u64,
    /// How many went, how many came, and for how many seconds all together were there; the past halved by its age.
    went: f64,
    came: f64,
    lived: f64,
}

impl Decay {
    /// Begins with so many.
    pub fn new(left: u64, now: Instant) -> Decay {
        Decay { last: now, left, went: 0.0, came: 0.0, lived: 0.0 }
    }

    /// So many are left now.
    pub fn record(&mut self, left: u64, now: Instant) {
        let passed = now.saturating_duration_since(self.last).as_secs_f64();
        let faded = 0.5_f64.powf(passed / HALF.as_secs_f64());
        self.went = self.went * faded + self.left.saturating_sub(left) as f64;
        self.came = self.came * faded + left.saturating_sub(self.left) as f64;
        self.lived = self.lived * faded + passed * (self.left as f64 + left as f64) / 2.0;
        (self.last, self.left) = (now, left);
    }

    /// How many were left when it was told last.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// After how long the last one will have gone, counted from the last [`Decay::record`]. `None` where that cannot
    /// be told: too few have gone lately, or new ones come as fast.
    pub fn estimate(&self) -> Option<Duration> {
        if self.left == 0 {
            return Some(Duration::ZERO);
        }
        if self.went < ENOUGH || self.came * 2.0 > self.went {
            return None;
        }
        let rate = (self.went - self.came) / self.lived;
        Duration::try_from_secs_f64(harmonic(self.left) / rate).ok().filter(|end| *end <= FAR)
    }
}

/// `1 + 1/2 + ... + 1/n`.
fn harmonic(n: u64) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    if n <= 64 {
        (1..=n).map(|k| 1.0 / k as f64).sum()
    } else {
        let n = n as f64;
        n.ln() + EULER + 0.5 / n
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn the_harmonic_numbers_go_over_into_their_logarithm() {
        assert!((harmonic(4) - 25.0 / 12.0).abs() < 1e-12);
        let exact: f64 = (1..=65).map(|k| 1.0 / f64::from(k)).sum();
        assert!((harmonic(65) - exact).abs() < 1e-4);
    }

    #[test]
    fn nothing_is_told_before_something_has_gone() {
        let start = Instant::now();
        let mut decay = Decay::new(100, start);
        assert_eq!(decay.estimate(), None);
        (1..60).for_each(|second| decay.record(100, after(start, second)));
        assert_eq!(decay.estimate(), None, "none has gone in a minute");
        decay.record(97, after(start, 60));
        assert_eq!(decay.estimate(), None, "three are too few");
        decay.record(90, after(start, 61));
        assert!(decay.estimate().is_some());
        decay.record(0, after(start, 62));
        assert_eq!(decay.estimate(), Some(Duration::ZERO));
    }

    #[test]
    fn what_decays_by_half_in_a_minute_is_told_so() {
        let start = Instant::now();
        let mut decay = Decay::new(10_000, start);
        for second in 1..=60 {
            let left = 10_000.0 * 0.5_f64.powf(second as f64 / 60.0);
            decay.record(left.round() as u64, after(start, second));
        }
        // The last of 5,000 goes after ln 5000 + 0.577 mean lives of 60 / ln 2 seconds each.
        let wanted = (5_000_f64.ln() + 0.577) * 60.0 / std::f64::consts::LN_2;
        let told = decay.estimate().expect("half of them have gone").as_secs_f64();
        assert!((told / wanted - 1.0).abs() < 0.02, "{told} is not {wanted}");
    }

    #[test]
    fn where_new_ones_come_as_fast_nothing_is_told() {
        let start = Instant::now();
        let mut decay = Decay::new(100, start);
        for second in 1..100 {
            decay.record(if second % 2 == 0 { 100 } else { 90 }, after(start, second));
        }
        assert_eq!(decay.estimate(), None);
    }

    #[test]
    fn what_stands_still_is_forgotten_to_have_moved() {
        let start = Instant::now();
        let mut decay = Decay::new(30, start);
        decay.record(20, after(start, 1));
        assert!(decay.estimate().is_some());
        (2..400).for_each(|second| decay.record(20, after(start, second)));
        assert_eq!(decay.estimate(), None, "ten went, but that is long ago");
    }

    proptest! {
        /// Whatever is counted whenever: no panic, and an end only where there is one.
        #[test]
        fn any_counts_are_borne(counts in prop::collection::vec((any::<u64>(), 0..100_000_u64), 0..50)) {
            let start = Instant::now();
            let mut decay = Decay::new(5, start);
            let mut second = 0;
            for (left, passed) in counts {
                second += passed;
                decay.record(left, after(start, second));
                prop_assert_eq!(decay.left(), left);
                prop_assert!(decay.estimate().is_none_or(|end| end <= FAR));
            }
        }
    }
}
