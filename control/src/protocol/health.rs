//! What `health` answers.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::health::Standing;
use crate::model::{ServiceKey, Weight};

/// The health of the virtual services that have checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthList {
    /// One per service.
    pub health: Vec<ServiceHealth>,
}

/// The health of one virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceHealth {
    /// What names it.
    pub service: ServiceKey,
    /// The sum of weights that makes it up.
    pub quorum: u32,
    /// How far from that the quorum is lost and regained.
    pub hysteresis: u32,
    /// Whether it has its quorum.
    pub has_quorum: bool,
    /// The weights of real servers that are up together.
    pub live_weight: u64,
    /// Who serves while the quorum is lost; null: nobody else.
    pub sorry_server: Option<SocketAddr>,
    /// Its real servers in the order in which they were added.
    pub servers: Vec<ServerHealth>,
}

/// The health of one real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHealth {
    /// Address and port.
    pub address: SocketAddr,
    /// Whether all its checks count as passed.
    pub up: bool,
    /// For so many milliseconds it has been up, or not.
    pub since_ms: u64,
    /// What has become of it for the sake of its health.
    pub standing: Standing,
    /// The weight that schedulers see.
    pub effective_weight: Weight,
    /// Its checks in the order of the configuration.
    pub checks: Vec<CheckHealth>,
}

/// One check of one real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckHealth {
    /// What is asked, for people.
    pub check: String,
    /// Whether it counts as passed, by `rise` and `fall`.
    pub up: bool,
    /// For so many milliseconds it has, or has not.
    pub since_ms: u64,
    /// Whether the last one passed; null: there has been none yet.
    pub last: Option<bool>,
    /// How long the last one took, in microseconds; null: there has been none yet.
    pub latency_us: Option<u64>,
    /// Why the last one failed that did; null: none has.
    pub error: Option<String>,
    /// How many milliseconds ago that was.
    pub error_ms: Option<u64>,
    /// How many have passed.
    pub passed: u64,
    /// How many have failed.
    pub failed: u64,
}
