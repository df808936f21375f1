//! Starting EAL: the option names capsule writes are those of 19.11.

use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::Mutex;

use crate::raw;

/// Options by the name DPDK 19.11 had for them, and by the name they have had since 20.11.
const RENAMED: &[(&str, &str)] = &[
    ("--master-lcore", "--main-lcore"),
    ("--pci-whitelist", "--allow"),
    ("-w", "--allow"),
    ("--pci-blacklist", "--block"),
    ("-b", "--block"),
];

/// Put behind what capsule passes to EAL.
static APPENDED: Mutex<Vec<CString>> = Mutex::new(Vec::new());

/// Appends options to those that capsule gives EAL, for the places where capsule lets its user give
/// none (its test initialisation). Takes effect on the next [`rte_eal_init`].
///
/// # Panics
/// If an option contains a NUL byte.
pub fn append_eal_arguments<'a>(arguments: impl IntoIterator<Item = &'a str>) {
    let mut appended = APPENDED.lock().expect("nothing panics while it holds this lock");
    appended.extend(arguments.into_iter().map(|a| CString::new(a).expect("an EAL option has no NUL byte")));
}

/// Starts EAL with the options given, renamed where DPDK has renamed them, and with those of
/// [`append_eal_arguments`] behind them.
///
/// Returns what DPDK returns: the number of options it parsed, or a negative error number.
///
/// # Safety
/// `argv` is not null and points to at least `argc` pointers, each to a string that ends in NUL. EAL is
/// started at most once in a process.
pub unsafe fn rte_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    // SAFETY: the caller vouches for `argc` pointers from `argv` on.
    let given = unsafe { std::slice::from_raw_parts(argv, count) };
    let mut arguments = Vec::with_capacity(count);
    for argument in given {
        // SAFETY: the caller vouches for a string that ends in NUL.
        arguments.push(renamed(unsafe { CStr::from_ptr(*argument) }));
    }
    arguments.extend_from_slice(&APPENDED.lock().expect("nothing panics while it holds this lock"));

    // Never given back: getopt reorders the pointers, and EAL may keep some for as long as it runs.
    let mut pointers: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
    let count = c_int::try_from(pointers.len()).expect("a command line is short");
    pointers.push(std::ptr::null_mut());
    let pointers = Vec::leak(pointers);
    // SAFETY: `count` strings that end in NUL, then a null pointer, none of them ever freed. That EAL
    // is started once is for the caller to see to.
    unsafe { raw::rte_eal_init(count, pointers.as_mut_ptr()) }
}

/// The argument by today's name, whether its value stands apart (`--old value`) or not (`--old=value`).
fn renamed(argument: &CStr) -> CString {
    let Ok(text) = argument.to_str() else { return argument.to_owned() };
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == name) else { return argument.to_owned() };
    let text = match value {
        Some(value) => format!("{new}={value}"),
        None => (*new).to_owned(),
    };
    CString::new(text).expect("neither part came with a NUL byte")
}

#[cfg(test)]
mod tests {
    use super::renamed;

    #[test]
    fn old_option_names_become_todays() {
        assert_eq!(renamed(c"--master-lcore").as_c_str(), c"--main-lcore");
        assert_eq!(renamed(c"--pci-whitelist").as_c_str(), c"--allow");
        assert_eq!(renamed(c"--pci-whitelist=0000:03:00.0").as_c_str(), c"--allow=0000:03:00.0");
    }

    #[test]
    fn everything_else_passes_unchanged() {
        for argument in [c"--vdev", c"net_pcap0,rx_pcap=a.pcap", c"capsule", c"", c"-l", c"\xff"] {
            assert_eq!(renamed(argument).as_c_str(), argument);
        }
    }
}
