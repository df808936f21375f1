//! Packets that wait for a neighbour's Ethernet address, as a kernel's neighbour table keeps them.

use crate::nexthop::{Egress, Hop, NextHops, Unresolved};
use crate::time::Tick;

/// How many wait at most on one lcore.
const CAPACITY: usize = 64;
/// How long one waits, in milliseconds. The kernel asks three times, a second apart; whoever has not
/// answered the first time has lost the packet, but not the next one.
const PATIENCE: u32 = 1000;

struct Held<P> {
    packet: P,
    unresolved: Unresolved,
    since: Tick,
}

/// The packets of one lcore that wait.
pub(super) struct HoldQueue<P> {
    held: Vec<Held<P>>,
    /// When the oldest was looked at last.
    looked: Tick,
}

/// What became of a packet that waited.
pub(super) enum Released<P> {
    /// It can go.
    Ready(P, Egress),
    /// It waited long enough.
    GivenUp(P),
}

impl<P> HoldQueue<P> {
    pub(super) fn new() -> HoldQueue<P> {
        HoldQueue { held: Vec::with_capacity(CAPACITY), looked: Tick(0) }
    }

    /// Keeps a packet; gives it back where too many wait.
    pub(super) fn push(&mut self, packet: P, unresolved: Unresolved, now: Tick) -> Result<(), P> {
        if self.held.len() == CAPACITY {
            return Err(packet);
        }
        self.held.push(Held { packet, unresolved, since: now });
        Ok(())
    }

    /// Lets go those whose neighbour is known by now, and those that waited too long. `changed` says
    /// that there is news of neighbours.
    pub(super) fn release(
        &mut self,
        hops: &NextHops,
        changed: bool,
        now: Tick,
        mut each: impl FnMut(Released<P>),
    ) {
        if self.held.is_empty() || !changed && now.since(self.looked) < PATIENCE / 8 {
            return;
        }
        self.looked = now;
        let mut at = 0;
        while at < self.held.len() {
            let hop = hops.again(&self.held[at].unresolved);
            if let Hop::Ready(egress) = hop {
                // Order among those that wait for one neighbour is kept.
                each(Released::Ready(self.held.remove(at).packet, egress));
            } else if now.since(self.held[at].since) >= PATIENCE {
                each(Released::GivenUp(self.held.remove(at).packet));
            } else {
                at += 1;
            }
        }
    }
}
