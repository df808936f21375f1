//! Makes checks, thousands of them, on one thread with a runtime of its own; tells only of what changes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::{Check, Kind, RiseFall, Target};
use super::{dns, exec, grpc, http, icmp, smtp, tcp, udp};

/// So many checks are under way at a time at most.
const MAX_UNDER_WAY: u64 = 4096;
/// First checks are spread over so much time.
const WARM_UP: Duration = Duration::from_secs(1);

/// A check has changed its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// By what number it was started.
    pub id: u64,
    /// Whether it counts as passed from now on.
    pub up: bool,
    /// Why not.
    pub why: Option<String>,
}

/// What is known of one check.
#[derive(Debug)]
pub(super) struct View {
    pub(super) state: RiseFall,
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// What came of the last one, and how long it took.
    pub(super) last: Option<(Result<(), String>, Duration)>,
    /// The last failure.
    pub(super) last_failure: Option<(String, Instant)>,
}

impl View {
    pub(super) fn new(check: &Check, now: Instant) -> View {
        let state = RiseFall::new(check.rise, check.fall, check.start_up, now);
        View { state, passed: 0, failed: 0, last: None, last_failure: None }
    }

    /// What came of a check. True if that changes the state.
    fn record(&mut self, result: Result<(), String>, took: Duration, now: Instant) -> bool {
        match &result {
            Ok(()) => self.passed += 1,
            Err(why) => {
                self.failed += 1;
                self.last_failure = Some((why.clone(), now));
            }
        }
        let changed = self.state.record(result.is_ok(), now);
        self.last = Some((result, took));
        changed
    }
}

/// A check that is made over and over until this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    view: Arc<Mutex<View>>,
    task: Option<AbortHandle>,
}

impl Running {
    /// One that nobody makes.
    pub(super) fn idle(check: &Check, now: Instant) -> Running {
        Running { view: Arc::new(Mutex::new(View::new(check, now))), task: None }
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.view)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that makes checks. It ends when this is dropped.
#[derive(Debug)]
pub struct Runner {
    handle: Handle,
    reports: mpsc::UnboundedSender<Report>,
    permits: Arc<Semaphore>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Runner {
    /// Starts the thread. What changes comes out of the receiver.
    ///
    /// # Errors
    /// The kernel gives no thread, or nothing to wait for sockets with.
    pub fn start() -> std::io::Result<(Runner, mpsc::UnboundedReceiver<Report>)> {
        let permits = Arc::new(Semaphore::new(room()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("health".to_owned()).spawn(move || {
            let _ = runtime.block_on(stopped);
            // Names are never looked up, so that no thread of the runtime's is waited for.
            runtime.shutdown_background();
        })?;
        let (reports, receiver) = mpsc::unbounded_channel();
        Ok((Runner { handle, reports, permits, stop: Some(stop), thread: Some(thread) }, receiver))
    }

    /// Makes a check over and over, under this number.
    pub(super) fn check(&self, id: u64, check: Arc<Check>, target: Target) -> Running {
        let mut running = Running::idle(&check, Instant::now());
        let (view, reports, permits) = (running.view.clone(), self.reports.clone(), self.permits.clone());
        let task = self.handle.spawn(async move {
            let mut next = Instant::now() + check.interval.min(WARM_UP).mul_f64(unit());
            loop {
                tokio::time::sleep_until(next.into()).await;
                // It is never closed.
                let permit = permits.acquire().await;
                let started = Instant::now();
                let result = probe(&check, &target).await;
                drop(permit);
                let now = Instant::now();
                let why = result.as_ref().err().cloned();
                let mut view = lock(&view);
                if view.record(result, now - started, now) {
                    // Nobody hears it who stops.
                    let _ = reports.send(Report { id, up: view.state.is_up(), why });
                }
                let jitter = f64::from(check.jitter) / 100.0 * (2.0 * unit() - 1.0);
                next = view.state.next(
                    started,
                    now,
                    check.interval.mul_f64(1.0 + jitter),
                    check.delay_before_retry,
                );
            }
        });
        running.task = Some(task.abort_handle());
        running
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How many checks can be under way: each has a file or two, of which half are left to others. As many files as
/// may be had are taken.
fn room() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = Some(4 * MAX_UNDER_WAY);
    let enough = [maximum, wanted].into_iter().flatten().min();
    let limit = if current.is_some_and(|current| Some(current) < enough) {
        match setrlimit(Resource::Nofile, Rlimit { current: enough, maximum }) {
            Ok(()) => enough,
            Err(_) => current,
        }
    } else {
        current
    };
    (limit.unwrap_or(u64::MAX) / 4).clamp(16, MAX_UNDER_WAY) as usize
}

/// Makes one check.
///
/// # Errors
/// Why it fails, in words for the operator.
pub async fn probe(check: &Check, target: &Target) -> Result<(), String> {
    let (progress, address) = (Progress::default(), target.address);
    let ask = async {
        match &check.kind {
            Kind::Tcp => tcp::connect(address, &progress).await.map(drop),
            Kind::Http(http) => http::check(address, http, &progress).await,
            Kind::Dns(dns) => dns::check(address, dns, &progress).await,
            Kind::Smtp(smtp) => smtp::check(address, smtp, &progress).await,
            Kind::Icmp => icmp::check(address, &progress).await,
            Kind::Grpc(grpc) => grpc::check(address, grpc, &progress).await,
            Kind::Exec(words) => exec::check(target, words, &progress).await,
            Kind::Udp(udp) => udp::check(address, udp, check.timeout).await,
        }
    };
    if let Kind::Udp(_) = check.kind {
        return ask.await;
    }
    match tokio::time::timeout(check.timeout, ask).await {
        Ok(result) => result,
        Err(_) => Err(format!("{} took longer than {} s", progress.what(), check.timeout.as_secs_f64())),
    }
}

/// How far a check has come, for the reason if it comes no further.
#[derive(Debug)]
pub(super) struct Progress(Mutex<&'static str>);

impl Default for Progress {
    fn default() -> Self {
        Progress(Mutex::new("the check"))
    }
}

impl Progress {
    pub(super) fn at(&self, what: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    fn what(&self) -> &'static str {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A random number: what a hasher begins with is.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// From 0 up to 1.
fn unit() -> f64 {
    (random() >> 11) as f64 / (1u64 << 53) as f64
}
