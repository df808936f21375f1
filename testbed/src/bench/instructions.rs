//! Counting a thread's instructions, where the machine does.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, OwnedFd};

/// `struct perf_event_attr` in its first form (Linux `include/uapi/linux/perf_event.h`, `PERF_ATTR_SIZE_VER0`).
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    address: u64,
}

/// `PERF_COUNT_HW_INSTRUCTIONS` of `PERF_TYPE_HARDWARE` (0).
const INSTRUCTIONS: u64 = 1;

/// A running counter.
#[derive(Debug)]
pub struct Counter(File);

impl Counter {
    /// Counts the instructions of a thread by its number in the kernel; 0 is the calling one.
    ///
    /// # Errors
    /// What the kernel says: `ENOENT` where the machine has no such counter.
    pub fn open(thread: i32) -> io::Result<Counter> {
        let size = size_of::<Attributes>() as u32;
        let attributes = Attributes { size, config: INSTRUCTIONS, ..Attributes::default() };
        // SAFETY: the structure lives over the call and says its own size.
        let fd = unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw const attributes, thread, -1i32, -1i32, 8u64)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was opened just now.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        Ok(Counter(File::from(fd)))
    }

    /// Instructions so far.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn read(&mut self) -> io::Result<u64> {
        let mut count = [0; 8];
        self.0.read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}
