//! Makes checks, thousands of them, on one thread with a runtime of its own; tells only of what changes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::{Check, Failure, Kind, RiseFall, Target};
use super::{dns, exec, grpc, http, icmp, smtp, tcp, udp};

/// So many checks are under way at a time at most.
const MAX_UNDER_WAY: u64 = 4096;
/// So many characters of a reason are kept.
const MAX_REASON: usize = 200;
/// First checks are spread over so much time.
const WARM_UP: Duration = Duration::from_secs(1);

/// So long the log says nothing more about checks that cannot be made.
const TELL_AGAIN: Duration = Duration::from_secs(10);

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
    pub(super) last: Option<(Result<(), Failure>, Duration)>,
    /// The last failure.
    pub(super) last_failure: Option<(String, Instant)>,
}

impl View {
    pub(super) fn new(check: &Check, up: bool, now: Instant) -> View {
        let state = RiseFall::new(check.rise, check.fall, up, now);
        View { state, passed: 0, failed: 0, last: None, last_failure: None }
    }

    /// What came of a check. True if that changes the state, which the director's own lack does not.
    fn record(&mut self, result: Result<(), Failure>, took: Duration, now: Instant) -> bool {
        let says_something = match &result {
            Ok(()) => {
                self.passed += 1;
                true
            }
            Err(why) => {
                self.failed += u64::from(!why.is_own());
                self.last_failure = Some((why.to_string(), now));
                !why.is_own()
            }
        };
        let changed = says_something && self.state.record(result.is_ok(), now);
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
    /// One that nobody makes, which counts as passed or not.
    pub(super) fn idle(check: &Check, up: bool, now: Instant) -> Running {
        Running { view: Arc::new(Mutex::new(View::new(check, up, now))), task: None }
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
    /// Until it begins, with the CPUs to keep off.
    waiting: Option<(Runtime, Vec<u32>)>,
    reports: mpsc::UnboundedSender<Report>,
    permits: Arc<Semaphore>,
    lacks: Arc<Lacks>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Runner {
    /// One that makes no check before [`Runner::begin`]. What changes comes out of the receiver. The thread, and programs
    /// that checks start, keep off these CPUs if there are others.
    ///
    /// # Errors
    /// The kernel gives nothing to wait for sockets with.
    pub fn new(avoid: &[u32]) -> std::io::Result<(Runner, mpsc::UnboundedReceiver<Report>)> {
        let (reports, receiver) = mpsc::unbounded_channel();
        Ok((Runner::reporting_to(reports, avoid)?, receiver))
    }

    /// The same, with a place where what changes is sent.
    ///
    /// # Errors
    /// As [`Runner::new`].
    pub fn reporting_to(reports: mpsc::UnboundedSender<Report>, avoid: &[u32]) -> std::io::Result<Runner> {
        let permits = Arc::new(Semaphore::new(room()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let waiting = Some((runtime, avoid.to_vec()));
        let lacks = Arc::default();
        Ok(Runner { handle, waiting, reports, permits, lacks, stop: None, thread: None })
    }

    /// Starts the thread, and with it the checks.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn begin(&mut self) -> std::io::Result<()> {
        let Some((runtime, avoid)) = self.waiting.take() else { return Ok(()) };
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("health".to_owned()).spawn(move || {
            if let Err(error) = keep_off(&avoid) {
                tracing::warn!(%error, "health checks may take time from worker lcores");
            }
            let _ = runtime.block_on(stopped);
            // Names are never looked up, so that no thread of the runtime's is waited for.
            runtime.shutdown_background();
        })?;
        (self.stop, self.thread) = (Some(stop), Some(thread));
        Ok(())
    }

    /// Makes a check over and over, under this number.
    pub(super) fn check(&self, id: u64, check: Arc<Check>, target: Target, up: bool) -> Running {
        let mut running = Running::idle(&check, up, Instant::now());
        let (view, reports, permits) = (running.view.clone(), self.reports.clone(), self.permits.clone());
        let lacks = self.lacks.clone();
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
                let why = result.as_ref().err().map(ToString::to_string);
                if let Err(Failure::Own(why)) = &result
                    && let Some(checks) = lacks.count(now)
                {
                    let Target { service, server, .. } = target;
                    let check = check.to_string();
                    tracing::error!(%service, %server, check, checks, "health checks cannot be made: {why}");
                }
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

/// Counts checks that could not be made: the log tells of them now and then, since all may lack the same.
#[derive(Debug, Default)]
struct Lacks(Mutex<(Option<Instant>, u64)>);

impl Lacks {
    /// One more. Says how many there have been since it last did, if it is time for that.
    fn count(&self, now: Instant) -> Option<u64> {
        let mut lacks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, count) = &mut *lacks;
        *count += 1;
        if last.is_some_and(|last| now.saturating_duration_since(last) < TELL_AGAIN) {
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(count))
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
        if let Some((runtime, _)) = self.waiting.take() {
            runtime.shutdown_background();
        }
    }
}

/// Takes these CPUs from those of the calling thread, and of the processes that it starts, unless none would be left.
///
/// # Errors
/// The kernel refuses.
pub fn keep_off(avoid: &[u32]) -> rustix::io::Result<()> {
    let mut cpus = sched_getaffinity(None)?;
    for cpu in avoid.iter().map(|cpu| *cpu as usize).filter(|cpu| *cpu < CpuSet::MAX_CPU) {
        cpus.unset(cpu);
    }
    if cpus.count() == 0 { Ok(()) } else { sched_setaffinity(None, &cpus) }
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
pub async fn probe(check: &Check, target: &Target) -> Result<(), Failure> {
    // What a real server says goes to terminals and logs.
    caught(ask(check, target)).await.map_err(|why| why.map(readable))
}

/// The beginning of a text, without what would do more to a terminal or a log than stand there.
fn readable(text: &str) -> String {
    // Formatting characters let a text look like another one: direction, width, line and paragraph separators.
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut characters = text.chars().map(|c| if acts(c) { '?' } else { c });
    let mut readable: String = characters.by_ref().take(MAX_REASON).collect();
    if characters.next().is_some() {
        readable.push('…');
    }
    readable
}

/// A panic ends this check, but not those that follow.
async fn caught(ask: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let mut ask = Box::pin(ask);
    // What panicked is not polled again.
    std::future::poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| ask.as_mut().poll(context)));
        polled.unwrap_or_else(|_| {
            Poll::Ready(Err(Failure::Own("the check panicked: a defect of the director".to_owned())))
        })
    })
    .await
}

async fn ask(check: &Check, target: &Target) -> Result<(), Failure> {
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
            #[cfg(test)]
            Kind::Panic => panic!("as told"),
        }
    };
    if let Kind::Udp(_) = check.kind {
        return ask.await;
    }
    match tokio::time::timeout(check.timeout, ask).await {
        Ok(result) => result,
        Err(_) => {
            Err(format!("{} took longer than {} s", progress.what(), check.timeout.as_secs_f64()).into())
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_does_nothing_to_a_terminal() {
        assert_eq!(readable("the greeting is \"554 grüezi\""), "the greeting is \"554 grüezi\"");
        assert_eq!(readable("\x1b[2J\r\n\u{9b}2J\0\u{202e}x"), "?[2J???2J??x");
        assert_eq!(readable(&"ü".repeat(200)), "ü".repeat(200));
        assert_eq!(readable(&"ü".repeat(201)), "ü".repeat(200) + "…");
    }

    #[test]
    fn a_check_that_panics_takes_nobody_out_and_is_made_again() {
        let (mut runner, mut reports) = Runner::new(&[]).expect("a runtime");
        runner.begin().expect("a thread");
        let mut check = Check::new(Kind::Panic);
        (check.interval, check.fall) = (Duration::from_millis(20), 1);
        let address = "127.0.0.1:1".parse().expect("an address");
        let target = check.target("tcp 10.99.0.1:80".parse().expect("a service"), address);
        let running = runner.check(7, Arc::new(check), target, true);
        let end = Instant::now() + Duration::from_secs(30);
        let mut times = std::collections::BTreeSet::new();
        while times.len() < 3 {
            assert!(Instant::now() < end, "it was made {} times", times.len());
            std::thread::sleep(Duration::from_millis(5));
            if let Some((why, then)) = &running.view().last_failure {
                assert_eq!(why, "not checked: the check panicked: a defect of the director");
                times.insert(*then);
            }
        }
        let view = running.view();
        assert!(view.state.is_up() && view.failed == 0 && reports.try_recv().is_err());
    }

    #[test]
    fn what_the_director_lacks_counts_for_nothing() {
        let (now, took) = (Instant::now(), Duration::ZERO);
        let mut view = View::new(&Check { fall: 2, ..Check::new(Kind::Tcp) }, true, now);
        let own = || Err(Failure::Own("no more files".to_owned()));
        assert!(!view.record(own(), took, now) && !view.record(own(), took, now));
        assert!(!view.record(Err("refused".into()), took, now), "the first failure");
        assert!(!view.record(own(), took, now), "neither a failure nor a pass");
        assert_eq!(
            view.last_failure.as_ref().map(|(why, _)| why.as_str()),
            Some("not checked: no more files")
        );
        assert!(view.record(Err("refused".into()), took, now), "the second failure");
        assert_eq!((view.passed, view.failed), (0, 2));
        let lacks = Lacks::default();
        assert_eq!((lacks.count(now), lacks.count(now), lacks.count(now)), (Some(1), None, None));
        assert_eq!(lacks.count(now + TELL_AGAIN), Some(3));
    }

    #[test]
    fn the_thread_keeps_off_cpus_unless_there_are_no_others() {
        // The affinity is the thread's own: that of other tests stays.
        let cpus = || {
            let set = sched_getaffinity(None).expect("an affinity");
            (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).map(|cpu| cpu as u32).collect::<Vec<_>>()
        };
        let all = cpus();
        keep_off(&[u32::MAX]).expect("there is no such CPU");
        keep_off(&all).expect("nothing changes");
        assert_eq!(cpus(), all);
        if let [first, others @ ..] = &all[..]
            && !others.is_empty()
        {
            keep_off(&[*first]).expect("others are left");
            assert_eq!(cpus(), others);
        }
    }
}
