//! The process that runs the director under test: EAL can be started only once in a process, and its lcores
//! should share theirs with nothing else.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use director::dpdk::{
    Eal, EalOptions, Hugepages, MbufPool, PoolConfig, Port, PortConfig, PortQueues, tsc_hz,
};
use director::id::{LcoreId, PortId};
use director::time::Tick;

use super::case::{Case, Direction, Method, Traffic};
use super::flows::{self, Order, Target, Templates};
use super::job::{Job, Outcome, Setup, Source};
use super::latency::{Generator, Measured, Noted};
use super::report::PERCENTILES;
use super::rig::{Rig, Sample, View};
use super::source::{Fed, Stamped, Supply};
use super::span::Span;
use super::subject::{FILL_MS, Handshake, Subject, bytes_per_connection};
use crate::error::{Context as _, Result};

/// How long a half-open connection lives (IPVS's SYN_RECV), in milliseconds.
const HALF_OPEN_MS: u32 = 60_000;
/// Time over which connections are opened that expire while new ones are.
const OPENING_MS: u32 = 2500;
/// Real servers of each service that nobody asks for.
const SERVERS: u32 = 10;
/// What the parent waits for.
pub(super) const READY: &str = "ready";

/// Works on jobs, one JSON object in each line of standard input, until that ends.
///
/// # Errors
/// When EAL or the port cannot be had, or the parent is gone.
pub fn serve(setup: &str) -> Result<()> {
    let setup: Setup = serde_json::from_str(setup).context(|| "the set-up")?;
    let eal = Eal::init(&EalOptions {
        program: "director-bench".to_owned(),
        hugepages: if setup.no_huge_mb.is_some() { Hugepages::No } else { Hugepages::Yes },
        memory_mb: setup.no_huge_mb.unwrap_or(64),
        worker_cpus: super::worker_cpus(setup.lcores),
        ..EalOptions::default()
    });
    let eal = eal.context(|| "EAL")?;
    let pool = PoolConfig { mbufs: setup.mbufs, ..PoolConfig::default() };
    let pool = MbufPool::new(&eal, &pool).context(|| "the pool")?;
    let hugepages = eal.hugepages();
    let open = |device: &str, n, queues: u8| {
        let config =
            PortConfig { rx_queues: queues.into(), tx_queues: queues.into(), ..PortConfig::default() };
        let mut port = Port::open(&eal, PortId(n), device, &config, &pool).context(|| "the port")?;
        let queues: Option<Vec<_>> =
            (0..queues.into()).map(|n| Some((port.take_rx_queue(n)?, port.take_tx_queue(n)?))).collect();
        queues.context(|| format!("{device} has not as many queues as there are lcores"))
    };
    let pair = |(rx, tx)| PortQueues::new(vec![rx], tx);
    match setup.source {
        Source::Pcap(files) => {
            let queues = open(&super::pcap_device(&files), 0, setup.lcores)?.into_iter().map(pair).collect();
            Worker { rig: Rig::new(eal.clone(), queues), hugepages, generator: None }.serve()
        }
        Source::Stamped => {
            let templates = round(Traffic::Udp, Direction::Request);
            let out = open(NULL, 0, setup.lcores)?.into_iter().map(pair);
            let queues = out.map(|out| Stamped::new(pool.clone(), templates.clone(), out)).collect();
            Worker { rig: Rig::new(eal.clone(), queues), hugepages, generator: None }.serve()
        }
        Source::Ring => {
            let (Some((rx, into_ring)), Some((_, tx))) =
                (open("net_ring0", 0, 1)?.pop(), open(NULL, 1, 1)?.pop())
            else {
                crate::fail!("no queues");
            };
            let noted = Arc::new(Noted::default());
            let generator = Generator {
                pool: pool.clone(),
                tx: into_ring,
                templates: round(Traffic::Udp, Direction::Request),
                order: Order::new(1),
                every: 0.0,
            };
            let rig = Rig::new(eal.clone(), vec![Measured::new(rx, tx, noted.clone())]);
            Worker { rig, hugepages, generator: Some((eal.clone(), generator, noted)) }.serve()
        }
    }
}

/// Takes what is sent, and receives nothing.
const NULL: &str = "net_null0,no-rx=1";

fn round(traffic: Traffic, direction: Direction) -> Templates {
    Templates::new(traffic, direction, flows::ACK, Target::Each)
}

struct Worker<Q> {
    rig: Rig<Q>,
    hugepages: bool,
    /// Of a ring: what fills it, on a second lcore.
    generator: Option<(Eal, Generator, Arc<Noted>)>,
}

impl<Q: Fed> Worker<Q> {
    fn serve(&mut self) -> Result<()> {
        println!("{READY}");
        for line in std::io::stdin().lock().lines() {
            let line = line.context(|| "cannot read jobs")?;
            let job: Job = serde_json::from_str(&line).context(|| "a job")?;
            let outcome = self.work(job).unwrap_or_else(|error| Outcome::Failed(error.to_string()));
            let outcome = serde_json::to_string(&outcome).context(|| "an outcome")?;
            let mut output = std::io::stdout().lock();
            writeln!(output, "{outcome}").and_then(|()| output.flush()).context(|| "nobody listens")?;
        }
        Ok(())
    }

    fn work(&mut self, job: Job) -> Result<Outcome> {
        match job {
            Job::Forward { case, span } => self.forward(&case, span).map(Outcome::Sample),
            Job::Plain { traffic, direction, connections, span } => {
                self.feed(round(traffic, direction), &Supply::Rounds(Order::new(connections)));
                self.rig.forward_plainly(span).map(Outcome::Sample)
            }
            Job::Open { method, old, upto } => self.open(method, old, upto),
            Job::Expire { case, per_second, span } => self.expire(&case, per_second, span),
            Job::Swap { case, services, per_second, span } => self.swap(&case, services, per_second, span),
            Job::Change { services, changes, case } => self.change(&case, services, changes),
            Job::Pace { case, mpps, span } => self.pace(&case, mpps, span),
            Job::Memory { method } => bytes_per_connection(method, self.hugepages).map(Outcome::Bytes),
        }
    }

    fn feed(&mut self, templates: Templates, supply: &Supply) {
        for queue in self.rig.queues() {
            queue.feed(templates.clone(), supply.clone());
        }
    }

    fn feed_case(&mut self, case: &Case) {
        let templates = round(case.traffic, case.method.direction());
        self.feed(templates, &Supply::Rounds(Order::new(case.connections)));
    }

    fn forward(&mut self, case: &Case, span: Span) -> Result<Sample> {
        let mut subject = Subject::new(case, case.connections, self.hugepages)?;
        subject.fill(case, 0, case.connections, Tick(0), FILL_MS, Handshake::Whole)?;
        self.feed_case(case);
        let (sample, ending) =
            self.rig.run(subject, Tick(FILL_MS), |view| Ok(view.sample(span, rest(span))))?;
        Ok(ending.of_sample(sample))
    }

    fn open(&mut self, method: Method, old: u32, upto: u32) -> Result<Outcome> {
        let case = Case { method, traffic: Traffic::Tcp, connections: upto, lcores: 1 };
        let mut subject = Subject::new(&case, old + upto, self.hugepages)?;
        subject.fill(&case, 0, old, Tick(0), OPENING_MS, Handshake::Half)?;
        subject.pass(Tick(OPENING_MS), Tick(HALF_OPEN_MS));
        let syn = Templates::new(Traffic::Tcp, Direction::Request, flows::SYN, Target::Pool);
        self.feed(syn, &Supply::Once(old, old + upto));
        let ((nanoseconds, connections), ending) = self.rig.run(subject, Tick(HALF_OPEN_MS), |view| {
            let forwarded = |view: &View<'_>| view.sum(|c| c.forwarded.get());
            let given_up = Instant::now() + Duration::from_secs(60);
            let begun = Instant::now();
            while forwarded(view) < u64::from(upto) && Instant::now() < given_up {
                sleep(Duration::from_micros(200));
            }
            Ok((begun.elapsed().as_nanos() as f64, view.sum(|c| c.connections.get())))
        })?;
        Ok(Outcome::Opened {
            per_second: f64::from(upto) * 1e9 / nanoseconds,
            expired: u64::from(old + upto).saturating_sub(connections),
            conserved: ending.conserved && ending.lost == 0 && ending.forwarded == u64::from(upto),
        })
    }

    fn expire(&mut self, case: &Case, per_second: u32, span: Span) -> Result<Outcome> {
        crate::ensure!(case.traffic.is_tcp(), "only TCP has connections that are half open");
        let over = (span.warm_up_ms + span.run_ms) as u32;
        let old = (u64::from(per_second) * u64::from(over) / 1000) as u32;
        let mut subject = Subject::new(case, case.connections + old, self.hugepages)?;
        // Half-open ones first, so that they are over when the run begins.
        subject.fill(case, case.connections, old, Tick(0), over, Handshake::Half)?;
        let filling = Tick(HALF_OPEN_MS - FILL_MS);
        subject.pass(Tick(over), filling);
        subject.fill(case, 0, case.connections, filling, FILL_MS, Handshake::Whole)?;
        self.feed_case(case);
        let ((sample, events), ending) = self.rig.run(subject, Tick(HALF_OPEN_MS), |view| {
            let open = |view: &View<'_>| view.sum(|c| c.connections.get());
            let sample = view.sample(span, rest(span));
            Ok((sample, u64::from(case.connections + old) - open(view)))
        })?;
        Ok(Outcome::Disturbed { sample: ending.of_sample(sample), events })
    }

    fn swap(&mut self, case: &Case, services: u32, per_second: u32, span: Span) -> Result<Outcome> {
        let mut subject = Subject::crowded(case, services, SERVERS, self.hugepages)?;
        subject.fill(case, 0, case.connections, Tick(0), FILL_MS, Handshake::Whole)?;
        self.feed_case(case);
        let ((sample, events), ending) = self.rig.run(subject, Tick(FILL_MS), |view| {
            let mut changes = 0;
            let mut failed = None;
            let between = Duration::from_secs(1) / per_second.max(1);
            let mut begun = None;
            let sample = view.sample(span, |view| {
                let begun = *begun.get_or_insert_with(Instant::now);
                if per_second == 0 {
                    sleep(span.run());
                    return;
                }
                failed = failed.take().or(view.change_weight(changes).err());
                changes += 1;
                sleep((begun + between * changes).saturating_duration_since(Instant::now()));
            });
            failed.map_or(Ok((sample, u64::from(changes))), Err)
        })?;
        Ok(Outcome::Disturbed { sample: ending.of_sample(sample), events })
    }

    fn pace(&mut self, case: &Case, mpps: f64, span: Span) -> Result<Outcome> {
        let mut subject = Subject::new(case, case.connections, self.hugepages)?;
        subject.fill(case, 0, case.connections, Tick(0), FILL_MS, Handshake::Whole)?;
        let (eal, mut generator, noted) = self.generator.take().context(|| "there is no generator")?;
        noted.cycles.clear();
        generator.order = Order::new(case.connections);
        generator.every = if mpps > 0.0 { tsc_hz() as f64 / (mpps * 1e6) } else { 0.0 };
        let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (seen, ending) = self.rig.run(subject, Tick(FILL_MS), |view| {
            let (ending, full) = (stop.clone(), refused.clone());
            let running = eal.launch(LcoreId(1), move || {
                generator.run(&ending, &full);
                generator
            });
            let running = running.context(|| "cannot launch the generator")?;
            sleep(span.warm_up());
            let own = |view: &View<'_>| view.fleet.lcores()[0].latency.to_histogram();
            let before = own(view);
            refused.store(0, Ordering::Relaxed);
            noted.noting.store(true, Ordering::Relaxed);
            let sample = view.sample(Span { warm_up_ms: 0, ..span }, rest(span));
            noted.noting.store(false, Ordering::Relaxed);
            let refused = refused.load(Ordering::Relaxed);
            let mut during = own(view);
            let subtracted = during.subtract(&before);
            subtracted.context(|| "the director's histogram went backwards")?;
            stop.store(true, Ordering::Relaxed);
            let generator = running.join().context(|| "the generator")?;
            Ok((sample, refused, during, generator))
        })?;
        let (sample, refused, own, generator) = seen;
        let cycles = noted.cycles.to_histogram();
        self.generator = Some((eal, generator, noted));
        let ns = 1e9 / tsc_hz() as f64;
        let at = |histogram: &hdrhistogram::Histogram<u64>, unit: f64| {
            PERCENTILES.iter().map(|(_, p)| histogram.value_at_percentile(*p) as f64 * unit).collect()
        };
        Ok(Outcome::Paced {
            sample: ending.of_sample(sample),
            refused,
            seen_ns: at(&cycles, ns),
            own_ns: at(&own, 1.0),
        })
    }

    fn change(&mut self, case: &Case, services: u32, changes: u32) -> Result<Outcome> {
        let mut subject = Subject::crowded(case, services, SERVERS, self.hugepages)?;
        subject.fill(case, 0, case.connections, Tick(0), FILL_MS, Handshake::Whole)?;
        self.feed_case(case);
        let (times, ending) = self.rig.run(subject, Tick(FILL_MS), |view| {
            let mut times = Vec::new();
            for n in 0..changes {
                sleep(Duration::from_millis(2));
                let begun = Instant::now();
                view.change_weight(n)?;
                while view.publisher.quiescent() < view.publisher.current().version {
                    std::hint::spin_loop();
                }
                times.push(begun.elapsed().as_nanos() as f64 / 1000.0);
            }
            Ok(times)
        })?;
        crate::ensure!(ending.conserved && ending.lost == 0, "packets were lost while weights changed");
        Ok(Outcome::Times(times))
    }
}

/// Sleeps until the span is over.
fn rest(span: Span) -> impl FnMut(&mut View<'_>) {
    move |_| sleep(span.run())
}
