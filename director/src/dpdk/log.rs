//! DPDK's log: into `tracing`, and read for the reason of a failure, which functions do not return.

use std::ffi::{c_char, c_int, c_void};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// Lines of level warning and worse that were logged during [`capture`], without their end of line.
static CAPTURED: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// Holds whoever captures: one at a time.
static CAPTURING: Mutex<()> = Mutex::new(());

/// More are not kept: the first ones tell the cause.
const MOST_LINES: usize = 64;

/// Sends DPDK's log here, and no longer to stderr and syslog. Before EAL starts, which logs early.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let functions = dpdk_sys::cookie_io_functions_t { write: Some(write), ..Default::default() };
        // SAFETY: the functions live for ever and do not use the cookie.
        let stream = unsafe { dpdk_sys::fopencookie(std::ptr::null_mut(), c"w".as_ptr(), functions) };
        if !stream.is_null() {
            // SAFETY: a stream that is never closed.
            unsafe { dpdk_sys::rte_openlog_stream(stream) };
        }
    });
}

/// Runs `f` and returns what DPDK complained of meanwhile.
pub(super) fn capture<R>(f: impl FnOnce() -> R) -> (R, Vec<String>) {
    let _one_at_a_time = lock(&CAPTURING);
    *lock(&CAPTURED) = Some(Vec::new());
    let result = f();
    (result, lock(&CAPTURED).take().unwrap_or_default())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic may leave is a shorter list of lines.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

unsafe extern "C" fn write(_cookie: *mut c_void, text: *const c_char, size: usize) -> i64 {
    // SAFETY: stdio passes a buffer of that size.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), size) };
    // SAFETY: reads a thread-local variable: DPDK writes out line by line, in the thread that logs.
    let level = unsafe { dpdk_sys::rte_log_cur_msg_loglevel() };
    // A subscriber that panics must not unwind into C.
    let _ = std::panic::catch_unwind(|| {
        for line in String::from_utf8_lossy(bytes).lines() {
            let line = line.trim();
            if !line.is_empty() {
                take(level, line);
            }
        }
    });
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn take(level: c_int, line: &str) {
    let level = u32::try_from(level).unwrap_or(dpdk_sys::RTE_LOG_INFO);
    let kept = level <= dpdk_sys::RTE_LOG_WARNING && {
        let mut captured = lock(&CAPTURED);
        captured.as_mut().is_some_and(|lines| {
            if lines.len() < MOST_LINES {
                lines.push(line.to_owned());
            }
            true
        })
    };
    // What was captured becomes part of an error, if it matters: then it is not said twice.
    match level {
        _ if kept => tracing::debug!(target: "dpdk", "{line}"),
        0..=dpdk_sys::RTE_LOG_ERR => tracing::error!(target: "dpdk", "{line}"),
        dpdk_sys::RTE_LOG_WARNING => tracing::warn!(target: "dpdk", "{line}"),
        dpdk_sys::RTE_LOG_NOTICE | dpdk_sys::RTE_LOG_INFO => tracing::debug!(target: "dpdk", "{line}"),
        _ => tracing::trace!(target: "dpdk", "{line}"),
    }
}
