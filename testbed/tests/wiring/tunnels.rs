//! The far ends of the real servers' tunnels.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with};
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::plan::v6;
use testbed::lab::{Lab, plan};

use crate::{PATIENCE, wire_of_testpmd};

/// A packet for the VIP in a tunnel to the real server: the UDP echo on the VIP answers the client directly,
/// by the router, with the VIP as its source.
#[test]
fn a_packet_in_a_tunnel_is_answered_by_the_vip_past_the_director() -> Result<()> {
    let lab = Lab::plan().build()?;
    let _testpmd = wire_of_testpmd(&lab)?;
    let inner: [(IpAddr, IpAddr); 2] =
        [(plan::CLIENT.into(), plan::VIP_TUN.into()), (v6::CLIENT.into(), v6::VIP_TUN.into())];
    for server in lab.real_servers() {
        for outer in [IpAddr::from(server.address()), server.address_v6().into()] {
            for (client, vip) in inner {
                let (answer, from) = lab.client().enter(|| ask_through_tunnel(outer, client, vip))??;
                let expected = format!("{} through the tunnel", server.name());
                ensure!(answer == expected, "got \"{answer}\" for {vip} by {outer}");
                ensure!(from == SocketAddr::from((vip, plan::ECHO)), "answered by {from}");
            }
        }
    }
    Ok(())
}

fn ask_through_tunnel(server: IpAddr, client: IpAddr, vip: IpAddr) -> Result<(String, SocketAddr)> {
    let socket = UdpSocket::bind((client, 0)).context(|| "cannot bind")?;
    socket.set_read_timeout(Some(PATIENCE)).context(|| "no timeout")?;
    let from = socket.local_addr().context(|| "no address")?;
    let packet = udp_packet(from, SocketAddr::new(vip, plan::ECHO), b"through the tunnel");
    let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let protocol = if vip.is_ipv4() { ipproto::IPIP } else { ipproto::IPV6 };
    // The kernel puts the outer header in front of what is written to this socket.
    let tunnel = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))
        .context(|| "cannot open a raw socket")?;
    sendto(&tunnel, &packet, SendFlags::empty(), &SocketAddr::new(server, 0)).context(|| "cannot send")?;
    let mut buffer = [0; 1500];
    let (length, from) = socket
        .recv_from(&mut buffer)
        .context(|| format!("no answer from {vip} through the tunnel to {server}"))?;
    Ok((String::from_utf8_lossy(&buffer[..length]).into_owned(), from))
}

/// A UDP datagram in an IP packet with good checksums.
fn udp_packet(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let mut datagram = [from.port(), to.port(), length, 0].map(u16::to_be_bytes).concat();
    datagram.extend_from_slice(payload);
    let (ends, mut packet) = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let ends = [from.octets(), to.octets()].concat();
            let mut header = vec![0x45, 0];
            header.extend_from_slice(&(20 + length).to_be_bytes());
            header.extend_from_slice(&[0, 1, 0, 0, 64, 17, 0, 0]);
            header.extend_from_slice(&ends);
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            (ends, header)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let ends = [from.octets(), to.octets()].concat();
            let mut header = vec![0x60, 0, 0, 0];
            header.extend_from_slice(&length.to_be_bytes());
            header.extend_from_slice(&[17, 64]);
            header.extend_from_slice(&ends);
            (ends, header)
        }
        _ => unreachable!("both ends are of one version"),
    };
    let pseudo_header = [&ends[..], &[0, 17], &length.to_be_bytes()].concat();
    let sum = checksum(&[&pseudo_header[..], &datagram].concat());
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(&datagram);
    packet
}

fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let sum: u32 = bytes.chunks(2).map(word).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}
