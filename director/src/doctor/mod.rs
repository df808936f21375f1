//! `director check`: what of this machine and this configuration is good, what costs speed, and what keeps the director
//! from starting.
//!
//! Facts are read below a root directory, and may be missing or nonsense: then nothing is said about them. Findings are
//! functions of the facts and the configuration alone. Rights are left out: who checks need not be who runs.

mod clock;
mod cpus;
mod devices;
mod facts;
mod finding;
mod hugepages;
mod iommu;
mod limits;
mod memory;
mod numa;
mod probe;
mod report;
mod root;
#[cfg(test)]
mod tests;

use std::path::Path;

use control::config::{Config, Idle, PortDevice};

use crate::connection::Capacity;

pub use facts::Facts;
pub use finding::{Finding, Grade};
pub use probe::Given;
pub use report::Report;

/// Each looks at one thing.
const CHECKS: [fn(&Case<'_>) -> Vec<Finding>; 8] = [
    devices::check,
    iommu::check,
    hugepages::check,
    memory::check,
    numa::check,
    cpus::check,
    clock::check,
    limits::check,
];

/// Looks at the machine whose `/sys`, `/proc` and `/dev` are below `root`, for a director with this configuration.
#[must_use]
pub fn examine(config: &Config, root: &Path) -> Report {
    Report::of(findings(config, &Facts::read(config, root)))
}

fn findings(config: &Config, facts: &Facts) -> Vec<Finding> {
    let case = Case { config, facts, workers: workers(config, facts) };
    CHECKS.iter().flat_map(|check| check(&case)).collect()
}

/// What checks go by.
struct Case<'a> {
    config: &'a Config,
    facts: &'a Facts,
    /// The CPUs of the worker lcores.
    workers: Vec<u32>,
}

impl Case<'_> {
    /// Whether lcores take their whole CPUs.
    fn polls(&self) -> bool {
        match self.config.lcores.idle {
            Idle::Poll => true,
            Idle::Sleep => false,
            Idle::Auto => self.config.ports.iter().any(|port| port.kind == PortDevice::Pci),
        }
    }

    /// Bytes of the tables of connections of all lcores.
    fn tables(&self) -> u64 {
        let connections = &self.config.connections;
        let capacity = Capacity { ipv4: connections.capacity, ipv6: connections.ipv6_capacity };
        capacity.bytes().saturating_mul(self.workers.len() as u64)
    }
}

fn workers(config: &Config, facts: &Facts) -> Vec<u32> {
    match &config.lcores.cpus {
        Some(cpus) => cpus.clone(),
        None => facts.allowed.last().or(facts.online.last()).copied().into_iter().collect(),
    }
}

/// `1, 2, 5`.
fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
