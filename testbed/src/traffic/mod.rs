//! What goes through a lab: clients, echo real servers, and what a fair spread is.

pub mod curl;
pub mod echo;
pub mod hold;
pub mod spread;
pub mod udp;

use std::collections::BTreeMap;

/// How many answers came from each real server, by its name.
pub type Counts = BTreeMap<String, u64>;
