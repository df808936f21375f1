//! Fragments, on their way to the stages that all packets go through: with the ports of their first one, at the lcore
//! that owns the connection.

use super::flow::Flow;
use super::{Action, Arrival, Pipeline, Verdict, owner};
use crate::connection::Address;
use crate::fragment::{Fate, Ports, Released};
use crate::packet::PacketBuf;
use crate::service::Snapshot;
use crate::stats::Reason;
use crate::time::Tick;
use crate::wire::{Transport, ethernet};

impl Pipeline {
    /// Looks at a fragment, which `flow` has read. `Ok` where it goes on as a flow with ports.
    #[cold]
    #[inline(never)]
    pub(super) fn gather<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        arrival: Arrival,
        flow: &mut Flow<A>,
        packet: &mut P,
    ) -> Result<(), Verdict> {
        let (source, destination) = (flow.frame.source.into(), flow.frame.destination.into());
        if !snapshot.lookup.may_concern(source, destination) {
            return Err(Verdict::punt(Reason::NoService));
        }
        let piece = A::piece(&packet.bytes()[ethernet::HEADER_LEN..], &flow.frame);
        let collector = owner::collector(source, destination, piece.id, self.lcores);
        let is_first = flow.frame.transport == Transport::FirstFragment;
        let ports = match arrival {
            Arrival::Port(_) if collector != self.lcore => {
                let action = Action::HandOver(collector);
                return Err(Verdict { reason: Reason::FragmentElsewhere, action });
            }
            Arrival::Port(_) | Arrival::Ring if collector == self.lcore => {
                let ports = is_first.then_some(flow.frame.ports());
                let ends = (source, destination);
                ports_of(self.fragments.come(ends, flow.frame.protocol, &piece, ports, now))?
            }
            // Whoever collects has written the ports beside the packet.
            _ => packet.note(),
        };
        flow.frame.set_ports(ports);
        self.go_on(flow, None);
        if collector == self.lcore && self.lcores > 1 {
            let owner = owner::owner_of(&flow.key(), &snapshot.lookup, self.lcores);
            if let Some(owner) = owner.filter(|owner| *owner != self.lcore) {
                packet.set_note(ports);
                flow.goes_on = false;
                return Err(Verdict { reason: Reason::OtherLcore, action: Action::HandOver(owner) });
            }
        }
        Ok(())
    }

    /// Whether fragments wait no longer, for [`Pipeline::next_gathered`].
    #[inline(always)]
    pub fn has_gathered(&self) -> bool {
        self.fragments.has_released()
    }

    /// A fragment that waits no longer. Where its ports are known, they belong into its note, and it into the next
    /// burst, as [`Arrival::Gathered`]; else it is lost, as [`Reason::FragmentTimeout`].
    pub fn next_gathered(&mut self) -> Option<Released> {
        self.fragments.next_released()
    }
}

fn ports_of(fate: Fate) -> Result<Ports, Verdict> {
    match fate {
        Fate::Known(ports) => Ok(ports),
        Fate::Waits(slot) => Err(Verdict { reason: Reason::FragmentWaits, action: Action::Gather(slot) }),
        Fate::Old => Err(Verdict::drop(Reason::FragmentCopy)),
        Fate::Contradiction => Err(Verdict::drop(Reason::FragmentOverlap)),
        Fate::NoSlot => Err(Verdict::drop(Reason::FragmentQueueFull)),
    }
}
