//! Health checks: whether real servers do what they are there for, and what becomes of those that do not.
//!
//! ```text
//! policy (what is checked, and what follows) ──► runner (asks real servers) ──► rise/fall of each check
//!                                                                                  │ only what changes
//!          effective service ◄── standings ◄── pool of one virtual service ◄── board
//!                                                                                  │ only what changes
//!                 signs (what the data path has counted) ──► silence of each real server
//! ```
//!
//! The operator's weights are not touched: a pool makes of the service as configured the one as it is to be compiled.
//! [`RiseFall`], silence and [`Pool`] have no clock; whoever calls them says what time it is.

mod board;
mod check;
mod dns;
mod exec;
mod failure;
mod grpc;
mod http;
mod icmp;
mod passive;
mod policy;
mod pool;
mod rise_fall;
mod runner;
mod smtp;
mod tcp;
mod tls;
mod udp;

pub use board::Board;
pub use check::{Check, Dns, Grpc, Http, Kind, Pattern, Reply, Smtp, Target, Tls, Udp};
pub use failure::Failure;
pub use passive::{Passive, Signs};
pub use policy::{OnFailure, Policy};
pub use pool::{Pool, Standing};
pub use rise_fall::RiseFall;
pub use runner::{Report, Runner, keep_off, probe};
pub(crate) use tls::certificates;
