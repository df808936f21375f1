//! IOMMU and vfio, where a port is bound to it.

use super::Case;
use super::facts::PortFacts;
use super::finding::{Finding, Gain};

const ABOUT: &str = "IOMMU";

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let facts = case.facts;
    let mut findings = Vec::new();
    let mut is_wanted = false;
    for (port, device) in case.config.ports.iter().zip(&facts.ports) {
        let PortFacts::Pci(Some(pci)) = device else { continue };
        if pci.driver.as_deref().is_some_and(|driver| driver.starts_with("mlx")) {
            // They share the device with the kernel.
            continue;
        }
        is_wanted = true;
        for (other, driver) in &pci.held_by_kernel {
            findings.push(Finding::obstacle(
                ABOUT,
                format!(
                    "{other} ({driver}) is in IOMMU group {} with {}, and vfio gives groups as a whole",
                    pci.iommu_group.as_deref().unwrap_or("?"),
                    port.device
                ),
                format!("dpdk-devbind.py -b vfio-pci {other}, or another slot"),
            ));
        }
    }
    if !is_wanted {
        return findings;
    }
    match (facts.has_iommu_groups, facts.no_iommu) {
        (true, false) => findings.push(Finding::good(ABOUT, "is on")),
        (_, true) => findings.push(Finding::advice(
            ABOUT,
            Gain::Little,
            "vfio runs without it (enable_unsafe_noiommu_mode)",
            "no speed, but a NIC may write to all memory, and the director needs CAP_SYS_RAWIO and physical addresses",
            "switch VT-d or AMD-Vi on in the firmware, and intel_iommu=on iommu=pt on the kernel's command line",
        )),
        (false, false) => findings.push(Finding::obstacle(
            ABOUT,
            "there is none, or it is off: vfio gives no device away",
            "switch VT-d or AMD-Vi on in the firmware, and intel_iommu=on iommu=pt on the kernel's command line; in a \
             virtual machine without one: echo Y > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
        )),
    }
    if !facts.vfio_loaded {
        findings.push(Finding::obstacle(
            ABOUT,
            "the kernel module vfio-pci is not loaded",
            "modprobe vfio-pci",
        ));
    }
    findings
}
