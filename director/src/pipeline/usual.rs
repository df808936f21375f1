//! The usual packet on its usual way: TCP or UDP by IPv4 of a living connection whose state it does not move, to a next
//! hop that is known. Each of those words is checked before anything is changed; whatever is otherwise goes through
//! `connect`, which decides about all packets, and about these in the same way.

use std::net::Ipv4Addr;

use super::flow::Flow;
use super::lane::Lane;
use super::train::{Sent, Train};
use super::verdict::CommonPort;
use super::way::Ways;
use super::{Flows, MAX_BURST, Pipeline, Verdict};
use crate::connection::{ConnectionTable, Guess};
use crate::packet::PacketBuf;
use crate::service::Snapshot;
use crate::time::Tick;
use crate::wire;

impl Pipeline {
    /// Decides about usual packets, and others of IPv4, which `flows` names, in the order in which they came. `lanes` are
    /// those of `packets`; `flows[i]` is of `packets[i]`. Returns the port by which all leave, if there is one.
    #[inline(never)]
    #[allow(clippy::too_many_arguments)] // called in two places
    pub(super) fn decide_ipv4<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        from_port: bool,
        flows: Option<&Flows>,
        mut lanes: &mut [Lane],
        packets: &mut [P],
        verdicts: &mut [Verdict; MAX_BURST],
    ) -> CommonPort {
        let table = self.tables.ipv4();
        let mut unknown = false;
        for lane in lanes.iter_mut() {
            match table.fetch_connection(lane.hash, lane.bucket) {
                Some(guess) => lane.guess = guess,
                None => unknown = true,
            }
        }
        if unknown {
            fetch_places(table, lanes);
        }
        let mut common = CommonPort::NONE;
        let mut at = 0;
        loop {
            let (alone, rest) = (lanes, (&mut packets[at..], &mut verdicts[at..]));
            let sent = self.forward_alone(snapshot, now, alone, rest, &mut common);
            at += sent;
            let Some((lane, others)) = alone[sent..].split_first_mut() else { return common };
            lanes = others;
            let end = at + usize::from(lane.packets);
            while at < end {
                if lane.packets > 1 {
                    let train = (&mut packets[at..end], &mut verdicts[at..end]);
                    if let Some(sent) = self.forward_train(snapshot, now, lane, train) {
                        at += sent.packets;
                        common.leaves_by(sent.port);
                        continue;
                    }
                }
                let packet = &mut packets[at];
                let decided = match flows.map(|flows| &flows[at]).filter(|flow| !flow.is_usual) {
                    None => Some(self.connect_usual(snapshot, now, from_port, lane, packet)),
                    Some(flow) if flow.goes_on => Some(self.connect(snapshot, now, flow, packet)),
                    Some(_) => None,
                };
                if let Some(decided) = decided {
                    self.decide(&mut verdicts[at], decided);
                }
                common.note(verdicts[at].action);
                at += 1;
                if at < end {
                    // The first one may have opened the connection of those behind it.
                    let guess = self.tables.ipv4().fetch_connection(lane.hash, lane.bucket);
                    lane.guess = guess.unwrap_or(Guess::NONE);
                }
            }
        }
    }

    /// Sends packets on until one wants more than that, or is not alone in its lane. Returns how many went.
    #[inline(never)]
    fn forward_alone<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        lanes: &[Lane],
        (packets, verdicts): Train<P>,
        common: &mut CommonPort,
    ) -> usize {
        let mut ways = self.ways(snapshot, now);
        let mut to = *common;
        let mut sent = 0;
        for (lane, alone) in lanes.iter().zip(packets.iter_mut().zip(verdicts)) {
            if lane.packets > 1 {
                break;
            }
            let Some(Sent { port, .. }) = ways.forward(lane, alone) else { break };
            to.leaves_by(port);
            sent += 1;
        }
        *common = to;
        sent
    }

    /// Sends packets of a lane on.
    #[inline(never)]
    fn forward_train<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        lane: &Lane,
        train: Train<P>,
    ) -> Option<Sent> {
        self.ways(snapshot, now).forward(lane, train)
    }

    #[inline(always)]
    fn ways<'a>(&'a mut self, snapshot: &'a Snapshot, now: Tick) -> Ways<'a> {
        Ways {
            snapshot,
            now,
            has_indexed_replies: self.tables.ipv4().has_indexed_replies(),
            table: self.tables.ipv4_mut(),
            counters: &self.counters,
            last_id: &mut self.next_id,
            lcores: self.lcores.into(),
        }
    }

    /// The way of all packets, for a usual one.
    #[inline(never)]
    fn connect_usual<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        from_port: bool,
        lane: &Lane,
        packet: &mut P,
    ) -> Verdict {
        let Lane { hash, guess, .. } = *lane;
        let mut flow = Flow { from_port, goes_on: true, hash, guess, ..Flow::NONE };
        // It was read before.
        let _ = wire::parse(packet.bytes(), &mut flow.frame);
        self.connect(snapshot, now, &flow, packet)
    }
}

/// Fetches places for connections that may be new.
#[inline(never)]
fn fetch_places(table: &ConnectionTable<Ipv4Addr>, lanes: &[Lane]) {
    for lane in lanes.iter().filter(|lane| lane.guess == Guess::NONE) {
        table.fetch_place(lane.bucket);
    }
}
