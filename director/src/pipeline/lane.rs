//! Usual packets as a burst brings them: read, and those of one connection in a row taken together. A sender with much to
//! say sends many at once; what becomes of them is found out once, and done with all.

use std::net::Ipv4Addr;

use super::MAX_BURST;
use crate::connection::{BucketAt, ConnectionTable, FlowHash, Guess, State};
use crate::nexthop::MacAddr;
use crate::packet::PacketBuf;
use crate::wire::usual::{Head, Usual};
use crate::wire::{alike, ipv4, read, tcp};

/// What the stages know of a usual packet, and of those behind it that go the same way: of the same connection, in the same
/// direction. No more than they ask for.
#[derive(Clone, Copy)]
pub(super) struct Lane {
    pub(super) addresses: u64,
    pub(super) hash: FlowHash,
    pub(super) ports: u32,
    pub(super) bucket: BucketAt,
    pub(super) guess: Guess,
    /// The number of the state in which they leave a connection as it is, else [`MOVES`].
    pub(super) steady: u8,
    /// How many they are.
    pub(super) packets: u8,
}

/// The number of no state.
const MOVES: u8 = u8::MAX;
/// That of no packet.
const NOTHING: u8 = u8::MAX - 1;

impl Lane {
    /// That of a packet which is not usual.
    const NONE: Lane = Lane {
        addresses: 0,
        ports: 0,
        hash: FlowHash::NONE,
        bucket: BucketAt::NONE,
        guess: Guess::NONE,
        steady: NOTHING,
        packets: 1,
    };

    /// That of a usual packet, alone so far. Fetches where its connection may be.
    #[inline(always)]
    fn of(table: &ConnectionTable<Ipv4Addr>, usual: &Usual) -> Lane {
        let hash = table.hash_usual(usual);
        let bucket = table.fetch_bucket(hash);
        let (addresses, ports) = usual.ends();
        Lane { addresses, hash, ports, bucket, guess: Guess::NONE, steady: steady(usual), packets: 1 }
    }

    /// Room for those of a burst.
    pub(super) fn burst() -> Box<[Lane; MAX_BURST]> {
        Box::new([Lane::NONE; MAX_BURST])
    }
}

/// Which Ethernet destination a burst has to have: as a number with those of its bits that count.
#[derive(Clone, Copy)]
pub(super) struct AddressedTo {
    address: u64,
    mask: u64,
}

impl AddressedTo {
    /// That of a port, or any.
    pub(super) fn new(station: Option<MacAddr>) -> AddressedTo {
        let number = |MacAddr([a, b, c, d, e, f])| u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        match station {
            Some(station) => AddressedTo { address: number(station), mask: number(MacAddr([0xff; 6])) },
            None => AddressedTo { address: 0, mask: 0 },
        }
    }

    #[inline(always)]
    fn has(self, head: &Head) -> bool {
        (u64::from_le_bytes(read(head, 0)) ^ self.address) & self.mask == 0
    }
}

/// What a burst was read into.
pub(super) struct Burst {
    /// How many lanes.
    pub(super) lanes: usize,
    /// Which packets are not usual, one bit for each.
    pub(super) unusual: u64,
}

/// Addresses and ports of a usual packet.
type Ends = (u64, u32);

/// Reads a burst into lanes, in the order in which it came, and fetches where their connections may be. A packet that is not
/// usual is a lane of its own.
#[inline(always)]
pub(super) fn read_burst<P: PacketBuf>(
    table: &ConnectionTable<Ipv4Addr>,
    addressed_to: AddressedTo,
    packets: &[P],
    lanes: &mut [Lane; MAX_BURST],
) -> Burst {
    let packets = &packets[..packets.len().min(MAX_BURST)];
    let mut burst = Burst { lanes: 0, unusual: 0 };
    let mut last = (0, 0);
    // Whether `last` is of the last lane, and others may join that.
    let mut is_open = false;
    let mut at = 0;
    loop {
        let alone = read_alone(table, addressed_to, &packets[at..], &mut lanes[burst.lanes..], &mut last);
        at += alone;
        burst.lanes += alone;
        is_open |= alone > 0;
        let Some(packet) = packets.get(at) else { return burst };
        if is_open {
            let followers = alike::how_many(&packets[at - 1..]);
            if followers > 0 {
                lanes[burst.lanes - 1].packets += followers as u8;
                at += followers;
                continue;
            }
        }
        let usual = read_usual(addressed_to, packet);
        let lane = match &usual {
            Some(usual) => Lane::of(table, usual),
            None => {
                burst.unusual |= 1 << at;
                Lane::NONE
            }
        };
        at += 1;
        // Some are of one connection, and of other lengths.
        let joins = is_open && usual.is_some_and(|usual| usual.ends() == last);
        match lanes[..burst.lanes].last_mut().filter(|before| joins && before.steady == lane.steady) {
            Some(before) => before.packets += 1,
            None => {
                lanes[burst.lanes] = lane;
                burst.lanes += 1;
            }
        }
        is_open = usual.is_some();
        last = usual.map_or(last, |usual| usual.ends());
    }
}

/// Reads packets into lanes of their own, until one is not usual, or of the same ends as the one before, which `last` tells
/// of. Returns how many.
#[inline(always)]
fn read_alone<P: PacketBuf>(
    table: &ConnectionTable<Ipv4Addr>,
    addressed_to: AddressedTo,
    packets: &[P],
    lanes: &mut [Lane],
    last: &mut Ends,
) -> usize {
    let mut read = 0;
    for (packet, lane) in packets.iter().zip(lanes) {
        let Some(usual) = read_usual(addressed_to, packet) else { break };
        if std::mem::replace(last, usual.ends()) == usual.ends() {
            break;
        }
        *lane = Lane::of(table, &usual);
        read += 1;
    }
    read
}

#[inline(always)]
fn read_usual<P: PacketBuf>(addressed_to: AddressedTo, packet: &P) -> Option<Usual> {
    let frame = packet.bytes();
    let head = frame.first_chunk().filter(|_| packet.is_whole())?;
    Usual::read(head, frame.len()).filter(|_| addressed_to.has(head))
}

/// The number of the state in which a packet leaves a connection as it is.
#[inline(always)]
fn steady(usual: &Usual) -> u8 {
    match usual.protocol {
        ipv4::TCP if usual.tcp_flags & tcp::TELLING == tcp::ACK => State::Established as u8,
        ipv4::TCP => MOVES,
        _ => State::Udp as u8,
    }
}
