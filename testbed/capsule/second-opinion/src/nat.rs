//! The rewrite of a NAT director, on capsule: destination, TTL, MACs, checksums.
//!
//! Only the rewrite: no connection table, no scheduler worth the name. capsule has no setter for a
//! transport checksum, so after a change of port its way is [`Packet::reconcile_all`], which computes
//! lengths and checksums anew over the whole packet (up to the end of the frame, padding included).

use std::net::SocketAddrV4;

use anyhow::{Result, bail, ensure};
use capsule::Mbuf;
use capsule::batch::{Batch, PacketRx, PacketTx, Pipeline, Poll};
use capsule::net::MacAddr;
use capsule::packets::ip::ProtocolNumbers;
use capsule::packets::ip::v4::Ipv4;
use capsule::packets::{Ethernet, Packet, Tcp4, Udp4};

/// A real server as a NAT director sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealServer {
    /// Where it listens.
    pub address: SocketAddrV4,
    /// Who to send the frame to.
    pub mac: [u8; 6],
}

/// What to rewrite to what.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The virtual service's address and port, for TCP and UDP alike.
    pub service: SocketAddrV4,
    /// At least one. A client's packets all go to the same one.
    pub real_servers: Vec<RealServer>,
    /// The source of the frames sent.
    pub own_mac: [u8; 6],
}

impl Plan {
    /// Rewrites one packet to its real server.
    ///
    /// # Errors
    /// If the packet is not for the service, is not TCP or UDP, or has no TTL left.
    pub fn rewrite(&self, mut ip: Ipv4) -> Result<Mbuf> {
        ensure!(ip.dst() == *self.service.ip(), "not to the virtual service's address");
        ensure!(ip.ttl() > 1, "no TTL left");
        ensure!(!self.real_servers.is_empty(), "no real server");
        let client = u32::from(ip.src()) as usize;
        let server = self.real_servers[client % self.real_servers.len()];

        let ethernet = ip.envelope_mut();
        ethernet.set_src(MacAddr::from(self.own_mac));
        ethernet.set_dst(MacAddr::from(server.mac));
        ip.set_ttl(ip.ttl() - 1);
        ip.set_dst(*server.address.ip());
        match ip.protocol() {
            ProtocolNumbers::Tcp => {
                let mut tcp = ip.parse::<Tcp4>()?;
                ensure!(tcp.dst_port() == self.service.port(), "not to the virtual service's port");
                tcp.set_dst_port(server.address.port());
                tcp.reconcile_all();
                Ok(tcp.reset())
            }
            ProtocolNumbers::Udp => {
                let mut udp = ip.parse::<Udp4>()?;
                ensure!(udp.dst_port() == self.service.port(), "not to the virtual service's port");
                udp.set_dst_port(server.address.port());
                udp.reconcile_all();
                Ok(udp.reset())
            }
            other => bail!("neither TCP nor UDP: {other}"),
        }
    }

    /// The pipeline from `rx` to `tx`: parse, parse, rewrite. What does not parse or is not for the
    /// service is dropped.
    pub fn pipeline<R, T>(self, rx: R, tx: T) -> impl Pipeline + use<R, T>
    where
        R: PacketRx + Unpin,
        T: PacketTx + Unpin,
    {
        Poll::new(rx)
            .map(|mbuf| mbuf.parse::<Ethernet>())
            .map(|ethernet| ethernet.parse::<Ipv4>())
            .map(move |ip| self.rewrite(ip))
            .send(tx)
    }
}

/// The pipeline that only moves packets from `rx` to `tx`: what the framework and the ports cost alone.
pub fn forward<R, T>(rx: R, tx: T) -> impl Pipeline
where
    R: PacketRx + Unpin,
    T: PacketTx + Unpin,
{
    Poll::new(rx).send(tx)
}
