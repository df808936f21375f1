//! The far end of an IPIP tunnel in user space, for kernels that have no ipip of their own.
//!
//! A raw socket hears every IPv4 packet of protocol 4 that is addressed to this machine; the kernel has
//! checked and reassembled the outer one. What is inside is handed back to the kernel by a tun device, as if
//! it had come in by that interface. Nothing goes the other way: replies leave by the ordinary route.

use std::fmt;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, ipproto, recv, socket_with, sockopt};
use tun_rs::{DeviceBuilder, Layer};

use crate::error::{Context as _, Result};

/// The shortest IPv4 header.
const HEADER: usize = 20;

/// Why a packet was not taken out of its tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The outer packet is not IPv4 with protocol 4, or is shorter than it says.
    Outer,
    /// The inner packet is not IPv4, or its header is cut off or lies about its length.
    Inner,
    /// The inner packet is longer than what the outer one carries.
    Truncated,
    /// The inner packet is for an address that this real server does not serve.
    Address(Ipv4Addr),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Outer => f.write_str("the outer packet is not IPv4 in protocol 4"),
            Refusal::Inner => f.write_str("the inner packet is not IPv4"),
            Refusal::Truncated => f.write_str("the inner packet is cut off"),
            Refusal::Address(address) => {
                write!(f, "the inner packet is for {address}, which is no VIP of ours")
            }
        }
    }
}

/// The packet inside an IPIP packet, without what may be padded behind it.
///
/// # Errors
/// When it is none, or is not for one of `vips`.
pub fn decapsulate<'a>(packet: &'a [u8], vips: &[Ipv4Addr]) -> Result<&'a [u8], Refusal> {
    let (header, total) = header(packet).ok_or(Refusal::Outer)?;
    if packet[9] != 4 {
        return Err(Refusal::Outer);
    }
    let inner = packet.get(header..total).ok_or(Refusal::Outer)?;
    let (_, length) = self::header(inner).ok_or(Refusal::Inner)?;
    let inner_packet = inner.get(..length).ok_or(Refusal::Truncated)?;
    let destination = Ipv4Addr::new(inner[16], inner[17], inner[18], inner[19]);
    if !vips.contains(&destination) {
        return Err(Refusal::Address(destination));
    }
    Ok(inner_packet)
}

/// The lengths of header and packet in an IPv4 header, if it is one.
fn header(packet: &[u8]) -> Option<(usize, usize)> {
    if packet.len() < HEADER || packet[0] >> 4 != 4 {
        return None;
    }
    let header = usize::from(packet[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    (header >= HEADER && header <= total && header <= packet.len()).then_some((header, total))
}

/// Takes packets out of tunnels until the process ends. Prints a line with `ready` once it listens, and
/// one for every kind of packet that it refuses, once.
///
/// # Errors
/// When the socket or the device cannot be made (not root), or the socket breaks.
pub fn serve(device: &str, vips: &[Ipv4Addr]) -> Result<()> {
    let tun = DeviceBuilder::new()
        .name(device)
        .layer(Layer::L3)
        .build_sync()
        .context(|| format!("cannot make the tun device {device} (root and /dev/net/tun are needed)"))?;
    let socket = socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::IPIP))
        .context(|| "cannot open a raw socket for protocol 4 (root is needed)")?;
    // Room for a burst of packets while this program waits for its turn on the CPU.
    sockopt::set_socket_recv_buffer_size(&socket, 8 << 20)
        .context(|| "cannot enlarge the raw socket's buffer")?;
    println!("decap is ready: protocol 4 to {device} for {vips:?}");
    let mut buffer = [MaybeUninit::<u8>::uninit(); 65536];
    let mut said = Vec::new();
    loop {
        let (packet, _) = match recv(&socket, &mut buffer[..], RecvFlags::empty()) {
            Ok(((packet, _), length)) => (packet, length),
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => crate::fail!("the raw socket broke: {errno}"),
        };
        match decapsulate(packet, vips) {
            // A tun device that is down or full loses the packet, as a wire would.
            Ok(inner) => drop(tun.send(inner)),
            Err(refusal) => {
                if !said.contains(&refusal) && said.len() < 100 {
                    println!("decap refused a packet: {refusal}");
                    said.push(refusal);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);

    fn ipv4(protocol: u8, destination: Ipv4Addr, options: usize, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(HEADER + options + payload.len()).unwrap();
        let mut packet = vec![0u8; HEADER + options];
        packet[0] = 0x40 | u8::try_from((HEADER + options) / 4).unwrap();
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet[9] = protocol;
        packet[16..20].copy_from_slice(&destination.octets());
        packet.extend_from_slice(payload);
        packet
    }

    fn tunnelled(inner: &[u8]) -> Vec<u8> {
        ipv4(4, Ipv4Addr::new(10, 0, 2, 11), 0, inner)
    }

    #[test]
    fn the_inner_packet_comes_out_as_it_went_in() {
        let inner = ipv4(17, VIP, 0, b"hello");
        assert_eq!(decapsulate(&tunnelled(&inner), &[VIP]), Ok(&inner[..]));
    }

    #[test]
    fn options_in_either_header_are_kept_apart_from_payload() {
        let inner = ipv4(6, VIP, 8, b"hello");
        let outer = ipv4(4, Ipv4Addr::new(10, 0, 2, 11), 40, &inner);
        assert_eq!(decapsulate(&outer, &[VIP]), Ok(&inner[..]));
    }

    #[test]
    fn padding_behind_either_packet_is_cut_off() {
        let inner = ipv4(17, VIP, 0, b"x");
        let mut padded_inside = inner.clone();
        padded_inside.extend_from_slice(&[0; 7]);
        let mut packet = tunnelled(&padded_inside);
        packet.extend_from_slice(&[0; 5]);
        assert_eq!(decapsulate(&packet, &[VIP]), Ok(&inner[..]));
    }

    #[test]
    fn a_packet_for_another_address_is_refused() {
        let other = Ipv4Addr::new(10, 99, 0, 9);
        let packet = tunnelled(&ipv4(17, other, 0, b"x"));
        assert_eq!(decapsulate(&packet, &[VIP]), Err(Refusal::Address(other)));
    }

    #[test]
    fn another_protocol_is_refused() {
        let packet = ipv4(47, Ipv4Addr::new(10, 0, 2, 11), 0, &ipv4(17, VIP, 0, b"x"));
        assert_eq!(decapsulate(&packet, &[VIP]), Err(Refusal::Outer));
    }

    #[test]
    fn an_inner_packet_that_claims_more_than_there_is_is_refused() {
        let mut inner = ipv4(17, VIP, 0, b"hello");
        inner[3] += 1;
        assert_eq!(decapsulate(&tunnelled(&inner), &[VIP]), Err(Refusal::Truncated));
    }

    #[test]
    fn lying_headers_are_refused_at_every_length_and_first_byte() {
        // Too short a payload to pass for options of a longer header.
        let good = tunnelled(&ipv4(17, VIP, 0, b"hey"));
        for cut in 0..good.len() {
            assert!(decapsulate(&good[..cut], &[VIP]).is_err(), "cut to {cut}");
        }
        for first in (0..=255u8).filter(|&first| first != 0x45) {
            for at in [0, HEADER] {
                let mut packet = good.clone();
                packet[at] = first;
                assert!(decapsulate(&packet, &[VIP]).is_err(), "byte {at} is {first:#x}");
            }
        }
    }
}
