//! Packets cut into fragments, which come in any order, twice or never, and lie, as the bytes say.

use std::net::SocketAddr;

use director::time::Tick;

use super::input::Input;
use super::pipeline::{bottle, ends_well, framed, send};
use crate::oracle::network;
use crate::oracle::packet::{Packet, Piece, SCTP, TCP, UDP};

/// Cuts whole packets of clients and real servers as the bytes want it, and sends what comes of them.
///
/// # Panics
/// As [`super::pipeline()`].
pub fn fragments(data: &[u8]) {
    let mut input = Input(data);
    let mut now = Tick(u32::MAX - 3000);
    let mut bottle = bottle(now);
    let mut sent = 0;
    while !input.is_empty() {
        let how = input.byte();
        let (v6, replies) = (how & 1 != 0, how & 2 != 0);
        let protocol = [UDP, UDP, TCP, SCTP][usize::from(how >> 2 & 3)];
        let whole = whole(&mut input, v6, replies, protocol);
        let port = u8::from(replies);
        for _ in 0..=how >> 4 {
            let piece = piece(&mut input, &whole);
            sent += 1;
            send(&mut bottle, port, &framed(port, &piece.ip()), now);
        }
        now = now.after(u32::from(input.byte()) * 32);
        bottle.expire(now);
    }
    ends_well(&bottle, sent);
}

/// A packet between a client and a virtual address, or from a real server back.
fn whole(input: &mut Input<'_>, v6: bool, replies: bool, protocol: u8) -> Packet {
    let client = SocketAddr::new(network::client(1, v6), 30_000 + u16::from(input.byte() & 3));
    let host = input.byte();
    let (from, to) = if replies {
        (SocketAddr::new(network::server(1 + host % 6, v6), 80), client)
    } else {
        (client, SocketAddr::new(network::vip(1 + host % 2, v6), 80))
    };
    let len = 40 + usize::from(input.byte()) * 8;
    let mut packet = Packet::between(from.ip(), to.ip(), protocol);
    packet.payload = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    packet.payload.resize(len, 7);
    match protocol {
        UDP => packet.set_word(4, len as u16),
        TCP => packet.set_word(12, 0x5002),
        // An INIT as long as the packet.
        _ => {
            packet.set_word(12, 0x100);
            packet.set_word(14, len as u16 - 12);
        }
    }
    packet.sum_up();
    packet
}

/// A part of a packet, mostly on the boundaries that all its senders would choose.
fn piece(input: &mut Input<'_>, whole: &Packet) -> Packet {
    let (place, id) = (input.byte(), input.byte());
    let units = whole.payload.len().div_ceil(8);
    let (from, len) = match place >> 6 {
        // Quarters, in any order.
        0..=2 => (units * usize::from(place & 3) / 4, units.div_ceil(4)),
        _ => (usize::from(input.byte()), 1 + usize::from(input.byte() & 31)),
    };
    let offset = from * 8;
    let begin = offset.min(whole.payload.len());
    let end = (offset + len * 8).min(whole.payload.len()).max(begin);
    let mut piece = whole.clone();
    piece.payload = whole.payload[begin..end].to_vec();
    if place & 32 != 0 {
        piece.payload.truncate(piece.payload.len() - piece.payload.len().min(usize::from(place & 7)));
    }
    let more = end < whole.payload.len() || place & 16 != 0;
    piece.piece = Some(Piece { id: u32::from(id & 3), offset, more });
    piece.id = if whole.source.is_ipv4() { u16::from(id & 3) } else { 0 };
    piece.df = whole.source.is_ipv6();
    piece
}
