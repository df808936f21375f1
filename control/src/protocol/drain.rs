//! What `server.drain.status` answers.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::drain::End;
use crate::model::{ServiceKey, Weight};

/// The deadline of a drain that names none, in seconds.
pub const DEFAULT_DEADLINE: u32 = 600;

pub(super) fn default_deadline() -> u32 {
    DEFAULT_DEADLINE
}

/// Drains that go on, then those that have ended within the last hour, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainList {
    /// One per real server.
    pub drains: Vec<DrainStatus>,
}

/// The drain of one real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// What names the virtual service.
    pub service: ServiceKey,
    /// Address and port of the real server.
    pub server: SocketAddr,
    /// The weight that it had, which cancelling gives back.
    pub weight: Weight,
    /// Whether it stays at the end, with weight 0.
    pub keep: bool,
    /// Whether active connections alone are waited for.
    pub active_only: bool,
    /// Milliseconds since it began.
    pub begun_ms: u64,
    /// Milliseconds until it ends at the latest; 0: it has ended.
    pub deadline_ms: u64,
    /// How many connections the real server had when it began.
    pub at_first: u64,
    /// How many it has in ipvsadm's ActiveConn, or had at the end.
    pub active: u64,
    /// The same of InActConn.
    pub inactive: u64,
    /// Milliseconds until the last connection that is waited for is likely to have gone; null: that cannot be told.
    pub estimate_ms: Option<u64>,
    /// Whether persistence goes on bringing new connections of clients that were there before.
    pub persistent_clients: bool,
    /// How it ended; null: it goes on.
    pub ended: Option<End>,
    /// How many milliseconds ago that was; null: it goes on.
    pub ended_ms: Option<u64>,
}
