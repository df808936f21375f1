//! Passive signs: whether a real server answers the connections that clients open. Nothing is asked of it; the data path
//! counts, and this judges.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// When silence counts as a failure, for every NAT real server of a TCP service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passive {
    /// So many connections unanswered, with none answered between.
    pub unanswered: u32,
    /// Within so much time.
    pub window: Duration,
    /// So long the real server counts as failing. Then it is tried again.
    pub hold: Duration,
}

impl Default for Passive {
    fn default() -> Self {
        Passive { unanswered: 5, window: Duration::from_secs(10), hold: Duration::from_secs(30) }
    }
}

impl fmt::Display for Passive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "passive {} unanswered in {} s", self.unanswered, self.window.as_secs_f64())
    }
}

/// What the data path has counted of one real server; both numbers wrap around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Connections whose client sent its SYN again because nobody had answered the first one.
    pub unanswered: u32,
    /// Connections of which a first packet of the real server came.
    pub answered: u32,
}

impl Signs {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Signs) -> Signs {
        Signs {
            unanswered: self.unanswered.wrapping_add(other.unanswered),
            answered: self.answered.wrapping_add(other.answered),
        }
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Signs) -> Signs {
        Signs {
            unanswered: self.unanswered.wrapping_sub(earlier.unanswered),
            answered: self.answered.wrapping_sub(earlier.answered),
        }
    }
}

/// What one real server's silence says of it. It has no clock; whoever calls it says what time it is.
#[derive(Clone, Debug)]
pub(super) struct Silence {
    up: bool,
    since: Instant,
    /// It has been down, and has answered nobody since.
    on_trial: bool,
    /// When how many were unanswered since one was answered, no longer ago than the window.
    recent: VecDeque<(Instant, u32)>,
    /// Connections altogether.
    pub(super) unanswered: u64,
    pub(super) answered: u64,
    /// Whether the last one was answered.
    pub(super) last: Option<bool>,
    /// What was wrong last.
    pub(super) last_failure: Option<(String, Instant)>,
}

impl Silence {
    /// Of a real server of which nothing was heard yet. One that counts as failing is tried after `hold`, as others.
    pub(super) fn new(up: bool, now: Instant) -> Silence {
        Silence {
            up,
            since: now,
            on_trial: !up,
            recent: VecDeque::new(),
            unanswered: 0,
            answered: 0,
            last: None,
            last_failure: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// What was counted since the last time, be it nothing: time alone ends a hold. Says whether the real server comes
    /// up or goes down by that.
    ///
    /// In what order signs came that are heard together, nobody knows: one that is answered speaks for it.
    pub(super) fn hear(&mut self, rule: &Passive, signs: Signs, now: Instant) -> Option<bool> {
        self.unanswered += u64::from(signs.unanswered);
        self.answered += u64::from(signs.answered);
        if signs != Signs::default() {
            self.last = Some(signs.answered > 0);
        }
        if !self.up {
            if now.saturating_duration_since(self.since) < rule.hold {
                return None;
            }
            // What came meanwhile is of before.
            (self.up, self.since, self.on_trial) = (true, now, true);
            return Some(true);
        }
        if signs.answered > 0 {
            self.recent.clear();
            self.on_trial = false;
            return None;
        }
        if signs.unanswered == 0 {
            return None;
        }
        self.recent.push_back((now, signs.unanswered));
        self.recent.retain(|(then, _)| now.saturating_duration_since(*then) <= rule.window);
        let unanswered = self.recent.iter().fold(0u32, |sum, (_, n)| sum.saturating_add(*n));
        let noun = if unanswered == 1 { "connection" } else { "connections" };
        self.last_failure = Some((format!("{unanswered} {noun} unanswered, and none answered since"), now));
        if unanswered < if self.on_trial { 1 } else { rule.unanswered } {
            return None;
        }
        self.recent.clear();
        (self.up, self.since) = (false, now);
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: Passive =
        Passive { unanswered: 3, window: Duration::from_secs(10), hold: Duration::from_secs(30) };

    fn at(seconds: u64) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_secs(seconds)
    }

    fn silent(unanswered: u32) -> Signs {
        Signs { unanswered, answered: 0 }
    }

    const ANSWERED: Signs = Signs { unanswered: 0, answered: 1 };
    const NOTHING: Signs = Signs { unanswered: 0, answered: 0 };

    #[test]
    fn so_many_without_an_answer_take_it_out_for_so_long() {
        let mut silence = Silence::new(true, at(0));
        assert_eq!(silence.hear(&RULE, silent(2), at(1)), None);
        assert_eq!(silence.hear(&RULE, silent(1), at(2)), Some(false));
        assert!(!silence.is_up() && silence.since() == at(2));
        let (why, then) = silence.last_failure.clone().expect("there is a reason");
        assert_eq!((why.as_str(), then), ("3 connections unanswered, and none answered since", at(2)));
        // Whatever those have to say who still go there.
        assert_eq!(silence.hear(&RULE, silent(9), at(10)), None);
        assert_eq!(silence.hear(&RULE, ANSWERED, at(31)), None);
        assert_eq!(silence.hear(&RULE, NOTHING, at(32)), Some(true));
        assert!(silence.is_up() && silence.since() == at(32));
        assert_eq!((silence.unanswered, silence.answered, silence.last), (12, 1, Some(true)));
    }

    #[test]
    fn one_answer_between_speaks_for_it() {
        let mut silence = Silence::new(true, at(0));
        for second in 1..100 {
            let signs = if second % 3 == 0 { ANSWERED } else { silent(1) };
            assert_eq!(silence.hear(&RULE, signs, at(second)), None);
        }
        assert_eq!(silence.hear(&RULE, Signs { unanswered: 50, answered: 1 }, at(100)), None, "at once");
    }

    #[test]
    fn what_is_older_than_the_window_counts_no_longer() {
        let mut silence = Silence::new(true, at(0));
        for second in (0..100).step_by(6) {
            assert_eq!(silence.hear(&RULE, silent(1), at(second)), None, "two in ten seconds");
        }
        assert_eq!(silence.hear(&RULE, silent(1), at(100)), Some(false), "96, 100, and 90 just so");
    }

    #[test]
    fn on_trial_the_first_one_decides() {
        let mut silence = Silence::new(true, at(0));
        silence.hear(&RULE, silent(3), at(0));
        assert_eq!(silence.hear(&RULE, NOTHING, at(30)), Some(true));
        assert_eq!(silence.hear(&RULE, silent(1), at(31)), Some(false), "it is no better than before");
        assert_eq!(silence.hear(&RULE, silent(1), at(61)), Some(true));
        assert_eq!(silence.hear(&RULE, ANSWERED, at(62)), None);
        assert_eq!(silence.hear(&RULE, silent(2), at(63)), None, "it is as good as any other");
        assert_eq!(silence.hear(&RULE, silent(1), at(64)), Some(false));
    }

    proptest! {
        /// Whatever comes: it is out for its hold at least, and never for an interval with an answer in it.
        #[test]
        fn it_goes_for_a_reason_and_stays_for_its_hold(
            heard in prop::collection::vec((0..4_u32, 0..2_u32, 0..15_u64), 0..200),
        ) {
            let (mut silence, mut second) = (Silence::new(true, at(0)), 0);
            let (mut down_at, mut unanswered_since) = (None, 0);
            for (unanswered, answered, pause) in heard {
                second += pause;
                let was_up = silence.is_up();
                let turned = silence.hear(&RULE, Signs { unanswered, answered }, at(second));
                prop_assert_eq!(turned.unwrap_or(was_up), silence.is_up());
                unanswered_since = if answered > 0 { 0 } else { unanswered_since + unanswered };
                match turned {
                    Some(false) => {
                        prop_assert!(answered == 0 && unanswered > 0);
                        prop_assert!(down_at.is_some() || unanswered_since >= RULE.unanswered);
                        down_at = Some(second);
                    }
                    Some(true) => {
                        prop_assert!(second - down_at.expect("it was down") >= RULE.hold.as_secs());
                    }
                    None => {}
                }
            }
        }
    }
}
