//! What can go wrong with DPDK, in words.

use std::ffi::CStr;

use super::explain::Explained;

/// An error of DPDK: what was being done, why it failed, how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}{}", .remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default())]
pub struct DpdkError {
    what: String,
    why: String,
    remedy: Option<String>,
    errno: i32,
}

impl DpdkError {
    /// An error that the director found by itself.
    pub(super) fn new(what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into(), remedy: Some(remedy.into()), errno: 0 }
    }

    /// DPDK returned `code`: a negative error number, or -1 with the number in `rte_errno`.
    pub(super) fn of_code(what: impl Into<String>, code: i32) -> Self {
        let errno = error_number(code);
        Self { what: what.into(), why: error_text(errno), remedy: None, errno }
    }

    /// DPDK failed, and its log was read for the reason.
    pub(super) fn explained(what: impl Into<String>, errno: i32, explained: Explained) -> Self {
        Self { what: what.into(), why: explained.why, remedy: explained.remedy, errno }
    }

    /// The same with a remedy.
    #[must_use]
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// What was being done, e.g. `port 1 (net_tap0,iface=dtap0)`.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Why it failed.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn remedy_text(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The number in `rte_errno`; 0 where DPDK was not asked or gave none.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.errno
    }
}

/// The positive error number behind DPDK's two customs of returning it.
pub(super) fn error_number(code: i32) -> i32 {
    match code {
        0 | -1 => {
            // SAFETY: reads a thread-local variable.
            unsafe { dpdk_sys::dpdk_sys_errno() }
        }
        code => code.saturating_neg(),
    }
}

/// The text of an error number, as DPDK words it.
pub(super) fn error_text(errno: i32) -> String {
    if errno == 0 {
        return "DPDK gives no reason".to_owned();
    }
    // SAFETY: takes any number.
    let text = unsafe { dpdk_sys::rte_strerror(errno) };
    // SAFETY: a string in a buffer of this thread, which is copied at once.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_why_and_how_to_mend_it() {
        let error = DpdkError::of_code("port 1 (net_null0)", -22).remedy("mend it");
        assert_eq!(error.to_string(), "port 1 (net_null0): Invalid argument; mend it");
        assert_eq!(error.errno(), 22);
        let error = DpdkError::of_code("EAL", -12);
        assert_eq!(error.to_string(), "EAL: Cannot allocate memory");
    }
}
