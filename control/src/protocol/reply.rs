//! What a running director answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::capture::{CapturePage, CaptureStarted};
use super::config::{Applied, ConfigDiff, ConfigHistory};
use super::drain::DrainList;
use super::explain::Explanation;
use super::health::HealthList;
use super::histograms::HistogramList;
use super::inforce::{SettingsList, TimeoutsInForce};
use super::latency::{LatencyDistribution, LatencySummary};
use super::rates::{RateList, Rates};
use super::reasons::ReasonList;
use super::template::TemplateList;
use crate::health::Standing;
use crate::model::{
    ForwardingMethod, Persistence, Protocol, Scheduler, SchedulerFlags, ServiceKey, Thresholds, Tunnel,
    Weight,
};

/// What stands under `"ok"`. In JSON it is the bare object of the variant; the request says which one to expect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    // Before `service.list`, which has nothing that this one has not.
    /// To `rates`.
    Rates(RateList),
    /// To `service.list`.
    ServiceList(ServiceList),
    /// To `connection.list`.
    ConnectionList(ConnectionList),
    /// To `template.list`.
    TemplateList(TemplateList),
    /// To `stats`.
    Stats(Stats),
    /// To `latency`.
    Latency(Latency),
    /// To `health`.
    Health(HealthList),
    /// To `latency.histograms`.
    Histograms(HistogramList),
    /// To `server.drain.status`.
    Drains(DrainList),
    /// To `config.diff`.
    ConfigDiff(ConfigDiff),
    /// To `config.apply` and `config.rollback`.
    Applied(Applied),
    /// To `config.history`.
    ConfigHistory(ConfigHistory),
    /// To `reasons`.
    Reasons(ReasonList),
    /// To `explain`.
    Explanation(Box<Explanation>),
    /// To `capture.start`.
    CaptureStarted(CaptureStarted),
    /// To `capture.read`.
    CapturePage(CapturePage),
    /// To `version`.
    Version(Version),
    /// To `settings`.
    Settings(SettingsList),
    /// To `timeouts`.
    Timeouts(TimeoutsInForce),
    // Last, because an object without required fields would match every reply above.
    /// To every request that changes something.
    Done(Done),
}

impl Reply {
    /// The reply to a change that was carried out.
    pub const DONE: Reply = Reply::Done(Done {});
}

/// A change was carried out: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

/// The virtual services by protocol, address and port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceList {
    /// One per service.
    pub services: Vec<ServiceStatus>,
}

/// One virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// What names it.
    pub service: ServiceKey,
    /// How a real server is chosen.
    pub scheduler: Scheduler,
    /// The scheduler's options.
    pub flags: SchedulerFlags,
    /// Whether clients come back to the same real server; null: no.
    pub persistence: Option<Persistence>,
    /// Whether each datagram is scheduled by itself.
    pub one_packet: bool,
    /// Sums over all lcores since the service was added.
    pub counters: Counters,
    /// Its real servers in the order in which they were added.
    pub servers: Vec<ServerStatus>,
}

/// One real server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Address and port.
    pub address: SocketAddr,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// How it is wrapped where that is by tunnel.
    pub tunnel: Tunnel,
    /// Its share of new connections; 0: none.
    pub weight: Weight,
    /// Between how many connections it gets new ones; 0: however many.
    #[serde(flatten)]
    pub thresholds: Thresholds,
    /// Whether it gets no new ones for having reached the upper threshold.
    pub overloaded: bool,
    /// What has become of it for the sake of its health; absent where that is not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Standing>,
    /// It is drained, and that ends in so many milliseconds at the latest; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_ends_in_ms: Option<u64>,
    /// Connections in ESTABLISHED, SYN_SENT, SYN_RECV or SYNACK, as ipvsadm's ActiveConn; of SCTP in ESTABLISHED; never
    /// a UDP one.
    pub active: u64,
    /// All its other connections, as ipvsadm's InActConn.
    pub inactive: u64,
    /// Sums over all lcores since the real server was added.
    pub counters: Counters,
}

/// What IPVS counts for services and real servers. Bytes are those of the IP packet, without the Ethernet header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Connections made.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients; with direct routing and tunnel the director does not see them.
    pub packets_out: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
}

/// One page of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionList {
    /// The connections of this page, in no promised order.
    pub connections: Vec<ConnectionStatus>,
    /// The `cursor` of the next page; null: this was the last one.
    pub next: Option<String>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Address and port of the client.
    pub client: SocketAddr,
    /// Address and port the client speaks to.
    #[serde(rename = "virtual")]
    pub virtual_address: SocketAddr,
    /// Address and port of the real server.
    pub server: SocketAddr,
    /// How its packets reach the real server.
    pub method: ForwardingMethod,
    /// State by IPVS's name, e.g. `ESTABLISHED`.
    pub state: String,
    /// Milliseconds until it expires if no packet comes.
    pub expires_in_ms: u64,
    /// The lcore that owns it.
    pub lcore: u8,
}

/// Counters since the director started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Milliseconds since the director started.
    pub uptime_ms: u64,
    /// Whether every packet that came in is accounted for, over all lcores.
    pub conserved: bool,
    /// Of all virtual services together, deleted ones included, since the start or since all was zeroed.
    pub counters: Counters,
    /// Of all virtual services together.
    pub rates: Rates,
    /// One per worker lcore.
    pub lcores: Vec<LcoreStats>,
    /// One per port.
    pub ports: Vec<PortStats>,
    /// Counters of the path to and from the kernel, by name.
    pub slow_path: BTreeMap<String, u64>,
}

/// Counters of one worker lcore. All of them count packets unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LcoreStats {
    /// Number of the lcore.
    pub lcore: u8,
    /// CPU it is pinned to.
    pub cpu: u32,
    /// Received from ports.
    pub received: u64,
    /// Taken over from other lcores.
    pub taken_over: u64,
    /// Sent out of a port.
    pub forwarded: u64,
    /// Handed over to other lcores.
    pub handed_over: u64,
    /// Given to the kernel.
    pub punted: u64,
    /// Dropped; `reasons` says why.
    pub dropped: u64,
    /// In the lcore's hands at the moment of the count.
    pub held: u64,
    /// Fragments sent in the place of packets too long for their link, beyond the packets themselves.
    pub pieces: u64,
    /// Sent out of a port on behalf of the kernel.
    pub from_kernel: u64,
    /// Of the kernel's, lost because a port did not take them.
    pub from_kernel_lost: u64,
    /// Connections in its table now.
    pub connections: u64,
    /// Connections its table has room for.
    pub capacity: u64,
    /// Rounds of the polling loop.
    pub loops: u64,
    /// Rounds that found a packet.
    pub busy_loops: u64,
    /// Whether `received + taken_over + pieces` equals `forwarded + handed_over + punted + dropped + held`.
    pub conserved: bool,
    /// Packets by the reason for what became of them, e.g. `request_nat`, `tx_full`; docs/reasons.md has
    /// them all.
    pub reasons: BTreeMap<String, u64>,
}

/// Counters of one port: its driver's, and the director's own of its receive queues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStats {
    /// DPDK's port number.
    pub port: u16,
    /// The device of the configuration: PCI address or vdev string.
    pub device: String,
    /// The kernel interface that mirrors the port; null: none.
    pub mirror: Option<String>,
    /// The director's Ethernet address on this port, `02:00:00:00:00:01`.
    pub mac: String,
    /// What the device spreads packets by over the receive queues: `symmetric`, `source` or `destination` as in
    /// the configuration, or `none`. It is what the device does, which may be less than the configuration wants.
    pub rss: String,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets the device lost because no descriptor was free.
    pub rx_missed: u64,
    /// Packets received with an error.
    pub rx_errors: u64,
    /// Packets lost because no mbuf was free.
    pub rx_no_mbuf: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets that arrived at an lcore which does not own their connection, by number of the receive queue.
    /// They are handed over; the more they are, the less the port's RSS agrees with the director.
    pub wrong_lcore: Vec<u64>,
}

/// What the director itself adds to the way of a packet, from the receive burst to the send burst.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// One per worker lcore.
    pub lcores: Vec<LatencySummary>,
    /// All lcores together.
    pub all: LatencySummary,
    /// The distributions themselves, one per worker lcore.
    #[serde(default)]
    pub distributions: Vec<LatencyDistribution>,
}

/// Versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The running director's version.
    pub director: String,
    /// The DPDK it runs on, as `rte_version` says.
    pub dpdk: String,
    /// The version of this protocol it speaks.
    pub protocol: u32,
}

/// Why a request was not carried out, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Stable name for programs, in kebab-case: `no-such-service`.
    pub code: String,
    /// What is wrong, naming the thing it is about.
    pub message: String,
    /// What the operator can do.
    pub remedy: String,
}

impl Refusal {
    /// A refusal with this code, message and remedy.
    pub fn new(code: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Refusal { code: code.into(), message: message.into(), remedy: remedy.into() }
    }
}
