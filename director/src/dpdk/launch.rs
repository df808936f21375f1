//! Worker lcores: a closure runs on one, and whoever launched it waits for what it returns.

use std::any::Any;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::eal::{Eal, dpdk_lcore};
use super::error::DpdkError;
use crate::id::LcoreId;

/// A worker lcore panicked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("worker lcore {} panicked: {message}", .worker.0)]
pub struct WorkerPanic {
    /// Which.
    pub worker: LcoreId,
    /// What it said.
    pub message: String,
}

/// A closure that runs on a worker lcore. Dropping this detaches it: it runs on, and nobody hears of it.
#[must_use = "a worker that nobody joins runs on by itself"]
pub struct Running<T> {
    worker: LcoreId,
    shared: Arc<Shared<T>>,
    _eal: Eal,
}

struct Shared<T> {
    /// What the closure returned, or the message of its panic. Written once, by the worker.
    result: Mutex<Option<Result<T, String>>>,
    done: Condvar,
}

/// What travels to the worker.
struct Task<T, F> {
    closure: F,
    shared: Arc<Shared<T>>,
    /// EAL must not be cleaned up while the worker runs, whoever holds the `Running`.
    eal: Eal,
}

impl Eal {
    /// Runs a closure on a worker lcore, pinned to that worker's CPU. A panic in it ends there, and
    /// [`Running::join`] tells of it.
    ///
    /// # Errors
    /// Where there is no such worker, or it still runs another closure.
    pub fn launch<T, F>(&self, worker: LcoreId, closure: F) -> Result<Running<T>, DpdkError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let what = || format!("launching worker lcore {}", worker.0);
        if usize::from(worker.0) >= self.workers() {
            return Err(DpdkError::new(
                what(),
                format!("there are {} workers", self.workers()),
                "name one more CPU in [lcores]",
            ));
        }
        let shared = Arc::new(Shared { result: Mutex::new(None), done: Condvar::new() });
        let task = Box::new(Task { closure, shared: shared.clone(), eal: self.clone() });
        let task = Box::into_raw(task).cast::<c_void>();
        // SAFETY: `run` takes what is passed here, and the lcore exists.
        let code = unsafe { dpdk_sys::rte_eal_remote_launch(Some(run::<T, F>), task, dpdk_lcore(worker)) };
        if code != 0 {
            // SAFETY: DPDK refused it, so nobody else has it.
            drop(unsafe { Box::from_raw(task.cast::<Task<T, F>>()) });
            return Err(DpdkError::of_code(what(), code).remedy("it still runs: join it first"));
        }
        Ok(Running { worker, shared, _eal: self.clone() })
    }
}

/// What the worker lcore calls.
unsafe extern "C" fn run<T, F: FnOnce() -> T>(task: *mut c_void) -> c_int {
    // SAFETY: what `launch` made, handed over once.
    let Task { closure, shared, eal } = *unsafe { Box::from_raw(task.cast::<Task<T, F>>()) };
    // What the closure holds is gone after a panic; nobody sees it half changed.
    let result = catch_unwind(AssertUnwindSafe(closure)).map_err(|panic| message(&panic));
    *shared.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    shared.done.notify_all();
    drop(shared);
    drop(eal);
    0
}

fn message(panic: &Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

impl<T> Running<T> {
    /// Which worker.
    #[must_use]
    pub fn worker(&self) -> LcoreId {
        self.worker
    }

    /// Whether the closure has returned or panicked: [`Running::join`] does not wait then.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.shared.result.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Waits until the closure has returned; asleep, as the worker may share our CPU.
    ///
    /// # Errors
    /// Where it panicked.
    pub fn join(self) -> Result<T, WorkerPanic> {
        let mut result = self.shared.result.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = loop {
            match result.take() {
                Some(taken) => break taken,
                None => result = self.shared.done.wait(result).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(result);
        // SAFETY: the lcore exists. It spins until the worker is back in EAL, which is a matter of instructions.
        unsafe { dpdk_sys::rte_eal_wait_lcore(dpdk_lcore(self.worker)) };
        taken.map_err(|message| WorkerPanic { worker: self.worker, message })
    }
}

/// A thread that EAL did not launch, known to DPDK: pools give it a cache of its own, which halves the
/// cost of allocating and freeing packets. Ends with this value, in the same thread.
pub struct ThreadRegistration {
    /// Whether we registered it: not so for an lcore of EAL.
    ours: bool,
    _eal: Eal,
    /// Of one thread.
    _not_send: PhantomData<*mut ()>,
}

/// Makes the calling thread known to DPDK. On an lcore of EAL this does nothing.
///
/// # Errors
/// Where DPDK has no lcore number left.
pub fn register_thread(eal: &Eal) -> Result<ThreadRegistration, DpdkError> {
    // SAFETY: reads a thread-local variable.
    let ours = unsafe { dpdk_sys::dpdk_sys_lcore_id() } == dpdk_sys::LCORE_ID_ANY;
    if ours {
        // SAFETY: EAL runs.
        let code = unsafe { dpdk_sys::rte_thread_register() };
        if code != 0 {
            let most = dpdk_sys::RTE_MAX_LCORE;
            return Err(DpdkError::of_code("making a thread known to DPDK", code)
                .remedy(format!("lcores and such threads together may be {most}")));
        }
    }
    Ok(ThreadRegistration { ours, _eal: eal.clone(), _not_send: PhantomData })
}

impl Drop for ThreadRegistration {
    fn drop(&mut self) {
        if self.ours {
            // SAFETY: registered by us, in this thread: the value cannot leave it.
            unsafe { dpdk_sys::rte_thread_unregister() };
        }
    }
}
