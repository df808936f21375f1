//! When connections are looked at again.
//!
//! A packet writes only `last_seen` and `timeout` of its connection and never moves a timer. Each
//! place hangs in one slot of the wheel, at the latest one turn ahead; when the wheel comes by, the
//! connection is either over or hung up again. A connection whose timeout became shorter is hence
//! found up to one turn late, which nobody sees: a lookup treats it as gone from the moment on.

use crate::time::Tick;

/// Milliseconds in a slot, as a power of two.
const SLOT_BITS: u32 = 7;
const SLOTS: u32 = 256;
/// One turn of the wheel, in milliseconds.
pub(super) const TURN: u32 = SLOTS << SLOT_BITS;

/// The heads of the lists; the lists themselves run through the connections.
pub(super) struct Wheel {
    heads: [u32; SLOTS as usize],
    /// The slot that is worked on, counted in slots since the start (wraps with the ticks).
    cursor: u32,
}

impl Wheel {
    pub(super) fn new(now: Tick, none: u32) -> Wheel {
        Wheel { heads: [none; SLOTS as usize], cursor: now.0 >> SLOT_BITS }
    }

    /// The list for something that is due `delay` milliseconds after `now`: its head.
    pub(super) fn head_for(&mut self, now: Tick, delay: u32) -> &mut u32 {
        // At least the next slot, so that no list is both walked and added to; at most one turn less
        // a slot, so that a full turn does not lead back to the cursor.
        let due = now.after(delay.min(TURN - (2 << SLOT_BITS))).0 >> SLOT_BITS;
        let ahead = due.wrapping_sub(self.cursor) & (u32::MAX >> SLOT_BITS);
        let ahead = ahead.clamp(1, SLOTS - 1);
        &mut self.heads[((self.cursor.wrapping_add(ahead)) % SLOTS) as usize]
    }

    /// The head of the list that is due, moving on over empty slots, at most `budget` of them;
    /// `None` where nothing is due.
    pub(super) fn due(&mut self, now: Tick, none: u32, budget: &mut usize) -> Option<&mut u32> {
        loop {
            if self.heads[(self.cursor % SLOTS) as usize] != none {
                return Some(&mut self.heads[(self.cursor % SLOTS) as usize]);
            }
            let behind = (now.0 >> SLOT_BITS).wrapping_sub(self.cursor) & (u32::MAX >> SLOT_BITS);
            // More than half of all slots "behind" is a cursor ahead of the clock: nothing to do.
            if behind == 0 || behind > u32::MAX >> (SLOT_BITS + 1) || *budget == 0 {
                return None;
            }
            *budget -= 1;
            self.cursor = self.cursor.wrapping_add(1) & (u32::MAX >> SLOT_BITS);
        }
    }
}
