//! Rates as `rates` and `stats` show them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::model::ServiceKey;

/// What IPVS's estimator makes of the counters: per second, smoothed over some ten seconds. Zero where estimation
/// is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Connections made.
    pub cps: u64,
    /// Packets from clients.
    pub inpps: u64,
    /// Packets to clients.
    pub outpps: u64,
    /// Bytes (not bits) from clients.
    pub inbps: u64,
    /// Bytes (not bits) to clients.
    pub outbps: u64,
}

/// Rates of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateList {
    /// Of all virtual services together.
    pub all: Rates,
    /// By protocol, address and port.
    pub services: Vec<ServiceRates>,
}

/// Rates of one virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRates {
    /// What names it.
    pub service: ServiceKey,
    /// Of all its real servers together.
    pub rates: Rates,
    /// In the order in which they were added.
    pub servers: Vec<ServerRates>,
}

/// Rates of one real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRates {
    /// Address and port.
    pub address: SocketAddr,
    /// Of it alone.
    pub rates: Rates,
}
