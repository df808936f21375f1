//! EAL, DPDK's ground: memory, lcores, drivers. Started once in a process.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::arguments::{Machine, Plan};
use super::error::{DpdkError, error_number};
use super::{explain, log};
use crate::id::LcoreId;

/// Whether EAL takes its memory from hugepages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hugepages {
    /// Where enough are free for `memory_mb`; else ordinary memory.
    #[default]
    Auto,
    /// They must be there.
    Yes,
    /// Ordinary memory, even if hugepages are free.
    No,
}

/// How to start EAL. The defaults need neither hugepages nor a NIC.
#[derive(Clone, Debug)]
pub struct EalOptions {
    /// Name of the program, for messages of EAL.
    pub program: String,
    /// Where memory comes from.
    pub hugepages: Hugepages,
    /// Without hugepages: all the memory that EAL will ever have, in MB. With [`Hugepages::Auto`] also what has
    /// to be free in hugepages for them to be used.
    pub memory_mb: u32,
    /// One worker lcore per entry, pinned to that CPU. The same CPU may come more than once.
    /// Empty: one worker on the last CPU we may run on.
    pub worker_cpus: Vec<u32>,
    /// Addresses of PCI devices to take (`0000:03:00.0`, arguments of the driver after a comma).
    pub pci: Vec<String>,
    /// Virtual devices to make at once. Ports need none of this: [`super::Port::open`] adds theirs.
    pub vdevs: Vec<String>,
    /// Appended to EAL's arguments, as typed.
    pub extra_args: Vec<String>,
}

impl Default for EalOptions {
    fn default() -> Self {
        Self {
            program: "director".to_owned(),
            hugepages: Hugepages::Auto,
            memory_mb: 512,
            worker_cpus: Vec::new(),
            pci: Vec::new(),
            vdevs: Vec::new(),
            extra_args: Vec::new(),
        }
    }
}

/// EAL, started. A handle: EAL is cleaned up when the last handle goes, and all that stands on EAL holds one.
/// It cannot be started again in the same process.
#[derive(Clone)]
pub struct Eal(Arc<Inner>);

struct Inner {
    args: Vec<String>,
    worker_cpus: Vec<u32>,
    hugepages: bool,
    runtime_dir: Option<PathBuf>,
}

/// Set when EAL was started, for good: DPDK cannot do it twice.
static STARTED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts EAL. The calling thread becomes the main lcore: it may run on all CPUs that it may run on
    /// now. Nothing of DPDK was touched where it fails before DPDK is asked (a CPU that is not there, no
    /// hugepages).
    ///
    /// # Errors
    /// Where EAL was started before in this process, a CPU does not exist or is forbidden to us, hugepages
    /// are demanded and none is free, an argument is bad, memory or a right is missing.
    pub fn init(options: &EalOptions) -> Result<Self, DpdkError> {
        let plan = Plan::new(options, &Machine::read())?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(DpdkError::new(
                "starting EAL",
                "it was started before in this process, and DPDK cannot do that twice",
                "start a new process",
            ));
        }
        log::install();
        let args: Result<Vec<CString>, _> = plan.args.iter().map(|arg| CString::new(arg.as_str())).collect();
        let args = args.map_err(|_| {
            DpdkError::new("starting EAL", "an argument holds a NUL byte", "correct eal_args in [dpdk]")
        })?;
        // EAL reorders the array and keeps pointers into its strings: they live for ever.
        let argc = args.len() as c_int;
        let mut argv: Vec<*mut c_char> = args.into_iter().map(CString::into_raw).collect();
        argv.push(std::ptr::null_mut());
        let argv = argv.leak();
        let (code, lines) = log::capture(|| {
            let _quiet = Quiet::new();
            // SAFETY: once in the process, with `argc` strings and a null pointer behind them.
            let code = unsafe { dpdk_sys::rte_eal_init(argc, argv.as_mut_ptr()) };
            if code < 0 { Err(error_number(code)) } else { Ok(()) }
        });
        if let Err(errno) = code {
            remove_runtime_dir(runtime_dir().as_ref());
            let explained = explain::eal(&lines, errno, options);
            return Err(DpdkError::explained("starting EAL", errno, explained));
        }
        for line in lines {
            tracing::warn!(target: "dpdk", "{line}");
        }
        tracing::debug!("EAL runs with: {}", plan.args.join(" "));
        Ok(Self(Arc::new(Inner {
            args: plan.args,
            worker_cpus: plan.worker_cpus,
            hugepages: plan.hugepages,
            runtime_dir: runtime_dir(),
        })))
    }

    /// How many worker lcores there are: those from 0 to below this.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.0.worker_cpus.len()
    }

    /// The CPU that a worker is pinned to.
    #[must_use]
    pub fn worker_cpu(&self, worker: LcoreId) -> Option<u32> {
        self.0.worker_cpus.get(usize::from(worker.0)).copied()
    }

    /// The NUMA node of a worker's CPU.
    #[must_use]
    pub fn worker_socket(&self, worker: LcoreId) -> u32 {
        // SAFETY: EAL runs; an lcore that is not there has node 0.
        unsafe { dpdk_sys::rte_lcore_to_socket_id(dpdk_lcore(worker)) }
    }

    /// Whether memory comes from hugepages.
    #[must_use]
    pub fn hugepages(&self) -> bool {
        self.0.hugepages
    }

    /// The arguments that EAL was started with.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.0.args
    }

    /// DPDK's version, e.g. `DPDK 22.11.11`.
    #[must_use]
    pub fn version() -> String {
        // SAFETY: has no precondition.
        let version = unsafe { dpdk_sys::rte_version() };
        // SAFETY: a string that lives for ever.
        unsafe { CStr::from_ptr(version) }.to_string_lossy().into_owned()
    }

    /// What to do when memory runs out.
    pub(super) fn memory_remedy(&self) -> String {
        if self.0.hugepages {
            "reserve more hugepages (sysctl vm.nr_hugepages=N), or lower mbufs in [dpdk]".to_owned()
        } else {
            "raise memory_mb in [dpdk], or lower mbufs".to_owned()
        }
    }
}

/// DPDK's number of a worker: lcore 0 is the main one.
pub(super) fn dpdk_lcore(worker: LcoreId) -> u32 {
    u32::from(worker.0) + 1
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: reads a thread-local variable.
        let lcore = unsafe { dpdk_sys::dpdk_sys_lcore_id() };
        if (1..=self.worker_cpus.len() as u32).contains(&lcore) {
            // Detached from its `Running`, as the process ends: EAL cannot take away the stack it stands on.
            tracing::debug!("EAL is not cleaned up, as worker lcore {lcore} held it last");
            return;
        }
        let ((), lines) = log::capture(|| {
            // SAFETY: the last handle: nothing that stands on EAL is left.
            unsafe { dpdk_sys::rte_eal_cleanup() };
        });
        for line in lines {
            tracing::debug!(target: "dpdk", "{line}");
        }
        remove_runtime_dir(self.runtime_dir.as_ref());
    }
}

fn runtime_dir() -> Option<PathBuf> {
    // SAFETY: returns a static string.
    let path = unsafe { dpdk_sys::rte_eal_get_runtime_dir() };
    if path.is_null() {
        return None;
    }
    // SAFETY: NUL-terminated.
    let path = unsafe { CStr::from_ptr(path) }.to_str().ok()?;
    (!path.is_empty()).then(|| PathBuf::from(path))
}

/// EAL makes the directory even when it puts nothing into it. Not removed where something is in it.
fn remove_runtime_dir(path: Option<&PathBuf>) {
    if let Some(path) = path {
        let _ = std::fs::remove_dir(path);
    }
}

/// Keeps the standard output quiet while EAL starts: of a bad argument it prints pages of usage there.
struct Quiet {
    stdout: c_int,
}

impl Quiet {
    fn new() -> Self {
        // SAFETY: opens a file.
        let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
        // SAFETY: duplicates a descriptor; -1 where there is none.
        let stdout = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_DUPFD_CLOEXEC, 3) };
        if null >= 0 {
            if stdout >= 0 {
                // SAFETY: replaces standard output, which was duplicated.
                unsafe { libc::dup2(null, libc::STDOUT_FILENO) };
            }
            // SAFETY: ours, and not used again.
            unsafe { libc::close(null) };
        }
        Self { stdout }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.stdout >= 0 {
            // SAFETY: flushes C's streams: what EAL printed must not come out later.
            unsafe { libc::fflush(std::ptr::null_mut()) };
            // SAFETY: puts standard output back.
            unsafe { libc::dup2(self.stdout, libc::STDOUT_FILENO) };
            // SAFETY: ours, and not used again.
            unsafe { libc::close(self.stdout) };
        }
    }
}
