//! Fragments: each waits for the first one of its packet, and goes where that goes. Bytes that come twice are lost.

use std::collections::HashMap;
use std::net::IpAddr;

use super::packet::{Packet, SCTP, TCP};

/// How long a packet's pieces may take to come, in milliseconds.
const PATIENCE: u64 = 5000;

/// A packet of which pieces have come.
#[derive(Debug)]
struct Known {
    since: u64,
    ports: Option<(u16, u16)>,
    /// It contradicts itself.
    bad: bool,
    come: Vec<bool>,
    end: Option<usize>,
    waiting: Vec<(u8, Packet)>,
}

/// What becomes of a fragment.
#[derive(Debug)]
pub enum Fate {
    /// These go on, each by the port it came, with these ports.
    Go(Vec<(u8, Packet)>, (u16, u16)),
    /// It waits.
    Wait,
    /// It is lost.
    Lost,
}

/// All packets of which pieces have come.
#[derive(Debug, Default)]
pub struct Fragments(HashMap<(IpAddr, IpAddr, u8, u32), Known>);

/// Whether a fragment hides a part of the header, or cannot be one.
#[must_use]
pub fn is_bad(packet: &Packet) -> bool {
    let Some(piece) = packet.piece else { return false };
    let header = match packet.protocol {
        TCP => 20,
        SCTP => 16,
        _ => 8,
    };
    let len = packet.payload.len();
    let cut = if piece.offset == 0 { len < header } else { piece.offset < header };
    cut || len == 0 || piece.more && !len.is_multiple_of(8) || piece.offset + len > 65535
}

impl Fragments {
    /// A fragment has come by a port.
    pub fn come(&mut self, port: u8, packet: Packet, now: u64) -> Fate {
        let Some(piece) = packet.piece else { return Fate::Lost };
        let name = (packet.source, packet.destination, packet.protocol, piece.id);
        if self.0.get(&name).is_some_and(|known| now - known.since >= PATIENCE) {
            self.0.remove(&name);
        }
        let known = self.0.entry(name).or_insert_with(|| Known {
            since: now,
            ports: None,
            bad: false,
            come: vec![false; 65536],
            end: None,
            waiting: Vec::new(),
        });
        let (from, to) = (piece.offset, piece.offset + packet.payload.len());
        let here = &known.come[from..to];
        if known.bad || here.iter().all(|come| *come) {
            return Fate::Lost;
        }
        let behind = !piece.more && known.come[to..].iter().any(|come| *come);
        let beyond = known.end.is_some_and(|end| to > end || !piece.more && to != end);
        if behind || beyond || here.iter().any(|come| *come) {
            known.bad = true;
            known.waiting.clear();
            return Fate::Lost;
        }
        known.come[from..to].fill(true);
        if !piece.more {
            known.end = Some(to);
        }
        if from == 0 {
            known.ports = Some((packet.word(0), packet.word(2)));
        }
        known.waiting.push((port, packet));
        let Some(ports) = known.ports else { return Fate::Wait };
        // The one that tells the ports goes before those that waited for it.
        known.waiting.rotate_right(1);
        let go = std::mem::take(&mut known.waiting);
        if known.end.is_some_and(|end| known.come[..end].iter().all(|come| *come)) {
            self.0.remove(&name);
        }
        Fate::Go(go, ports)
    }
}
