//! When a real server gets no new connections because it has too many.

use std::sync::atomic::{Ordering, fence};

use control::model::Thresholds;

use super::ServerId;
use crate::scheduler::Load;

/// Notes whether a real server is overloaded by now. For whoever has just changed its connections, or its
/// thresholds.
///
/// Several lcores may do so at the same moment. Each first changes its own count and then looks at all of
/// them, and one that notes a change looks again; so that whoever comes last leaves what is true. Otherwise a
/// real server could stay overloaded with nobody left whose end would tell.
pub(super) fn judge(thresholds: Thresholds, server: ServerId, load: &impl Load) {
    let connections = || {
        let (active, inactive) = load.connections(server);
        active.wrapping_add(inactive)
    };
    // Against the fence of whoever judges at the same moment.
    fence(Ordering::SeqCst);
    let mut noted = load.is_overloaded(server);
    loop {
        let overloaded = thresholds.overloaded(connections(), noted);
        if overloaded == noted {
            return;
        }
        load.set_overloaded(server, overloaded);
        noted = overloaded;
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Fleet, LcoreCounters};
    use std::sync::Arc;

    /// Lcores that each open and end connections as fast as they can: in the end, without connections, the
    /// real server is not overloaded.
    #[test]
    fn nobody_stays_overloaded_without_connections() {
        let fleet = Fleet::new((0..3).map(|_| Arc::new(LcoreCounters::new(1))).collect());
        let (thresholds, server) = (Thresholds { upper: 3, lower: 2 }, ServerId(0));
        for _ in 0..300 {
            std::thread::scope(|scope| {
                for lcore in 0..3 {
                    let fleet = &fleet;
                    scope.spawn(move || {
                        let active = &fleet.lcores()[lcore].server(server).active;
                        for n in 0..20 {
                            active.add(if n % 2 == 0 { 1 } else { u64::MAX });
                            judge(thresholds, server, fleet);
                        }
                    });
                }
            });
            assert_eq!(fleet.connections(server), (0, 0));
            assert!(!fleet.is_overloaded(server));
        }
    }
}
