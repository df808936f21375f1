//! The frame of a packet that is only thought of.

use std::net::IpAddr;

use control::model::Protocol;
use control::protocol::PacketSketch;

use crate::connection::protocol_number;
use crate::nexthop::MacAddr;
use crate::wire::{checksum, ethernet, ipv4, ipv6, sctp, tcp, udp, write_u16};

/// Length of an SCTP packet with one chunk that says nothing, in bytes.
const SCTP_LEN: usize = 16;
/// How long a window is said to be.
const WINDOW: u16 = 64_240;

/// A frame for this Ethernet station. The sketch must have flags, or a chunk, by its protocol.
///
/// # Errors
/// The least length of the IP packet, in bytes, where the sketch has a smaller one.
pub(super) fn build(sketch: &PacketSketch, station: MacAddr) -> Result<Vec<u8>, usize> {
    let is_ipv4 = sketch.to.is_ipv4();
    let ip_len = if is_ipv4 { ipv4::MIN_HEADER_LEN } else { ipv6::HEADER_LEN };
    let text = match &sketch.call_id {
        Some(id) if sketch.protocol == Protocol::Udp => {
            format!("OPTIONS sip:director SIP/2.0\r\nCall-ID: {id}\r\n\r\n")
        }
        _ => String::new(),
    };
    let least = ip_len
        + match sketch.protocol {
            Protocol::Tcp => tcp::MIN_HEADER_LEN,
            Protocol::Udp => udp::HEADER_LEN + text.len(),
            Protocol::Sctp => SCTP_LEN,
        };
    let len = sketch.size.map_or(least, usize::from);
    if len < least {
        return Err(least);
    }
    let mut transport = vec![0; len - ip_len];
    write_u16(&mut transport, 0, sketch.from.port());
    write_u16(&mut transport, 2, sketch.to.port());
    match sketch.protocol {
        Protocol::Tcp => {
            let flags = sketch.flags.iter().flatten().fold(0, |bits, flag| bits | flag.bit());
            transport[12] = (tcp::MIN_HEADER_LEN as u8 / 4) << 4;
            transport[13] = flags;
            write_u16(&mut transport, 14, WINDOW);
        }
        Protocol::Udp => {
            write_u16(&mut transport, 4, (len - ip_len) as u16);
            transport[udp::HEADER_LEN..][..text.len()].copy_from_slice(text.as_bytes());
        }
        Protocol::Sctp => {
            transport[12] = sketch.chunk.map_or(0, |chunk| chunk.number());
            let chunk = (len - ip_len - 12) as u16;
            write_u16(&mut transport, 14, chunk);
        }
    }
    let protocol = protocol_number(sketch.protocol);
    let sum = match (sketch.from.ip(), sketch.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            checksum::pseudo_header_v4(from, to, protocol, transport.len() as u16)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            checksum::pseudo_header_v6(from, to, protocol, transport.len() as u16)
        }
        _ => 0,
    };
    match sketch.protocol {
        Protocol::Tcp => {
            let sum = !checksum::sum(&transport, sum);
            write_u16(&mut transport, tcp::CHECKSUM, sum);
        }
        Protocol::Udp => {
            let sum = !checksum::sum(&transport, sum);
            write_u16(&mut transport, udp::CHECKSUM, if sum == 0 { 0xffff } else { sum });
        }
        Protocol::Sctp => sctp::write_checksum(&mut transport),
    }
    let mut frame = vec![0; ethernet::HEADER_LEN];
    frame[..6].copy_from_slice(&station.0);
    // Locally administered, and nobody's.
    frame[6] = 0x02;
    write_u16(&mut frame, 12, if is_ipv4 { ethernet::IPV4 } else { ethernet::IPV6 });
    frame.extend(ip_header(sketch, len, protocol));
    frame.extend(transport);
    Ok(frame)
}

fn ip_header(sketch: &PacketSketch, len: usize, protocol: u8) -> Vec<u8> {
    let ttl = sketch.ttl.unwrap_or(64);
    let class = sketch.dscp.unwrap_or(0) << 2;
    match (sketch.from.ip(), sketch.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut ip = vec![0; ipv4::MIN_HEADER_LEN];
            (ip[0], ip[1], ip[8], ip[9]) = (0x45, class, ttl, protocol);
            write_u16(&mut ip, 2, len as u16);
            write_u16(&mut ip, 6, if sketch.df.unwrap_or(true) { ipv4::DONT_FRAGMENT } else { 0 });
            ip[12..16].copy_from_slice(&from.octets());
            ip[16..20].copy_from_slice(&to.octets());
            let sum = !checksum::sum(&ip, 0);
            write_u16(&mut ip, ipv4::CHECKSUM, sum);
            ip
        }
        (from, to) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V6(v6) => v6.octets(),
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            };
            let mut ip = vec![0; ipv6::HEADER_LEN];
            (ip[0], ip[1], ip[6], ip[7]) = (0x60 | class >> 4, class << 4, protocol, ttl);
            write_u16(&mut ip, 4, (len - ipv6::HEADER_LEN) as u16);
            ip[8..24].copy_from_slice(&octets(from));
            ip[24..40].copy_from_slice(&octets(to));
            ip
        }
    }
}
