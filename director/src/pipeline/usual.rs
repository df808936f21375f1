//! The usual packet on its usual way: TCP or UDP by IPv4 of a living connection whose state it does not move, to a next
//! hop that is known. Each of those words is checked before anything is changed; whatever is otherwise goes through
//! `connect`, which decides about all packets, and about these in the same way. Those of one connection in a row are
//! looked up together: a `train`.

use super::flow::Flow;
use super::train::Train;
use super::way::Ways;
use super::{Flows, MAX_BURST, Pipeline, Verdict};
use crate::connection::{FlowHash, Guess, State};
use crate::nexthop::MacAddr;
use crate::packet::PacketBuf;
use crate::service::Snapshot;
use crate::time::Tick;
use crate::wire::usual::{Head, Usual};
use crate::wire::{self, ipv4, read, tcp};

/// What the stages know of a usual packet: no more than they ask for.
#[derive(Clone, Copy)]
pub(super) struct Lane {
    pub(super) addresses: u64,
    hash: FlowHash,
    pub(super) ports: u32,
    pub(super) guess: Guess,
    pub(super) total_len: u16,
    /// The number of the state in which it leaves a connection as it is, else [`MOVES`].
    pub(super) steady: u8,
    /// Goes the way of the packet before it: of the same connection, in the same direction.
    pub(super) follows: bool,
}

/// The number of no state.
const MOVES: u8 = u8::MAX;
/// That of no packet.
const NOTHING: u8 = u8::MAX - 1;

impl Lane {
    pub(super) const NONE: Lane = Lane {
        addresses: 0,
        hash: FlowHash::NONE,
        ports: 0,
        guess: Guess::NONE,
        total_len: 0,
        steady: NOTHING,
        follows: false,
    };

    /// Whether a packet is of the same connection in the same direction, and leaves it in the same state; which tells of its
    /// protocol, too.
    #[inline(always)]
    fn leads(&self, usual: &Usual, steady: u8) -> bool {
        self.addresses == usual.addresses && self.ports == usual.ports && self.steady == steady
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

impl Pipeline {
    /// Reads a packet if it is usual, and fetches where its connection may be, unless that is known of the one before it.
    /// `addresses` are those of the last usual one. False where it is not usual.
    #[inline(always)]
    pub(super) fn look<P: PacketBuf>(
        &self,
        addressed_to: AddressedTo,
        addresses: &mut u64,
        lanes: &mut [Lane; MAX_BURST],
        at: usize,
        packet: &P,
    ) -> bool {
        let bytes = packet.bytes();
        let Some(head) = bytes.first_chunk() else { return false };
        let Some(usual) = Usual::read(head, bytes.len()) else { return false };
        if !addressed_to.has(head) || !packet.is_whole() {
            return false;
        }
        let (steady, total_len) = (steady(&usual), usual.total_len);
        let same_ends = std::mem::replace(addresses, usual.addresses) == usual.addresses;
        if same_ends
            && let Some(before) = lanes.get(at.wrapping_sub(1))
            && before.leads(&usual, steady)
        {
            lanes[at] = Lane { total_len, follows: true, ..*before };
            return true;
        }
        let hash = self.tables.ipv4().hash_usual(&usual);
        self.tables.ipv4().prefetch_bucket(hash);
        let Usual { addresses, ports, .. } = usual;
        lanes[at] = Lane { addresses, hash, ports, guess: Guess::NONE, total_len, steady, follows: false };
        true
    }

    /// Decides about usual packets, and others of IPv4, which `flows` names, in the order in which they came. `lanes[i]`
    /// is of `packets[i]`, and so is `flows[i]`.
    #[inline(never)]
    #[allow(clippy::too_many_arguments)] // called in two places
    pub(super) fn decide_ipv4<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        from_port: bool,
        flows: Option<&Flows>,
        lanes: &mut [Lane; MAX_BURST],
        packets: &mut [P],
        verdicts: &mut [Verdict; MAX_BURST],
    ) {
        let table = self.tables.ipv4();
        let lanes = &mut lanes[..packets.len().min(MAX_BURST)];
        let mut guess = Guess::NONE;
        for lane in lanes.iter_mut() {
            if !lane.follows {
                guess = table.prefetch_connection(lane.hash);
            }
            lane.guess = guess;
        }
        table.touch(lanes.iter().map(|lane| lane.guess));
        let mut at = 0;
        loop {
            at += self.forward_usual(snapshot, now, &lanes[at..], &mut packets[at..], &mut verdicts[at..]);
            if lanes.get(at).is_some_and(|lane| lane.follows) {
                let (packets, verdicts) = (&mut packets[at..], &mut verdicts[at..]);
                match self.forward_train(snapshot, now, &lanes[at..], packets, verdicts) {
                    0 => {}
                    sent => {
                        at += sent;
                        continue;
                    }
                }
            }
            let (Some(lane), Some(packet)) = (lanes.get(at), packets.get_mut(at)) else { return };
            let decided = match flows.map(|flows| &flows[at]).filter(|flow| !flow.is_usual) {
                None => Some(self.connect_usual(snapshot, now, from_port, lane, packet)),
                Some(flow) if flow.goes_on => Some(self.connect(snapshot, now, flow, packet)),
                Some(_) => None,
            };
            if let Some(decided) = decided {
                self.decide(&mut verdicts[at], decided);
            }
            at += 1;
        }
    }

    /// Sends packets on until one wants more than that, or follows the one before. Returns how many went.
    #[inline(always)]
    fn forward_usual<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        lanes: &[Lane],
        packets: &mut [P],
        verdicts: &mut [Verdict],
    ) -> usize {
        let mut ways = self.ways(snapshot, now);
        let mut sent = 0;
        for alone in lanes.iter().zip(packets.iter_mut().zip(verdicts)) {
            if alone.0.follows || ways.forward(alone).is_none() {
                break;
            }
            sent += 1;
        }
        sent
    }

    /// Sends a packet on, and those that follow it. Returns how many went.
    #[inline(never)]
    fn forward_train<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        lanes: &[Lane],
        packets: &mut [P],
        verdicts: &mut [Verdict],
    ) -> usize {
        let train = Train::new(lanes, packets, verdicts);
        train.and_then(|train| self.ways(snapshot, now).forward(train)).unwrap_or(0)
    }

    #[inline(always)]
    fn ways<'a>(&'a mut self, snapshot: &'a Snapshot, now: Tick) -> Ways<'a> {
        Ways {
            snapshot,
            now,
            table: self.tables.ipv4_mut(),
            counters: &self.counters,
            last_id: &mut self.next_id,
            lcores: self.lcores.into(),
        }
    }

    /// The way of all packets, for a usual one.
    #[inline(never)]
    fn connect_usual<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        from_port: bool,
        lane: &Lane,
        packet: &mut P,
    ) -> Verdict {
        let Lane { hash, guess, .. } = *lane;
        let mut flow = Flow { from_port, goes_on: true, hash, guess, ..Flow::NONE };
        // It was read before.
        let _ = wire::parse(packet.bytes(), &mut flow.frame);
        self.connect(snapshot, now, &flow, packet)
    }
}

/// The number of the state in which a packet leaves a connection as it is.
#[inline(always)]
fn steady(usual: &Usual) -> u8 {
    const TELLING: u8 = tcp::FIN | tcp::SYN | tcp::RST | tcp::ACK;
    match usual.protocol {
        ipv4::TCP if usual.tcp_flags & TELLING == tcp::ACK => State::Established as u8,
        ipv4::TCP => MOVES,
        _ => State::Udp as u8,
    }
}
