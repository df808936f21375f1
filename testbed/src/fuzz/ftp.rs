//! What both ends of FTP's control connections say, cut into segments as the bytes want it.

use std::net::SocketAddr;
use std::sync::Arc;

use control::model::{
    ForwardingMethod, Protocol, RealServer, Scheduler, SchedulerFlags, Service, ServiceKey, Thresholds,
    Tunnel, Weight,
};
use director::pipeline::Action;
use director::time::Tick;

use super::input::Input;
use super::pipeline::framed;
use crate::bottle::Bottle;
use crate::oracle::network;
use crate::oracle::packet::{Packet, TCP};

fn service(v6: bool) -> Service {
    let server = RealServer {
        address: SocketAddr::new(network::server(1, v6), 21),
        method: ForwardingMethod::Nat,
        weight: Weight(1),
        tunnel: Tunnel::default(),
        thresholds: Thresholds::default(),
    };
    Service {
        key: ServiceKey::Address {
            protocol: Protocol::Tcp,
            address: SocketAddr::new(network::vip(1, v6), 21),
        },
        scheduler: Scheduler::Rr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        servers: vec![server],
    }
}

fn segment(from: SocketAddr, to: SocketAddr, (sequence, flags): (u32, u8), text: &[u8]) -> Packet {
    let mut packet = Packet::between(from.ip(), to.ip(), TCP);
    packet.payload =
        [&from.port().to_be_bytes()[..], &to.port().to_be_bytes(), &sequence.to_be_bytes()].concat();
    packet.payload.extend([0, 0, 0, 0, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    packet.payload.extend(text);
    packet.sum_up();
    packet
}

/// Opens a control connection of each version of IP, then lets both ends speak.
///
/// # Panics
/// When a segment that leaves has another length than the one that came, or a wrong checksum.
pub fn ftp(data: &[u8]) {
    let mut input = Input(data);
    let mut now = Tick(1000);
    let mut bottle = Bottle::new(2, 64, now);
    bottle.services = [false, true].map(service).map(|service| (service.key, Arc::new(service))).into();
    bottle.publish();
    let ends = |v6| {
        let client = SocketAddr::new(network::client(1, v6), 30_000);
        (client, SocketAddr::new(network::vip(1, v6), 21), SocketAddr::new(network::server(1, v6), 21))
    };
    for v6 in [false, true] {
        let (client, vip, _) = ends(v6);
        bottle.send(0, 0, &framed(0, &segment(client, vip, (0, 2), b"").ip()), now);
    }
    while !input.is_empty() {
        let how = input.byte();
        let (client, vip, server) = ends(how & 1 != 0);
        let (port, from, to) = if how & 2 != 0 { (1, server, client) } else { (0, client, vip) };
        let sequence = u32::from(input.word());
        let len = usize::from(input.byte());
        let text = input.take(len);
        let segment = segment(from, to, (sequence, 0x10), text);
        for (verdict, out) in bottle.send(usize::from(how >> 2 & 1), port, &framed(port, &segment.ip()), now)
        {
            if let Action::Forward(_) | Action::Cut(_) = verdict.action {
                let mut left = Packet::read(&out).expect("IP leaves");
                assert_eq!(left.payload.len(), segment.payload.len(), "the length stays");
                let sum = left.word(16);
                left.sum_up();
                assert_eq!(left.word(16), sum, "{:?}", String::from_utf8_lossy(&left.payload[20..]));
            }
        }
        now = now.after(u32::from(how) * 64);
    }
}
