//! One real server that is drained.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Decay;
use crate::model::Weight;

/// What the operator wants of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// It ends after so long, whatever is left.
    pub deadline: Duration,
    /// At its end the real server stays, with weight 0.
    pub keep: bool,
    /// It waits for active connections alone.
    pub active_only: bool,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// Its last connection has gone.
    Drained,
    /// Its time was over.
    Deadline,
    /// The operator gave the weight back.
    Cancelled,
    /// The operator gave the real server another weight.
    Edited,
    /// The operator deleted the real server or its service.
    Deleted,
}

impl End {
    /// As the protocol spells it.
    pub fn word(self) -> &'static str {
        match self {
            End::Drained => "drained",
            End::Deadline => "deadline",
            End::Cancelled => "cancelled",
            End::Edited => "edited",
            End::Deleted => "deleted",
        }
    }
}

/// A real server that gets no new connections until those that it has are gone.
#[derive(Clone, Debug, PartialEq)]
pub struct Drain {
    /// What was asked for last.
    pub plan: Plan,
    /// The weight that it had, and has again if the drain is cancelled.
    pub weight: Weight,
    /// When it began.
    pub begun: Instant,
    /// When it ends at the latest.
    pub deadline: Instant,
    /// How many connections, active and inactive, it had at the beginning.
    pub at_first: (u64, u64),
    /// How many it has.
    pub left: (u64, u64),
    decay: Decay,
}

impl Drain {
    pub(super) fn new(plan: Plan, weight: Weight, left: (u64, u64), now: Instant) -> Drain {
        let deadline = now + plan.deadline;
        let decay = Decay::new(awaited(plan, left), now);
        Drain { plan, weight, begun: now, deadline, at_first: left, left, decay }
    }

    /// Another plan for the same drain; its deadline counts from now.
    pub(super) fn replan(&mut self, plan: Plan, now: Instant) {
        // Other connections are counted, whose pace is another one.
        if plan.active_only != self.plan.active_only {
            self.decay = Decay::new(awaited(plan, self.left), now);
        }
        self.plan = plan;
        self.deadline = now + plan.deadline;
    }

    /// So many are left now. How it ends, if it does.
    pub(super) fn record(&mut self, left: (u64, u64), now: Instant) -> Option<End> {
        self.left = left;
        let awaited = awaited(self.plan, left);
        self.decay.record(awaited, now);
        match awaited {
            0 => Some(End::Drained),
            _ => (now >= self.deadline).then_some(End::Deadline),
        }
    }

    /// After how long the last connection that is waited for will have gone, if that can be told; see [`Decay`].
    pub fn estimate(&self) -> Option<Duration> {
        self.decay.estimate()
    }
}

/// Which of the connections are waited for.
fn awaited(plan: Plan, (active, inactive): (u64, u64)) -> u64 {
    if plan.active_only { active } else { active.saturating_add(inactive) }
}
