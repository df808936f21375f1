//! What an operator says and sees: the service model, the TOML configuration, the Unix-socket
//! protocol with its server and client, and `directorctl`. Knows nothing of DPDK.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod drain;
pub mod health;
pub mod history;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod plot;
pub mod protocol;
pub mod serve;
