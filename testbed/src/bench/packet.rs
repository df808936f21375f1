//! A packet that is stamped anew without an allocation: for what is measured or counted without DPDK.

use director::packet::PacketBuf;
use director::wire::vlan::Tags;

use super::flows::{MAX_FRAME, Templates};

/// Room in front, as much as DPDK's mbufs have, in bytes.
const HEADROOM: usize = 128;

/// A frame in a buffer of its own.
#[derive(Clone, Debug)]
pub struct FixedPacket {
    buffer: [u8; HEADROOM + MAX_FRAME],
    start: usize,
    end: usize,
}

impl FixedPacket {
    /// One that holds nothing of use.
    pub const NEW: FixedPacket =
        FixedPacket { buffer: [0; HEADROOM + MAX_FRAME], start: HEADROOM, end: HEADROOM + MAX_FRAME };

    /// Makes it the frame of connection `n`.
    #[inline]
    pub fn stamp(&mut self, templates: &Templates, n: u32) {
        self.start = HEADROOM;
        self.end = HEADROOM + templates.frame_len();
        templates.stamp(n, &mut self.buffer[HEADROOM..self.end]);
    }
}

impl PacketBuf for FixedPacket {
    #[inline(always)]
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Nobody here sends packets that are too long.
    fn sibling(&self, _: usize) -> Option<FixedPacket> {
        None
    }

    fn note(&self) -> u32 {
        0
    }

    /// Nobody here sends fragments.
    fn set_note(&mut self, _: u32) {}

    #[inline(always)]
    fn prepend(&mut self, n: usize) -> bool {
        let room = n <= self.start;
        if room {
            self.start -= n;
        }
        room
    }

    fn ingress(&self) -> u8 {
        0
    }

    /// Nobody here asks for it.
    fn set_ingress(&mut self, _: u8) {}

    fn tags(&self) -> Tags {
        Tags::NONE
    }

    /// Nobody here sends tagged frames.
    fn set_tags(&mut self, _: Tags) {}

    fn trim_front(&mut self, n: usize) {
        self.start = self.end.min(self.start + n);
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}
