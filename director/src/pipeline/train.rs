//! Packets of one connection in a row. A sender with much to say sends many at once; what becomes of them is found out of
//! the first one, and done with all.

use super::usual::Lane;
use super::way::Way;
use super::{Action, Verdict};
use crate::nexthop::Egress;
use crate::packet::PacketBuf;
use crate::stats::Reason;

/// One packet, or several that go the same way.
pub(super) trait Together<P> {
    /// What is known of the first one.
    fn first(&self) -> &Lane;

    /// Sends one after the other, until that cannot be done as usual. `None` where no one went.
    fn send(self, reason: Reason, egress: &Egress, way: impl Way) -> Option<Sent>;
}

/// What went.
pub(super) struct Sent {
    pub(super) reason: Reason,
    pub(super) packets: usize,
    /// By the IP header's length.
    pub(super) bytes: u64,
}

/// A packet with its lane and the place of its verdict.
pub(super) type Alone<'a, P> = (&'a Lane, (&'a mut P, &'a mut Verdict));

impl<P: PacketBuf> Together<P> for Alone<'_, P> {
    #[inline(always)]
    fn first(&self) -> &Lane {
        self.0
    }

    #[inline(always)]
    fn send(self, reason: Reason, egress: &Egress, mut way: impl Way) -> Option<Sent> {
        let (lane, (packet, verdict)) = self;
        way.send(packet, lane.total_len)?;
        *verdict = Verdict { reason, action: Action::Forward(egress.port) };
        Some(Sent { reason, packets: 1, bytes: lane.total_len.into() })
    }
}

/// Packets with their lanes and places for verdicts, of which those that follow the first one go with it.
pub(super) struct Train<'a, P> {
    first: &'a Lane,
    lanes: &'a [Lane],
    packets: &'a mut [P],
    verdicts: &'a mut [Verdict],
}

impl<'a, P> Train<'a, P> {
    /// `None` without packets.
    #[inline(always)]
    pub(super) fn new(
        lanes: &'a [Lane],
        packets: &'a mut [P],
        verdicts: &'a mut [Verdict],
    ) -> Option<Train<'a, P>> {
        let first = lanes.first()?;
        Some(Train { first, lanes, packets, verdicts })
    }
}

impl<P: PacketBuf> Together<P> for Train<'_, P> {
    #[inline(always)]
    fn first(&self) -> &Lane {
        self.first
    }

    #[inline(always)]
    fn send(self, reason: Reason, egress: &Egress, mut way: impl Way) -> Option<Sent> {
        let mut sent = Sent { reason, packets: 0, bytes: 0 };
        for (lane, (packet, verdict)) in self.lanes.iter().zip(self.packets.iter_mut().zip(self.verdicts)) {
            let is_another = sent.packets > 0 && !lane.follows;
            if is_another || way.send(packet, lane.total_len).is_none() {
                break;
            }
            *verdict = Verdict { reason, action: Action::Forward(egress.port) };
            sent.packets += 1;
            sent.bytes += u64::from(lane.total_len);
        }
        (sent.packets > 0).then_some(sent)
    }
}
