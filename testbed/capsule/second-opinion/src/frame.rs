//! Valid frames that capsule built, each with what is in it.

use std::net::SocketAddrV4;

use anyhow::{Result, ensure};
use capsule::packets::ip::v4::Ipv4;
use capsule::packets::{Ethernet, Packet, Tcp4, Udp4};
use capsule::testils::proptest::{StrategyMap, field, v4_tcp_with, v4_udp_with};
use capsule::{Mbuf, fieldmap};
use proptest::collection::vec;
use proptest::prelude::{BoxedStrategy, Strategy, any};

/// The longest payload made, in bytes: with a TCP header before it, a frame is 1514 bytes long.
pub const MAX_PAYLOAD: usize = 1460;

/// The longest tail made behind the IPv4 packet, in bytes.
pub const MAX_PADDING: usize = 46;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP (6).
    Tcp,
    /// UDP (17).
    Udp,
}

/// What a parser ought to find in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// The frame's source.
    pub source_mac: [u8; 6],
    /// The frame's destination.
    pub destination_mac: [u8; 6],
    /// Source address and port.
    pub source: SocketAddrV4,
    /// Destination address and port.
    pub destination: SocketAddrV4,
    /// What the ports are of.
    pub protocol: Protocol,
    /// Time to live.
    pub ttl: u8,
    /// Bytes behind the transport header, padding not counted.
    pub payload_len: usize,
}

/// An Ethernet frame with an unfragmented IPv4 packet without options in it, all checksums right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// From the destination MAC to the last byte of padding (no FCS).
    pub bytes: Vec<u8>,
    /// What is in it.
    pub headers: Headers,
    /// Bytes behind the IPv4 packet: as Ethernet pads short frames, but of any content and length up to
    /// [`MAX_PADDING`].
    pub padding: usize,
}

/// Frames with anything in them.
///
/// Drawing from this needs a [`Workbench`](crate::workbench::Workbench) on the thread.
pub fn any_frame(protocol: Protocol) -> BoxedStrategy<Frame> {
    frames(
        protocol,
        fieldmap! {
            field::ipv4_more_fragments => false,
            field::ipv4_fragment_offset => 0u16
        },
    )
}

/// Frames to `destination` with a TTL of 64; otherwise like [`any_frame`].
pub fn frame_to(protocol: Protocol, destination: SocketAddrV4) -> BoxedStrategy<Frame> {
    frames(
        protocol,
        fieldmap! {
            field::ipv4_more_fragments => false,
            field::ipv4_fragment_offset => 0u16,
            field::ipv4_dst => *destination.ip(),
            field::ipv4_ttl => 64u8,
            field::tcp_dst_port => destination.port(),
            field::udp_dst_port => destination.port()
        },
    )
}

/// Headers by capsule's strategies, then a payload and a tail by ours: capsule's have neither.
fn frames(protocol: Protocol, fields: StrategyMap) -> BoxedStrategy<Frame> {
    let headers = match protocol {
        Protocol::Tcp => v4_tcp_with(fields).boxed(),
        Protocol::Udp => v4_udp_with(fields).boxed(),
    };
    (headers, vec(any::<u8>(), 0..=MAX_PAYLOAD), vec(any::<u8>(), 0..=MAX_PADDING))
        .prop_map(move |(mbuf, payload, padding)| {
            finish(protocol, mbuf, &payload, &padding).expect("capsule takes what its own strategies made")
        })
        .boxed()
}

/// Puts the payload behind the headers, has capsule set lengths and checksums, and pads.
fn finish(protocol: Protocol, mbuf: Mbuf, payload: &[u8], padding: &[u8]) -> Result<Frame> {
    let ethernet = mbuf.parse::<Ethernet>()?;
    let (source_mac, destination_mac) = (ethernet.src().octets(), ethernet.dst().octets());
    let ip = ethernet.parse::<Ipv4>()?;
    let (source, destination, ttl) = (ip.src(), ip.dst(), ip.ttl());
    let (mbuf, source_port, destination_port) = match protocol {
        Protocol::Tcp => {
            let tcp = ip.parse::<Tcp4>()?;
            let (source, destination) = (tcp.src_port(), tcp.dst_port());
            (with_payload(tcp, payload)?, source, destination)
        }
        Protocol::Udp => {
            let udp = ip.parse::<Udp4>()?;
            let (source, destination) = (udp.src_port(), udp.dst_port());
            (with_payload(udp, payload)?, source, destination)
        }
    };
    let mut bytes = bytes_of(&mbuf)?;
    bytes.extend_from_slice(padding);
    Ok(Frame {
        bytes,
        headers: Headers {
            source_mac,
            destination_mac,
            source: SocketAddrV4::new(source, source_port),
            destination: SocketAddrV4::new(destination, destination_port),
            protocol,
            ttl,
            payload_len: payload.len(),
        },
        padding: padding.len(),
    })
}

/// The packet with `payload` behind its last header.
fn with_payload<P: Packet>(mut packet: P, payload: &[u8]) -> Result<Mbuf> {
    ensure!(packet.payload_len() == 0, "capsule's strategies make packets without payload");
    if !payload.is_empty() {
        let offset = packet.payload_offset();
        let mbuf = packet.mbuf_mut();
        mbuf.extend(offset, payload.len())?;
        mbuf.write_data_slice(offset, payload)?;
    }
    packet.reconcile_all();
    Ok(packet.reset())
}

/// A copy of the whole frame.
///
/// # Errors
/// If it is empty.
pub fn bytes_of(mbuf: &Mbuf) -> Result<Vec<u8>> {
    let bytes = mbuf.read_data_slice::<u8>(0, mbuf.data_len())?;
    // SAFETY: capsule checked the range, `mbuf` is borrowed until the copy is made, and nothing else
    // has its data.
    Ok(unsafe { bytes.as_ref() }.to_vec())
}
