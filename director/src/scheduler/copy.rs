//! Copies of schedulers, to try out whom one would choose next: what a choice changes is the copy's alone.

use super::{Request, Scheduler};
use crate::id::LcoreId;

impl Scheduler {
    /// A scheduler of the same kind and candidates that shares nothing with this one and knows nothing of what it has
    /// chosen. One lcore's choices alone may be tried with it.
    pub fn copy(&self, lcore: LcoreId) -> Scheduler {
        match self {
            Scheduler::Rr(rr) => Scheduler::Rr(rr.copy()),
            Scheduler::Wrr(wrr) => Scheduler::Wrr(wrr.copy()),
            Scheduler::Least(kind, least) => Scheduler::Least(*kind, least.copy(lcore)),
            Scheduler::Lblc(lblc) => Scheduler::Lblc(lblc.copy(lcore)),
            Scheduler::Lblcr(lblcr) => Scheduler::Lblcr(lblcr.copy(lcore)),
            Scheduler::Dh(dh) => Scheduler::Dh(dh.clone()),
            Scheduler::Sh(sh) => Scheduler::Sh(sh.clone()),
            Scheduler::Mh(mh) => Scheduler::Mh(mh.clone()),
            Scheduler::Fo(fo) => Scheduler::Fo(fo.clone()),
            Scheduler::Ovf(ovf) => Scheduler::Ovf(ovf.clone()),
            Scheduler::Twos(twos) => Scheduler::Twos(twos.copy()),
        }
    }

    /// Lets a [`Scheduler::copy`] of `other` go on where that is on an lcore, as far as it matters for a request. For that
    /// lcore, between two bursts: it allocates nothing, and its tree, where it has one, is nobody else's to read.
    pub fn take_after(&self, other: &Scheduler, request: Request, lcore: LcoreId) {
        match (self, other) {
            (Scheduler::Rr(rr), Scheduler::Rr(other)) => rr.take_after(other),
            (Scheduler::Wrr(wrr), Scheduler::Wrr(other)) => wrr.take_after(other),
            (Scheduler::Least(_, least), Scheduler::Least(_, other)) => least.take_after(other, lcore),
            (Scheduler::Lblc(lblc), Scheduler::Lblc(other)) => lblc.take_after(other, request, lcore),
            (Scheduler::Lblcr(lblcr), Scheduler::Lblcr(other)) => lblcr.take_after(other, request, lcore),
            (Scheduler::Twos(twos), Scheduler::Twos(other)) => twos.take_after(other, lcore),
            // Nothing of the others changes.
            _ => {}
        }
    }
}
