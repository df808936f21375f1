//! Packets that leave in pieces, since they are too long for their link.

use super::lose;
use crate::forward::pieces::{self, Uncut};
use crate::id::LcoreId;
use crate::packet::PacketBuf;
use crate::stats::{LcoreCounters, Reason};

/// What an lcore cuts packets by.
pub(super) struct Cutter {
    /// The next identification of a packet of IPv6. The uppermost byte is the lcore's own: all of them send from the
    /// same addresses.
    next_id: u32,
}

impl Cutter {
    pub(super) fn new(lcore: LcoreId) -> Cutter {
        Cutter { next_id: u32::from(lcore.0) << 24 }
    }

    /// Gives a packet to `leave` in pieces of at most `mtu` bytes. The packet itself stays with the caller, who frees it.
    #[cold]
    pub(super) fn cut<P: PacketBuf>(
        &mut self,
        counters: &LcoreCounters,
        packet: &P,
        mtu: u16,
        leave: impl FnMut(P),
    ) {
        let made = pieces::cut(packet, mtu, self.take_id(), leave);
        // Each piece is a packet more, the whole one less: it has left, or is lost.
        match made {
            Ok(pieces) => counters.pieces.add((pieces as u64).wrapping_sub(1)),
            Err((pieces, why)) => {
                counters.pieces.add(pieces as u64);
                let reason = match why {
                    Uncut::TooNarrow => Reason::NeedsFragmentation,
                    Uncut::NoRoom => Reason::NoMbuf,
                };
                lose(counters, reason, 1);
            }
        }
    }

    fn take_id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id = id & 0xff00_0000 | id.wrapping_add(1) & 0x00ff_ffff;
        id
    }
}
