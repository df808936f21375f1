//! Limits of a process; those of whoever checks, which may not be those of the service.

use super::Case;
use super::facts::PortFacts;
use super::finding::{Finding, Gain};

const ABOUT: &str = "limits";
/// Ports, mirrors, 256 clients of the control socket, health checks under way.
const FILES: u64 = 1024;

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let limit = |name: &str| case.facts.limits.get(name).copied().flatten();
    let mut findings = Vec::new();
    if let Some(files) = limit("Max open files").filter(|files| *files < FILES) {
        findings.push(Finding::advice(
            ABOUT,
            Gain::Little,
            format!("a process may open {files} files"),
            "clients of the control socket are turned away, health checks fail",
            "ulimit -n 65536 (director.service sets LimitNOFILE=)",
        ));
    }
    let has_nic = case.facts.ports.iter().any(|port| matches!(port, PortFacts::Pci(_)));
    if let Some(bytes) = limit("Max locked memory").filter(|_| has_nic) {
        findings.push(Finding::advice(
            ABOUT,
            Gain::Little,
            format!("a process that is not root may lock {} MB", bytes >> 20),
            "vfio pins all of DPDK's memory: without root the port does not open",
            "ulimit -l unlimited (director.service sets LimitMEMLOCK=)",
        ));
    }
    findings
}
