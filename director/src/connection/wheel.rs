//! When connections are looked at again.
//!
//! A packet writes only `last_seen` and `timeout` of its connection and never moves a timer. Each
//! place hangs in one slot of the wheel, at the latest one turn ahead; when the wheel comes by, the
//! connection is either over or hung up again. A connection whose timeout became shorter is hence
//! found up to one turn late, which nobody sees: a lookup treats it as gone from the moment on.
//!
//! The lists of the slots are chunks of a cache line: what is due is known many at a time, and can be fetched together.

use crate::memory::Arena;
use crate::time::Tick;

/// Milliseconds in a slot, as a power of two.
const SLOT_BITS: u32 = 7;
const SLOTS: u32 = 256;
/// One turn of the wheel, in milliseconds.
pub(super) const TURN: u32 = SLOTS << SLOT_BITS;

/// No chunk.
const NONE: u32 = u32::MAX;
/// Places in a chunk.
const IN_CHUNK: usize = 14;

/// Part of a slot's list, or of that of free chunks.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Chunk {
    next: u32,
    len: u32,
    places: [u32; IN_CHUNK],
}

/// The lists of all slots, in fixed memory.
pub(super) struct Wheel {
    /// The first chunk of each slot; all others are full.
    heads: [u32; SLOTS as usize],
    /// The slot that is worked on, counted in slots since the start (wraps with the ticks).
    cursor: u32,
    chunks: Arena<Chunk>,
    /// The first free chunk.
    free: u32,
}

impl Wheel {
    /// One for so many places, taking all its memory now.
    pub(super) fn new(places: usize, hugepages: bool, now: Tick) -> std::io::Result<Wheel> {
        let count = Wheel::count(places);
        let mut chunks =
            Arena::filled(count, Chunk { next: NONE, len: 0, places: [0; IN_CHUNK] }, hugepages)?;
        for (next, chunk) in (1..count as u32).zip(chunks.iter_mut()) {
            chunk.next = next;
        }
        Ok(Wheel { heads: [NONE; SLOTS as usize], cursor: now.0 >> SLOT_BITS, chunks, free: 0 })
    }

    fn count(places: usize) -> usize {
        // Each slot has no more than one that is not full.
        places / IN_CHUNK + SLOTS as usize
    }

    /// Memory for so many places, in bytes.
    pub(super) fn bytes(places: usize) -> usize {
        Wheel::count(places) * size_of::<Chunk>()
    }

    pub(super) fn mapped_bytes(&self) -> usize {
        self.chunks.mapped_bytes()
    }

    /// Hangs up a place that is due `delay` milliseconds after `now`. It must not hang anywhere.
    pub(super) fn hang_up(&mut self, place: u32, now: Tick, delay: u32) {
        // At least the next slot, so that no list is both walked and added to; at most one turn less
        // a slot, so that a full turn does not lead back to the cursor.
        let due = now.after(delay.min(TURN - (2 << SLOT_BITS))).0 >> SLOT_BITS;
        let ahead = due.wrapping_sub(self.cursor) & (u32::MAX >> SLOT_BITS);
        let ahead = ahead.clamp(1, SLOTS - 1);
        let slot = (self.cursor.wrapping_add(ahead) % SLOTS) as usize;
        let mut head = self.heads[slot];
        if self.chunks.get(head as usize).is_none_or(|chunk| chunk.len as usize == IN_CHUNK) {
            let fresh = self.free;
            let chunk = &mut self.chunks[fresh as usize];
            self.free = std::mem::replace(&mut chunk.next, head);
            chunk.len = 0;
            head = fresh;
            self.heads[slot] = head;
        }
        let chunk = &mut self.chunks[head as usize];
        chunk.places[chunk.len as usize] = place;
        chunk.len += 1;
    }

    /// Takes down places that are due, as many as `into` has room for, moving on over empty slots. Of those and of places it
    /// looks at no more than `budget`, which it lowers by as many. Returns how many they are.
    pub(super) fn take_due(&mut self, now: Tick, budget: &mut usize, into: &mut [u32]) -> usize {
        let mut taken = 0;
        while *budget > 0 && taken < into.len() {
            let head = &mut self.heads[(self.cursor % SLOTS) as usize];
            let Some(chunk) = self.chunks.get_mut(*head as usize) else {
                let behind = (now.0 >> SLOT_BITS).wrapping_sub(self.cursor) & (u32::MAX >> SLOT_BITS);
                // More than half of all slots "behind" is a cursor ahead of the clock: nothing to do.
                if behind == 0 || behind > u32::MAX >> (SLOT_BITS + 1) {
                    break;
                }
                *budget -= 1;
                self.cursor = self.cursor.wrapping_add(1) & (u32::MAX >> SLOT_BITS);
                continue;
            };
            let some = (chunk.len as usize).min(into.len() - taken).min(*budget);
            let left = chunk.len as usize - some;
            into[taken..taken + some].copy_from_slice(&chunk.places[left..left + some]);
            (taken, *budget, chunk.len) = (taken + some, *budget - some, left as u32);
            if left == 0 {
                let next = std::mem::replace(&mut chunk.next, self.free);
                self.free = std::mem::replace(head, next);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Each place comes once, not before it is due and no more than two slots later, whatever the budgets.
    #[test]
    fn places_come_when_they_are_due() {
        const PLACES: u32 = 1000;
        let mut now = Tick(u32::MAX - 20_000);
        let mut wheel = Wheel::new(PLACES as usize, false, now).unwrap();
        let mut hung = BTreeMap::new();
        let mut random = 1u32;
        let mut next = |below: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) % below
        };
        for place in 0..PLACES {
            let delay = next(TURN - (2 << SLOT_BITS));
            wheel.hang_up(place, now, delay);
            hung.insert(place, now.after(delay));
        }
        for _ in 0..20_000 {
            let mut into = vec![NONE; next(40) as usize];
            let before = next(100) as usize;
            let mut budget = before;
            let taken = wheel.take_due(now, &mut budget, &mut into);
            assert!(before - budget >= taken);
            for place in &into[..taken] {
                let due = hung.remove(place).expect("a place that hangs");
                assert!(now.since(due) as i32 > -(1 << SLOT_BITS), "{place} comes early");
                let delay = next(TURN - (2 << SLOT_BITS));
                wheel.hang_up(*place, now, delay);
                hung.insert(*place, now.after(delay));
            }
            if taken < into.len() && budget > 0 {
                let late = hung.values().filter(|due| (now.since(**due) as i32) > 2 << SLOT_BITS).count();
                assert_eq!(late, 0, "due and not taken");
                now = now.after(next(1 << SLOT_BITS));
            }
        }
        assert_eq!(hung.len(), PLACES as usize);
    }
}
