//! Queues of a port. Each has one owner, the lcore that polls it.

use std::sync::Arc;

use super::device::Device;
use super::mbuf::Mbuf;
use crate::lcore::QueuePair;

/// The most packets that are received or sent by one call.
pub const BURST: usize = 64;

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

    /// Appends what is there to `into`, within its capacity and at most [`BURST`], and returns how many came.
    /// Give it room for a whole burst: some drivers receive in fours only. One call into C.
    #[inline]
    pub fn rx_burst(&mut self, into: &mut Vec<Mbuf>) -> usize {
        let spare = into.spare_capacity_mut();
        let room = spare.len().min(BURST) as u16;
        // SAFETY: the port is started, the queue is set up and nobody else polls it; there is room for as
        // many pointers, which is what `Mbuf`s are.
        let received = unsafe {
            dpdk_sys::dpdk_sys_eth_rx_burst(self.port, self.queue, spare.as_mut_ptr().cast(), room)
        };
        let received = usize::from(received);
        let len = into.len() + received;
        // SAFETY: DPDK filled that many behind the old length and handed them over.
        unsafe { into.set_len(len) };
        received
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

    /// Sends packets from the front of `from`, at most [`BURST`], and returns how many the port took. The
    /// rest stays, moved to the front: to be tried again or counted and freed. One call into C.
    ///
    /// "Took" is what the driver says: net_null and net_pcap take all, a NIC those it has descriptors for.
    #[inline]
    #[must_use = "what was not sent is still there"]
    pub fn tx_burst(&mut self, from: &mut Vec<Mbuf>) -> usize {
        let count = from.len().min(BURST);
        if count == 0 {
            return 0;
        }
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
        queue.rx_burst(into);
        let number = queue.number();
        self.turn += 1;
        if self.turn >= self.rx.len() {
            self.turn = 0;
        }
        number
    }

    #[inline]
    fn transmit(&mut self, from: &mut Vec<Mbuf>) -> usize {
        self.tx.tx_burst(from)
    }
}
