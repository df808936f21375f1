//! How a packet ends.

use crate::fragment::Slot;
use crate::id::{LcoreId, PortId};
#[cfg(doc)]
use crate::packet::PacketBuf;
use crate::stats::Reason;

/// Where the pipeline keeps what a packet waits for, until the next burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(pub(super) u8);

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send it by a port as it is now.
    Forward(PortId),
    /// As [`Action::Forward`], but in pieces: it is longer than the MTU of its way, which [`PacketBuf::note`] tells.
    Cut(PortId),
    /// As [`Action::Forward`], but its Ethernet addresses are missing until the kernel has found the
    /// neighbour's; [`super::Pipeline::awaited`] says which one that is, and the MTU that it may exceed.
    Hold(Wait),
    /// Keep it, unchanged, until [`super::Pipeline::next_gathered`] asks for it.
    Gather(Slot),
    /// Give it to another lcore, unchanged.
    HandOver(LcoreId),
    /// Give it to the kernel as it is now: unchanged, but for one to a real server that is the director itself by NAT.
    Punt,
    /// Free it.
    Drop,
}

/// What is to be done with a packet, and why. Small: it fits a register.
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

#[cfg(test)]
mod tests {
    use super::Verdict;

    #[test]
    fn a_verdict_fits_a_register() {
        assert!(size_of::<Verdict>() <= 4);
    }
}
