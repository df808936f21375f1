//! EAL, DPDK's ground: memory, lcores, drivers. Started once in a process.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_int};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{DpdkError, error_number};
use super::{explain, log};
use crate::id::LcoreId;

/// Whether EAL takes its memory from hugepages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hugepages {
    /// Where enough are free for `memory_mb`; else ordinary memory.
    #[default]
    Auto,
    /// They must be there.
    Yes,
    /// Ordinary memory, even if hugepages are free.
    No,
}

/// How to start EAL. The defaults need neither hugepages nor a NIC.
#[derive(Clone, Debug)]
pub struct EalOptions {
    /// Name of the program, for messages of EAL.
    pub program: String,
    /// Where memory comes from.
    pub hugepages: Hugepages,
    /// Without hugepages: all the memory that EAL will ever have, in MB. With [`Hugepages::Auto`] also what has
    /// to be free in hugepages for them to be used.
    pub memory_mb: u32,
    /// One worker lcore per entry, pinned to that CPU. The same CPU may come more than once.
    /// Empty: one worker on the last CPU we may run on.
    pub worker_cpus: Vec<u32>,
    /// Addresses of PCI devices to take (`0000:03:00.0`, arguments of the driver after a comma).
    pub pci: Vec<String>,
    /// Virtual devices to make at once. Ports need none of this: [`super::Port::open`] adds theirs.
    pub vdevs: Vec<String>,
    /// Appended to EAL's arguments, as typed.
    pub extra_args: Vec<String>,
}

impl Default for EalOptions {
    fn default() -> Self {
        Self {
            program: "director".to_owned(),
            hugepages: Hugepages::Auto,
            memory_mb: 512,
            worker_cpus: Vec::new(),
            pci: Vec::new(),
            vdevs: Vec::new(),
            extra_args: Vec::new(),
        }
    }
}

/// EAL, started. A handle: EAL is cleaned up when the last handle goes, and all that stands on EAL holds one.
/// It cannot be started again in the same process.
#[derive(Clone)]
pub struct Eal(Arc<Inner>);

struct Inner {
    args: Vec<String>,
    worker_cpus: Vec<u32>,
    hugepages: bool,
    runtime_dir: Option<PathBuf>,
}

/// Set when EAL was started, for good: DPDK cannot do it twice.
static STARTED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts EAL. The calling thread becomes the main lcore: it may run on all CPUs that it may run on
    /// now. Nothing of DPDK was touched where it fails before DPDK is asked (a CPU that is not there, no
    /// hugepages).
    ///
    /// # Errors
    /// Where EAL was started before in this process, a CPU does not exist or is forbidden to us, hugepages
    /// are demanded and none is free, an argument is bad, memory or a right is missing.
    pub fn init(options: &EalOptions) -> Result<Self, DpdkError> {
        let plan = Plan::new(options, &Machine::read())?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(DpdkError::new(
                "starting EAL",
                "it was started before in this process, and DPDK cannot do that twice",
                "start a new process",
            ));
        }
        log::install();
        let args: Result<Vec<CString>, _> = plan.args.iter().map(|arg| CString::new(arg.as_str())).collect();
        let args = args.map_err(|_| {
            DpdkError::new("starting EAL", "an argument holds a NUL byte", "correct eal_args in [dpdk]")
        })?;
        // EAL reorders the array and keeps pointers into its strings: they live for ever.
        let argc = args.len() as c_int;
        let mut argv: Vec<*mut c_char> = args.into_iter().map(CString::into_raw).collect();
        argv.push(std::ptr::null_mut());
        let argv = argv.leak();
        let (code, lines) = log::capture(|| {
            let _quiet = Quiet::new();
            // SAFETY: once in the process, with `argc` strings and a null pointer behind them.
            let code = unsafe { dpdk_sys::rte_eal_init(argc, argv.as_mut_ptr()) };
            if code < 0 { Err(error_number(code)) } else { Ok(()) }
        });
        if let Err(errno) = code {
            remove_runtime_dir(runtime_dir().as_ref());
            let explained = explain::eal(&lines, errno, options);
            return Err(DpdkError::explained("starting EAL", errno, explained));
        }
        for line in lines {
            tracing::warn!(target: "dpdk", "{line}");
        }
        tracing::debug!("EAL runs with: {}", plan.args.join(" "));
        Ok(Self(Arc::new(Inner {
            args: plan.args,
            worker_cpus: plan.worker_cpus,
            hugepages: plan.hugepages,
            runtime_dir: runtime_dir(),
        })))
    }

    /// How many worker lcores there are: those from 0 to below this.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.0.worker_cpus.len()
    }

    /// The CPU that a worker is pinned to.
    #[must_use]
    pub fn worker_cpu(&self, worker: LcoreId) -> Option<u32> {
        self.0.worker_cpus.get(usize::from(worker.0)).copied()
    }

    /// The NUMA node of a worker's CPU.
    #[must_use]
    pub fn worker_socket(&self, worker: LcoreId) -> u32 {
        // SAFETY: EAL runs; an lcore that is not there has node 0.
        unsafe { dpdk_sys::rte_lcore_to_socket_id(dpdk_lcore(worker)) }
    }

    /// Whether memory comes from hugepages.
    #[must_use]
    pub fn hugepages(&self) -> bool {
        self.0.hugepages
    }

    /// The arguments that EAL was started with.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.0.args
    }

    /// DPDK's version, e.g. `DPDK 22.11.11`.
    #[must_use]
    pub fn version() -> String {
        // SAFETY: has no precondition.
        let version = unsafe { dpdk_sys::rte_version() };
        // SAFETY: a string that lives for ever.
        unsafe { CStr::from_ptr(version) }.to_string_lossy().into_owned()
    }

    /// What to do when memory runs out.
    pub(super) fn memory_remedy(&self) -> String {
        if self.0.hugepages {
            "reserve more hugepages (sysctl vm.nr_hugepages=N), or lower mbufs in [dpdk]".to_owned()
        } else {
            "raise memory_mb in [dpdk], or lower mbufs".to_owned()
        }
    }
}

/// DPDK's number of a worker: lcore 0 is the main one.
pub(super) fn dpdk_lcore(worker: LcoreId) -> u32 {
    u32::from(worker.0) + 1
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: reads a thread-local variable.
        let lcore = unsafe { dpdk_sys::dpdk_sys_lcore_id() };
        if (1..=self.worker_cpus.len() as u32).contains(&lcore) {
            // Detached from its `Running`, as the process ends: EAL cannot take away the stack it stands on.
            tracing::debug!("EAL is not cleaned up, as worker lcore {lcore} held it last");
            return;
        }
        let ((), lines) = log::capture(|| {
            // SAFETY: the last handle: nothing that stands on EAL is left.
            unsafe { dpdk_sys::rte_eal_cleanup() };
        });
        for line in lines {
            tracing::debug!(target: "dpdk", "{line}");
        }
        remove_runtime_dir(self.runtime_dir.as_ref());
    }
}

fn runtime_dir() -> Option<PathBuf> {
    // SAFETY: returns a static string.
    let path = unsafe { dpdk_sys::rte_eal_get_runtime_dir() };
    if path.is_null() {
        return None;
    }
    // SAFETY: NUL-terminated.
    let path = unsafe { CStr::from_ptr(path) }.to_str().ok()?;
    (!path.is_empty()).then(|| PathBuf::from(path))
}

/// EAL makes the directory even when it puts nothing into it. Not removed where something is in it.
fn remove_runtime_dir(path: Option<&PathBuf>) {
    if let Some(path) = path {
        let _ = std::fs::remove_dir(path);
    }
}

/// What the plan depends on.
struct Machine {
    /// CPUs that the kernel has, offline ones included.
    present: BTreeSet<u32>,
    /// CPUs that we may run on.
    allowed: BTreeSet<u32>,
    /// Free hugepages of all sizes, in MB.
    free_hugepages_mb: u64,
}

impl Machine {
    fn read() -> Self {
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
struct Plan {
    args: Vec<String>,
    worker_cpus: Vec<u32>,
    hugepages: bool,
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
    fn new(options: &EalOptions, machine: &Machine) -> Result<Self, DpdkError> {
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
        let name = arg.split_once('=').map_or(arg.as_str(), |(name, _)| name);
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

/// Keeps the standard output quiet while EAL starts: of a bad argument it prints pages of usage there.
struct Quiet {
    stdout: c_int,
}

impl Quiet {
    fn new() -> Self {
        // SAFETY: opens a file.
        let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
        // SAFETY: duplicates a descriptor; -1 where there is none.
        let stdout = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_DUPFD_CLOEXEC, 3) };
        if null >= 0 {
            if stdout >= 0 {
                // SAFETY: replaces standard output, which was duplicated.
                unsafe { libc::dup2(null, libc::STDOUT_FILENO) };
            }
            // SAFETY: ours, and not used again.
            unsafe { libc::close(null) };
        }
        Self { stdout }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.stdout >= 0 {
            // SAFETY: flushes C's streams: what EAL printed must not come out later.
            unsafe { libc::fflush(std::ptr::null_mut()) };
            // SAFETY: puts standard output back.
            unsafe { libc::dup2(self.stdout, libc::STDOUT_FILENO) };
            // SAFETY: ours, and not used again.
            unsafe { libc::close(self.stdout) };
        }
    }
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
        for arg in ["-l", "--lcores=0@0", "-h", "-m"] {
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
