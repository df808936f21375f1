//! Packets of which pieces have come.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use super::ranges::{Fit, Ranges};
use super::slots::{self, Slots};
use super::{PACKETS, PATIENCE, SLOTS, SLOTS_PER_PACKET};
use crate::time::Tick;
use crate::wire::fragment::Piece;

/// How many packets share a place in the table.
const WAYS: usize = 4;

/// Where a fragment waits for its first one. One byte, so that a verdict fits a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub(super) u8);

impl Slot {
    /// Its number, below [`SLOTS`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// Source and destination port, the source in the upper half.
pub type Ports = u32;

/// What is to be done with a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on, as one of a packet with these ports.
    Known(Ports),
    /// It waits for its first one.
    Waits(Slot),
    /// It says something that an earlier one has said already.
    Old,
    /// It says something else than an earlier one, or an earlier one did so: nothing more of its packet goes on.
    Contradiction,
    /// It would have to wait, but too many do.
    NoSlot,
}

/// A fragment that waits no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// Where it waited.
    pub slot: Slot,
    /// The ports of its packet, if they are known by now; else it is lost.
    pub ports: Option<Ports>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Name {
    source: IpAddr,
    destination: IpAddr,
    id: u32,
    protocol: u8,
}

#[derive(Clone, Copy)]
struct Packet {
    /// `None` where the place is free.
    name: Option<Name>,
    since: Tick,
    ports: Option<Ports>,
    /// A contradiction was found.
    is_bad: bool,
    /// Those that wait, the youngest first.
    waiting: u16,
    waiting_count: u8,
    ranges: Ranges,
}

impl Packet {
    const FREE: Packet = Packet {
        name: None,
        since: Tick(0),
        ports: None,
        is_bad: false,
        waiting: slots::NONE,
        waiting_count: 0,
        ranges: Ranges::NONE,
    };
}

/// The packets of one lcore of which pieces have come.
pub struct Packets {
    packets: Box<[Packet]>,
    slots: Slots,
    hasher: RandomState,
    /// At most one for each slot.
    released: VecDeque<Released>,
    /// Up to where old ones were looked for.
    swept: usize,
    swept_at: Tick,
    /// How many are remembered.
    count: usize,
}

impl Packets {
    /// Without any.
    #[must_use]
    pub fn new(now: Tick) -> Packets {
        Packets {
            packets: vec![Packet::FREE; PACKETS].into(),
            slots: Slots::new(),
            hasher: RandomState::new(),
            released: VecDeque::with_capacity(SLOTS),
            swept: 0,
            swept_at: now,
            count: 0,
        }
    }

    /// A fragment has come; `ports` are those of the packet where it is the first one.
    pub fn come(
        &mut self,
        (source, destination): (IpAddr, IpAddr),
        protocol: u8,
        piece: &Piece,
        ports: Option<Ports>,
        now: Tick,
    ) -> Fate {
        let name = Name { source, destination, id: piece.id, protocol };
        let at = self.place_of(&name, now);
        let packet = &mut self.packets[at];
        if packet.is_bad {
            return Fate::Contradiction;
        }
        let before = packet.ranges;
        // Possible pieces end within a packet.
        match packet.ranges.add(piece.offset, piece.end() as u16, piece.more) {
            Fit::New => {}
            Fit::Old => return Fate::Old,
            Fit::Contradiction => {
                packet.is_bad = true;
                self.release(at, None);
                return Fate::Contradiction;
            }
        }
        let fate = match (ports, packet.ports) {
            (Some(ports), _) => {
                packet.ports = Some(ports);
                self.release(at, Some(ports));
                Fate::Known(ports)
            }
            (None, Some(ports)) => Fate::Known(ports),
            (None, None) => {
                let room = packet.waiting_count < SLOTS_PER_PACKET;
                match room.then(|| self.slots.take(&mut packet.waiting)).flatten() {
                    Some(slot) => {
                        packet.waiting_count += 1;
                        Fate::Waits(slot)
                    }
                    None => {
                        // It has not come, as far as another copy is concerned.
                        packet.ranges = before;
                        Fate::NoSlot
                    }
                }
            }
        };
        if self.packets[at].ranges.is_whole() && self.packets[at].ports.is_some() {
            self.forget(at);
        }
        fate
    }

    /// Takes one that waits no longer, those of each packet in the order in which they came. Its slot is free from now
    /// on: not before, since whoever holds what waits may hear of a whole burst at a time.
    pub fn next_released(&mut self) -> Option<Released> {
        let released = self.released.pop_front()?;
        self.slots.free(released.slot);
        Some(released)
    }

    /// Whether any wait no longer.
    #[inline(always)]
    #[must_use]
    pub fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// Forgets packets that are too old, looking at no more than `budget` of them. What waits for them is released.
    #[inline]
    pub fn expire(&mut self, now: Tick, budget: usize) {
        // Each is looked at some eight times in its life.
        if self.count > 0 && (self.swept > 0 || now.since(self.swept_at) >= PATIENCE / 8) {
            self.sweep(now, budget);
        }
    }

    #[cold]
    fn sweep(&mut self, now: Tick, budget: usize) {
        if self.swept == 0 {
            self.swept_at = now;
        }
        let end = PACKETS.min(self.swept + budget);
        for at in self.swept..end {
            let packet = &self.packets[at];
            if packet.name.is_some() && now.since(packet.since) >= PATIENCE {
                self.forget(at);
            }
        }
        self.swept = if end == PACKETS { 0 } else { end };
    }

    /// Where a packet is remembered, from now on if it was not yet. The oldest of its neighbours makes room.
    fn place_of(&mut self, name: &Name, now: Tick) -> usize {
        let first = (self.hasher.hash_one(name) as usize % (PACKETS / WAYS)) * WAYS;
        let ways = &self.packets[first..first + WAYS];
        let is_fresh = |packet: &Packet| now.since(packet.since) < PATIENCE;
        if let Some(way) = ways.iter().position(|packet| packet.name.as_ref() == Some(name)) {
            if is_fresh(&ways[way]) {
                return first + way;
            }
            self.forget(first + way);
        }
        let ways = &self.packets[first..first + WAYS];
        let age = |packet: &Packet| if packet.name.is_none() { u32::MAX } else { now.since(packet.since) };
        let way = (0..WAYS).max_by_key(|way| age(&ways[*way])).unwrap_or_default();
        let at = first + way;
        if self.packets[at].name.is_some() {
            self.forget(at);
        }
        self.count += 1;
        self.packets[at] = Packet { name: Some(*name), since: now, ..Packet::FREE };
        at
    }

    fn forget(&mut self, at: usize) {
        self.release(at, None);
        self.packets[at] = Packet::FREE;
        self.count -= 1;
    }

    fn release(&mut self, at: usize, ports: Option<Ports>) {
        let packet = &mut self.packets[at];
        let first = self.released.len();
        while let Some(slot) = self.slots.unchain(&mut packet.waiting) {
            // The youngest comes out of the chain first.
            self.released.insert(first, Released { slot, ports });
        }
        packet.waiting_count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Tick = Tick(u32::MAX - 1000);
    const CLIENT: [u8; 4] = [10, 0, 1, 1];

    fn ends() -> (IpAddr, IpAddr) {
        (CLIENT.into(), [10, 99, 0, 1].into())
    }

    fn piece(id: u32, at: u16, of: u16) -> Piece {
        Piece { id, offset: at * 80, len: if at + 1 == of { 60 } else { 80 }, more: at + 1 < of }
    }

    impl Packets {
        fn send(&mut self, piece: Piece, now: Tick) -> Fate {
            let ports = (piece.offset == 0).then_some(7);
            self.come(ends(), 17, &piece, ports, now)
        }

        fn all_released(&mut self) -> Vec<(usize, Option<Ports>)> {
            std::iter::from_fn(|| self.next_released()).map(|r| (r.slot.index(), r.ports)).collect()
        }
    }

    #[test]
    fn in_order_all_follow_the_first_and_nothing_is_left() {
        let mut packets = Packets::new(NOW);
        for id in 0..10_000 {
            for at in 0..3 {
                assert_eq!(packets.send(piece(id, at, 3), NOW), Fate::Known(7));
            }
        }
        assert!(!packets.has_released());
        assert_eq!(packets.count, 0);
    }

    #[test]
    fn those_that_came_too_early_follow_in_their_order() {
        let mut packets = Packets::new(NOW);
        let waited: Vec<usize> = [2, 1]
            .map(|at| match packets.send(piece(1, at, 4), NOW) {
                Fate::Waits(slot) => slot.index(),
                other => panic!("{other:?}"),
            })
            .to_vec();
        assert_eq!(packets.send(piece(1, 2, 4), NOW), Fate::Old);
        assert_eq!(packets.send(piece(1, 0, 4), NOW), Fate::Known(7));
        assert_eq!(packets.all_released(), waited.iter().map(|slot| (*slot, Some(7))).collect::<Vec<_>>());
        assert_eq!(packets.count, 1);
        assert_eq!(packets.send(piece(1, 3, 4), NOW), Fate::Known(7));
        assert_eq!(packets.count, 0);
    }

    #[test]
    fn a_contradiction_ends_a_packet_and_no_other() {
        let mut packets = Packets::new(NOW);
        assert!(matches!(packets.send(piece(1, 1, 4), NOW), Fate::Waits(_)));
        let over = Piece { offset: 88, ..piece(1, 1, 4) };
        assert_eq!(packets.send(over, NOW), Fate::Contradiction);
        assert_eq!(packets.all_released().len(), 1);
        assert_eq!(packets.send(piece(1, 0, 4), NOW), Fate::Contradiction);
        assert_eq!(packets.send(piece(2, 0, 4), NOW), Fate::Known(7));
        // The name may be used again.
        assert_eq!(packets.send(piece(1, 0, 4), NOW.after(PATIENCE)), Fate::Known(7));
    }

    #[test]
    fn what_waits_is_bounded_for_each_packet_and_for_all() {
        let mut packets = Packets::new(NOW);
        let mut waiting = 0;
        for id in 0..20 {
            for at in 1..=60 {
                match packets.send(piece(id, at, 100), NOW) {
                    Fate::Waits(_) => waiting += 1,
                    other => assert_eq!(other, Fate::NoSlot),
                }
            }
            assert!(waiting <= usize::from(SLOTS_PER_PACKET) * (id as usize + 1));
        }
        assert_eq!(waiting, SLOTS);
        packets.expire(NOW.after(PATIENCE), PACKETS);
        let released = packets.all_released();
        assert_eq!(released.len(), SLOTS);
        assert!(released.iter().all(|(_, ports)| ports.is_none()));
        assert_eq!(packets.count, 0);
    }

    #[test]
    fn pieces_of_packets_that_never_become_whole_give_way_to_the_new() {
        let mut packets = Packets::new(NOW);
        for id in 0..1_000_000 {
            packets.send(piece(id, 0, 3), NOW.after(id / 1000));
        }
        assert!(packets.count <= PACKETS);
        let now = NOW.after(1000);
        for at in 0..3 {
            assert_eq!(packets.send(piece(2_000_000, at, 3), now), Fate::Known(7));
        }
    }

    #[test]
    fn sweeps_are_bounded_and_find_all() {
        let mut packets = Packets::new(NOW);
        for id in 0..100 {
            packets.send(piece(id, 0, 3), NOW);
        }
        let later = NOW.after(PATIENCE);
        for _ in 0..PACKETS / 32 {
            packets.expire(later, 32);
        }
        assert_eq!(packets.count, 0);
    }
}
