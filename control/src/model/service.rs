//! Virtual service, real server, scheduler, forwarding method: IPVS's words with IPVS's meaning.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Persistence, ServiceKey, Thresholds, Tunnel};

/// Transport protocol of a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
    /// SCTP, IP protocol 132.
    Sctp,
}

/// How packets reach a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardingMethod {
    /// Network address translation (`ipvsadm -m`, "Masq"): destination rewritten, replies cross the director.
    Nat,
    /// Direct routing (`-g`, "Route"): only the next hop's MAC changes. `ipvsadm`'s default.
    #[default]
    Dr,
    /// Inside another IP packet (`-i`, "Tunnel"); [`Tunnel`] says how.
    Tunnel,
}

/// Scheduler by IPVS's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Weighted least connection; IPVS's default.
    #[default]
    Wlc,
    /// Source hashing.
    Sh,
    /// Maglev hashing.
    Mh,
    /// Least connection: as `wlc`, without weights.
    Lc,
    /// Locality-based least connection: one real server for each destination address.
    Lblc,
    /// Locality-based least connection with replication: a set of real servers for each destination address.
    Lblcr,
    /// Destination hashing.
    Dh,
    /// Shortest expected delay.
    Sed,
    /// Never queue.
    Nq,
    /// Weighted failover.
    Fo,
    /// Weighted overflow.
    Ovf,
    /// The better of two random choices.
    Twos,
}

/// Options of the hashing schedulers (`ipvsadm -b`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchedulerFlags {
    /// `sh-fallback`, `mh-fallback`: a client whose real server is unavailable gets another one.
    pub fallback: bool,
    /// `sh-port`, `mh-port`: the source port is part of the hash.
    pub port: bool,
}

/// Weight of a real server, 0..=65535. 0 is quiescent: no new connections, existing ones are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(pub u16);

impl Default for Weight {
    fn default() -> Self {
        Weight(1)
    }
}

/// One real server of one virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RealServer {
    /// Address and port. With DR and tunnel the port equals the service's. Where it is 0, packets keep theirs.
    pub address: SocketAddr,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// How it is wrapped where that is by tunnel.
    #[serde(default)]
    pub tunnel: Tunnel,
    /// Its share of new connections.
    pub weight: Weight,
    /// Between how many connections it gets new ones.
    #[serde(flatten)]
    pub thresholds: Thresholds,
}

/// One virtual service with its real servers in the order in which they were added
/// (schedulers walk them in this order, as IPVS does).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What names it.
    pub key: ServiceKey,
    /// How a real server is chosen for a new connection.
    pub scheduler: Scheduler,
    /// The scheduler's options.
    pub flags: SchedulerFlags,
    /// Whether a client comes back to the same real server, and for how long.
    pub persistence: Option<Persistence>,
    /// One-packet scheduling (`ipvsadm -o`), for UDP: each datagram is scheduled by itself and leaves no connection.
    pub one_packet: bool,
    /// Its real servers; their addresses are unique within the service.
    pub servers: Vec<RealServer>,
}

/// The timeouts that `ipvsadm --set` changes, with IPVS's defaults. Whole seconds, 1..=2_678_400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP ESTABLISHED, 900 s.
    pub tcp: Duration,
    /// TCP FIN_WAIT, 120 s.
    pub tcp_fin: Duration,
    /// UDP, 300 s.
    pub udp: Duration,
}

impl Timeouts {
    /// The longest, in seconds: 31 days, as ipvsadm has it.
    pub const MAX_SECONDS: u32 = 31 * 24 * 3600;
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            tcp: Duration::from_secs(900),
            tcp_fin: Duration::from_secs(120),
            udp: Duration::from_secs(300),
        }
    }
}
