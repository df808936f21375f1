//! What differs between two configurations, as it is told.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::model::ServiceKey;

/// What differs between what is and what is to be. Its display is for people, one thing a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What is of the whole director, by keys of the configuration: `settings.drop_entry`, `timeouts.tcp`, and
    /// `mark[2]` for a rule, with its place in the list that has it.
    pub keys: Vec<KeyChange>,
    /// Virtual services that come, go, or are changed.
    pub services: Vec<ServiceChange>,
}

/// A key of the configuration whose value differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// The key.
    pub key: String,
    /// The value until now; null: there is none.
    pub from: Option<String>,
    /// The value from now on; null: there is none.
    pub to: Option<String>,
}

/// What becomes of a service or a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It comes.
    Added,
    /// It goes.
    Removed,
    /// It stays, and something of it is different.
    Changed,
}

/// A virtual service that comes, goes, or is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceChange {
    /// The virtual service.
    pub service: ServiceKey,
    /// What becomes of it.
    pub change: Fate,
    /// Its own keys; of one that comes or goes, those that are not the defaults.
    pub keys: Vec<KeyChange>,
    /// Its real servers that come, go, or are changed.
    pub servers: Vec<ServerChange>,
    /// What that moves; null where nobody has looked.
    pub moves: Option<Moves>,
}

/// A real server that comes, goes, or is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerChange {
    /// Its address and port.
    pub address: SocketAddr,
    /// What becomes of it.
    pub change: Fate,
    /// Its keys; of one that comes or goes, those that are not the defaults.
    pub keys: Vec<KeyChange>,
    /// How many connections it has, active and inactive; null where nobody has looked.
    pub connections: Option<u64>,
}

/// What a change of a service moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moves {
    /// Connections that it has now, active and inactive.
    pub connections: u64,
    /// Those of them that lose their real server.
    pub lose_server: u64,
    /// Of a thousand clients, how many would have another real server, or none, where a hash of the client tells which
    /// one; null where it does not, before or after.
    pub clients_per_mille: Option<u16>,
    /// Of a thousand new connections, how many more some real servers would get at the cost of others; null where a
    /// hash tells, and where nothing can be said of a service that comes or goes.
    pub new_per_mille: Option<u16>,
}

impl Difference {
    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.services.is_empty()
    }
}
