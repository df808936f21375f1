//! What the machine is, as far as checks ask.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use control::config::{Config, Mirror, Port, PortDevice};

use super::root::{Root, parse_cpus};

/// What the machine is.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub(super) present: BTreeSet<u32>,
    pub(super) online: BTreeSet<u32>,
    /// Those that this process may run on.
    pub(super) allowed: BTreeSet<u32>,
    pub(super) isolated: BTreeSet<u32>,
    pub(super) nohz_full: BTreeSet<u32>,
    /// Of the worker lcores' CPUs: those that share a core with each.
    pub(super) siblings: BTreeMap<u32, BTreeSet<u32>>,
    pub(super) governors: BTreeMap<u32, String>,
    /// By number of the NUMA node.
    pub(super) nodes: BTreeMap<u32, Node>,
    /// Of each size, over all nodes.
    pub(super) hugepages: Vec<Pages>,
    /// In kB.
    pub(super) available: Option<u64>,
    /// Of the default size, in kB.
    pub(super) default_hugepage: Option<u64>,
    pub(super) clock_source: Option<String>,
    /// Flags of the first CPU.
    pub(super) flags: BTreeSet<String>,
    pub(super) has_iommu_groups: bool,
    pub(super) no_iommu: bool,
    pub(super) vfio_loaded: bool,
    pub(super) has_tun: bool,
    /// Whether `/sys/module` is there.
    pub(super) has_modules: bool,
    /// Soft limits of this process by their names; none: unlimited.
    pub(super) limits: BTreeMap<String, Option<u64>>,
    /// In the order of the configuration.
    pub(super) ports: Vec<PortFacts>,
}

/// A NUMA node.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) cpus: BTreeSet<u32>,
    pub(super) hugepages: Vec<Pages>,
}

/// Hugepages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pages {
    /// In kB.
    pub(super) size: u64,
    pub(super) total: u64,
    pub(super) free: u64,
}

impl Pages {
    /// In MB.
    pub(super) fn free_mb(&self) -> u64 {
        self.free.saturating_mul(self.size) / 1024
    }
}

/// What the kernel has for a port.
#[derive(Clone, Debug)]
pub(super) enum PortFacts {
    /// A PCI device; none where there is no such.
    Pci(Option<Pci>),
    /// An interface that the kernel keeps.
    Interface { mtu: Option<u32>, exists: bool },
    /// Nothing.
    Virtual,
}

/// A PCI device.
#[derive(Clone, Debug, Default)]
pub(super) struct Pci {
    pub(super) driver: Option<String>,
    pub(super) node: Option<u32>,
    pub(super) iommu_group: Option<String>,
    /// Others of its group that are neither a bridge nor free nor vfio's, with their drivers.
    pub(super) held_by_kernel: Vec<(String, String)>,
    /// As negotiated, and as possible: speed and width.
    pub(super) link: Option<[(String, u32); 2]>,
}

impl Facts {
    /// Reads what there is below `root`; what is missing or makes no sense is left out.
    #[must_use]
    pub fn read(config: &Config, root: &Path) -> Self {
        let root = Root(root);
        let cpu = "sys/devices/system/cpu";
        let online = root.cpus(&format!("{cpu}/online"));
        let status = root.text("proc/self/status").unwrap_or_default();
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let allowed = allowed.map(parse_cpus).unwrap_or_default();
        let mut workers: BTreeSet<u32> = config.lcores.cpus.iter().flatten().copied().collect();
        if workers.is_empty() {
            workers.extend(allowed.last().or(online.last()));
        }
        let of_workers = |file: &str| -> Vec<(u32, String)> {
            let text = |n: &u32| Some((*n, root.word(&format!("{cpu}/cpu{n}/{file}"))?));
            workers.iter().filter_map(text).collect()
        };
        let meminfo = root.text("proc/meminfo").unwrap_or_default();
        Self {
            present: root.cpus(&format!("{cpu}/present")),
            online,
            allowed,
            isolated: root.cpus(&format!("{cpu}/isolated")),
            nohz_full: root.cpus(&format!("{cpu}/nohz_full")),
            siblings: of_workers("topology/thread_siblings_list")
                .into_iter()
                .map(|(n, list)| (n, parse_cpus(&list)))
                .collect(),
            governors: of_workers("cpufreq/scaling_governor").into_iter().collect(),
            nodes: nodes(&root),
            hugepages: pages(&root, "sys/kernel/mm/hugepages"),
            available: kilobytes(&meminfo, "MemAvailable"),
            default_hugepage: kilobytes(&meminfo, "Hugepagesize"),
            clock_source: root.word("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            flags: flags(&root.text("proc/cpuinfo").unwrap_or_default()),
            has_iommu_groups: !root.names("sys/kernel/iommu_groups").is_empty(),
            no_iommu: root.word("sys/module/vfio/parameters/enable_unsafe_noiommu_mode").as_deref()
                == Some("Y"),
            vfio_loaded: root.exists("sys/module/vfio_pci"),
            has_tun: root.exists("dev/net/tun"),
            has_modules: root.exists("sys/module"),
            limits: limits(&root.text("proc/self/limits").unwrap_or_default()),
            ports: config.ports.iter().map(|port| port_facts(&root, port)).collect(),
        }
    }

    /// The node of a CPU.
    pub(super) fn node_of(&self, cpu: u32) -> Option<u32> {
        self.nodes.iter().find(|(_, node)| node.cpus.contains(&cpu)).map(|(number, _)| *number)
    }
}

fn nodes(root: &Root<'_>) -> BTreeMap<u32, Node> {
    let directory = "sys/devices/system/node";
    let numbered = |name: String| Some((name.strip_prefix("node")?.parse::<u32>().ok()?, name));
    let read = |(number, name): (u32, String)| {
        let cpus = root.cpus(&format!("{directory}/{name}/cpulist"));
        (number, Node { cpus, hugepages: pages(root, &format!("{directory}/{name}/hugepages")) })
    };
    root.names(directory).into_iter().filter_map(numbered).map(read).collect()
}

fn pages(root: &Root<'_>, directory: &str) -> Vec<Pages> {
    let read = |name: String| {
        let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let number = |file: &str| root.number::<u64>(&format!("{directory}/{name}/{file}"));
        let reserved = number("resv_hugepages").unwrap_or(0);
        Some(Pages {
            size,
            total: number("nr_hugepages")?,
            free: number("free_hugepages")?.saturating_sub(reserved),
        })
    };
    let mut pages: Vec<Pages> = root.names(directory).into_iter().filter_map(read).collect();
    pages.sort_by_key(|pages| pages.size);
    pages
}

/// A line of `/proc/meminfo`.
fn kilobytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn flags(cpuinfo: &str) -> BTreeSet<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("flags"));
    let flags = line.and_then(|line| line.split_once(':')).map_or("", |(_, flags)| flags);
    flags.split_whitespace().map(str::to_owned).collect()
}

fn limits(text: &str) -> BTreeMap<String, Option<u64>> {
    let read = |line: &str| {
        // Columns of fixed width, and names with blanks in them.
        let (name, rest) = line.split_at_checked(26)?;
        let soft = rest.split_whitespace().next()?;
        let limit = if soft == "unlimited" { None } else { Some(soft.parse().ok()?) };
        Some((name.trim().to_owned(), limit))
    };
    text.lines().skip(1).filter_map(read).collect()
}

fn port_facts(root: &Root<'_>, port: &Port) -> PortFacts {
    match (&port.kind, &port.mirror) {
        (PortDevice::Pci, _) => {
            // Arguments of the driver may follow; the domain may be left out.
            let address = port.device.split(',').next().unwrap_or_default();
            let address = if address.matches(':').count() == 1 {
                format!("0000:{address}")
            } else {
                address.to_owned()
            };
            PortFacts::Pci(pci(root, &address))
        }
        (_, Mirror::KernelKeeps { interface }) => {
            let directory = format!("sys/class/net/{interface}");
            PortFacts::Interface {
                mtu: root.number(&format!("{directory}/mtu")),
                exists: root.exists(&directory),
            }
        }
        _ => PortFacts::Virtual,
    }
}

fn pci(root: &Root<'_>, address: &str) -> Option<Pci> {
    let device = format!("sys/bus/pci/devices/{address}");
    if !root.exists(&device) {
        return None;
    }
    let group = root.link(&format!("{device}/iommu_group"));
    let held = group.iter().flat_map(|group| {
        let devices = format!("sys/kernel/iommu_groups/{group}/devices");
        let others = root.names(&devices).into_iter().filter(|other| other != address);
        others
            .filter_map(|other| {
                let driver = root.link(&format!("sys/bus/pci/devices/{other}/driver"))?;
                let harmless = ["vfio-pci", "pcieport", "pci-stub"].contains(&driver.as_str());
                (!harmless).then_some((other, driver))
            })
            .collect::<Vec<_>>()
    });
    let link = |kind: &str| {
        let speed = root.word(&format!("{device}/{kind}_link_speed"))?;
        Some((speed, root.number(&format!("{device}/{kind}_link_width"))?))
    };
    let node: Option<i64> = root.number(&format!("{device}/numa_node"));
    Some(Pci {
        driver: root.link(&format!("{device}/driver")),
        // -1 where the firmware does not say.
        node: node.and_then(|node| u32::try_from(node).ok()),
        held_by_kernel: held.collect(),
        iommu_group: group,
        link: link("current").zip(link("max")).map(|(current, most)| [current, most]),
    })
}
