//! Signs of life, and of none: which connections real servers answered, for `control::health` to judge by.

use std::sync::atomic::{AtomicU32, Ordering};

use control::health::Signs;

/// Of one real server on one lcore, which alone writes them: eight bytes, with which the counters of a real server are
/// still one cache line. They wrap around; whoever reads them goes by differences.
#[derive(Debug, Default)]
pub struct SignCounters {
    unanswered: AtomicU32,
    answered: AtomicU32,
}

impl SignCounters {
    /// A client asked for its connection again, which the real server had not answered: once for each connection.
    #[inline]
    pub fn count_unanswered(&self) {
        increment(&self.unanswered);
    }

    /// The real server's first packet of a connection, be it a SYN/ACK or an RST.
    #[inline]
    pub fn count_answered(&self) {
        increment(&self.answered);
    }

    /// Both, perhaps a moment old.
    pub fn get(&self) -> Signs {
        let [unanswered, answered] =
            [&self.unanswered, &self.answered].map(|counter| counter.load(Ordering::Relaxed));
        Signs { unanswered, answered }
    }
}

/// Costs what a plain number costs, and is right for one writer.
#[inline]
fn increment(counter: &AtomicU32) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::ServerId;
    use crate::stats::{Fleet, LcoreCounters, ServerCounters};
    use std::sync::Arc;

    #[test]
    fn they_fit_into_the_cache_line_of_a_real_server() {
        assert_eq!((size_of::<ServerCounters>(), align_of::<ServerCounters>()), (64, 64));
    }

    #[test]
    fn those_of_all_lcores_count_and_wrap_around() {
        let fleet = Fleet::new((0..2).map(|_| Arc::new(LcoreCounters::new(2))).collect());
        let of = |lcore: usize| &fleet.lcores()[lcore].server(ServerId(1)).signs;
        of(0).unanswered.store(u32::MAX, Ordering::Relaxed);
        let before = fleet.signs(ServerId(1));
        of(0).count_unanswered();
        of(1).count_unanswered();
        of(1).count_answered();
        let since = fleet.signs(ServerId(1)).since(before);
        assert_eq!(since, Signs { unanswered: 2, answered: 1 });
        assert_eq!(fleet.signs(ServerId(0)), Signs::default());
    }
}
