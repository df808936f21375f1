//! A burst: up to 32 packets, owned, in a fixed array.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::{Deref, DerefMut};

use super::mbuf::Mbuf;

/// Packets in a burst.
pub const BURST: usize = 32;

/// Up to [`BURST`] packets, without an allocation. A slice of them for everything that reads or rewrites
/// them. What is in it when it is dropped or cleared goes back to its pool, at once.
pub struct Burst {
    /// The first `len` are initialised.
    mbufs: [MaybeUninit<Mbuf>; BURST],
    len: usize,
}

impl Burst {
    /// An empty one.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Self { mbufs: [const { MaybeUninit::uninit() }; BURST], len: 0 }
    }

    /// Whether no more fits in.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len == BURST
    }

    /// Adds a packet at the end, or returns it where the burst is full.
    ///
    /// # Errors
    /// The packet, where [`Burst::is_full`].
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        match self.mbufs.get_mut(self.len) {
            Some(slot) => {
                slot.write(mbuf);
                self.len += 1;
                Ok(())
            }
            None => Err(mbuf),
        }
    }

    /// Takes all packets out, in order. Those that the iterator did not yield when it is dropped are freed.
    #[inline]
    pub fn drain(&mut self) -> Drain<'_> {
        let end = std::mem::take(&mut self.len);
        Drain { burst: self, next: 0, end }
    }

    /// Frees all packets, in one call.
    #[inline]
    pub fn clear(&mut self) {
        let len = std::mem::take(&mut self.len);
        free(&mut self.mbufs[..len]);
    }

    /// The free slots at the end, as DPDK fills them.
    #[inline]
    pub(super) fn vacant(&mut self) -> &mut [MaybeUninit<Mbuf>] {
        &mut self.mbufs[self.len..]
    }

    /// Counts `n` more as initialised.
    ///
    /// # Safety
    /// The first `n` of [`Burst::vacant`] were filled with mbufs that nobody else owns.
    #[inline]
    pub(super) unsafe fn grow(&mut self, n: usize) {
        debug_assert!(n <= BURST - self.len);
        self.len = (self.len + n).min(BURST);
    }

    /// Forgets the first `n`, which DPDK has taken over, and moves the rest to the front.
    ///
    /// # Safety
    /// The first `n` were handed over.
    #[inline]
    pub(super) unsafe fn forget_front(&mut self, n: usize) {
        debug_assert!(n <= self.len);
        let n = n.min(self.len);
        if n < self.len {
            let (front, rest) = (self.mbufs.as_mut_ptr(), self.mbufs[n..self.len].as_ptr());
            // SAFETY: both ranges lie within the array; those overwritten were handed over.
            unsafe { front.copy_from(rest, self.len - n) };
        }
        self.len -= n;
    }
}

/// Frees mbufs in one call.
#[inline]
fn free(mbufs: &mut [MaybeUninit<Mbuf>]) {
    if mbufs.is_empty() {
        return;
    }
    // SAFETY: called with initialised packets only, which are not used again; an `Mbuf` is a pointer to an mbuf.
    unsafe { dpdk_sys::rte_pktmbuf_free_bulk(mbufs.as_mut_ptr().cast(), mbufs.len() as u32) }
}

impl Default for Burst {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Burst {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}

impl Deref for Burst {
    type Target = [Mbuf];

    #[inline]
    fn deref(&self) -> &[Mbuf] {
        // SAFETY: the first `len` are initialised.
        unsafe { std::slice::from_raw_parts(self.mbufs.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Burst {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Mbuf] {
        // SAFETY: the first `len` are initialised.
        unsafe { std::slice::from_raw_parts_mut(self.mbufs.as_mut_ptr().cast(), self.len) }
    }
}

impl Extend<Mbuf> for Burst {
    /// Adds packets while there is room; those beyond are freed.
    fn extend<I: IntoIterator<Item = Mbuf>>(&mut self, mbufs: I) {
        for mbuf in mbufs {
            if let Err(beyond) = self.push(mbuf) {
                drop(beyond);
            }
        }
    }
}

/// See [`Burst::drain`].
pub struct Drain<'a> {
    burst: &'a mut Burst,
    /// From here to `end`, slots are initialised and ours.
    next: usize,
    end: usize,
}

impl Iterator for Drain<'_> {
    type Item = Mbuf;

    #[inline]
    fn next(&mut self) -> Option<Mbuf> {
        if self.next == self.end {
            return None;
        }
        let slot = &self.burst.mbufs[self.next];
        // SAFETY: initialised, and read once: `next` moves on.
        let mbuf = unsafe { slot.assume_init_read() };
        self.next += 1;
        Some(mbuf)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }
}

impl ExactSizeIterator for Drain<'_> {}

impl Drop for Drain<'_> {
    #[inline]
    fn drop(&mut self) {
        free(&mut self.burst.mbufs[self.next..self.end]);
    }
}

/// The packets of a burst as DPDK wants them: pointers to mbufs.
#[inline]
pub(super) fn as_pointers(mbufs: &mut [Mbuf]) -> *mut *mut dpdk_sys::rte_mbuf {
    const { assert!(size_of::<Mbuf>() == size_of::<*mut dpdk_sys::rte_mbuf>()) };
    const { assert!(size_of::<ManuallyDrop<Mbuf>>() == size_of::<Option<Mbuf>>()) };
    mbufs.as_mut_ptr().cast()
}
