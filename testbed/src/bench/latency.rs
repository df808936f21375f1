//! What the director adds to a packet's way, at a given load: a generator lcore sends frames at an even pace through
//! a net_ring, the director forwards them to a net_null, and the time from when a frame was due until it is handed
//! to the driver is counted. A frame that is sent late, since the generator or the ring held it up, counts from
//! when it was due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use director::dpdk::{Mbuf, MbufPool, RxQueue, TxQueue, tsc};
use director::lcore::QueuePair;
use director::packet::PacketBuf as _;
use director::stats::LatencyCounters;

use super::flows::{Order, Templates};
use super::source::{Fed, Supply};

/// Where in the frame the moment stands at which it was due: in the payload of UDP.
const DUE_AT: usize = 42;

/// The director's queues: they receive from the ring, and note when a frame leaves.
pub struct Measured {
    rx: RxQueue,
    tx: TxQueue,
    noted: Arc<Noted>,
}

/// What was noted of frames that left.
#[derive(Debug, Default)]
pub struct Noted {
    /// Only while this is set.
    pub noting: AtomicBool,
    /// In cycles of the time stamp counter.
    pub cycles: LatencyCounters,
}

impl Measured {
    /// Frames that come by `rx` leave by `tx`.
    #[must_use]
    pub fn new(rx: RxQueue, tx: TxQueue, noted: Arc<Noted>) -> Measured {
        Measured { rx, tx, noted }
    }
}

impl QueuePair for Measured {
    type Packet = Mbuf;

    #[inline]
    fn receive(&mut self, into: &mut Vec<Mbuf>) -> u16 {
        self.rx.rx_burst(into);
        0
    }

    #[inline]
    fn transmit(&mut self, from: &mut Vec<Mbuf>) -> usize {
        if self.noted.noting.load(Ordering::Relaxed) {
            let now = tsc();
            for mbuf in from.iter() {
                if let Some(due) = mbuf.bytes().get(DUE_AT..).and_then(<[u8]>::first_chunk) {
                    self.noted.cycles.record(now.saturating_sub(u64::from_ne_bytes(*due)), 1);
                }
            }
        }
        self.tx.tx_burst(from)
    }
}

/// The generator chooses what is received.
impl Fed for Measured {
    fn feed(&mut self, _: Templates, _: Supply) {}
}

/// Frames that are due together, as a NIC brings them: one by one, the two ends of a ring in memory would mostly
/// wait for each other's cache lines.
const TOGETHER: usize = 16;

/// Sends frames at an even pace.
pub struct Generator {
    /// Where mbufs come from.
    pub pool: MbufPool,
    /// The ring's end.
    pub tx: TxQueue,
    /// The frames.
    pub templates: Templates,
    /// Of which connections.
    pub order: Order,
    /// Cycles for each frame; 0 for as fast as it goes.
    pub every: f64,
}

impl Generator {
    /// Sends until `stop`, counting in `refused` the frames that the full ring did not take.
    pub fn run(&mut self, stop: &AtomicBool, refused: &AtomicU64) {
        let mut burst = Vec::with_capacity(TOGETHER);
        let mut due = tsc() as f64;
        while !stop.load(Ordering::Relaxed) {
            let now = tsc() as f64;
            if now < due {
                std::hint::spin_loop();
                continue;
            }
            while burst.len() < TOGETHER {
                let (Some(mut mbuf), Some(n)) =
                    (self.pool.alloc(self.templates.frame_len()), self.order.next())
                else {
                    break;
                };
                self.templates.stamp(n, mbuf.bytes_mut());
                mbuf.bytes_mut()[DUE_AT..DUE_AT + 8].copy_from_slice(&(due as u64).to_ne_bytes());
                burst.push(mbuf);
            }
            due = if self.every > 0.0 { due + self.every * TOGETHER as f64 } else { now };
            let _sent = self.tx.tx_burst(&mut burst);
            if self.every > 0.0 {
                refused.fetch_add(burst.len() as u64, Ordering::Relaxed);
                Mbuf::free(&mut burst);
            }
        }
        Mbuf::free(&mut burst);
    }
}
