//! ICMP echo, by a ping socket where the kernel grants one, else by a raw socket.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with};

use super::Failure;
use super::runner::{Progress, random};

/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;

pub(super) async fn check(address: SocketAddr, progress: &Progress) -> Result<(), Failure> {
    let (socket, is_raw) = open(address.ip())?;
    let socket = tokio::net::UdpSocket::from_std(socket)
        .map_err(|error| Failure::of_system("cannot open a socket", error))?;
    // A ping socket sets the identifier itself; that the payload comes back tells the reply from others.
    let payload = [random().to_be_bytes(), random().to_be_bytes()].concat();
    let (request, reply) = if address.is_ipv4() { (8, 0) } else { (128, 129) };
    let mut packet = vec![request, 0, 0, 0, payload[0], payload[1], 0, 1];
    packet.extend_from_slice(&payload);
    if address.is_ipv4() {
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
    }
    socket.send(&packet).await.map_err(|error| Failure::of_system("cannot send", error))?;
    progress.at("waiting for the echo reply");
    let mut buffer = [0; 1500];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(|error| format!("ICMP: {error}"))?;
        let mut message = &buffer[..length];
        // A raw socket of IPv4 gives the IP header too.
        if is_raw && address.is_ipv4() {
            let header = message.first().map_or(0, |first| usize::from(first & 15) * 4);
            message = message.get(header..).unwrap_or_default();
        }
        if message.first() == Some(&reply) && message.get(HEADER..) == Some(&payload[..]) {
            return Ok(());
        }
    }
}

/// A socket connected to the address, and whether it is a raw one.
fn open(ip: IpAddr) -> Result<(UdpSocket, bool), Failure> {
    let (family, protocol) = match ip {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // net.ipv4.ping_group_range keeps even root from the first one.
    let ping = socket_with(family, SocketType::DGRAM, flags, Some(protocol)).map(|socket| (socket, false));
    let (socket, is_raw) = ping
        .or_else(|_| Ok((socket_with(family, SocketType::RAW, flags, Some(protocol))?, true)))
        .map_err(|error: Errno| match error {
            Errno::ACCESS | Errno::PERM => Failure::Own(format!(
                "may not ping ({error}): add the group to net.ipv4.ping_group_range, or CAP_NET_RAW"
            )),
            _ => Failure::of_system("cannot open a socket", error),
        })?;
    connect(&socket, &SocketAddr::new(ip, 0))
        .map_err(|error| Failure::of_system("cannot reach it", error))?;
    // Sends and receives as any datagram socket.
    Ok((socket.into(), is_raw))
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_with_itself_is_zero() {
        let mut packet = vec![8, 0, 0, 0, 1, 2, 0, 1, 0xff, 0xfe, 7];
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
        assert_eq!(checksum(&packet), 0);
    }
}
