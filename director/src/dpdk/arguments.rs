//! EAL's arguments, from what is configured and what the machine has. The room's documentation says why each.

use std::collections::BTreeSet;

use super::eal::{EalOptions, Hugepages};
use super::error::DpdkError;

/// What the plan depends on.
pub(super) struct Machine {
    /// CPUs that the kernel has, offline ones included.
    present: BTreeSet<u32>,
    /// CPUs that we may run on.
    allowed: BTreeSet<u32>,
    /// Free hugepages of all sizes, in MB.
    free_hugepages_mb: u64,
}

impl Machine {
    pub(super) fn read() -> Self {
        let allowed: BTreeSet<u32> = rustix::thread::sched_getaffinity(None)
            .map(|set| {
                (0..rustix::thread::CpuSet::MAX_CPU).filter(move |cpu| set.is_set(*cpu)).map(|cpu| cpu as u32)
            })
            .map(Iterator::collect)
            .unwrap_or_default();
        let present = std::fs::read_to_string("/sys/devices/system/cpu/present")
            .map(|list| parse_cpu_list(&list))
            .unwrap_or_else(|_| allowed.clone());
        Self { present, allowed, free_hugepages_mb: free_hugepages_mb() }
    }
}

/// `0-3,7` as the kernel writes it.
fn parse_cpu_list(list: &str) -> BTreeSet<u32> {
    let mut cpus = BTreeSet::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            cpus.extend(first..=last);
        }
    }
    cpus
}

fn free_hugepages_mb() -> u64 {
    let Ok(sizes) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return 0 };
    sizes
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let size_kb: u64 = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let number = |file: &str| -> Option<u64> {
                std::fs::read_to_string(entry.path().join(file)).ok()?.trim().parse().ok()
            };
            let free = number("free_hugepages")?.saturating_sub(number("resv_hugepages").unwrap_or(0));
            Some(free * size_kb / 1024)
        })
        .sum()
}

/// What EAL is asked for.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) args: Vec<String>,
    pub(super) worker_cpus: Vec<u32>,
    pub(super) hugepages: bool,
}

/// Options of EAL that the director sets itself, and those that would end the process.
const OURS: [&str; 13] = [
    "-l",
    "-c",
    "--lcores",
    "-s",
    "-S",
    "--main-lcore",
    "-h",
    "--help",
    "--proc-type",
    "--in-memory",
    "--no-huge",
    "-m",
    "--file-prefix",
];

impl Plan {
    pub(super) fn new(options: &EalOptions, machine: &Machine) -> Result<Self, DpdkError> {
        let worker_cpus = worker_cpus(options, machine)?;
        let hugepages = use_hugepages(options, machine)?;
        refuse_ours(options)?;

        let mut args = vec![options.program.clone(), "--lcores".to_owned(), lcores(machine, &worker_cpus)];
        if hugepages {
            args.push("--in-memory".to_owned());
        } else {
            let memory = options.memory_mb.max(1).to_string();
            args.extend(["--no-huge", "-m", memory.as_str(), "--no-shconf"].map(str::to_owned));
        }
        args.extend(["--no-telemetry", "--file-prefix", "director"].map(str::to_owned));
        if options.pci.is_empty() {
            args.extend(["--no-pci", "--iova-mode=va"].map(str::to_owned));
        }
        for address in &options.pci {
            args.extend(["-a".to_owned(), address.clone()]);
        }
        for vdev in &options.vdevs {
            args.extend(["--vdev".to_owned(), vdev.clone()]);
        }
        args.extend(options.extra_args.iter().cloned());
        Ok(Self { args, worker_cpus, hugepages })
    }
}

fn worker_cpus(options: &EalOptions, machine: &Machine) -> Result<Vec<u32>, DpdkError> {
    let what = "placing worker lcores";
    let Some(last) = machine.allowed.last() else {
        return Err(DpdkError::new(
            what,
            "the kernel does not say which CPUs we may run on",
            "is sched_getaffinity forbidden, by seccomp for instance?",
        ));
    };
    let cpus = if options.worker_cpus.is_empty() { vec![*last] } else { options.worker_cpus.clone() };
    for cpu in &cpus {
        let (why, mend) = if !machine.present.contains(cpu) {
            (format!("there is no CPU {cpu}: this machine has {}", list(&machine.present)), "correct")
        } else if !machine.allowed.contains(cpu) {
            let allowed = list(&machine.allowed);
            (
                format!("CPU {cpu} is not among those we may run on ({allowed})"),
                "change taskset or cpuset, or correct",
            )
        } else {
            continue;
        };
        return Err(DpdkError::new(what, why, format!("{mend} cpus in [lcores]")));
    }
    // One lcore is the main one; and a worker's number has 8 bits.
    let most = (dpdk_sys::RTE_MAX_LCORE as usize - 1).min(255);
    if cpus.len() > most {
        return Err(DpdkError::new(
            what,
            format!("{} of them, and this DPDK has room for {most}", cpus.len()),
            "name fewer cpus in [lcores]",
        ));
    }
    Ok(cpus)
}

fn use_hugepages(options: &EalOptions, machine: &Machine) -> Result<bool, DpdkError> {
    let free = machine.free_hugepages_mb;
    match options.hugepages {
        Hugepages::No => Ok(false),
        Hugepages::Auto => Ok(free > 0 && free >= u64::from(options.memory_mb)),
        Hugepages::Yes if free > 0 => Ok(true),
        Hugepages::Yes => Err(DpdkError::new(
            "starting EAL",
            "hugepages are demanded and none is free",
            format!(
                "reserve some (sysctl vm.nr_hugepages={}), or set hugepages = \"auto\" in [dpdk]",
                options.memory_mb.div_ceil(2).max(1)
            ),
        )),
    }
}

fn refuse_ours(options: &EalOptions) -> Result<(), DpdkError> {
    for arg in &options.extra_args {
        // `--lcores=0@0` and `-l0` as well.
        let long = arg.split_once('=').map_or(arg.as_str(), |(name, _)| name);
        let name = if arg.starts_with("--") { long } else { arg.get(..2).unwrap_or(arg) };
        if OURS.contains(&name) {
            return Err(DpdkError::new(
                "starting EAL",
                format!("eal_args holds {name}, which the director sets itself"),
                "take it out: [lcores] and [dpdk] have keys for CPUs, hugepages and memory",
            ));
        }
    }
    Ok(())
}

/// `0@(0-1),1@1,2@0`: the main lcore on all CPUs we may run on, each worker on its own.
fn lcores(machine: &Machine, worker_cpus: &[u32]) -> String {
    let mut lcores = format!("0@({})", list(&machine.allowed));
    for (i, cpu) in worker_cpus.iter().enumerate() {
        lcores.push_str(&format!(",{}@{cpu}", i + 1));
    }
    lcores
}

/// `0-3,7`, as the kernel and EAL write it.
fn list(cpus: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => ranges.push((*cpu, *cpu)),
        }
    }
    let ranges = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    ranges.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(free_hugepages_mb: u64) -> Machine {
        Machine { present: (0..4).collect(), allowed: [0, 1, 3].into(), free_hugepages_mb }
    }

    fn plan(options: EalOptions) -> Result<String, String> {
        Plan::new(&options, &machine(0)).map(|plan| plan.args.join(" ")).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_need_no_hugepages_and_no_nic() {
        assert_eq!(
            plan(EalOptions::default()).unwrap(),
            "director --lcores 0@(0-1,3),1@3 --no-huge -m 512 --no-shconf --no-telemetry --file-prefix director \
             --no-pci --iova-mode=va"
        );
    }

    #[test]
    fn workers_are_pinned_and_may_share_a_cpu() {
        let args = plan(EalOptions { worker_cpus: vec![1, 0, 1], ..Default::default() }).unwrap();
        assert!(args.contains("--lcores 0@(0-1,3),1@1,2@0,3@1 "), "{args}");
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused() {
        let error = plan(EalOptions { worker_cpus: vec![1, 9], ..Default::default() }).unwrap_err();
        assert!(error.contains("there is no CPU 9: this machine has 0-3"), "{error}");
        let error = plan(EalOptions { worker_cpus: vec![2], ..Default::default() }).unwrap_err();
        assert!(error.contains("CPU 2 is not among those we may run on (0-1,3)"), "{error}");
        let error = plan(EalOptions { worker_cpus: vec![0; 128], ..Default::default() }).unwrap_err();
        assert!(error.contains("room for 127"), "{error}");
    }

    #[test]
    fn hugepages_are_used_where_enough_are_free() {
        let with = |hugepages, free| {
            let options = EalOptions { hugepages, memory_mb: 512, ..Default::default() };
            Plan::new(&options, &machine(free)).map(|plan| plan.hugepages)
        };
        assert!(with(Hugepages::Auto, 512).unwrap());
        assert!(!with(Hugepages::Auto, 511).unwrap());
        assert!(with(Hugepages::Yes, 2).unwrap());
        assert!(!with(Hugepages::No, 4096).unwrap());
        let error = with(Hugepages::Yes, 0).unwrap_err().to_string();
        assert!(error.contains("vm.nr_hugepages=256"), "{error}");
    }

    #[test]
    fn pci_devices_are_the_only_ones_taken() {
        let args = plan(EalOptions {
            pci: vec!["0000:03:00.0".to_owned()],
            extra_args: vec!["--vfio-intr=msix".to_owned()],
            ..Default::default()
        })
        .unwrap();
        assert!(args.ends_with("-a 0000:03:00.0 --vfio-intr=msix"), "{args}");
        assert!(!args.contains("--no-pci") && !args.contains("iova-mode"), "{args}");
    }

    #[test]
    fn arguments_that_the_director_sets_are_refused() {
        for arg in ["-l", "-l0,1", "--lcores=0@0", "-h", "-m", "-m64"] {
            let error =
                plan(EalOptions { extra_args: vec![arg.to_owned()], ..Default::default() }).unwrap_err();
            assert!(error.contains("which the director sets itself"), "{error}");
        }
    }

    #[test]
    fn reads_and_writes_the_kernels_lists() {
        let cpus = parse_cpu_list("0-3,7,9-10\n");
        assert_eq!(cpus, [0, 1, 2, 3, 7, 9, 10].into());
        assert_eq!(list(&cpus), "0-3,7,9-10");
        assert!(parse_cpu_list("\n").is_empty());
    }
}
