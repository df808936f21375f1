//! Queues of a port. Each has one owner, the lcore that polls it.

use std::sync::Arc;

use super::burst::{BURST, Burst, as_pointers};
use super::device::Device;
use super::mbuf::Mbuf;
use crate::lcore::QueuePair;

/// A receive queue. Keeps its port open.
pub struct RxQueue {
    port: u16,
    queue: u16,
    device: Arc<Device>,
}

impl RxQueue {
    pub(super) fn new(device: &Arc<Device>, queue: u16) -> Self {
        Self { port: device.port(), queue, device: device.clone() }
    }

    /// Its number on its port.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.queue
    }

    /// The port's id in the configuration.
    #[must_use]
    pub fn port(&self) -> crate::id::PortId {
        self.device.id()
    }

    /// Receives what is there into the free room of `burst`, and returns how many came. Give it an empty
    /// burst: some drivers receive in fours only. One call into C.
    #[inline]
    pub fn rx_burst(&mut self, burst: &mut Burst) -> usize {
        let vacant = burst.vacant();
        // At most BURST, so that it fits.
        let room = vacant.len() as u16;
        // SAFETY: the port is started, the queue is set up and nobody else polls it; there is room for as
        // many pointers, which is what `Mbuf`s are.
        let received = unsafe {
            dpdk_sys::dpdk_sys_eth_rx_burst(self.port, self.queue, vacant.as_mut_ptr().cast(), room)
        };
        let received = usize::from(received);
        // SAFETY: DPDK filled that many and handed them over.
        unsafe { burst.grow(received) };
        received
    }
}

impl RxQueue {
    /// Appends what is there to `into`, within its capacity and at most a burst. One call into C.
    #[inline]
    fn receive_into(&mut self, into: &mut Vec<Mbuf>) {
        let spare = into.spare_capacity_mut();
        let room = spare.len().min(BURST) as u16;
        // SAFETY: the port is started, the queue is set up and nobody else polls it; there is room for as
        // many pointers, which is what `Mbuf`s are.
        let received = unsafe {
            dpdk_sys::dpdk_sys_eth_rx_burst(self.port, self.queue, spare.as_mut_ptr().cast(), room)
        };
        let len = into.len() + usize::from(received);
        // SAFETY: DPDK filled that many behind the old length and handed them over.
        unsafe { into.set_len(len) };
    }
}

/// A transmit queue. Keeps its port open.
pub struct TxQueue {
    port: u16,
    queue: u16,
    device: Arc<Device>,
}

impl TxQueue {
    pub(super) fn new(device: &Arc<Device>, queue: u16) -> Self {
        Self { port: device.port(), queue, device: device.clone() }
    }

    /// Its number on its port.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.queue
    }

    /// The port's id in the configuration.
    #[must_use]
    pub fn port(&self) -> crate::id::PortId {
        self.device.id()
    }

    /// Sends the packets of `burst` in order and returns how many the port took. The rest stays in the
    /// burst, moved to its front: to be tried again or counted and cleared. One call into C.
    ///
    /// "Took" is what the driver says: net_null and net_pcap take all, a NIC those it has descriptors for.
    #[inline]
    #[must_use = "what was not sent is still in the burst"]
    pub fn tx_burst(&mut self, burst: &mut Burst) -> usize {
        if burst.is_empty() {
            return 0;
        }
        let count = burst.len() as u16;
        // SAFETY: the port is started, the queue is set up and nobody else sends on it; the pointers are of
        // mbufs that we own.
        let sent =
            unsafe { dpdk_sys::dpdk_sys_eth_tx_burst(self.port, self.queue, as_pointers(burst), count) };
        let sent = usize::from(sent);
        // SAFETY: DPDK took over the first `sent`.
        unsafe { burst.forget_front(sent) };
        sent
    }
}

impl TxQueue {
    /// Sends packets from the front of `from`, at most a burst, and removes what was sent. One call into C.
    #[inline]
    fn send_from(&mut self, from: &mut Vec<Mbuf>) -> usize {
        let count = from.len().min(BURST);
        // SAFETY: the port is started, the queue is set up and nobody else sends on it; the pointers are of
        // mbufs that we own.
        let sent = unsafe {
            dpdk_sys::dpdk_sys_eth_tx_burst(self.port, self.queue, from.as_mut_ptr().cast(), count as u16)
        };
        let sent = usize::from(sent).min(count);
        let left = from.len() - sent;
        let front = from.as_mut_ptr();
        // SAFETY: `sent` is at most the length.
        let rest = unsafe { front.add(sent) };
        // SAFETY: DPDK took over the first `sent`; what is left moves to the front, within the allocation.
        unsafe { std::ptr::copy(rest, front, left) };
        // SAFETY: as many are at the front now; those behind were moved or handed over.
        unsafe { from.set_len(left) };
        sent
    }
}

/// The queues of one port that one lcore uses: receive queues (more than one where the driver made more
/// than there are lcores), and a transmit queue.
pub struct PortQueues {
    rx: Vec<RxQueue>,
    tx: TxQueue,
    /// The receive queue whose turn it is.
    turn: usize,
}

impl PortQueues {
    /// `rx` may be empty where other lcores poll all receive queues that there are.
    #[must_use]
    pub fn new(rx: Vec<RxQueue>, tx: TxQueue) -> Self {
        Self { rx, tx, turn: 0 }
    }
}

impl QueuePair for PortQueues {
    type Packet = Mbuf;

    #[inline]
    fn receive(&mut self, into: &mut Vec<Mbuf>) -> u16 {
        // One queue at a time: each gets a whole burst, and none starves behind a full one.
        let Some(queue) = self.rx.get_mut(self.turn) else { return 0 };
        queue.receive_into(into);
        let number = queue.number();
        self.turn += 1;
        if self.turn >= self.rx.len() {
            self.turn = 0;
        }
        number
    }

    #[inline]
    fn transmit(&mut self, from: &mut Vec<Mbuf>) -> usize {
        if from.is_empty() { 0 } else { self.tx.send_from(from) }
    }
}

/// A transmit queue with a burst in front of it: packets are pushed one by one and sent together.
pub struct TxBuffer {
    queue: TxQueue,
    burst: Burst,
}

impl TxBuffer {
    /// An empty one before `queue`.
    #[must_use]
    pub fn new(queue: TxQueue) -> Self {
        Self { queue, burst: Burst::new() }
    }

    /// The port's id in the configuration.
    #[must_use]
    pub fn port(&self) -> crate::id::PortId {
        self.queue.port()
    }

    /// Packets that wait.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.burst.len()
    }

    /// Whether none waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.burst.is_empty()
    }

    /// Whether it has to be flushed before the next [`TxBuffer::push`].
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.burst.len() == BURST
    }

    /// Adds a packet; sends nothing.
    ///
    /// # Errors
    /// The packet, where the buffer is full: [`TxBuffer::flush`] makes room, or [`TxBuffer::discard`].
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        self.burst.push(mbuf)
    }

    /// Sends what waits and returns how many packets the port took. The others still wait, in order:
    /// [`TxBuffer::len`] says how many. Flush again, or [`TxBuffer::discard`] and count them.
    #[inline]
    #[must_use = "packets that the port did not take still wait"]
    pub fn flush(&mut self) -> usize {
        self.queue.tx_burst(&mut self.burst)
    }

    /// Frees what waits and returns how many packets that were.
    #[inline]
    #[must_use = "packets that are lost are counted"]
    pub fn discard(&mut self) -> usize {
        let lost = self.burst.len();
        self.burst.clear();
        lost
    }
}
