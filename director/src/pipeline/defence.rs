//! What IPVS does against floods: `drop_entry`, `drop_packet`, `secure_tcp` (Linux `update_defense_level` in
//! `ip_vs_ctl.c`). Each lcore goes by its own tables. What the kernel measures in free pages of memory is here measured
//! in free places for connections: those are what runs out.

use std::net::{Ipv4Addr, Ipv6Addr};

use control::model::Settings;

use super::Pipeline;
use crate::connection::{Address, ConnId, Connection, ConnectionTable, MANY, State, Strictness};
use crate::service::Snapshot;
use crate::time::Tick;

/// How often the level is looked at, in milliseconds.
const PERIOD: u32 = 1000;
/// A connection that was quiet for so long, in milliseconds, may be dropped.
const QUIET: u32 = 60_000;
/// One in so many places is looked at in each period.
const SHARE: u32 = 32;
/// Places that are looked at between two bursts.
const PLACES_PER_TURN: u32 = 64;

/// The level of the defences on one lcore.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defence {
    evaluated: Option<Tick>,
    strictness: Strictness,
    /// One in so many new connections is refused; 0 where none is.
    drop_rate: u32,
    drop_counter: u32,
    /// By how many packets a connection has had.
    entry_counters: [u8; MANY as usize],
    /// Places of both tables that are still to be looked at in this period.
    scan: [Scan; 2],
}

/// A part of a table that is looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    next: u32,
    left: u32,
}

/// How full a table is.
#[derive(Clone, Copy, Debug)]
struct Room {
    capacity: usize,
    free: usize,
    /// Numbers of places.
    used: u32,
}

impl Room {
    fn of<A: Address>(table: &ConnectionTable<A>) -> Room {
        let capacity = table.capacity();
        Room { capacity, free: capacity - table.len(), used: table.places() }
    }

    /// How many places are missing to the threshold, and the threshold: of a small table a quarter is enough.
    fn shortage(self, threshold: usize) -> (usize, usize) {
        let threshold = threshold.min(self.capacity / 4);
        (threshold.saturating_sub(self.free), threshold)
    }
}

/// A setting of 0 to 3: off, armed when memory is short, the same while it defends, always.
fn is_on(level: u8, short: bool) -> bool {
    match level {
        0 => false,
        1 | 2 => short,
        _ => true,
    }
}

impl Defence {
    /// Which tables TCP connections go by.
    #[inline(always)]
    pub(super) fn strictness(&self) -> Strictness {
        self.strictness
    }

    /// One in how many new connections is refused; 0 where none is.
    pub(super) fn drop_rate(&self) -> u32 {
        self.drop_rate
    }

    /// Whether the packet that would open a connection is dropped instead.
    #[inline]
    pub(super) fn drops_packet(&mut self) -> bool {
        if self.drop_rate == 0 {
            return false;
        }
        self.drop_counter = self.drop_counter.saturating_sub(1);
        if self.drop_counter > 0 {
            return false;
        }
        self.drop_counter = self.drop_rate;
        true
    }

    /// Looks at the level once in a period. The fuller table is what counts.
    fn evaluate(&mut self, settings: &Settings, tables: [Room; 2], now: Tick) {
        if self.evaluated.is_some_and(|last| now.since(last) < PERIOD) {
            return;
        }
        self.evaluated = Some(now);
        let shortages = tables.map(|room| room.shortage(settings.amemthresh as usize));
        let (lacking, threshold) = shortages.into_iter().max().unwrap_or_default();
        let short = lacking > 0;
        self.strictness =
            if is_on(settings.secure_tcp, short) { Strictness::Secure } else { Strictness::Normal };
        let was_on = self.drop_rate > 0;
        self.drop_rate = match settings.drop_packet {
            3 => settings.am_droprate.max(1),
            level if is_on(level, short) => (threshold / lacking) as u32,
            _ => 0,
        };
        if !was_on || self.drop_counter > self.drop_rate {
            self.drop_counter = self.drop_rate;
        }
        if is_on(settings.drop_entry, short) {
            for (scan, room) in self.scan.iter_mut().zip(tables) {
                scan.left = room.used.div_ceil(SHARE);
            }
        }
    }

    /// Whether a connection is one of those that are given up (`ip_vs_random_dropentry` in Linux `ip_vs_conn.c`).
    fn drops_entry<A: Address>(&mut self, connection: &Connection<A>, now: Tick) -> bool {
        match connection.state {
            State::SynRecv | State::SynAck => true,
            State::Established | State::Udp => {
                let packets = connection.packets();
                let is_candidate = now.since(connection.last_seen) >= QUIET && (1..MANY).contains(&packets);
                is_candidate && {
                    let counter = &mut self.entry_counters[usize::from(packets)];
                    *counter = counter.saturating_sub(1);
                    let drops = *counter == 0;
                    if drops {
                        *counter = packets;
                    }
                    drops
                }
            }
            _ => false,
        }
    }
}

impl Pipeline {
    /// Adapts the defences to how much room there is, and gives up connections if that is due. Call between bursts.
    #[inline]
    pub(super) fn defend(&mut self, snapshot: &Snapshot, now: Tick) {
        let rooms = [Room::of(self.tables.ipv4()), Room::of(self.tables.ipv6())];
        self.defence.evaluate(&snapshot.settings, rooms, now);
        if self.defence.scan.iter().any(|scan| scan.left > 0) {
            self.drop_entries::<Ipv4Addr>(snapshot, now, 0);
            self.drop_entries::<Ipv6Addr>(snapshot, now, 1);
        }
    }

    #[cold]
    fn drop_entries<A: Address>(&mut self, snapshot: &Snapshot, now: Tick, which: usize) {
        let places = A::table(&self.tables).places();
        let Scan { mut next, left } = self.defence.scan[which];
        let turn = left.min(PLACES_PER_TURN);
        for _ in 0..turn {
            next = if next + 1 < places { next + 1 } else { 0 };
            let Some((id, connection)) = A::table(&self.tables).live_at(next) else { continue };
            if self.defence.drops_entry(connection, now) {
                self.give_up::<A>(snapshot, now, id);
            }
        }
        self.defence.scan[which] = Scan { next, left: left - turn };
    }

    fn give_up<A: Address>(&mut self, snapshot: &Snapshot, now: Tick, id: ConnId) {
        self.counters.given_up.add(1);
        self.end::<A>(snapshot, now, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluated(settings: Settings, free: usize) -> Defence {
        let mut defence = Defence::default();
        defence.evaluate(&settings, rooms(free), Tick(5));
        defence
    }

    fn rooms(free: usize) -> [Room; 2] {
        [Room { capacity: 1 << 20, free, used: 3200 }, Room { capacity: 8, free: 8, used: 10 }]
    }

    #[test]
    fn nothing_is_dropped_by_default() {
        let mut defence = evaluated(Settings::default(), 0);
        assert_eq!(defence.strictness(), Strictness::Normal);
        assert!((0..1000).all(|_| !defence.drops_packet()));
        assert_eq!(defence.scan[0].left, 0);
    }

    #[test]
    fn armed_it_defends_only_while_room_is_short() {
        let settings = Settings { drop_packet: 1, secure_tcp: 1, drop_entry: 1, ..Settings::default() };
        let mut calm = evaluated(settings, 1024);
        assert!((0..1000).all(|_| !calm.drops_packet()));
        let mut alarmed = evaluated(settings, 512);
        // 1024 / (1024 - 512): every second one.
        assert_eq!((0..1000).filter(|_| alarmed.drops_packet()).count(), 500);
        assert_eq!(alarmed.strictness(), Strictness::Secure);
        assert_eq!(alarmed.scan.map(|scan| scan.left), [100, 1]);
        // The level is looked at once a second.
        alarmed.evaluate(&settings, rooms(5000), Tick(900));
        assert_eq!(alarmed.strictness(), Strictness::Secure);
        alarmed.evaluate(&settings, rooms(5000), Tick(1005));
        assert_eq!(alarmed.strictness(), Strictness::Normal);
    }

    #[test]
    fn always_means_always_at_the_rate_that_is_set() {
        let settings = Settings { drop_packet: 3, am_droprate: 10, secure_tcp: 3, ..Settings::default() };
        let mut defence = evaluated(settings, 1 << 20);
        assert_eq!((0..1000).filter(|_| defence.drops_packet()).count(), 100);
        assert_eq!(defence.strictness(), Strictness::Secure);
    }
}
