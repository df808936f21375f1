//! The worker lcores' CPUs: whether they are there, and theirs alone.

use super::finding::{Finding, Gain};
use super::{Case, list};

const ABOUT: &str = "CPUs";

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let missing = missing(case);
    if !missing.is_empty() {
        return missing;
    }
    let mut findings: Vec<Finding> = [shared_cores(case), governor(case)].into_iter().flatten().collect();
    if case.polls() {
        findings.extend([isolated(case), siblings(case), ticks(case)].into_iter().flatten());
    }
    if findings.is_empty() && !case.workers.is_empty() {
        findings.push(Finding::good(ABOUT, format!("worker lcores on {}", list(&case.workers))));
    }
    findings
}

fn missing(case: &Case<'_>) -> Vec<Finding> {
    let facts = case.facts;
    let mut findings = Vec::new();
    let absent = |set: &std::collections::BTreeSet<u32>, cpu: &u32| !set.is_empty() && !set.contains(cpu);
    for cpu in &case.workers {
        if absent(&facts.present, cpu) {
            let says = format!("there is no CPU {cpu}; there are {}", list(&facts.present));
            findings.push(Finding::obstacle(ABOUT, says, "correct cpus in [lcores]"));
        } else if absent(&facts.online, cpu) {
            let remedy = format!("echo 1 > /sys/devices/system/cpu/cpu{cpu}/online");
            findings.push(Finding::obstacle(ABOUT, format!("CPU {cpu} is offline"), remedy));
        } else if absent(&facts.allowed, cpu) {
            findings.push(Finding::obstacle(
                ABOUT,
                format!(
                    "CPU {cpu} is not among those that this process may run on, {}",
                    list(&facts.allowed)
                ),
                "change taskset, cpuset or CPUAffinity=, or correct cpus in [lcores]",
            ));
        }
    }
    findings
}

/// Worker lcores that share a core.
fn shared_cores(case: &Case<'_>) -> Option<Finding> {
    let shares = |cpu: &&u32| {
        let siblings = case.facts.siblings.get(cpu);
        case.workers.iter().any(|other| other != *cpu && siblings.is_some_and(|s| s.contains(other)))
    };
    let sharing = list(case.workers.iter().filter(shares));
    (!sharing.is_empty()).then(|| {
        Finding::advice(
            ABOUT,
            Gain::Some,
            format!("worker CPUs {sharing} are threads of the same cores"),
            "two threads of a core do some 1.2 times what one does alone, not twice",
            "name one thread of each core: lscpu --extended shows which belong together",
        )
    })
}

fn governor(case: &Case<'_>) -> Option<Finding> {
    let slow = case.facts.governors.iter().filter(|(_, governor)| *governor != "performance");
    let slow: Vec<&u32> = slow.map(|(cpu, _)| cpu).collect();
    let governor = case.facts.governors.get(slow.first()?)?;
    let joined = slow.iter().map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(",");
    Some(Finding::advice(
        ABOUT,
        Gain::Some,
        format!("the governor of CPUs {} is {governor}", list(&slow)),
        "a CPU that is slowed down between bursts takes tens of microseconds to be fast again",
        format!("cpupower --cpu {joined} frequency-set --governor performance"),
    ))
}

fn isolated(case: &Case<'_>) -> Option<Finding> {
    let shared: Vec<&u32> = case.workers.iter().filter(|cpu| !case.facts.isolated.contains(cpu)).collect();
    let joined = case.workers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    (!shared.is_empty()).then(|| {
        Finding::advice(
            ABOUT,
            Gain::Some,
            format!("CPUs {} are not isolated", list(&shared)),
            "whatever the scheduler puts there interrupts an lcore for milliseconds: outliers, and lost packets",
            format!(
                "isolcpus=managed_irq,domain,{joined} nohz_full={joined} rcu_nocbs={joined} on the kernel's command line \
                 (GRUB_CMDLINE_LINUX in /etc/default/grub, update-grub, reboot)"
            ),
        )
    })
}

fn siblings(case: &Case<'_>) -> Option<Finding> {
    let of = |cpu: &u32| case.facts.siblings.get(cpu).into_iter().flatten();
    let mut others: Vec<u32> = case.workers.iter().flat_map(of).copied().collect();
    others.retain(|cpu| {
        !case.workers.contains(cpu) && case.facts.online.contains(cpu) && !case.facts.isolated.contains(cpu)
    });
    others.sort_unstable();
    others.dedup();
    (!others.is_empty()).then(|| {
        let commands = others.iter().map(|cpu| format!("echo 0 > /sys/devices/system/cpu/cpu{cpu}/online"));
        Finding::advice(
            ABOUT,
            Gain::Little,
            format!(
                "CPUs {} are the other threads of worker lcores' cores, and others may run there",
                list(&others)
            ),
            "what runs there takes up to half of the core",
            commands.collect::<Vec<_>>().join("; "),
        )
    })
}

fn ticks(case: &Case<'_>) -> Option<Finding> {
    let facts = case.facts;
    let ticking =
        case.workers.iter().filter(|cpu| facts.isolated.contains(cpu) && !facts.nohz_full.contains(cpu));
    let ticking = list(ticking);
    let joined = case.workers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    (!ticking.is_empty()).then(|| {
        Finding::advice(
            ABOUT,
            Gain::Little,
            format!("CPUs {ticking} are isolated, but the scheduler's tick still comes"),
            "some microseconds, 250 or 1000 times a second",
            format!("nohz_full={joined} rcu_nocbs={joined} on the kernel's command line"),
        )
    })
}
