//! Packets in a row that go the same way, sent together.

use super::way::Way;
use super::{Action, Verdict};
use crate::id::PortId;
use crate::nexthop::Egress;
use crate::packet::PacketBuf;
use crate::stats::Reason;

/// What a lane has: one packet, or several.
pub(super) trait Together<P> {
    /// Sends one after the other, until that cannot be done as usual. `None` where no one went.
    fn send(self, reason: Reason, egress: &Egress, way: impl Way) -> Option<Sent>;
}

/// What went.
#[derive(Clone, Copy)]
pub(super) struct Sent {
    pub(super) reason: Reason,
    pub(super) port: PortId,
    pub(super) packets: usize,
    /// By the IP header's length.
    pub(super) bytes: u64,
}

/// A packet with the place of its verdict.
pub(super) type Alone<'a, P> = (&'a mut P, &'a mut Verdict);

impl<P: PacketBuf> Together<P> for Alone<'_, P> {
    #[inline(always)]
    fn send(self, reason: Reason, &Egress { port, .. }: &Egress, mut way: impl Way) -> Option<Sent> {
        let (packet, verdict) = self;
        let bytes = way.send(packet)?.into();
        *verdict = Verdict { reason, action: Action::Forward(port) };
        Some(Sent { reason, port, packets: 1, bytes })
    }
}

/// Packets with the places of their verdicts.
pub(super) type Train<'a, P> = (&'a mut [P], &'a mut [Verdict]);

impl<P: PacketBuf> Together<P> for Train<'_, P> {
    /// A function of its own for each way: its loop needs all registers.
    #[inline(never)]
    fn send(self, reason: Reason, &Egress { port, .. }: &Egress, mut way: impl Way) -> Option<Sent> {
        let (packets, verdicts) = self;
        let mut sent = Sent { reason, port, packets: 0, bytes: 0 };
        for packet in packets {
            let Some(bytes) = way.send(packet) else { break };
            sent.packets += 1;
            sent.bytes += u64::from(bytes);
        }
        let verdict = Verdict { reason, action: Action::Forward(port) };
        verdicts.iter_mut().take(sent.packets).for_each(|place| *place = verdict);
        (sent.packets > 0).then_some(sent)
    }
}
