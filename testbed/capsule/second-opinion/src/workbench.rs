//! Where capsule's packets live: they exist only as mbufs, so even a test needs EAL and a pool.

use std::marker::PhantomData;
use std::sync::Once;

use capsule::testils::{self, MempoolGuard};

/// Mbufs in a thread's pool: a few frames at a time are alive in a test.
const MBUFS: usize = 63;

/// EAL, started once in the process, and a pool for the thread that made it.
///
/// EAL runs without hugepages, PCI devices or files in common with other DPDK programs, so that
/// anybody may run it beside anything.
#[derive(Debug)]
pub struct Workbench {
    _pool: MempoolGuard,
    /// The pool is this thread's.
    _stay: PhantomData<*const ()>,
}

impl Workbench {
    /// Sets up the calling thread. At most one workbench at a time per thread.
    ///
    /// # Panics
    /// If EAL does not start (it has then said why on stderr) or has no memory for the pool.
    #[must_use]
    pub fn new() -> Self {
        static QUIET: Once = Once::new();
        QUIET.call_once(|| {
            capsule_ffi::append_eal_arguments([
                "--no-shconf",
                "--no-pci",
                "--no-telemetry",
                "--log-level=error",
            ]);
        });
        testils::cargo_test_init();
        Self { _pool: testils::new_mempool(MBUFS, 0), _stay: PhantomData }
    }
}

impl Default for Workbench {
    fn default() -> Self {
        Self::new()
    }
}
