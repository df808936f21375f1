//! One trial: frames are sent at an even pace by one lcore, and counted by another as they come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use director::dpdk::{BURST, Eal, Mbuf, MbufPool, RxQueue, TxQueue, tsc, tsc_hz};
use director::id::LcoreId;
use director::packet::PacketBuf as _;
use director::stats::{Counter, LatencyCounters};
use hdrhistogram::Histogram;

use super::stream::{Stream, sent_at};
use crate::error::{Context as _, Result};

/// What the trial is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Frames in a second, in millions; none: as many as go.
    pub(super) mpps: Option<f64>,
    /// How many frames at most.
    pub(super) frames: u64,
    /// How long frames are sent at most.
    pub(super) span: Duration,
    /// How long the last ones are waited for.
    pub(super) wait: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Frames that the port took.
    pub(super) sent: u64,
    /// Those of them that came back; one that comes twice counts twice.
    pub(super) received: u64,
    /// From the first frame to the last.
    pub(super) span: Duration,
    /// Nanoseconds from when a frame was due until it was received.
    pub(super) latency: Histogram<u64>,
}

impl Outcome {
    /// Frames that were sent in a second, in millions.
    #[must_use]
    pub(super) fn mpps(&self) -> f64 {
        self.sent as f64 / self.span.as_secs_f64().max(1e-9) / 1e6
    }

    /// Frames that did not come back.
    #[must_use]
    pub(super) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

/// The generator's two lcores and their queues.
pub(super) struct Rig {
    eal: Eal,
    pool: MbufPool,
    /// Away while a trial runs.
    queues: Option<(TxQueue, RxQueue)>,
    trials: u32,
}

impl Rig {
    /// One that sends by `tx` and receives by `rx`. EAL must have two worker lcores.
    #[must_use]
    pub(super) fn new(eal: Eal, pool: MbufPool, tx: TxQueue, rx: RxQueue) -> Rig {
        Rig { eal, pool, queues: Some((tx, rx)), trials: 0 }
    }

    /// Runs a trial.
    ///
    /// # Errors
    /// When an lcore cannot be launched or panics; the rig is of no use then.
    pub(super) fn run(&mut self, stream: &Stream, plan: Plan) -> Result<Outcome> {
        let (tx, rx) = self.queues.take().context(|| "a trial before this one failed")?;
        self.trials += 1;
        let stop = Arc::new(AtomicBool::new(false));
        let receiver = Receiver {
            rx,
            trial: self.trials,
            received: Counter::default(),
            cycles: LatencyCounters::default(),
        };
        let ending = stop.clone();
        let receiving = self.eal.launch(LcoreId(1), move || receiver.run(&ending));
        let receiving = receiving.context(|| "cannot launch the receiving lcore")?;
        let sender = Sender { tx, pool: self.pool.clone(), stream: stream.clone(), trial: self.trials };
        let sending = self.eal.launch(LcoreId(0), move || sender.run(plan));
        let sent = sending
            .context(|| "cannot launch the sending lcore")
            .and_then(|running| running.join().context(|| "the sending lcore"));
        sleep(plan.wait);
        stop.store(true, Ordering::Relaxed);
        let receiver = receiving.join().context(|| "the receiving lcore")?;
        let (sender, sent, cycles) = sent?;
        self.queues = Some((sender.tx, receiver.rx));
        let ns = 1e9 / tsc_hz() as f64;
        let mut latency = LatencyCounters::histogram();
        for value in receiver.cycles.to_histogram().iter_recorded() {
            latency
                .saturating_record_n((value.value_iterated_to() as f64 * ns) as u64, value.count_at_value());
        }
        Ok(Outcome {
            sent,
            received: receiver.received.get(),
            span: Duration::from_secs_f64(cycles as f64 / tsc_hz() as f64),
            latency,
        })
    }
}

struct Sender {
    tx: TxQueue,
    pool: MbufPool,
    stream: Stream,
    trial: u32,
}

impl Sender {
    /// Returns how many frames were taken, and in how many cycles.
    fn run(mut self, plan: Plan) -> (Sender, u64, u64) {
        let hz = tsc_hz() as f64;
        let every = plan.mpps.map_or(0.0, |mpps| hz / (mpps * 1e6));
        let (begun, last) = (tsc(), (plan.span.as_secs_f64() * hz) as u64);
        let mut burst = Vec::with_capacity(BURST);
        let (mut sent, mut ended) = (0u64, begun);
        loop {
            let gone = tsc() - begun;
            if gone >= last || sent >= plan.frames {
                break;
            }
            // As many as are due by now; frames that the port does not take are due still.
            let due = if every > 0.0 {
                ((gone as f64 / every) as u64 + 1).saturating_sub(sent)
            } else {
                BURST as u64
            };
            let due = due.min(plan.frames - sent).min(BURST as u64) as usize;
            if due == 0 {
                std::hint::spin_loop();
                continue;
            }
            while burst.len() < due
                && let Some(mut mbuf) = self.pool.alloc(self.stream.frame_len())
            {
                let n = sent + burst.len() as u64;
                // Late frames were due earlier, and are late for whoever measures.
                let time = if every > 0.0 { begun + (n as f64 * every) as u64 } else { tsc() };
                self.stream.stamp(
                    (n % u64::from(self.stream.clients())) as u32,
                    self.trial,
                    time,
                    mbuf.bytes_mut(),
                );
                burst.push(mbuf);
            }
            sent += self.tx.tx_burst(&mut burst) as u64;
            ended = tsc();
            // They are stamped anew.
            Mbuf::free(&mut burst);
        }
        (self, sent, ended - begun)
    }
}

struct Receiver {
    rx: RxQueue,
    trial: u32,
    received: Counter,
    cycles: LatencyCounters,
}

impl Receiver {
    fn run(mut self, stop: &AtomicBool) -> Receiver {
        let mut burst = Vec::with_capacity(BURST);
        while !stop.load(Ordering::Relaxed) {
            self.rx.rx_burst(&mut burst);
            let now = tsc();
            for mbuf in &burst {
                if let Some(then) = sent_at(mbuf.bytes(), self.trial) {
                    self.received.add(1);
                    self.cycles.record(now.saturating_sub(then), 1);
                }
            }
            Mbuf::free(&mut burst);
        }
        self
    }
}
