//! Memory that is taken at start, and memory that is there.

use control::config::Hugepages;

use super::Case;
use super::facts::Pages;
use super::finding::Finding;

const ABOUT: &str = "memory";
/// Of each real server on each lcore.
const COUNTERS: u64 = 64;

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let Some(available) = case.facts.available.map(|kilobytes| kilobytes >> 10) else { return Vec::new() };
    let counters =
        (u64::from(case.config.limits.servers as u32) + 1024) * COUNTERS * case.workers.len() as u64;
    let memory = u64::from(case.config.dpdk.memory_mb);
    let mut wanted = memory + ((case.tables() + counters) >> 20);
    if case.config.dpdk.hugepages != Hugepages::No {
        // What is in hugepages is taken already.
        wanted = wanted.saturating_sub(case.facts.hugepages.iter().map(Pages::free_mb).sum());
    }
    let connections = &case.config.connections;
    if wanted > available {
        let says = format!(
            "{wanted} MB are taken at start, for {} and {} connections on each of {} lcores above all; {available} MB \
             are available",
            connections.capacity,
            connections.ipv6_capacity,
            case.workers.len()
        );
        let of_one = 256 * case.workers.len().max(1) as u64;
        let room = (available.saturating_sub(memory) << 20) / 2 / of_one;
        let remedy = format!("capacity = {} in [connections], or more memory", room.max(1));
        return vec![Finding::obstacle(ABOUT, says, remedy)];
    }
    vec![Finding::good(ABOUT, format!("{wanted} MB are taken at start, and {available} MB available"))]
}
