//! The packet: an owned mbuf. Its fields are read and written here without a call into C.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use dpdk_sys::rte_mbuf;

use crate::packet::PacketBuf;
use crate::wire::vlan::{CUSTOMER, SERVICE, Tag, Tags};

/// Room in front of a received frame, in bytes: enough for an outer IPv6 header.
pub const HEADROOM: u16 = dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;

/// Flags of frames whose VLAN tag was taken off: the only one, or the inner one of two.
const TAG_OFF: u64 = dpdk_sys::DPDK_SYS_RX_VLAN | dpdk_sys::DPDK_SYS_RX_VLAN_STRIPPED;
/// Flags of frames whose outer VLAN tag was taken off.
const OUTER_TAG_OFF: u64 = dpdk_sys::DPDK_SYS_RX_QINQ | dpdk_sys::DPDK_SYS_RX_QINQ_STRIPPED;

/// A packet of DPDK, owned: given back to its pool when dropped.
///
/// Invariant: a valid mbuf whose data lie within its buffer (`data_off + data_len <= buf_len`), referred to by
/// nobody else.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// Bursts go to DPDK as arrays of pointers to mbufs.
const _: () = assert!(size_of::<Mbuf>() == size_of::<*mut rte_mbuf>());

// SAFETY: nobody else refers to the mbuf, and pools take mbufs back from any thread.
unsafe impl Send for Mbuf {}
// SAFETY: shared access reads only.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// Takes ownership of a pointer that DPDK gave or [`Mbuf::into_raw`] returned.
    ///
    /// # Safety
    /// A valid mbuf whose data lie within its buffer, with one reference which is handed over.
    #[inline]
    #[must_use]
    pub unsafe fn from_raw(mbuf: NonNull<rte_mbuf>) -> Self {
        Self(mbuf)
    }

    /// Gives up ownership: the caller must free the mbuf or hand it on.
    #[inline]
    #[must_use]
    pub fn into_raw(self) -> NonNull<rte_mbuf> {
        ManuallyDrop::new(self).0
    }

    /// Address of a field.
    #[inline]
    fn at<T>(&self, offset: u32) -> *mut T {
        // SAFETY: the offset of a field, hence within the mbuf.
        unsafe { self.0.as_ptr().byte_add(offset as usize).cast() }
    }

    #[inline]
    fn get<T: Copy>(&self, offset: u32) -> T {
        // SAFETY: a field of this type (tests/abi.rs compares offsets and widths) of a valid mbuf.
        unsafe { self.at::<T>(offset).read() }
    }

    #[inline]
    fn set<T: Copy>(&mut self, offset: u32, value: T) {
        // SAFETY: as for `get`, and nobody else refers to the mbuf.
        unsafe { self.at::<T>(offset).write(value) }
    }

    #[inline]
    fn data_off(&self) -> u16 {
        self.get(dpdk_sys::DPDK_SYS_MBUF_DATA_OFF)
    }

    #[inline]
    fn data_len(&self) -> u16 {
        self.get(dpdk_sys::DPDK_SYS_MBUF_DATA_LEN)
    }

    #[inline]
    fn data(&self) -> *mut u8 {
        let buffer: *mut u8 = self.get(dpdk_sys::DPDK_SYS_MBUF_BUF_ADDR);
        // SAFETY: data begin within the buffer.
        unsafe { buffer.add(usize::from(self.data_off())) }
    }

    /// Length of the frame in its first segment, in bytes: all of it where the mbuf is contiguous.
    #[inline]
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // nobody asks that of a frame
    pub fn len(&self) -> usize {
        usize::from(self.data_len())
    }

    /// Whether the frame is in one piece. Where it is not, [`PacketBuf::bytes`] holds but its beginning:
    /// the pool's mbufs are too small for the port's MTU, and the frame is best dropped, by that name.
    #[inline]
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        self.get::<u16>(dpdk_sys::DPDK_SYS_MBUF_NB_SEGS) == 1
    }

    /// Bytes free in front of the frame.
    #[inline]
    #[must_use]
    pub fn headroom(&self) -> usize {
        usize::from(self.data_off())
    }

    /// Bytes free behind the frame.
    #[inline]
    #[must_use]
    pub fn tailroom(&self) -> usize {
        let end = self.headroom() + self.len();
        usize::from(self.get::<u16>(dpdk_sys::DPDK_SYS_MBUF_BUF_LEN)).saturating_sub(end)
    }

    /// Sets the length of a fresh mbuf: contiguous, and `len` fits behind its headroom.
    #[inline]
    pub(super) fn set_len(&mut self, len: u16) {
        debug_assert!(self.is_contiguous() && self.len() + self.tailroom() >= usize::from(len));
        self.set(dpdk_sys::DPDK_SYS_MBUF_DATA_LEN, len);
        self.set(dpdk_sys::DPDK_SYS_MBUF_PKT_LEN, u32::from(len));
    }

    /// The VLAN tags that `flags` tell of. Which kinds they are stands where [`PacketBuf::set_tags`] wrote it; a NIC does
    /// not say, and means the kinds of IEEE 802.1ad where there are two, else that of IEEE 802.1Q.
    #[cold]
    fn tags_off(&self, flags: u64) -> Tags {
        let kinds: u32 = self.get(dpdk_sys::DPDK_SYS_MBUF_PACKET_TYPE);
        let kind = |kind: u32, otherwise| match kind as u16 {
            written @ (CUSTOMER | SERVICE) => written,
            _ => otherwise,
        };
        let mut tags = Tags::NONE;
        if flags & dpdk_sys::DPDK_SYS_RX_QINQ_STRIPPED != 0 {
            let tci = self.get(dpdk_sys::DPDK_SYS_MBUF_VLAN_TCI_OUTER);
            let _ = tags.push(Tag { tpid: kind(kinds >> 16, SERVICE), tci });
        }
        if flags & dpdk_sys::DPDK_SYS_RX_VLAN_STRIPPED != 0 {
            let tci = self.get(dpdk_sys::DPDK_SYS_MBUF_VLAN_TCI);
            let _ = tags.push(Tag { tpid: kind(kinds, CUSTOMER), tci });
        }
        tags
    }

    /// Frees the segments behind the first.
    #[cold]
    fn cut_to_first_segment(&mut self) {
        let rest: *mut rte_mbuf = self.get(dpdk_sys::DPDK_SYS_MBUF_NEXT);
        self.set(dpdk_sys::DPDK_SYS_MBUF_NEXT, std::ptr::null_mut::<rte_mbuf>());
        self.set(dpdk_sys::DPDK_SYS_MBUF_NB_SEGS, 1u16);
        if !rest.is_null() {
            // SAFETY: the chain belonged to this mbuf, which no longer refers to it.
            unsafe { dpdk_sys::dpdk_sys_pktmbuf_free(rest) }
        }
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: owned, and not used again.
        unsafe { dpdk_sys::dpdk_sys_pktmbuf_free(self.0.as_ptr()) }
    }
}

impl PacketBuf for Mbuf {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: data lie within the buffer, which is initialised memory of the pool.
        unsafe { std::slice::from_raw_parts(self.data(), self.len()) }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`, and nobody else refers to the mbuf.
        unsafe { std::slice::from_raw_parts_mut(self.data(), self.len()) }
    }

    #[inline]
    fn prepend(&mut self, n: usize) -> bool {
        let Ok(n) = u16::try_from(n) else { return false };
        let (Some(data_off), Some(data_len)) =
            (self.data_off().checked_sub(n), self.data_len().checked_add(n))
        else {
            return false;
        };
        let pkt_len: u32 = self.get(dpdk_sys::DPDK_SYS_MBUF_PKT_LEN);
        self.set(dpdk_sys::DPDK_SYS_MBUF_DATA_OFF, data_off);
        self.set(dpdk_sys::DPDK_SYS_MBUF_DATA_LEN, data_len);
        self.set(dpdk_sys::DPDK_SYS_MBUF_PKT_LEN, pkt_len.wrapping_add(u32::from(n)));
        true
    }

    #[inline(always)]
    fn reframe(&mut self, n: usize, len: usize) -> bool {
        let (Some(data_off), true) = (usize::from(self.data_off()).checked_sub(n), self.is_contiguous())
        else {
            return false;
        };
        // No more than the buffer's own length, which has 16 bits: `n` bytes of it are in front.
        let len = len.min(self.len() + n) as u16;
        self.set(dpdk_sys::DPDK_SYS_MBUF_DATA_OFF, data_off as u16);
        self.set(dpdk_sys::DPDK_SYS_MBUF_DATA_LEN, len);
        self.set(dpdk_sys::DPDK_SYS_MBUF_PKT_LEN, u32::from(len));
        true
    }

    #[inline]
    fn trim_front(&mut self, n: usize) {
        let n = n.min(self.len()) as u16;
        let pkt_len: u32 = self.get(dpdk_sys::DPDK_SYS_MBUF_PKT_LEN);
        self.set(dpdk_sys::DPDK_SYS_MBUF_DATA_OFF, self.data_off() + n);
        self.set(dpdk_sys::DPDK_SYS_MBUF_DATA_LEN, self.data_len() - n);
        self.set(dpdk_sys::DPDK_SYS_MBUF_PKT_LEN, pkt_len.wrapping_sub(u32::from(n)));
    }

    #[inline]
    fn ingress(&self) -> u8 {
        self.get::<u16>(dpdk_sys::DPDK_SYS_MBUF_PORT) as u8
    }

    /// In the place of DPDK's number, which not every device writes.
    #[inline]
    fn set_ingress(&mut self, port: u8) {
        self.set(dpdk_sys::DPDK_SYS_MBUF_PORT, u16::from(port));
    }

    #[inline]
    fn tags(&self) -> Tags {
        let flags: u64 = self.get(dpdk_sys::DPDK_SYS_MBUF_OL_FLAGS);
        if flags & (dpdk_sys::DPDK_SYS_RX_VLAN_STRIPPED | dpdk_sys::DPDK_SYS_RX_QINQ_STRIPPED) == 0 {
            return Tags::NONE;
        }
        self.tags_off(flags)
    }

    fn set_tags(&mut self, tags: Tags) {
        let mut flags: u64 = self.get(dpdk_sys::DPDK_SYS_MBUF_OL_FLAGS);
        flags &= !(TAG_OFF | OUTER_TAG_OFF);
        let mut tags = tags.as_slice().iter().rev();
        if let Some(tag) = tags.next() {
            flags |= TAG_OFF;
            self.set(dpdk_sys::DPDK_SYS_MBUF_VLAN_TCI, tag.tci);
            let mut kinds = u32::from(tag.tpid);
            if let Some(outer) = tags.next() {
                flags |= OUTER_TAG_OFF;
                self.set(dpdk_sys::DPDK_SYS_MBUF_VLAN_TCI_OUTER, outer.tci);
                kinds |= u32::from(outer.tpid) << 16;
            }
            // What a driver says of the packet's type, nobody here asks for.
            self.set(dpdk_sys::DPDK_SYS_MBUF_PACKET_TYPE, kinds);
        }
        self.set(dpdk_sys::DPDK_SYS_MBUF_OL_FLAGS, flags);
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        let Ok(len) = u16::try_from(len) else { return };
        if len >= self.data_len() {
            return;
        }
        if !self.is_contiguous() {
            self.cut_to_first_segment();
        }
        self.set(dpdk_sys::DPDK_SYS_MBUF_DATA_LEN, len);
        self.set(dpdk_sys::DPDK_SYS_MBUF_PKT_LEN, u32::from(len));
    }

    fn sibling(&self, len: usize) -> Option<Mbuf> {
        let len = u16::try_from(len).ok()?;
        let pool: *mut dpdk_sys::rte_mempool = self.get(dpdk_sys::DPDK_SYS_MBUF_POOL);
        // SAFETY: the pool lives as long as a packet of it is out.
        let mbuf = NonNull::new(unsafe { dpdk_sys::dpdk_sys_pktmbuf_alloc(pool) })?;
        // SAFETY: fresh from the pool, and ours.
        let mut mbuf = unsafe { Mbuf::from_raw(mbuf) };
        if mbuf.tailroom() < usize::from(len) {
            return None;
        }
        mbuf.set_len(len);
        Some(mbuf)
    }

    // What a NIC hashed, nobody here asks for.
    #[inline]
    fn note(&self) -> u32 {
        self.get(dpdk_sys::DPDK_SYS_MBUF_RSS_HASH)
    }

    #[inline]
    fn set_note(&mut self, note: u32) {
        self.set(dpdk_sys::DPDK_SYS_MBUF_RSS_HASH, note);
    }

    #[inline]
    fn free(packets: &mut Vec<Mbuf>) {
        let count = packets.len();
        if count == 0 {
            return;
        }
        // SAFETY: none is left to the vector, so that it does not drop them.
        unsafe { packets.set_len(0) };
        // SAFETY: as many pointers to mbufs, owned and not used again, still stand in the allocation.
        unsafe { dpdk_sys::rte_pktmbuf_free_bulk(packets.as_mut_ptr().cast(), count as u32) }
    }

    #[inline]
    fn is_whole(&self) -> bool {
        self.is_contiguous()
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.len())
            .field("headroom", &self.headroom())
            .finish_non_exhaustive()
    }
}
