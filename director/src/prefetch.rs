//! Asking the processor for a cache line ahead of its use.
#![allow(unsafe_code)]

/// Starts to fetch the cache line that holds the start of the value at a place of a slice, for reading and writing soon.
/// Of a place that there is not it fetches whatever lies there, or nothing.
#[inline(always)]
pub(crate) fn prefetch_at<T>(values: &[T], at: usize) {
    let address = values.as_ptr().wrapping_add(at);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch neither reads nor writes in the language's sense; any address is allowed.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
