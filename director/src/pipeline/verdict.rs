//! How a packet ends.

use crate::id::{LcoreId, PortId};
use crate::nexthop::Unresolved;
use crate::stats::Reason;

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send it by a port as it is now.
    Forward(PortId),
    /// As [`Action::Forward`], but its Ethernet addresses are missing until the kernel has found the
    /// neighbour's.
    Hold(Unresolved),
    /// Give it to another lcore, unchanged.
    HandOver(LcoreId),
    /// Give it to the kernel, unchanged.
    Punt,
    /// Free it.
    Drop,
}

/// What is to be done with a packet, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why; counted.
    pub reason: Reason,
    /// What.
    pub action: Action,
}

impl Verdict {
    /// What a slot holds before its packet is decided about.
    pub const UNDECIDED: Verdict = Verdict { reason: Reason::NoService, action: Action::Drop };

    pub(super) fn drop(reason: Reason) -> Verdict {
        Verdict { reason, action: Action::Drop }
    }

    pub(super) fn punt(reason: Reason) -> Verdict {
        Verdict { reason, action: Action::Punt }
    }
}
