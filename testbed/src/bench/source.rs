//! Where packets come from when a capture cannot hold them, or must not repeat: mbufs that are stamped anew for each
//! burst.

use director::dpdk::{BURST, Mbuf, MbufPool, PortQueues};
use director::lcore::QueuePair;
use director::packet::PacketBuf as _;

use super::flows::{Order, Templates};
use super::pieces::Pieces;

/// Which connections the packets belong to.
#[derive(Clone, Debug)]
pub enum Supply {
    /// Each in turn, round after round, in an order that no prefetcher foresees.
    Rounds(Order),
    /// Each once, from the first up to, but without, the second; then nothing.
    Once(u32, u32),
    /// Nothing.
    Nothing,
}

/// A queue pair that receives stamped frames, and sends by a port of DPDK.
pub struct Stamped {
    pool: MbufPool,
    templates: Templates,
    supply: Supply,
    pieces: Pieces,
    out: PortQueues,
}

impl Stamped {
    /// One that receives nothing yet.
    #[must_use]
    pub fn new(pool: MbufPool, templates: Templates, out: PortQueues) -> Stamped {
        Stamped { pool, templates, supply: Supply::Nothing, pieces: Pieces::default(), out }
    }

    fn next(supply: &mut Supply) -> Option<u32> {
        match supply {
            Supply::Rounds(order) => order.next(),
            Supply::Once(next, end) => {
                let here = *next;
                *next = (here + 1).min(*end);
                (here < *end).then_some(here)
            }
            Supply::Nothing => None,
        }
    }
}

/// Queues that are told what to receive.
pub trait Fed: QueuePair<Packet = Mbuf> + Send + 'static {
    /// Receives these frames from now on, as far as it can choose.
    fn feed(&mut self, templates: Templates, supply: Supply);
}

impl Fed for Stamped {
    fn feed(&mut self, templates: Templates, supply: Supply) {
        self.templates = templates;
        self.supply = supply;
    }
}

/// A port receives what its device gives: a capture holds the frames of its case already.
impl Fed for PortQueues {
    fn feed(&mut self, _: Templates, _: Supply) {}
}

impl QueuePair for Stamped {
    type Packet = Mbuf;

    #[inline]
    fn receive(&mut self, into: &mut Vec<Mbuf>) -> u16 {
        for _ in 0..BURST.min(into.capacity() - into.len()) {
            let are_cut = self.templates.are_cut();
            let second = if are_cut { self.pieces.second() } else { None };
            let Some(n) = second.or_else(|| Self::next(&mut self.supply)) else { break };
            let Some(mut mbuf) = self.pool.alloc(self.templates.frame_len()) else { break };
            self.templates.stamp(n, mbuf.bytes_mut());
            if are_cut {
                self.pieces.cut(n, mbuf.bytes_mut());
            }
            into.push(mbuf);
        }
        0
    }

    #[inline]
    fn transmit(&mut self, from: &mut Vec<Mbuf>) -> usize {
        self.out.transmit(from)
    }
}
