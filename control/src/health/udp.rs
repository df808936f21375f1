//! A datagram: an ICMP error fails, and where a reply is wanted, so does silence.

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UdpSocket;

use super::{Failure, Udp};

/// Longest datagram there is.
const MAX_DATAGRAM: usize = 65_535;

/// A socket that hears of this address alone, of its ICMP errors too.
pub(super) async fn socket(address: SocketAddr) -> Result<UdpSocket, Failure> {
    let any: SocketAddr = if address.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let failed = |error: std::io::Error| Failure::of_system("cannot open a socket", error);
    let socket = UdpSocket::bind(any).await.map_err(failed)?;
    // "Port unreachable" comes without; that a host or a network cannot be reached, or an answer to ARP is lacking, not.
    let asked = match address {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true),
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true),
    };
    asked.map_err(|error| failed(error.into()))?;
    socket.connect(address).await.map_err(failed)?;
    Ok(socket)
}

/// Keeps to the timeout by itself, since without a wanted reply it passes when that is over.
pub(super) async fn check(address: SocketAddr, udp: &Udp, timeout: Duration) -> Result<(), Failure> {
    let socket = socket(address).await?;
    socket.send(&udp.payload).await.map_err(|error| Failure::of_system("cannot send", error))?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    match (tokio::time::timeout(timeout, socket.recv(&mut buffer)).await, &udp.reply) {
        (Ok(Err(error)), _) => Err(format!("ICMP: {error}").into()),
        (Ok(Ok(length)), Some(reply)) if !reply.fits(&buffer[..length]) => {
            Err(format!("another reply than wanted, of {length} bytes").into())
        }
        (Ok(Ok(_)), _) | (Err(_), None) => Ok(()),
        (Err(_), Some(_)) => Err(format!("no reply within {} s", timeout.as_secs_f64()).into()),
    }
}
