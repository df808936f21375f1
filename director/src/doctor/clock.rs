//! The clock that lcores read.

use super::Case;
use super::finding::{Finding, Gain};

const ABOUT: &str = "clock";

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let facts = case.facts;
    let mut findings = Vec::new();
    let steady = ["constant_tsc", "nonstop_tsc"].iter().all(|flag| facts.flags.contains(*flag));
    // Other architectures have neither the flag nor the trouble.
    if facts.flags.contains("tsc") && !steady {
        findings.push(Finding::advice(
            ABOUT,
            Gain::Little,
            "the TSC changes its pace or stops (no constant_tsc and nonstop_tsc)",
            "timeouts and latencies are as wrong as the TSC",
            "in a virtual machine: pass the CPU through (-cpu host,+invtsc)",
        ));
    }
    match facts.clock_source.as_deref() {
        Some("tsc" | "arch_sys_counter") if findings.is_empty() => {
            findings.push(Finding::good(ABOUT, "the TSC, at a constant pace"));
        }
        // What kvm-clock reads is the TSC, without a system call.
        None | Some("tsc" | "arch_sys_counter" | "kvm-clock" | "hyperv_clocksource_tsc_page") => {}
        Some(other) => findings.push(Finding::advice(
            ABOUT,
            Gain::Little,
            format!("the kernel's clock source is {other}"),
            "the kernel may have found the TSC unsteady, which lcores read; health checks pay a system call more",
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource (dmesg tells why it was left)",
        )),
    }
    findings
}
