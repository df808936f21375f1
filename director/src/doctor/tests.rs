//! Machines made of files: a server with two sockets, a virtual machine, a container, and nonsense.

use std::os::unix::fs::symlink;
use std::path::Path;

use control::config::Config;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A machine, as files.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn file(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn link(self, path: &str, target: &str) -> Self {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&path);
        symlink(target, path).unwrap();
        self
    }

    fn pages(self, directory: &str, size: u64, total: u64, free: u64) -> Self {
        let directory = format!("{directory}/hugepages-{size}kB");
        self.file(&format!("{directory}/nr_hugepages"), format!("{total}\n"))
            .file(&format!("{directory}/free_hugepages"), format!("{free}\n"))
            .file(&format!("{directory}/resv_hugepages"), "0\n")
    }

    fn pci(self, address: &str, driver: &str, node: i32, group: &str) -> Self {
        let device = format!("sys/bus/pci/devices/{address}");
        self.file(&format!("{device}/numa_node"), format!("{node}\n"))
            .link(&format!("{device}/driver"), &format!("../../../bus/pci/drivers/{driver}"))
            .link(&format!("{device}/iommu_group"), &format!("../../../kernel/iommu_groups/{group}"))
            .file(&format!("sys/kernel/iommu_groups/{group}/devices/{address}/x"), "")
    }
}

/// A server with two sockets of four cores with two threads each, 64 GB, a NIC on the second socket; tuned for a
/// director on CPUs 4, 5 and 6.
fn server() -> Machine {
    let mut machine = Machine::new();
    for cpu in 0..16 {
        let core = cpu % 8;
        machine = machine
            .file(
                &format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"),
                format!("{core},{}\n", core + 8),
            )
            .file(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"), "performance\n");
    }
    machine
        .file("sys/devices/system/cpu/present", "0-15\n")
        .file("sys/devices/system/cpu/online", "0-15\n")
        .file("sys/devices/system/cpu/isolated", "4-6,12-14\n")
        .file("sys/devices/system/cpu/nohz_full", "4-6,12-14\n")
        .file("sys/devices/system/node/node0/cpulist", "0-3,8-11\n")
        .file("sys/devices/system/node/node1/cpulist", "4-7,12-15\n")
        .pages("sys/devices/system/node/node0/hugepages", 2048, 1024, 1024)
        .pages("sys/devices/system/node/node1/hugepages", 2048, 1024, 1024)
        .pages("sys/kernel/mm/hugepages", 2048, 2048, 2048)
        .pages("sys/kernel/mm/hugepages", 1_048_576, 0, 0)
        .file(
            "proc/meminfo",
            "MemTotal: 65536000 kB\nMemAvailable:   60000000 kB\nHugepagesize:       2048 kB\n",
        )
        .file("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu tsc constant_tsc nonstop_tsc\n")
        .file("proc/self/status", "Name:\tdirector\nCpus_allowed_list:\t0-15\n")
        .file("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n")
        .file("sys/module/vfio_pci/x", "")
        .file("dev/net/tun", "")
        .pci("0000:83:00.0", "vfio-pci", 1, "42")
}

/// A virtual machine of two CPUs without NUMA, IOMMU and hugepages.
fn virtual_machine() -> Machine {
    Machine::new()
        .file("sys/devices/system/cpu/present", "0-1\n")
        .file("sys/devices/system/cpu/online", "0-1\n")
        .file("sys/devices/system/cpu/isolated", "\n")
        .file("sys/devices/system/node/node0/cpulist", "0-1\n")
        .pages("sys/kernel/mm/hugepages", 2048, 0, 0)
        .file("proc/meminfo", "MemAvailable:   3000000 kB\nHugepagesize:       2048 kB\n")
        .file("proc/cpuinfo", "flags\t\t: fpu tsc hypervisor\n")
        .file("proc/self/status", "Cpus_allowed_list:\t0-1\n")
        .file("sys/devices/system/clocksource/clocksource0/current_clocksource", "kvm-clock\n")
        .file("sys/class/net/eth0/mtu", "1400\n")
        .file("sys/module/tun/x", "")
        .file("dev/net/tun", "")
        .file("sys/bus/pci/devices/0000:00:05.0/numa_node", "-1\n")
        .link("sys/bus/pci/devices/0000:00:05.0/driver", "../../../bus/pci/drivers/virtio-pci")
}

const NIC: &str = "[lcores]\ncpus = [4, 5, 6]\n[[port]]\ndevice = \"0000:83:00.0\"\nmirror = \"wan0\"\n";

fn config(toml: &str) -> Config {
    Config::parse(toml, "test.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

fn report(machine: &Machine, toml: &str) -> Report {
    examine(&config(toml), machine.root())
}

/// The finding whose text has these words.
fn find<'a>(report: &'a Report, grade: Grade, words: &str) -> &'a Finding {
    let mut found = report.findings.iter().filter(|f| f.grade == grade && f.says.contains(words));
    found.next().unwrap_or_else(|| panic!("no {grade:?} says {words:?} in\n{report}"))
}

#[test]
fn a_tuned_server_gets_no_advice() {
    let report = report(&server(), NIC);
    assert!(report.starts, "{report}");
    assert!(report.findings.iter().all(|found| found.grade == Grade::Good), "{report}");
    for about in ["port", "IOMMU", "hugepages", "memory", "NUMA", "CPUs", "clock"] {
        assert!(report.findings.iter().any(|found| found.about == about), "nothing about {about}:\n{report}");
    }
}

#[test]
fn a_far_socket_is_named_with_cpus_that_are_near() {
    let report = report(&server(), &NIC.replace("4, 5, 6", "1, 2"));
    assert!(report.starts);
    let advice = find(&report, Grade::Advice, "0000:83:00.0 is on node 1, worker CPUs 1, 2 are not");
    assert_eq!(advice.remedy.as_deref(), Some("cpus = [5, 6] in [lcores]"));
    let isolated = find(&report, Grade::Advice, "CPUs 1, 2 are not isolated");
    assert!(isolated.remedy.as_ref().unwrap().contains("isolcpus=managed_irq,domain,1,2 nohz_full=1,2"));
    find(&report, Grade::Advice, "CPUs 9, 10 are the other threads");
}

#[test]
fn threads_of_one_core_and_a_slow_governor_are_named() {
    let machine = server().file("sys/devices/system/cpu/cpu5/cpufreq/scaling_governor", "powersave\n");
    let report = report(&machine, &NIC.replace("4, 5, 6", "5, 13"));
    find(&report, Grade::Advice, "worker CPUs 5, 13 are threads of the same cores");
    let governor = find(&report, Grade::Advice, "the governor of CPUs 5 is powersave");
    let command = "cpupower --cpu 5 frequency-set --governor performance";
    assert_eq!(governor.remedy.as_deref(), Some(command));
}

#[test]
fn a_nic_of_the_kernel_is_an_obstacle_with_its_command() {
    let report = report(&server().pci("0000:83:00.0", "ice", 1, "42"), NIC);
    assert!(!report.starts);
    let obstacle = find(&report, Grade::Obstacle, "is bound to ice");
    assert!(obstacle.remedy.as_ref().unwrap().starts_with("dpdk-devbind.py -b vfio-pci 0000:83:00.0"));
    // What keeps it from starting comes first.
    assert_eq!(report.findings[0].grade, Grade::Obstacle);
}

#[test]
fn a_group_that_the_kernel_holds_a_part_of_is_an_obstacle() {
    let machine = server().pci("0000:83:00.1", "ice", 1, "42");
    let report = report(&machine, NIC);
    let obstacle =
        find(&report, Grade::Obstacle, "0000:83:00.1 (ice) is in IOMMU group 42 with 0000:83:00.0");
    assert!(obstacle.remedy.as_ref().unwrap().contains("vfio-pci 0000:83:00.1"));
    assert!(!report.starts);
}

#[test]
fn a_slot_that_is_too_slow_is_named() {
    let device = "sys/bus/pci/devices/0000:83:00.0";
    let machine = server()
        .file(&format!("{device}/current_link_speed"), "8.0 GT/s PCIe\n")
        .file(&format!("{device}/current_link_width"), "4\n")
        .file(&format!("{device}/max_link_speed"), "16.0 GT/s PCIe\n")
        .file(&format!("{device}/max_link_width"), "16\n");
    let report = report(&machine, NIC);
    find(&report, Grade::Advice, "PCIe at 8.0 GT/s PCIe x4, and could at 16.0 GT/s PCIe x16");
}

#[test]
fn hugepages_on_the_wrong_node_or_too_few_are_named() {
    let node = "sys/devices/system/node/node1/hugepages";
    let report1 = report(&server().pages(node, 2048, 0, 0), NIC);
    let advice = find(&report1, Grade::Advice, "none is free on NUMA node 1");
    let file = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages";
    assert_eq!(advice.remedy.as_deref(), Some(&*format!("echo 256 > {file}")));
    // 512 MB for DPDK and three tables of some 298,000,000 bytes.
    let report2 = report(&server().pages("sys/kernel/mm/hugepages", 2048, 300, 300), NIC);
    let advice =
        find(&report2, Grade::Advice, "600 MB are free; with the tables of connections 1363 would be used");
    assert_eq!(advice.remedy.as_deref(), Some("sysctl -w vm.nr_hugepages=682"));
    let report3 = report(
        &server().pages("sys/kernel/mm/hugepages", 2048, 0, 0),
        &format!("[dpdk]\nhugepages = \"yes\"\n{NIC}"),
    );
    assert!(!report3.starts);
    find(&report3, Grade::Obstacle, "hugepages = \"yes\" in [dpdk], and none is free");
}

#[test]
fn a_cpu_that_is_not_there_or_not_ours_is_an_obstacle() {
    let absent = report(&server(), &NIC.replace("4, 5, 6", "4, 99"));
    find(&absent, Grade::Obstacle, "there is no CPU 99");
    let offline = report(&server().file("sys/devices/system/cpu/online", "0-4,6-15\n"), NIC);
    let obstacle = find(&offline, Grade::Obstacle, "CPU 5 is offline");
    assert_eq!(obstacle.remedy.as_deref(), Some("echo 1 > /sys/devices/system/cpu/cpu5/online"));
    let forbidden = report(&server().file("proc/self/status", "Cpus_allowed_list:\t0-5\n"), NIC);
    find(&forbidden, Grade::Obstacle, "CPU 6 is not among those that this process may run on");
}

#[test]
fn a_virtual_machine_without_an_iommu_hears_of_it() {
    let toml = "[[port]]\ndevice = \"00:05.0\"\nmirror = \"wan0\"\n";
    let plain = report(&virtual_machine(), toml);
    assert!(!plain.starts);
    find(&plain, Grade::Obstacle, "is bound to virtio-pci");
    find(&plain, Grade::Obstacle, "there is none, or it is off");
    let machine = virtual_machine()
        .link("sys/bus/pci/devices/0000:00:05.0/driver", "../../../bus/pci/drivers/vfio-pci")
        .file("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n")
        .file("sys/module/vfio_pci/x", "");
    let without = report(&machine, toml);
    assert!(without.starts, "{without}");
    find(&without, Grade::Advice, "vfio runs without it");
}

#[test]
fn an_interface_of_the_kernel_is_looked_at() {
    let toml = "[[port]]\ndevice = \"net_af_packet0,iface=eth0\"\n";
    let here = report(&virtual_machine(), toml);
    assert!(here.starts, "{here}");
    let mtu = find(&here, Grade::Advice, "eth0 has an MTU of 1400, and the port one of 1500");
    assert!(mtu.remedy.as_ref().unwrap().starts_with("ip link set dev eth0 mtu 1500"));
    find(&here, Grade::Advice, "the TSC changes its pace or stops");
    // The greatest gain comes first.
    let first = report(&virtual_machine(), toml).findings.remove(0);
    assert!(first.says.contains("its packets come by a socket"), "{first:?}");
    assert!(!report(&virtual_machine(), &toml.replace("eth0", "eth7")).starts);
    let two = format!("[lcores]\ncpus = [0, 1]\n{toml}");
    find(&report(&virtual_machine(), &two), Grade::Obstacle, "has 1 transmit queues for 2 lcores");
    assert!(report(&virtual_machine(), &two.replace("iface=eth0", "iface=eth0,qpairs=2")).starts);
}

#[test]
fn memory_that_is_not_there_is_an_obstacle() {
    let toml =
        "[connections]\ncapacity = 20000000\n[[port]]\ndevice = \"net_tap0,iface=dtap0\"\nmirror = \"d0\"\n";
    let report = report(&virtual_machine(), toml);
    assert!(!report.starts);
    // 20,000,000 * (107 + 191) bytes and 512 MB, and counters of 66,560 real servers.
    let obstacle = find(&report, Grade::Obstacle, "6194 MB are taken at start");
    assert!(obstacle.remedy.as_ref().unwrap().starts_with("capacity = "), "{obstacle:?}");
}

#[test]
fn a_container_without_sys_gets_an_answer() {
    let toml = "[[port]]\ndevice = \"net_tap0,iface=dtap0\"\nmirror = \"dir0\"\n";
    let bare = report(&Machine::new(), toml);
    assert!(!bare.starts);
    let tun = find(&bare, Grade::Obstacle, "/dev/net/tun is missing");
    assert!(tun.remedy.as_ref().unwrap().starts_with("modprobe tun"));
    find(&bare, Grade::Obstacle, "/sys/module is missing");
    let machine = Machine::new().file("dev/net/tun", "").file("sys/module/tun/x", "");
    let report = report(&machine, toml);
    assert!(report.starts, "{report}");
}

#[test]
fn limits_are_read_by_their_columns() {
    let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                  Max locked memory         8388608              8388608              bytes     \n\
                  Max open files            256                  524288               files     \n";
    let report1 = report(&server().file("proc/self/limits", limits), NIC);
    find(&report1, Grade::Advice, "a process may open 256 files");
    find(&report1, Grade::Advice, "may lock 8 MB");
    let unlimited = limits.replace("8388608  ", "unlimited").replace("256   ", "65536 ");
    let report2 = report(&server().file("proc/self/limits", unlimited), NIC);
    assert!(report2.findings.iter().all(|found| found.about != "limits"), "{report2}");
}

#[test]
fn programs_get_json() {
    let json: serde_json::Value = serde_json::from_str(&report(&server(), NIC).json()).unwrap();
    assert_eq!(json["starts"], true);
    assert_eq!(json["findings"][0]["grade"], "good");
    assert!(json["findings"][0].get("remedy").is_none());
    let json: serde_json::Value = serde_json::from_str(&report(&Machine::new(), NIC).json()).unwrap();
    assert_eq!(json["starts"], false);
    assert!(json["findings"][0]["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()));
}

#[test]
fn what_a_device_gave_is_told() {
    let given = Given {
        device: "0000:83:00.0".to_owned(),
        driver: "net_ixgbe".to_owned(),
        lcores: 4,
        rx_queues: 2,
        spread_wanted: "source",
        spread: "symmetric",
        descriptors: [(1024, 1024), (512, 1024)],
        mtu: [9000, 1500],
        link: (true, Some(10_000)),
    };
    let says: Vec<String> = given.findings().into_iter().map(|found| found.says).collect();
    assert_eq!(
        says,
        [
            "0000:83:00.0 (net_ixgbe) gave 2 receive queues for 4 lcores",
            "0000:83:00.0 (net_ixgbe) spreads by symmetric where source is wanted",
            "0000:83:00.0 gave 512 and 1024 descriptors, 1024 and 1024 asked",
            "0000:83:00.0 has an MTU of 1500, 9000 asked",
            "0000:83:00.0 opens (net_ixgbe): 2 receive queues, spread by symmetric, link up at 10000 Mbit/s",
        ]
    );
    let right = Given { lcores: 2, spread: "source", descriptors: [(512, 512); 2], mtu: [1500; 2], ..given };
    assert_eq!(right.findings().len(), 1);
}

/// Every file that is read.
const FILES: [&str; 27] = [
    "sys/devices/system/cpu/present",
    "sys/devices/system/cpu/online",
    "sys/devices/system/cpu/isolated",
    "sys/devices/system/cpu/nohz_full",
    "sys/devices/system/cpu/cpu4/topology/thread_siblings_list",
    "sys/devices/system/cpu/cpu4/cpufreq/scaling_governor",
    "sys/devices/system/node/node0/cpulist",
    "sys/devices/system/node/node1/cpulist",
    "sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages",
    "sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages",
    "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
    "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
    "sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages",
    "sys/kernel/mm/hugepages/hugepages-18446744073709551615kB/nr_hugepages",
    "sys/kernel/mm/hugepages/hugepages-18446744073709551615kB/free_hugepages",
    "proc/meminfo",
    "proc/cpuinfo",
    "proc/self/status",
    "proc/self/limits",
    "sys/devices/system/clocksource/clocksource0/current_clocksource",
    "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
    "sys/bus/pci/devices/0000:83:00.0/numa_node",
    "sys/bus/pci/devices/0000:83:00.0/current_link_speed",
    "sys/bus/pci/devices/0000:83:00.0/current_link_width",
    "sys/bus/pci/devices/0000:83:00.0/max_link_speed",
    "sys/bus/pci/devices/0000:83:00.0/max_link_width",
    "sys/class/net/eth0/mtu",
];

/// Something like what stands in such files.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![Just(0u64), Just(1), Just(u64::MAX), any::<u64>()];
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        number.clone().prop_map(|n| format!("{n}\n").into_bytes()),
        number.clone().prop_map(|n| format!("0-{n},{n}-0,-,,{n}").into_bytes()),
        number.clone().prop_map(|n| format!("MemAvailable: {n} kB\nHugepagesize: {n} kB\n").into_bytes()),
        number.clone().prop_map(|n| format!("Cpus_allowed_list:\t{}-{n}\n", n / 2).into_bytes()),
        number.prop_map(
            |n| format!("x\nMax locked memory         {n} é\nMax open filés            {n}").into_bytes()
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands in the files, there is an answer, and it says the same in both forms.
    #[test]
    fn nonsense_gets_an_answer(
        files in proptest::collection::btree_map(proptest::sample::select(&FILES[..]), content(), 0..27),
        on_server in any::<bool>(),
        hugepages in proptest::sample::select(&["auto", "yes", "no"][..]),
    ) {
        let mut machine = if on_server { server() } else { Machine::new() };
        for (file, content) in &files {
            machine = machine.file(file, content);
        }
        let more = "[[port]]\ndevice = \"net_af_packet0,iface=eth0,qpairs=3\"\n";
        let report = report(&machine, &format!("[dpdk]\nhugepages = \"{hugepages}\"\n{NIC}{more}"));
        let text = report.to_string();
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        let findings = json["findings"].as_array().unwrap();
        prop_assert_eq!(findings.len(), report.findings.len());
        prop_assert_eq!(report.starts, findings.iter().all(|found| found["grade"] != "obstacle"));
        for found in findings {
            prop_assert!(text.contains(found["says"].as_str().unwrap()));
            // Whoever is told of a trouble is told what to do.
            prop_assert!(found["grade"] == "good" || found["remedy"].is_string(), "{}", found);
        }
    }
}
