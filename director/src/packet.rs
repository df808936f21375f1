//! What the core needs of a packet, whatever holds it: a DPDK mbuf, a test vector, a fuzzer's input.

use crate::wire::vlan::Tags;

/// A whole Ethernet frame in one contiguous piece of memory, with room in front for encapsulation.
pub trait PacketBuf {
    /// The frame, from the destination MAC to its last byte (no FCS).
    fn bytes(&self) -> &[u8];

    /// The frame, to be rewritten in place.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Makes the frame `n` bytes longer at its front; the new bytes hold anything.
    /// False, and nothing changed, where there is no room for that.
    #[must_use]
    fn prepend(&mut self, n: usize) -> bool;

    /// Cuts `n` bytes off the frame's front; all of them where there are no more.
    fn trim_front(&mut self, n: usize);

    /// Cuts the frame to its first `len` bytes. A `len` not below its length changes nothing.
    fn truncate(&mut self, len: usize);

    /// Makes the frame begin `n` bytes earlier, and cuts it to its first `len` bytes then: [`PacketBuf::prepend`] and
    /// [`PacketBuf::truncate`] in one. False, and nothing changed, where there is no room for that, or the frame is in
    /// pieces.
    #[must_use]
    #[inline(always)]
    fn reframe(&mut self, n: usize, len: usize) -> bool {
        let has_room = self.is_whole() && self.prepend(n);
        if has_room {
            self.truncate(len);
        }
        has_room
    }

    /// Another packet of exactly `len` bytes of any content, from where this one came from; `None` where that has none
    /// left, or none so long.
    #[must_use]
    fn sibling(&self, len: usize) -> Option<Self>
    where
        Self: Sized;

    /// What [`PacketBuf::set_note`] wrote last; anything before.
    fn note(&self) -> u32;

    /// Keeps a number beside the frame, for whoever gets the packet next.
    fn set_note(&mut self, note: u32);

    /// What [`PacketBuf::set_ingress`] wrote last; anything before.
    fn ingress(&self) -> u8;

    /// Keeps beside the frame which of the director's ports received it.
    fn set_ingress(&mut self, port: u8);

    /// VLAN tags that the frame came with and that were taken out of it, by the NIC or by [`PacketBuf::set_tags`]'s
    /// caller.
    fn tags(&self) -> Tags;

    /// Keeps VLAN tags beside the frame, for whoever gets the packet next.
    fn set_tags(&mut self, tags: Tags);

    /// Frees packets, at once where that is cheaper than one by one. Leaves the vector empty, with its room.
    #[inline]
    fn free(packets: &mut Vec<Self>)
    where
        Self: Sized,
    {
        packets.clear();
    }

    /// False where [`PacketBuf::bytes`] is only the first part of the frame.
    #[inline]
    fn is_whole(&self) -> bool {
        true
    }
}

/// Where the slow path gets packets to fill from.
pub trait PacketPool {
    /// What it gives.
    type Packet: PacketBuf;

    /// A packet of exactly `len` bytes of any content, or `None` where the pool is empty or `len`
    /// is more than one of its packets holds.
    fn alloc(&mut self, len: usize) -> Option<Self::Packet>;
}

/// A packet in ordinary memory: for tests, fuzzers and whoever drives the core without DPDK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BytesPacket {
    buffer: Vec<u8>,
    start: usize,
    note: u32,
    ingress: u8,
    tags: Tags,
}

impl BytesPacket {
    /// Room in front, as much as DPDK's mbufs have, in bytes.
    pub const HEADROOM: usize = 128;

    /// A packet that holds this frame, with [`Self::HEADROOM`] in front.
    pub fn new(frame: &[u8]) -> BytesPacket {
        BytesPacket::with_headroom(frame, Self::HEADROOM)
    }

    /// As [`BytesPacket::new`], with `headroom` bytes in front.
    pub fn with_headroom(frame: &[u8], headroom: usize) -> BytesPacket {
        let mut buffer = vec![0; headroom];
        buffer.extend_from_slice(frame);
        BytesPacket { buffer, start: headroom, note: 0, ingress: 0, tags: Tags::NONE }
    }
}

impl PacketBuf for BytesPacket {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..]
    }

    fn prepend(&mut self, n: usize) -> bool {
        let room = n <= self.start;
        if room {
            self.start -= n;
        }
        room
    }

    fn sibling(&self, len: usize) -> Option<BytesPacket> {
        Some(BytesPacket::new(&vec![0; len]))
    }

    fn note(&self) -> u32 {
        self.note
    }

    fn set_note(&mut self, note: u32) {
        self.note = note;
    }

    fn ingress(&self) -> u8 {
        self.ingress
    }

    fn set_ingress(&mut self, port: u8) {
        self.ingress = port;
    }

    fn tags(&self) -> Tags {
        self.tags
    }

    fn set_tags(&mut self, tags: Tags) {
        self.tags = tags;
    }

    fn trim_front(&mut self, n: usize) {
        self.start = self.buffer.len().min(self.start + n);
    }

    fn truncate(&mut self, len: usize) {
        self.buffer.truncate(self.start + len);
    }
}
