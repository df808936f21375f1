//! Places for fragments that wait for their first one. What waits there is held by whoever has the packets.

use super::{SLOTS, packets::Slot};

// A place's number is a `Slot`'s byte.
const _: () = assert!(SLOTS == 256);

/// No place.
pub(super) const NONE: u16 = u16::MAX;

/// Free places, and chains of those in use.
pub(super) struct Slots {
    /// What comes behind each place in its chain, free or not.
    next: Box<[u16]>,
    free: u16,
}

impl Slots {
    pub(super) fn new() -> Slots {
        let last = SLOTS as u16 - 1;
        Slots { next: (0..=last).map(|at| if at == last { NONE } else { at + 1 }).collect(), free: 0 }
    }

    /// Takes a place and puts it at the front of a chain.
    pub(super) fn take(&mut self, chain: &mut u16) -> Option<Slot> {
        if self.free == NONE {
            return None;
        }
        let slot = self.free;
        self.free = std::mem::replace(&mut self.next[usize::from(slot)], *chain);
        *chain = slot;
        Some(Slot(slot as u8))
    }

    /// Takes the place at the front of a chain out of it. It is not free yet.
    pub(super) fn unchain(&mut self, chain: &mut u16) -> Option<Slot> {
        if *chain == NONE {
            return None;
        }
        let slot = *chain;
        *chain = self.next[usize::from(slot)];
        Some(Slot(slot as u8))
    }

    /// A place that is in no chain is free from now on.
    pub(super) fn free(&mut self, slot: Slot) {
        self.next[usize::from(slot.0)] = std::mem::replace(&mut self.free, slot.0.into());
    }
}
