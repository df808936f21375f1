//! Fixed memory, taken once at start: from hugepages when there are any, else from ordinary pages
//! that the kernel is asked to back by huge ones.
#![allow(unsafe_code)]

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Size of the hugepages that are tried, in bytes (the default one on x86-64 and most of arm64).
const HUGEPAGE: usize = 2 << 20;

/// A slice of plain values in memory of its own. Never grows; every page is touched at start, so
/// that the data path meets no page fault.
pub struct Arena<T: Copy> {
    start: NonNull<T>,
    len: usize,
    mapped: usize,
    huge: bool,
}

impl<T: Copy> Arena<T> {
    /// Maps room for `len` values and writes `value` into each. With `hugepages` those are tried
    /// first, silently falling back to ordinary pages.
    ///
    /// # Errors
    /// What the kernel says when there is not enough memory.
    pub fn filled(len: usize, value: T, hugepages: bool) -> io::Result<Arena<T>> {
        assert!(align_of::<T>() <= 4096, "alignment is given by the page");
        let bytes = len
            .checked_mul(size_of::<T>())
            .and_then(|bytes| bytes.max(1).checked_next_multiple_of(HUGEPAGE))
            .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let with_hugepages = if hugepages {
            let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::POPULATE;
            // SAFETY: an anonymous mapping at an address of the kernel's choice aliases nothing.
            unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, flags) }.ok()
        } else {
            None
        };
        let (start, huge) = match with_hugepages {
            Some(start) => (start, true),
            None => {
                // SAFETY: as above.
                let start =
                    unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, MapFlags::PRIVATE) }?;
                // Only a wish: a kernel without transparent hugepages refuses it, and all is well.
                // SAFETY: the range was mapped just now and is ours alone.
                let _ = unsafe { madvise(start, bytes, Advice::LinuxHugepage) };
                (start, false)
            }
        };
        let start =
            NonNull::new(start.cast::<T>()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        for i in 0..len {
            // SAFETY: `i < len`, and the mapping holds `len` values from `start` on.
            let place = unsafe { start.add(i) };
            // SAFETY: the place is mapped writable, page-aligned at its start, and nobody else's.
            unsafe { place.write(value) };
        }
        Ok(Arena { start, len, mapped: bytes, huge })
    }

    /// Whether the memory came from reserved hugepages.
    pub fn is_huge(&self) -> bool {
        self.huge
    }

    /// How much memory was mapped, in bytes.
    pub fn mapped_bytes(&self) -> usize {
        self.mapped
    }
}

impl<T: Copy> Deref for Arena<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `len` values were written at `start`, and the mapping lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Copy> DerefMut for Arena<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Copy> Drop for Arena<T> {
    fn drop(&mut self) {
        // SAFETY: start and length are those of the mapping, and nobody can hold a slice of it now.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.mapped) };
    }
}

// SAFETY: an arena owns its memory as a `Box<[T]>` would.
unsafe impl<T: Copy + Send> Send for Arena<T> {}
// SAFETY: as above; shared access only reads.
unsafe impl<T: Copy + Sync> Sync for Arena<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_written_and_gives_it_back() {
        let mut arena = Arena::filled(100_000, 7u64, true).unwrap();
        assert!(arena.iter().all(|v| *v == 7));
        arena[99_999] = 1;
        assert_eq!(arena[99_999], 1);
        assert!(arena.mapped_bytes() >= 800_000);
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        assert!(Arena::filled(usize::MAX / 2, 0u64, false).is_err());
    }
}
