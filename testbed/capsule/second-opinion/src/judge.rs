//! capsule's opinion of a frame: what it reads in it, and whether its checksums are right.

use std::net::SocketAddrV4;

use capsule::Mbuf;
use capsule::packets::ip::v4::Ipv4;
use capsule::packets::ip::{IpPacket, ProtocolNumbers};
use capsule::packets::{Ethernet, Packet, Tcp4, Udp4, checksum};

use crate::frame::{Headers, Protocol, bytes_of};

/// Words of 32 bits in an IPv4 header without options.
const IHL_WITHOUT_OPTIONS: u8 = 5;

/// Bytes in a TCP header without options.
const TCP_HEADER: usize = 20;

/// Bytes in a UDP header.
const UDP_HEADER: usize = 8;

/// What capsule makes of a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The sum over what it covers is as it must be.
    Right,
    /// It is not.
    Wrong,
    /// UDP over IPv4 may leave it out, and says so by 0.
    Absent,
}

/// What capsule thinks of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// What it reads.
    pub headers: Headers,
    /// The IPv4 header's checksum. Never [`Checksum::Absent`].
    pub ip_checksum: Checksum,
    /// The checksum of TCP or UDP, over as much as the IPv4 and UDP lengths say.
    pub transport_checksum: Checksum,
}

/// Why capsule cannot be asked about a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoOpinion {
    /// capsule does not parse it; its words.
    NotParsed(String),
    /// Tagged with a VLAN (802.1Q, 802.1ad): capsule reads through the tag, which is another question.
    Tagged,
    /// Says it is IPv4 and has another version, or is neither TCP nor UDP.
    OtherProtocol,
    /// The IPv4 header has options, which capsule would take for the transport header.
    Options,
    /// A fragment: its checksum covers what is elsewhere.
    Fragment,
    /// A header's length field is shorter than the header or reaches beyond what is around it, which
    /// capsule does not check.
    Length,
}

/// Has capsule parse `frame` and verify its checksums.
///
/// Needs a [`Workbench`](crate::workbench::Workbench) on the thread.
///
/// # Errors
/// Where capsule has no opinion, or one known to be worthless; the variants of [`NoOpinion`] say which.
pub fn judge(frame: &[u8]) -> Result<Opinion, NoOpinion> {
    let not_parsed = |error: anyhow::Error| NoOpinion::NotParsed(error.to_string());

    let ethernet = Mbuf::from_bytes(frame).and_then(Mbuf::parse::<Ethernet>).map_err(not_parsed)?;
    if ethernet.is_dot1q() || ethernet.is_qinq() {
        return Err(NoOpinion::Tagged);
    }
    let (source_mac, destination_mac) = (ethernet.src().octets(), ethernet.dst().octets());
    let ip = ethernet.parse::<Ipv4>().map_err(not_parsed)?;
    if ip.version() != 4 {
        return Err(NoOpinion::OtherProtocol);
    }
    match ip.ihl() {
        IHL_WITHOUT_OPTIONS => {}
        0..IHL_WITHOUT_OPTIONS => return Err(NoOpinion::Length),
        _ => return Err(NoOpinion::Options),
    }
    let ip_len = usize::from(ip.total_length());
    if ip_len < ip.header_len() || ip_len > ip.len() {
        return Err(NoOpinion::Length);
    }
    if ip.more_fragments() || ip.fragment_offset() != 0 {
        return Err(NoOpinion::Fragment);
    }
    // Of the mbuf and not of `frame`: capsule sums 16 bits at a time and wants them aligned, which they are
    // in an mbuf's room and need not be where the caller has them.
    let bytes = bytes_of(ip.mbuf()).map_err(not_parsed)?;
    let ip_checksum = verdict(checksum::compute(0, &bytes[ip.offset()..ip.payload_offset()]));
    let transport = &bytes[ip.payload_offset()..ip.offset() + ip_len];
    let (source, destination, ttl) = (ip.src(), ip.dst(), ip.ttl());

    let (protocol, ports, payload_len, transport_checksum) = match ip.protocol() {
        ProtocolNumbers::Tcp => {
            let tcp = ip.parse::<Tcp4>().map_err(not_parsed)?;
            let header_len = usize::from(tcp.data_offset()) * 4;
            if header_len < TCP_HEADER || header_len > transport.len() {
                return Err(NoOpinion::Length);
            }
            let sum = transport_sum(tcp.envelope(), transport);
            (Protocol::Tcp, (tcp.src_port(), tcp.dst_port()), transport.len() - header_len, verdict(sum))
        }
        ProtocolNumbers::Udp => {
            let udp = ip.parse::<Udp4>().map_err(not_parsed)?;
            let udp_len = usize::from(udp.length());
            if udp_len < UDP_HEADER || udp_len > transport.len() {
                return Err(NoOpinion::Length);
            }
            let checksum = match udp.checksum() {
                0 => Checksum::Absent,
                _ => verdict(transport_sum(udp.envelope(), &transport[..udp_len])),
            };
            (Protocol::Udp, (udp.src_port(), udp.dst_port()), udp_len - UDP_HEADER, checksum)
        }
        _ => return Err(NoOpinion::OtherProtocol),
    };
    Ok(Opinion {
        headers: Headers {
            source_mac,
            destination_mac,
            source: SocketAddrV4::new(source, ports.0),
            destination: SocketAddrV4::new(destination, ports.1),
            protocol,
            ttl,
            payload_len,
        },
        ip_checksum,
        transport_checksum,
    })
}

/// capsule's sum over the pseudo-header of `ip` and `segment`.
fn transport_sum(ip: &Ipv4, segment: &[u8]) -> u16 {
    let len = u16::try_from(segment.len()).expect("no longer than the IPv4 length, which is a u16");
    checksum::compute(ip.pseudo_header(len, ip.next_protocol()).sum(), segment)
}

/// The sum over what a right checksum covers, itself included, is zero.
fn verdict(sum: u16) -> Checksum {
    if sum == 0 { Checksum::Right } else { Checksum::Wrong }
}
