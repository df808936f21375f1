//! Packets of chosen flows as they came and as they left, copied by the lcore that decides about them. While no capture
//! runs, all that it costs is to look once in a burst whether one does.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use control::model::ServiceKey;

use super::clock::Nanos;
use super::query::{ConnectionFilter, ConnectionRow};
use crate::connection::{Address, Tables, protocol_number};
use crate::id::PortId;
use crate::nexthop::Vlans;
use crate::packet::PacketBuf;
use crate::pipeline::{Action, Ends, MAX_BURST, Verdict};
use crate::service::Snapshot;
use crate::stats::{Counter, Reason};
use crate::time::Tick;
use crate::wire::vlan::Tags;
use crate::wire::{Frame, Ipv4Frame, Ipv6Frame, Parsed, Transport, parse, parse_ipv6};

/// Bytes of an Ethernet frame in front of its tags.
const ADDRESSES: usize = 12;
/// Bytes of the head of a packet in the ring.
const HEAD: usize = 24;
/// No port.
const NOWHERE: u8 = u8::MAX;

/// What is captured, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Packets of these flows; one without a connection is compared by its addresses.
    pub filter: ConnectionFilter,
    /// At most so many packets on each lcore.
    pub packets: u64,
    /// None from this moment on.
    pub until: Nanos,
    /// So many bytes of each frame.
    pub snaplen: usize,
    /// Room for packets that nobody has read yet, in bytes.
    pub ring: usize,
}

/// What an lcore has counted of a capture.
#[derive(Debug, Default)]
pub struct Tally {
    /// Packets that fitted the filter and were put into the ring.
    pub captured: Counter,
    /// Those for which the ring had no room.
    pub lost: Counter,
}

/// What was looked up about a packet before it was decided about.
#[derive(Clone, Copy, Debug)]
struct Lane {
    /// Whether it may fit the filter; the rest says something only then.
    may_fit: bool,
    /// None where it is no packet of IP.
    ends: Option<Ends>,
    /// Ports are known.
    has_ports: bool,
    connection: Option<ConnectionRow>,
    /// Its copy begins here in the scratch, and is so long.
    at: usize,
    kept: usize,
    /// So long it was.
    len: usize,
}

impl Lane {
    const NONE: Lane =
        Lane { may_fit: false, ends: None, has_ports: false, connection: None, at: 0, kept: 0, len: 0 };
}

/// The lcore's end of a capture. All its memory is taken, and touched, before it comes to the lcore.
#[derive(Debug)]
pub struct Capturer {
    wanted: Wanted,
    left: u64,
    now: Nanos,
    ring: rtrb::Producer<u8>,
    tally: Arc<Tally>,
    /// Packets of a burst as they came.
    scratch: Vec<u8>,
    /// A packet as it leaves, with its tags.
    leaving: Vec<u8>,
    lanes: [Lane; MAX_BURST],
}

/// The control thread's end.
#[derive(Debug)]
pub struct Captured {
    ring: rtrb::Consumer<u8>,
    /// What was counted.
    pub tally: Arc<Tally>,
}

/// A frame, or its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedFrame {
    /// The port by which it came or left.
    pub port: PortId,
    /// Its whole length.
    pub len: u32,
    /// Its first bytes.
    pub bytes: Vec<u8>,
}

/// A packet that was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedPacket {
    /// When the turn of the loop began in which it was decided about.
    pub at: Nanos,
    /// Why it was decided about so.
    pub reason: Reason,
    /// How it came.
    pub came: CapturedFrame,
    /// How it left, unless it was dropped, punted, or waits, or left in pieces.
    pub left: Option<CapturedFrame>,
}

/// Both ends of a capture on one lcore.
pub fn capture(wanted: &Wanted) -> (Box<Capturer>, Captured) {
    let (mut ring, mut read) = rtrb::RingBuffer::new(wanted.ring);
    // Each page is written to now, so that the kernel has nothing to do for the lcore when it is first used.
    if let Ok(chunk) = ring.write_chunk_uninit(wanted.ring) {
        chunk.fill_from_iter(std::iter::repeat(0));
    }
    if let Ok(chunk) = read.read_chunk(wanted.ring) {
        chunk.commit_all();
    }
    let mut scratch = vec![1; MAX_BURST * wanted.snaplen];
    scratch.clear();
    let mut leaving = vec![1; wanted.snaplen];
    leaving.clear();
    let tally = Arc::new(Tally::default());
    let capturer = Capturer {
        wanted: *wanted,
        left: wanted.packets,
        now: Nanos(0),
        ring,
        tally: tally.clone(),
        scratch,
        leaving,
        lanes: [Lane::NONE; MAX_BURST],
    };
    (Box::new(capturer), Captured { ring: read, tally })
}

impl Capturer {
    /// A turn of the loop begins.
    pub(super) fn turn(&mut self, now: Nanos) {
        self.now = now;
    }

    /// Copies packets that may fit the filter, before they are decided about.
    #[cold]
    #[inline(never)]
    pub(super) fn before<P: PacketBuf>(
        &mut self,
        tables: &Tables,
        snapshot: &Snapshot,
        now: Tick,
        burst: &[P],
    ) {
        self.scratch.clear();
        let goes_on = self.left > 0 && self.now < self.wanted.until && !self.ring.is_abandoned();
        for (lane, packet) in self.lanes.iter_mut().zip(burst) {
            *lane = Lane::NONE;
            if !goes_on {
                continue;
            }
            let bytes = packet.bytes();
            if let Some((ends, has_ports)) = ends_of(bytes) {
                (lane.ends, lane.has_ports) = (Some(ends), has_ports);
                lane.connection = connection(tables, snapshot, now, &ends);
            }
            lane.may_fit = may_fit(&self.wanted.filter, lane.ends.as_ref());
            if lane.may_fit {
                let tags = packet.tags();
                lane.at = self.scratch.len();
                lane.kept = copy(&mut self.scratch, bytes, tags, self.wanted.snaplen);
                lane.len = bytes.len() + tags.bytes();
            }
        }
    }

    /// Puts those that fit the filter into the ring, now that they are decided about.
    #[cold]
    #[inline(never)]
    pub(super) fn after<P: PacketBuf>(
        &mut self,
        tables: &Tables,
        snapshot: &Snapshot,
        now: Tick,
        (burst, verdicts): (&[P], &[Verdict]),
        port_of: impl Fn(usize) -> PortId,
    ) {
        for (at, (packet, verdict)) in burst.iter().zip(verdicts).enumerate() {
            let lane = self.lanes[at];
            // The lcore that owns it, or the turn in which it waits no longer, captures it.
            let is_decided = !matches!(verdict.action, Action::HandOver(_) | Action::Gather(_));
            if lane.may_fit && is_decided && self.left > 0 && self.fits(tables, snapshot, now, &lane) {
                self.put(&lane, packet, *verdict, port_of(at), snapshot.hops.vlans());
            }
        }
    }

    /// Whether it fits, by its connection: the one that it has opened, else the one that it may have ended.
    fn fits(&self, tables: &Tables, snapshot: &Snapshot, now: Tick, lane: &Lane) -> bool {
        let filter = &self.wanted.filter;
        let Some(ends) = &lane.ends else { return true };
        match connection(tables, snapshot, now, ends).or(lane.connection) {
            Some(connection) => filter.matches(&connection),
            None => fits_alone(filter, ends, lane.has_ports),
        }
    }

    fn put<P: PacketBuf>(&mut self, lane: &Lane, packet: &P, verdict: Verdict, port: PortId, vlans: &Vlans) {
        let came = &self.scratch[lane.at..lane.at + lane.kept];
        self.leaving.clear();
        let (mut out, mut out_len) = (NOWHERE, 0);
        if let Action::Forward(way) = verdict.action {
            let vlan = vlans.get(way);
            let tags = vlan.map_or(Tags::NONE, |vlan| vlan.tags);
            out = vlan.map_or(way, |vlan| vlan.port).0;
            out_len = packet.bytes().len() + tags.bytes();
            copy(&mut self.leaving, packet.bytes(), tags, self.wanted.snaplen);
        }
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&self.now.0.to_le_bytes());
        head[8..12].copy_from_slice(&(lane.len as u32).to_le_bytes());
        head[12..16].copy_from_slice(&(out_len as u32).to_le_bytes());
        // A snaplen is no longer than 16 bits can tell.
        head[16..18].copy_from_slice(&(came.len() as u16).to_le_bytes());
        head[18..20].copy_from_slice(&(self.leaving.len() as u16).to_le_bytes());
        head[20..23].copy_from_slice(&[verdict.reason as u8, port.0, out]);
        if self.ring.slots() < HEAD + came.len() + self.leaving.len() {
            self.tally.lost.add(1);
            return;
        }
        let mut parts = [&head[..], came, &self.leaving].into_iter().flatten().copied();
        let len = HEAD + came.len() + self.leaving.len();
        if let Ok(chunk) = self.ring.write_chunk_uninit(len) {
            // All of it at once: whoever reads never finds half a packet.
            chunk.fill_from_iter(&mut parts);
        }
        self.left -= 1;
        self.tally.captured.add(1);
    }
}

impl Captured {
    /// Nothing is left to read.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// The next packet, if there is one.
    pub fn pop(&mut self) -> Option<CapturedPacket> {
        let mut head = [0; HEAD];
        self.ring.pop_entire_slice(&mut head).ok()?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let short = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
        let at = Nanos(u64::from(word(0)) | u64::from(word(4)) << 32);
        let mut bytes = |len: usize| {
            let mut bytes = vec![0; len];
            self.ring.pop_entire_slice(&mut bytes).ok().map(|()| bytes)
        };
        let came = CapturedFrame { port: PortId(head[21]), len: word(8), bytes: bytes(short(16))? };
        let left = bytes(short(18))?;
        let left = (head[22] != NOWHERE).then(|| CapturedFrame {
            port: PortId(head[22]),
            len: word(12),
            bytes: left,
        });
        let reason = *Reason::ALL.get(usize::from(head[20]))?;
        Some(CapturedPacket { at, reason, came, left })
    }
}

/// Copies the beginning of a frame, with tags that stand outside of it put where they belong. Returns how much it is.
fn copy(into: &mut Vec<u8>, bytes: &[u8], tags: Tags, snaplen: usize) -> usize {
    let before = into.len();
    let end = before + snaplen;
    let mut add = |part: &[u8]| {
        let room = end - into.len();
        into.extend_from_slice(&part[..part.len().min(room)]);
    };
    let (addresses, rest) = bytes.split_at(bytes.len().min(ADDRESSES));
    add(addresses);
    for tag in tags.as_slice() {
        add(&tag.tpid.to_be_bytes());
        add(&tag.tci.to_be_bytes());
    }
    add(rest);
    into.len() - before
}

/// The ends of a packet of IP, and whether its ports are known: a later fragment has none.
fn ends_of(bytes: &[u8]) -> Option<(Ends, bool)> {
    let mut frame = Ipv4Frame::NONE;
    match parse(bytes, &mut frame).ok()? {
        Parsed::Ipv4 => Some(ends_in(&frame)),
        Parsed::Ipv6 => {
            let mut frame = Ipv6Frame::NONE;
            parse_ipv6(bytes, &mut frame).ok().map(|()| ends_in(&frame))
        }
        Parsed::Other => None,
    }
}

fn ends_in<A: Address>(frame: &Frame<A>) -> (Ends, bool) {
    let ends = Ends {
        source: SocketAddr::new(frame.source.into(), frame.source_port()),
        destination: SocketAddr::new(frame.destination.into(), frame.destination_port()),
        protocol: frame.protocol,
    };
    (ends, frame.transport != Transport::LaterFragment)
}

/// The connection of a packet, whichever way that goes.
fn connection(tables: &Tables, snapshot: &Snapshot, now: Tick, ends: &Ends) -> Option<ConnectionRow> {
    fn find<A: Address>(
        tables: &Tables,
        snapshot: &Snapshot,
        now: Tick,
        ends: &Ends,
    ) -> Option<ConnectionRow> {
        let (table, key) = (A::table(tables), ends.key::<A>()?);
        let hash = table.hash(&key);
        let (id, _) = table.find(hash, &key, table.prefetch_connection(hash))?;
        Some(ConnectionRow::of(table.get(id), snapshot, now))
    }
    match ends.source {
        SocketAddr::V4(_) => find::<Ipv4Addr>(tables, snapshot, now, ends),
        SocketAddr::V6(_) => find::<Ipv6Addr>(tables, snapshot, now, ends),
    }
}

/// Whether a packet may fit, by what it says itself.
fn may_fit(filter: &ConnectionFilter, ends: Option<&Ends>) -> bool {
    let Some(ends) = ends else { return filter.is_empty() };
    let is_end = |ip| ip == ends.source.ip() || ip == ends.destination.ip();
    filter.protocol.is_none_or(|protocol| protocol == ends.protocol) && filter.client.is_none_or(is_end)
}

/// Whether a packet fits that may, but has no connection, and no ports perhaps.
fn fits_alone(filter: &ConnectionFilter, ends: &Ends, has_ports: bool) -> bool {
    let is = |end: SocketAddr, wanted: SocketAddr| {
        end.ip() == wanted.ip() && (end.port() == wanted.port() || wanted.port() == 0 || !has_ports)
    };
    let is_to = |service: ServiceKey| match service {
        ServiceKey::Address { protocol, address } => {
            protocol_number(protocol) == ends.protocol && is(ends.destination, address)
        }
        ServiceKey::Mark { .. } => false,
    };
    filter.service.is_none_or(is_to)
        && filter.server.is_none_or(|server| is(ends.source, server) || is(ends.destination, server))
}
