//! What the service manager is told (sd_notify(3)): ready, stopping, a line of status, and that all make progress.
//! Without one (no `NOTIFY_SOCKET`) nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;

/// How often progress is looked at where no watchdog wants to know.
const UNWATCHED: Duration = Duration::from_millis(2500);

/// The service manager.
pub(super) struct Manager {
    /// The time within which it wants to hear from us, by `WatchdogSec=`.
    watchdog: Option<Duration>,
    /// What it was told last.
    status: String,
    progress: Progress,
}

impl Manager {
    pub(super) fn new() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), status: String::new(), progress: Progress::default() }
    }

    /// How often [`Manager::watch`] is to be called: four times before the watchdog would bite.
    pub(super) fn interval(&self) -> Duration {
        self.watchdog.map_or(UNWATCHED, |within| (within / 4).max(Duration::from_millis(1)))
    }

    /// Lcores run and the socket answers.
    pub(super) fn ready(&mut self, status: String) {
        tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
        self.status = status;
    }

    /// A line for `systemctl status`.
    pub(super) fn status(&mut self, status: String) {
        if status != self.status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// Everything is about to end.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// Keeps the watchdog quiet, unless an lcore makes no turns; that this is called shows that the control thread
    /// lives. `turns` are those of each lcore so far.
    pub(super) fn watch(&mut self, turns: impl Iterator<Item = u64>) {
        match self.progress.look(turns) {
            Look::AllMove { again } => {
                if again {
                    tracing::warn!("all worker lcores make turns of their loops again");
                }
                if self.watchdog.is_some() {
                    tell(&[NotifyState::Watchdog]);
                }
            }
            Look::Stuck(lcores) => {
                let watchdog = self.watchdog.is_some();
                tracing::error!(?lcores, watchdog, "worker lcores make no turns of their loops");
            }
            Look::StillStuck => {}
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager does not hear us");
    }
}

/// What was seen of the lcores.
#[derive(Default)]
struct Progress {
    /// Turns of each when all had moved.
    seen: Vec<u64>,
    stuck: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// All have moved since they were seen to do so last; `again` after one had not.
    AllMove { again: bool },
    /// These have not.
    Stuck(Vec<usize>),
    /// So it was before.
    StillStuck,
}

impl Progress {
    fn look(&mut self, turns: impl Iterator<Item = u64>) -> Look {
        let turns: Vec<u64> = turns.collect();
        let stuck: Vec<usize> = turns
            .iter()
            .zip(&self.seen)
            .enumerate()
            .filter(|(_, (now, before))| now == before)
            .map(|(lcore, _)| lcore)
            .collect();
        if stuck.is_empty() {
            self.seen = turns;
            return Look::AllMove { again: std::mem::take(&mut self.stuck) };
        }
        if std::mem::replace(&mut self.stuck, true) { Look::StillStuck } else { Look::Stuck(stuck) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lcore_that_hangs_is_seen_and_named_once() {
        let mut progress = Progress::default();
        let mut look = |turns: [u64; 3]| progress.look(turns.into_iter());
        assert_eq!(look([1, 1, 1]), Look::AllMove { again: false });
        assert_eq!(look([2, 5, 2]), Look::AllMove { again: false });
        assert_eq!(look([3, 5, 3]), Look::Stuck(vec![1]));
        assert_eq!(look([4, 5, 4]), Look::StillStuck);
        assert_eq!(look([5, 6, 5]), Look::AllMove { again: true });
        assert_eq!(look([6, 7, 6]), Look::AllMove { again: false });
    }
}
