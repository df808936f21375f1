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

/// What is to be done with a packet, and why. Small: it fits a register, and the next one is found by a shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(4))]
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

/// The port by which all packets of a burst leave, as far as they were decided about: ports by their numbers, one bit by
/// one, so that each packet costs two steps and no question.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommonPort {
    /// Bits that all have.
    all: u16,
    /// Bits that any has.
    any: u16,
}

impl CommonPort {
    /// That of no packet.
    pub(super) const NONE: CommonPort = CommonPort { all: u16::MAX, any: 0 };

    /// That of all these.
    pub(super) fn of(verdicts: &[Verdict]) -> CommonPort {
        let mut common = CommonPort::NONE;
        verdicts.iter().for_each(|verdict| common.note(verdict.action));
        common
    }

    /// One more was decided about.
    pub(super) fn note(&mut self, action: Action) {
        match action {
            Action::Forward(port) => self.leaves_by(port),
            // A number that no port has, and the other way round.
            _ => (self.all, self.any) = (0, u16::MAX),
        }
    }

    /// One more leaves, or several.
    #[inline(always)]
    pub(super) fn leaves_by(&mut self, PortId(port): PortId) {
        self.all &= u16::from(port);
        self.any |= u16::from(port);
    }

    /// `None` where they leave by several, or some do not leave, or there are none.
    #[inline(always)]
    pub(super) fn get(self) -> Option<PortId> {
        (self.all == self.any).then_some(PortId(self.all as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict;

    #[test]
    fn a_verdict_fits_a_register() {
        assert_eq!(size_of::<Verdict>(), 4);
    }
}
