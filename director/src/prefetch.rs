//! Asking the processor for a cache line ahead of its use.
#![allow(unsafe_code)]

/// Starts to fetch the cache line that holds the start of a value, for reading and writing soon. Of an address at which
/// nothing is it fetches nothing.
#[inline(always)]
pub(crate) fn prefetch<T>(value: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch neither reads nor writes in the language's sense; any address is allowed.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(value.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
