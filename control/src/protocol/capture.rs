//! Packets of chosen flows, as they came and as they left.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::strict::strict_service_option;
use crate::model::{Protocol, ServiceKey};

/// The shortest `snaplen` of a capture, in bytes.
pub const MIN_SNAPLEN: u32 = 64;

/// The longest `snaplen`, and the one where none is named.
pub const MAX_SNAPLEN: u32 = 65_535;

/// How long a capture may be told to last, in seconds: a day.
pub const MAX_CAPTURE_SECONDS: u32 = 86_400;

/// Which packets are captured: those that agree with every field present, and their answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureFilter {
    /// Transport protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Address of the client, whatever its port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// Virtual service.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "strict_service_option")]
    pub service: Option<ServiceKey>,
    /// Address and port of the real server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<SocketAddr>,
}

/// A capture runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureStarted {
    /// Its number.
    pub capture: u64,
    /// So many bytes of each frame are kept.
    pub snaplen: u32,
}

/// Packets of a capture that were not read before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturePage {
    /// The packets, those of each lcore in their order.
    pub packets: Vec<CapturedPacket>,
    /// How many were read so far, these included.
    pub captured: u64,
    /// How many fitted the filter but found no room, so far.
    pub lost: u64,
    /// Why the capture has ended; null while it goes on or there is more to read.
    pub ended: Option<CaptureEnd>,
}

/// Why a capture has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureEnd {
    /// It has as many packets as were asked for.
    Count,
    /// Its time is over.
    Seconds,
    /// It was stopped.
    Stopped,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedPacket {
    /// When the lcore began the turn of its loop in which it decided about it, in seconds since 1970 (UTC).
    pub seconds: u64,
    /// Nanoseconds of that second.
    pub nanoseconds: u32,
    /// The lcore that decided.
    pub lcore: u8,
    /// Why it decided so, by the name under which `stats` counts it.
    pub reason: String,
    /// How it came.
    pub came: CapturedFrame,
    /// How it left; null where it was dropped, went to the kernel, or waits for its next hop, and where it left in pieces.
    pub left: Option<CapturedFrame>,
}

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedFrame {
    /// The port by which it came or left: the name of its mirror interface, else its device.
    pub port: String,
    /// Its length in bytes, without FCS.
    pub len: u32,
    /// Its first bytes, in Base64 (RFC 4648 §4).
    pub bytes: String,
}
