//! The clock of the data path: the CPU's time stamp counter.

/// The time stamp counter, in ticks of [`tsc_hz`]. The same on every CPU where the kernel says `constant_tsc`
/// and `nonstop_tsc`, as all current x86 servers do.
#[inline]
#[must_use]
pub fn tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 has the instruction, and Linux does not forbid it.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // SAFETY: reads a counter.
        unsafe { dpdk_sys::dpdk_sys_tsc() }
    }
}

/// How many ticks of [`tsc`] make a second. EAL measures it when it starts; 0 before.
#[must_use]
pub fn tsc_hz() -> u64 {
    // SAFETY: reads a variable.
    unsafe { dpdk_sys::rte_get_tsc_hz() }
}
