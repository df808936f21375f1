//! What is counted: written by one lcore, read by anyone.

mod counters;
mod estimator;
mod latency;
mod reason;
mod signs;

pub use counters::{Counter, Fleet, LcoreCounters, QueueCounters, ServerCounters, ServerTotals};
pub use estimator::Estimator;
pub use latency::LatencyCounters;
pub use reason::{Class, Reason};
pub use signs::SignCounters;
