//! NUMA: ports and worker lcores on one node.

use std::collections::BTreeSet;

use super::facts::PortFacts;
use super::finding::{Finding, Gain};
use super::{Case, list};

const ABOUT: &str = "NUMA";

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let facts = case.facts;
    if facts.nodes.len() < 2 {
        return Vec::new();
    }
    let workers: BTreeSet<u32> = case.workers.iter().filter_map(|cpu| facts.node_of(*cpu)).collect();
    let mut findings = Vec::new();
    let mut of_ports = BTreeSet::new();
    for (port, device) in case.config.ports.iter().zip(&facts.ports) {
        let PortFacts::Pci(Some(pci)) = device else { continue };
        let Some(node) = pci.node else { continue };
        of_ports.insert(node);
        let strangers = case.workers.iter().filter(|cpu| facts.node_of(**cpu).is_some_and(|of| of != node));
        let strangers = list(strangers);
        if strangers.is_empty() {
            continue;
        }
        findings.push(Finding::advice(
            ABOUT,
            Gain::Some,
            format!("{} is on node {node}, worker CPUs {strangers} are not", port.device),
            "every packet crosses between the sockets: some 100 ns of latency, and a third of the packets",
            format!("cpus = [{}] in [lcores]", list(candidates(case, node))),
        ));
    }
    if of_ports.len() > 1 {
        findings.push(Finding::advice(
            ABOUT,
            Gain::Some,
            format!("ports are on nodes {}", list(&of_ports)),
            "what comes by one and leaves by the other crosses between the sockets",
            "put the NICs into slots of one socket, or use two ports of one NIC",
        ));
    }
    if findings.is_empty() && !of_ports.is_empty() {
        findings
            .push(Finding::good(ABOUT, format!("ports and worker lcores are on node {}", list(&workers))));
    }
    findings
}

/// As many CPUs of a node as there are workers, of different cores where that is known, but not its first.
fn candidates(case: &Case<'_>, node: u32) -> Vec<u32> {
    let cpus = case.facts.nodes.get(&node).map(|node| &node.cpus);
    let online = &case.facts.online;
    let usable = cpus.into_iter().flatten().filter(|cpu| online.is_empty() || online.contains(cpu));
    usable.skip(1).take(case.workers.len()).copied().collect()
}
