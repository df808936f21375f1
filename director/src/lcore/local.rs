//! What the kernel sends where a NAT real server is the director itself: answers go through the pipeline, on the lcore
//! that owns their connection; the rest is sent as it is. Nobody comes here without such a real server.

use super::{Handed, Lcore, QueuePair, leave_by, lose, transmit, vlan};
use crate::id::{LcoreId, PortId};
use crate::packet::PacketBuf;
use crate::pipeline::{Action, MAX_BURST, Verdict};
use crate::stats::Reason;
use crate::time::Tick;
use crate::wire;

impl<Q: QueuePair> Lcore<Q> {
    /// As `send_for_kernel`, looking at each frame.
    #[cold]
    #[inline(never)]
    pub(super) fn sort_for_kernel(&mut self, now: Tick) -> usize {
        let mut all = 0;
        let mut frames = std::mem::take(&mut self.burst);
        for at in 0..self.ports.len() {
            let port = PortId(at as u8);
            let Some(ring) = &mut self.ports[at].from_kernel else { continue };
            let wanted = ring.slots().min(MAX_BURST);
            frames.extend((0..wanted).map_while(|_| ring.pop().ok()));
            if frames.is_empty() {
                continue;
            }
            all += frames.len();
            let vlans = self.snapshots.current().hops.vlans();
            if !vlans.is_empty() {
                vlan::take_off(&mut frames, port, vlans);
            }
            for mut frame in frames.drain(..) {
                match self.pipeline.answerer(self.snapshots.current(), &mut frame) {
                    Some(owner) if owner != self.pipeline.lcore() => {
                        self.hand_answer_over(owner, frame, port);
                    }
                    Some(_) => self.answer(frame, port, now, false),
                    None => self.send_kernels(frame, port),
                }
            }
            self.hand_over();
        }
        self.burst = frames;
        Q::Packet::free(&mut self.spent);
        all
    }

    /// Decides about frames of the kernel that other lcores have handed over.
    #[cold]
    #[inline(never)]
    pub(super) fn answer_taken_over(&mut self, now: Tick) {
        let mut kernels = std::mem::take(&mut self.kernels);
        for (frame, port) in kernels.drain(..) {
            self.answer(frame, port, now, true);
        }
        self.kernels = kernels;
        Q::Packet::free(&mut self.spent);
    }

    fn hand_answer_over(&mut self, owner: LcoreId, packet: Q::Packet, port: PortId) {
        self.counters.received.add(1);
        self.counters.reason(Reason::OtherLcore).add(1);
        match self.handing.get_mut(usize::from(owner.0)) {
            Some(handing) => handing.push(Handed { packet, port, is_kernels: true }),
            None => {
                lose(&self.counters, Reason::HandOverFull, 1);
                self.spent.push(packet);
            }
        }
    }

    /// Decides about a frame of the kernel at its owner, which counts it as received if it goes through the pipeline.
    fn answer(&mut self, mut frame: Q::Packet, port: PortId, now: Tick, is_counted: bool) {
        let Some(verdict) = self.pipeline.answer(self.snapshots.current(), now, &mut frame) else {
            if is_counted {
                // Of those that were handed over each has a reason.
                self.counters.reason(Reason::KernelsOwn).add(1);
                match restored(frame) {
                    Ok(frame) => self.leave(frame, port),
                    Err(frame) => self.lose_one(frame, Reason::NoHeadroom),
                }
            } else {
                self.send_kernels(frame, port);
            }
            return;
        };
        self.counters.received.add(u64::from(!is_counted));
        self.obey(verdict, frame, port, now);
    }

    fn obey(&mut self, verdict: Verdict, packet: Q::Packet, port: PortId, now: Tick) {
        match verdict.action {
            Action::Forward(out) => self.leave(packet, out),
            Action::Cut(out) => {
                let vlans = self.snapshots.current().hops.vlans();
                let (counters, ports, leaving) = (&self.counters, &mut self.ports, &mut self.leaving);
                self.cutter.cut(counters, &packet, packet.note() as u16, |piece| {
                    leave_by(counters, ports, leaving, piece, out, vlans);
                });
                self.spent.push(packet);
            }
            Action::Hold(wait) => self.hold(packet, self.pipeline.awaited(wait), now),
            // What is not an answer after all: the kernel has sent it, and would not know what to do with it.
            Action::Punt => self.leave(packet, port),
            Action::Drop | Action::Gather(_) | Action::HandOver(_) => {
                self.counters.dropped.add(1);
                self.spent.push(packet);
            }
        }
    }

    fn leave(&mut self, packet: Q::Packet, out: PortId) {
        let vlans = self.snapshots.current().hops.vlans();
        leave_by(&self.counters, &mut self.ports, &mut self.leaving, packet, out, vlans);
    }

    fn lose_one(&mut self, packet: Q::Packet, reason: Reason) {
        lose(&self.counters, reason, 1);
        self.spent.push(packet);
    }

    /// Sends a frame as the kernel wants it, after what is leaving already; not among the received.
    fn send_kernels(&mut self, frame: Q::Packet, port: PortId) {
        let at = usize::from(port.0);
        let Ok(frame) = restored(frame) else { return self.counters.from_kernel_lost.add(1) };
        let (queues, leaving) = (&mut self.ports[at].queues, &mut self.leaving[at]);
        transmit(&self.counters, queues, leaving);
        leaving.push(frame);
        self.counters.from_kernel.add(queues.transmit(leaving) as u64);
        self.counters.from_kernel_lost.add(leaving.len() as u64);
        Q::Packet::free(leaving);
    }
}

/// A frame with the tags that were taken off; itself where there is no room for them.
fn restored<P: PacketBuf>(mut frame: P) -> Result<P, P> {
    if wire::vlan::restore(&mut frame) { Ok(frame) } else { Err(frame) }
}
