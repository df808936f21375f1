//! Fragments that wait for the first one of their packet.

use crate::fragment::{SLOTS, Slot};
use crate::id::PortId;

/// The packets of one lcore that wait so, by slot.
pub(super) struct GatherQueue<P> {
    slots: Box<[Option<(P, PortId)>]>,
}

impl<P> GatherQueue<P> {
    pub(super) fn new() -> GatherQueue<P> {
        GatherQueue { slots: (0..SLOTS).map(|_| None).collect() }
    }

    /// Keeps a packet that came in by a port. Gives back what was there, which should be nothing.
    pub(super) fn keep(&mut self, slot: Slot, packet: P, port: PortId) -> Option<P> {
        self.slots[slot.index()].replace((packet, port)).map(|(packet, _)| packet)
    }

    pub(super) fn take(&mut self, slot: Slot) -> Option<(P, PortId)> {
        self.slots[slot.index()].take()
    }
}
