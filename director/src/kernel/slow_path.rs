//! The thread between lcores and mirror interfaces, so that no lcore makes a system call.
//!
//! Lcores do not wake it, since that would be one. It sleeps in `poll` on the mirrors, shortly after
//! there was something to do and longer when there was not: a packet for the kernel waits a
//! millisecond at worst.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::mirror::Mirror;
use crate::packet::{PacketBuf, PacketPool};

/// Frames that are moved from one lcore to one mirror, and back, before it is the next one's turn.
const TURN: usize = 64;
/// The largest frame that a mirror gives: an MTU of 9216 and room to spare.
const MAX_FRAME: usize = 10 << 10;
/// Sleep after there was something to do, doubled with each turn that finds nothing.
const SHORTEST_SLEEP: Duration = Duration::from_micros(50);
/// The longest sleep.
const LONGEST_SLEEP: Duration = Duration::from_millis(1);

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the slow path has done. Written by its thread alone.
        #[derive(Debug, Default)]
        pub struct SlowPathCounters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        impl SlowPathCounters {
            /// Names and values.
            pub fn read(&self) -> BTreeMap<String, u64> {
                [$((stringify!($name).to_owned(), self.$name.load(Ordering::Relaxed)),)*].into()
            }
        }
    };
}

counters! {
    /// Frames taken from lcores.
    taken,
    /// Frames that the kernel got.
    to_kernel,
    /// Frames that the kernel did not take because its queue was full.
    mirror_full,
    /// Frames that the kernel did not take because the mirror is down.
    mirror_down,
    /// Frames that the kernel sent.
    from_kernel,
    /// Of those, the ones handed to an lcore to be sent.
    to_lcore,
    /// Frames of the kernel lost because the lcore's ring was full.
    ring_full,
    /// Frames of the kernel lost because there was no mbuf, or none that was large enough.
    pool_empty,
}

/// One port's mirror and rings.
pub struct MirroredPort<P> {
    /// The mirror interface.
    pub mirror: Mirror,
    /// Packets for the kernel, a ring from each lcore.
    pub to_kernel: Vec<rtrb::Consumer<P>>,
    /// Frames to be sent by the port.
    pub from_kernel: rtrb::Producer<P>,
}

/// The running thread. Ends, and is waited for, when dropped.
pub struct SlowPath {
    stop: Arc<AtomicBool>,
    counters: Arc<SlowPathCounters>,
    thread: Option<JoinHandle<()>>,
}

impl SlowPath {
    /// Starts the thread. `at_start` runs on it first, and what it returns is kept until its end.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn<Pool, R>(
        mut ports: Vec<MirroredPort<Pool::Packet>>,
        mut pool: Pool,
        at_start: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<SlowPath>
    where
        Pool: PacketPool + Send + 'static,
        Pool::Packet: Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let counters = Arc::new(SlowPathCounters::default());
        let (stopped, counted) = (stop.clone(), counters.clone());
        let thread = std::thread::Builder::new().name("slow-path".into()).spawn(move || {
            let _kept = at_start();
            let mut buffer = vec![0; MAX_FRAME];
            let mut sleep = SHORTEST_SLEEP;
            while !stopped.load(Ordering::Relaxed) {
                let mut moved = 0;
                for port in &mut ports {
                    moved += deliver(port, &counted);
                    moved += fetch(port, &mut pool, &mut buffer, &counted);
                }
                sleep = if moved > 0 { SHORTEST_SLEEP } else { (sleep * 2).min(LONGEST_SLEEP) };
                if moved == 0 {
                    wait(&ports, sleep);
                }
            }
            // What lcores gave last still reaches the kernel.
            for port in &mut ports {
                while deliver(port, &counted) > 0 {}
            }
        })?;
        Ok(SlowPath { stop, counters, thread: Some(thread) })
    }

    /// Its counters.
    pub fn counters(&self) -> &Arc<SlowPathCounters> {
        &self.counters
    }
}

impl Drop for SlowPath {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the slow path's thread has panicked");
        }
    }
}

/// From lcores to the kernel.
fn deliver<P: PacketBuf>(port: &mut MirroredPort<P>, counters: &SlowPathCounters) -> usize {
    let mut moved = 0;
    for ring in &mut port.to_kernel {
        // Each lcore has its own share: one that is flooded does not starve the others.
        for _ in 0..TURN {
            let Ok(packet) = ring.pop() else { break };
            moved += 1;
            count(&counters.taken);
            count(match port.mirror.deliver(packet.bytes()) {
                Ok(()) => &counters.to_kernel,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => &counters.mirror_full,
                Err(_) => &counters.mirror_down,
            });
        }
    }
    moved
}

/// From the kernel to the lcore that sends for it.
fn fetch<Pool: PacketPool>(
    port: &mut MirroredPort<Pool::Packet>,
    pool: &mut Pool,
    buffer: &mut [u8],
    counters: &SlowPathCounters,
) -> usize {
    for moved in 0..TURN {
        let Ok(len) = port.mirror.take(buffer) else { return moved };
        count(&counters.from_kernel);
        count(match pool.alloc(len) {
            None => &counters.pool_empty,
            Some(mut packet) => {
                packet.bytes_mut().copy_from_slice(&buffer[..len]);
                match port.from_kernel.push(packet) {
                    Ok(()) => &counters.to_lcore,
                    Err(_) => &counters.ring_full,
                }
            }
        });
    }
    TURN
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Until a mirror has a frame, or for so long.
fn wait<P>(ports: &[MirroredPort<P>], at_most: Duration) {
    let mut fds: Vec<PollFd<'_>> = ports.iter().map(|p| PollFd::new(&p.mirror, PollFlags::IN)).collect();
    let timeout = Timespec { tv_sec: 0, tv_nsec: at_most.subsec_nanos().into() };
    match poll(&mut fds, Some(&timeout)) {
        // A mirror that is down reports an error at once, always: do not spin on that.
        Ok(ready) if ready > 0 && fds.iter().all(|fd| !fd.revents().contains(PollFlags::IN)) => {
            std::thread::sleep(LONGEST_SLEEP);
        }
        Ok(_) | Err(_) => {}
    }
}
