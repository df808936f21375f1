//! When a check that passes or fails changes anything: after so many in a row.

use std::time::{Duration, Instant};

/// The state of one check. It goes down by `fall` failures in a row, and up by `rise` passes in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RiseFall {
    rise: u32,
    fall: u32,
    up: bool,
    since: Instant,
    /// How many in a row speak against the state.
    streak: u32,
}

impl RiseFall {
    /// A check that nobody has made yet, up or down. 0 counts as 1.
    pub fn new(rise: u32, fall: u32, up: bool, now: Instant) -> RiseFall {
        RiseFall { rise: rise.max(1), fall: fall.max(1), up, since: now, streak: 0 }
    }

    /// What came of a check. True if that changes the state.
    pub fn record(&mut self, passed: bool, now: Instant) -> bool {
        if passed == self.up {
            self.streak = 0;
            return false;
        }
        self.streak += 1;
        if self.streak < if self.up { self.fall } else { self.rise } {
            return false;
        }
        *self = RiseFall { up: passed, since: now, streak: 0, ..*self };
        true
    }

    /// Whether the check counts as passed.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Since when it does, or does not.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Whether it failed lately, but not often enough to go down.
    pub fn is_in_doubt(&self) -> bool {
        self.up && self.streak > 0
    }

    /// When the next check begins, after one from `started` to `now`: an `interval` after that one began, but while in
    /// doubt no later than `retry` from now.
    pub fn next(&self, started: Instant, now: Instant, interval: Duration, retry: Duration) -> Instant {
        let regular = (started + interval).max(now);
        if self.is_in_doubt() { regular.min(now + retry) } else { regular }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_secs(seconds)
    }

    #[test]
    fn it_falls_and_rises_after_so_many_in_a_row() {
        let mut check = RiseFall::new(2, 3, true, at(0));
        let changes: Vec<bool> = [false, false, true, false, false, false, true, false, true, true]
            .iter()
            .zip(1..)
            .map(|(passed, second)| check.record(*passed, at(second)))
            .collect();
        let (no, yes) = (false, true);
        assert_eq!(changes, [no, no, no, no, no, yes, no, no, no, yes]);
        assert!(check.is_up());
        assert_eq!(check.since(), at(10));
    }

    #[test]
    fn while_in_doubt_the_next_check_comes_sooner() {
        let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
        let mut check = RiseFall::new(1, 2, true, at(0));
        assert_eq!(check.next(at(0), at(3), minute, second), at(60));
        check.record(false, at(3));
        assert_eq!(check.next(at(0), at(3), minute, second), at(4));
        assert_eq!(check.next(at(0), at(3), second, minute), at(3), "never later than it would be");
        check.record(false, at(4));
        assert_eq!(check.next(at(4), at(5), minute, second), at(64), "what is down is not asked more often");
    }

    #[test]
    fn a_real_server_that_fails_every_other_time_changes_nothing() {
        let mut check = RiseFall::new(2, 2, true, at(0));
        assert!((1..100).all(|n| !check.record(n % 2 == 0, at(n))));
    }

    proptest! {
        /// Whatever comes: a change needs `rise` or `fall` equal results just before it, and there are never more
        /// changes than the shorter of these allows.
        #[test]
        fn changes_have_their_reason_and_are_few(
            rise in 1..5_u32,
            fall in 1..5_u32,
            start in any::<bool>(),
            results in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let mut check = RiseFall::new(rise, fall, start, at(0));
            let mut changes = 0;
            for (n, passed) in results.iter().enumerate() {
                let before = check.is_up();
                if check.record(*passed, at(n as u64)) {
                    changes += 1;
                    prop_assert_eq!(check.is_up(), *passed);
                    prop_assert_ne!(before, *passed);
                    let needed = if *passed { rise } else { fall } as usize;
                    prop_assert!(n + 1 >= needed && results[n + 1 - needed..=n].iter().all(|r| r == passed));
                } else {
                    prop_assert_eq!(check.is_up(), before);
                }
            }
            prop_assert!(changes * rise.min(fall) as usize <= results.len());
        }

        #[test]
        fn so_many_in_a_row_always_settle_it(
            rise in 1..5_u32,
            fall in 1..5_u32,
            before in prop::collection::vec(any::<bool>(), 0..20),
            last in any::<bool>(),
        ) {
            let mut check = RiseFall::new(rise, fall, true, at(0));
            before.iter().for_each(|passed| { check.record(*passed, at(0)); });
            (0..rise.max(fall)).for_each(|_| { check.record(last, at(1)); });
            prop_assert_eq!(check.is_up(), last);
        }
    }
}
