//! What clients and real servers say by SIP, right or not: the Call-ID that is found is the slow reader's, and calls keep
//! their real servers.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use control::model::{
    ForwardingMethod, Persistence, PersistenceEngine, Protocol, RealServer, Scheduler, SchedulerFlags,
    Service, ServiceKey, Thresholds, Tunnel, Weight,
};
use director::pipeline::Action;
use director::sip::call_id;
use director::stats::Reason;
use director::time::Tick;

use super::input::Input;
use super::pipeline::framed;
use crate::bottle::Bottle;
use crate::oracle::network;
use crate::oracle::packet::{Packet, UDP};
use crate::oracle::sip::in_message;

const SIP: u16 = 5060;
const LCORES: usize = 2;
/// As many templates as a bottle has.
const CALLS: usize = 1000;

/// Of IPv4 with one-packet scheduling, of IPv6 without.
fn service(v6: bool) -> Service {
    let server = |n| RealServer {
        address: SocketAddr::new(network::server(n, v6), SIP),
        method: ForwardingMethod::Nat,
        weight: Weight(1),
        tunnel: Tunnel::default(),
        thresholds: Thresholds::default(),
    };
    let persistence =
        Persistence { timeout: Duration::from_secs(300), granularity: 0, engine: PersistenceEngine::Sip };
    Service {
        key: ServiceKey::Address {
            protocol: Protocol::Udp,
            address: SocketAddr::new(network::vip(1, v6), SIP),
        },
        scheduler: Scheduler::Rr,
        flags: SchedulerFlags::default(),
        persistence: Some(persistence),
        one_packet: !v6,
        servers: (1..=3).map(server).collect(),
    }
}

fn datagram(from: SocketAddr, to: SocketAddr, text: &[u8]) -> Packet {
    let mut packet = Packet::between(from.ip(), to.ip(), UDP);
    packet.payload = [from.port(), to.port(), 8 + text.len() as u16, 0].map(u16::to_be_bytes).concat();
    packet.payload.extend(text);
    packet.sum_up();
    packet
}

/// Reads the bytes as a message, then as messages of clients and real servers.
///
/// # Panics
/// When another Call-ID is found than the slow reader's, a message of no call goes on, a call changes its real server,
/// or what leaves says something else than what came.
pub fn sip(data: &[u8]) {
    let mut input = Input(data);
    let now = Tick(u32::MAX - 7);
    let mut bottle = Bottle::new(LCORES, 64, now);
    bottle.services = [false, true].map(service).map(|service| (service.key, Arc::new(service))).into();
    bottle.publish();
    let mut calls: HashMap<String, IpAddr> = HashMap::new();
    check_parser(data);
    while !input.is_empty() && calls.len() < CALLS {
        let how = input.byte();
        let v6 = how & 1 != 0;
        let (by_server, lcore) = (how & 2 != 0, usize::from(how >> 2 & 1));
        let client = SocketAddr::new(network::client(1 + (how >> 3 & 3), v6), 30_000 + u16::from(how >> 5));
        let server = SocketAddr::new(network::server(1 + (how >> 3) % 3, v6), SIP);
        let vip = SocketAddr::new(network::vip(1, v6), SIP);
        let len = usize::from(input.word()) % 700;
        let text = input.take(len);
        check_parser(text);
        let (port, packet) =
            if by_server { (1, datagram(server, client, text)) } else { (0, datagram(client, vip, text)) };
        let (verdict, out) =
            bottle.send(lcore, port, &framed(port, &packet.ip()), now).pop().expect("it is decided about");
        let call = in_message(text);
        if let Action::Forward(_) = verdict.action {
            let mut left = Packet::read(&out).expect("IP leaves");
            assert_eq!(left.payload[8..], packet.payload[8..], "the text stays");
            let sum = left.word(6);
            left.sum_up();
            assert_eq!(left.word(6), sum, "the checksum is right");
            let (from, to) =
                if by_server { (vip.ip(), client.ip()) } else { (client.ip(), left.destination) };
            assert_eq!((left.source, left.destination), (from, to));
            if !v6 {
                let call = call.expect("only what is of a call goes on");
                let other_end = if by_server { server.ip() } else { left.destination };
                let before = calls.insert(call, other_end);
                assert!(by_server || before.is_none_or(|before| before == other_end), "a call moved");
            }
        } else {
            let why = if by_server { Reason::NoService } else { Reason::NoCallId };
            assert_eq!(verdict.reason, why);
            assert_eq!(call, None);
        }
    }
}

fn check_parser(message: &[u8]) {
    let found = call_id(message).map(|id| String::from_utf8(id.to_vec()).expect("ASCII"));
    assert_eq!(found, in_message(message), "{:?}", String::from_utf8_lossy(message));
}
