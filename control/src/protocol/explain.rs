//! What would become of a packet: the question and the answer.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::reply::ConnectionStatus;
use super::template::TemplateStatus;
use crate::health::Standing;
use crate::model::{ForwardingMethod, Mark, Protocol, ServiceKey, Thresholds, Tunnel, Weight};

/// A flag of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "RFC 9293 §3.1 names them")]
pub enum TcpFlag {
    Fin,
    Syn,
    Rst,
    Psh,
    Ack,
    Urg,
}

impl TcpFlag {
    /// All of them, in the order of their bits, the lowest first.
    pub const ALL: [TcpFlag; 6] =
        [TcpFlag::Fin, TcpFlag::Syn, TcpFlag::Rst, TcpFlag::Psh, TcpFlag::Ack, TcpFlag::Urg];

    /// As in the protocol.
    pub fn word(self) -> &'static str {
        ["fin", "syn", "rst", "psh", "ack", "urg"][self as usize]
    }

    /// Its bit in the header.
    pub fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The first chunk of an SCTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "RFC 9260 §3.2 names them")]
pub enum SctpChunk {
    Data,
    Init,
    InitAck,
    Sack,
    Heartbeat,
    Abort,
    Shutdown,
    ShutdownAck,
    CookieEcho,
    CookieAck,
    ShutdownComplete,
}

impl SctpChunk {
    /// Every chunk with its word in the protocol and its number.
    pub const ALL: [(SctpChunk, &'static str, u8); 11] = [
        (SctpChunk::Data, "data", 0),
        (SctpChunk::Init, "init", 1),
        (SctpChunk::InitAck, "init-ack", 2),
        (SctpChunk::Sack, "sack", 3),
        (SctpChunk::Heartbeat, "heartbeat", 4),
        (SctpChunk::Abort, "abort", 6),
        (SctpChunk::Shutdown, "shutdown", 7),
        (SctpChunk::ShutdownAck, "shutdown-ack", 8),
        (SctpChunk::CookieEcho, "cookie-echo", 10),
        (SctpChunk::CookieAck, "cookie-ack", 11),
        (SctpChunk::ShutdownComplete, "shutdown-complete", 14),
    ];

    /// As in the protocol.
    pub fn word(self) -> &'static str {
        SctpChunk::ALL[self as usize].1
    }

    /// Its number in the chunk's header.
    pub fn number(self) -> u8 {
        SctpChunk::ALL[self as usize].2
    }
}

/// A packet to be explained. What is absent is chosen by the director, and said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PacketSketch {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Source address and port.
    pub from: SocketAddr,
    /// Destination address and port, of the same version of IP.
    pub to: SocketAddr,
    /// Flags of a TCP segment; absent: `syn` where no connection is known, else `ack`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<TcpFlag>>,
    /// The chunk of an SCTP packet; absent: `init` where no connection is known, else `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<SctpChunk>,
    /// Length of the IP packet in bytes; absent: as short as can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u16>,
    /// TTL or hop limit; absent: 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// Whether an IPv4 packet must not be fragmented; absent: it must not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub df: Option<bool>,
    /// DSCP, from 0 to 63; absent: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dscp: Option<u8>,
    /// Number of the port that receives it; absent: the one that leads to its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u8>,
    /// Call-ID of a message of SIP by UDP; absent: the datagram says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
}

/// What would become of a packet, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The packet, with everything that was chosen for it.
    pub packet: PacketSketch,
    /// The fields of the packet that were chosen by the director.
    pub assumed: Vec<String>,
    /// The lcore that decides: the owner of the connection.
    pub lcore: u8,
    /// Each decision in its order, with what it was made by.
    pub steps: Vec<ExplanationStep>,
    /// The mark that rules give the packet.
    pub mark: Option<Mark>,
    /// The virtual service; of a known connection that of its real server.
    pub service: Option<ServiceKey>,
    /// The connection as it is before the packet.
    pub connection: Option<ConnectionStatus>,
    /// The persistence template of the client.
    pub template: Option<TemplateStatus>,
    /// The real servers among which the scheduler chooses, in its order; empty where it is not asked.
    pub candidates: Vec<CandidateStatus>,
    /// The real server that the packet is for, or comes from.
    pub server: Option<SocketAddr>,
    /// How packets reach that.
    pub method: Option<ForwardingMethod>,
    /// How they are wrapped, where that is by tunnel.
    pub tunnel: Option<Tunnel>,
    /// Source and destination of what leaves; with NAT rewritten, with a tunnel those of the outer header.
    pub leaves: Option<LeavingPacket>,
    /// Where it leaves.
    pub next_hop: Option<NextHopStatus>,
    /// What becomes of it: `forward`, `cut` (it leaves in fragments), `hold` (it waits for the next hop's Ethernet address),
    /// `punt` (it goes to the kernel) or `drop`.
    pub action: String,
    /// The reason by the name under which `stats` counts it.
    pub reason: String,
    /// What that reason means.
    pub meaning: String,
    /// What is missing for the packet to reach a real server, or its client.
    pub missing: Option<Missing>,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplanationStep {
    /// Which one: `port`, `owner`, `connection`, `service`, `template`, `scheduler`, `forward`, `next-hop`.
    pub step: String,
    /// What was decided, and by what.
    pub finding: String,
}

/// A real server as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateStatus {
    /// Its address and port.
    pub address: SocketAddr,
    /// Its weight by which it is scheduled, after its health.
    pub weight: Weight,
    /// Active connections over all lcores.
    pub active: u64,
    /// Inactive connections over all lcores.
    pub inactive: u64,
    /// When it gets no new connections.
    #[serde(flatten)]
    pub thresholds: Thresholds,
    /// Whether it has reached them.
    pub overloaded: bool,
    /// What became of it for the sake of its health; null: it is not checked.
    pub health: Option<Standing>,
    /// Whether it may be chosen.
    pub available: bool,
    /// Whether it is.
    pub chosen: bool,
}

/// A packet as it leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavingPacket {
    /// Source address.
    pub source: IpAddr,
    /// Source port; null where the outermost header has none.
    pub source_port: Option<u16>,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port; null where the outermost header has none.
    pub destination_port: Option<u16>,
    /// Length of the IP packet in bytes, before it is cut.
    pub size: u16,
}

/// A next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHopStatus {
    /// Address of the router, or of the destination itself where that is on the link.
    pub address: IpAddr,
    /// The kernel's interface.
    pub interface: String,
    /// Number of the port.
    pub port: u8,
    /// VLAN ids on that port, the outermost first.
    pub vlans: Vec<u16>,
    /// Ethernet address of the next hop; null: the kernel has not found it yet.
    pub mac: Option<String>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
}

/// A precondition that is not met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Which one, for programs.
    pub code: String,
    /// What is not as it should be.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}
