//! DPDK's log, put into a sentence and a remedy. Functions of DPDK return little more than -1 when a device
//! cannot be opened; the reason is in the driver's log.

use std::path::Path;

use super::devargs::{argument, dpdk_name, driver, is_pci, name};
use super::eal::{EalOptions, Hugepages};
use super::error::{DpdkError, error_text};

/// Why something failed, and what can be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Explained {
    pub(super) why: String,
    pub(super) remedy: Option<String>,
}

impl Explained {
    fn new(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { why: why.into(), remedy: Some(remedy.into()) }
    }
}

/// The line that holds all of `words`.
fn line<'a>(lines: &'a [String], words: &[&str]) -> Option<&'a str> {
    lines.iter().map(String::as_str).find(|line| words.iter().all(|word| line.contains(word)))
}

fn has(lines: &[String], words: &[&str]) -> bool {
    line(lines, words).is_some()
}

/// Lines that follow every failure and tell nothing of its cause.
const EMPTY_WORDS: [&str; 5] = [
    "Driver cannot attach the device",
    "Failed to attach device on primary process",
    "Invalid 'command line' arguments",
    "Failed to send start req to secondary",
    "already stopped",
];

/// Those that tell something, without the C function that said it.
fn telling(lines: &[String]) -> impl Iterator<Item = &str> {
    let telling = lines.iter().filter(|line| !EMPTY_WORDS.iter().any(|words| line.contains(words)));
    telling.map(|line| match line.split_once("(): ") {
        Some((function, said)) if !function.contains(' ') => said,
        _ => line,
    })
}

/// What DPDK said, where no rule knows better. The first lines are the nearest to the cause.
fn as_said(lines: &[String], errno: i32) -> Explained {
    let mut why = telling(lines).take(3).collect::<Vec<_>>().join(" / ");
    if why.is_empty() {
        why = error_text(errno);
    }
    Explained::new(why, "DPDK's log may tell more: run the director with --log dpdk=debug")
}

/// Adds to an error of DPDK what it logged meanwhile. The director's own errors have a remedy already.
pub(super) fn with_log(error: DpdkError, lines: &[String]) -> DpdkError {
    if error.remedy_text().is_some() && error.errno() == 0 {
        return error;
    }
    let said = telling(lines).take(3).collect::<Vec<_>>().join(" / ");
    let why = match said.is_empty() {
        true => error.why().to_owned(),
        false => format!("{} ({said})", error.why()),
    };
    let remedy = match error.errno() {
        _ if error.remedy_text().is_some() => error.remedy_text().map(str::to_owned),
        libc::ENOMEM => {
            Some("raise mbufs and memory_mb in [dpdk], or lower the port's descriptors".to_owned())
        }
        libc::EPERM | libc::EACCES => Some("run the director as root".to_owned()),
        errno => as_said(lines, errno).remedy,
    };
    DpdkError::explained(error.what(), error.errno(), Explained { why, remedy })
}

/// Why a device could not be added.
pub(super) fn device(device: &str, lines: &[String], errno: i32) -> Explained {
    if is_pci(device) {
        return pci(&dpdk_name(device), lines, errno, Path::new("/sys/bus/pci/devices"));
    }
    if has(lines, &["failed to parse device"]) || has(lines, &["Cannot find device"]) {
        return Explained::new(
            format!("DPDK has no driver for {}", name(device)),
            "check the spelling (net_tap0, net_af_packet0, net_pcap0, net_ring0, net_null0, or a PCI address like \
             0000:03:00.0); drivers are loaded from DPDK's directory of plugins (pmds-*)",
        );
    }
    let explained = match driver(device) {
        "net_af_packet" | "net_af_xdp" => kernel_interface(device, lines),
        "net_tap" | "net_tun" => tap(device, lines),
        "net_pcap" => pcap(lines),
        _ => None,
    };
    explained.unwrap_or_else(|| {
        if has(lines, &["Device or resource busy"]) || errno == libc::EBUSY {
            return Explained::new(
                "the device is in use",
                "stop the program that has it, or name another one",
            );
        }
        let mut explained = as_said(lines, errno);
        if errno == libc::ENOMEM {
            explained.remedy = Some("raise memory_mb in [dpdk]".to_owned());
        } else if telling(lines).next().is_none() {
            explained.why = format!("{} does not accept the device string", driver(device));
            explained.remedy = Some("check the arguments after its name, and their spelling".to_owned());
        }
        explained
    })
}

fn kernel_interface(device: &str, lines: &[String]) -> Option<Explained> {
    let Some(iface) = argument(device, "iface") else {
        return Some(Explained::new(
            "it does not say which interface",
            format!("write device = \"{},iface=NAME\"", name(device)),
        ));
    };
    if has(lines, &["SIOCGIFINDEX"]) || !interface_exists(iface) {
        return Some(Explained::new(
            format!("there is no interface {iface} in this network namespace"),
            "correct iface, or make it first (ip link shows those there are)",
        ));
    }
    if has(lines, &["I/F name too long"]) {
        return Some(Explained::new(
            format!("{iface} is too long for a name of an interface"),
            "use at most 15 bytes",
        ));
    }
    if has(lines, &["not permitted"]) || has(lines, &["Could not open AF_PACKET socket"]) {
        return Some(Explained::new(
            format!("no right to open a socket on {iface}"),
            "run the director as root, or with CAP_NET_RAW and CAP_NET_ADMIN",
        ));
    }
    None
}

fn interface_exists(name: &str) -> bool {
    std::ffi::CString::new(name).is_ok_and(|name| {
        // SAFETY: reads a C string.
        unsafe { libc::if_nametoindex(name.as_ptr()) != 0 }
    })
}

fn tap(device: &str, lines: &[String]) -> Option<Explained> {
    let iface = argument(device, "iface").unwrap_or("its interface");
    if has(lines, &["Unable to open /dev/net/tun"]) {
        return Some(Explained::new(
            "/dev/net/tun cannot be opened",
            "load the module (modprobe tun), pass the device into the container, and run the director as root",
        ));
    }
    if has(lines, &["TUNSETIFF", "busy"]) {
        return Some(Explained::new(
            format!("{iface} is in use by another process"),
            "stop that one, or name another iface",
        ));
    }
    if has(lines, &["TUNSETIFF", "not permitted"]) {
        return Some(Explained::new(
            format!("no right to make {iface}"),
            "run the director as root, or with CAP_NET_ADMIN",
        ));
    }
    if has(lines, &["TUNSETIFF", "Invalid argument"]) {
        return Some(Explained::new(
            format!("{iface} exists and is no multi-queue tap interface, or the name is not allowed"),
            "remove it (ip link del), or name another iface: net_tap makes its own",
        ));
    }
    if has(lines, &["invalid", "interface name"]) {
        return Some(Explained::new(
            format!("{iface} cannot be the name of an interface"),
            "use at most 15 bytes",
        ));
    }
    if has(lines, &["failed to get", "if_index"]) {
        return Some(Explained::new("the interface named by remote= does not exist", "correct remote"));
    }
    None
}

fn pcap(lines: &[String]) -> Option<Explained> {
    if has(lines, &["No rx or tx queues provided"]) {
        return Some(Explained::new(
            "it says neither what to read nor what to write",
            "add rx_pcap=FILE, tx_pcap=FILE, rx_iface=NAME, tx_iface=NAME or iface=NAME",
        ));
    }
    if let Some(said) = line(lines, &["Couldn't open", "for writing"]) {
        let file = said.split("Couldn't open ").nth(1).and_then(|rest| rest.strip_suffix(" for writing."));
        return Some(Explained::new(
            format!("cannot write {}", file.unwrap_or("the file of tx_pcap")),
            "does its directory exist, and may we write there?",
        ));
    }
    if let Some(said) = line(lines, &["Couldn't open"]) {
        let rest = said.split("Couldn't open ").nth(1).unwrap_or(said);
        // "FILE: FILE: No such file or directory" as libpcap has it.
        let (file, reason) = rest.split_once(": ").unwrap_or((rest, ""));
        let reason = reason.strip_prefix(file).map_or(reason, |reason| reason.trim_start_matches(": "));
        let remedy = if reason.to_ascii_lowercase().contains("permission") {
            "run the director as root, or with CAP_NET_RAW for an interface"
        } else {
            "correct rx_pcap or iface; a file has to be a capture as tcpdump -w writes it"
        };
        return Some(Explained::new(
            format!("cannot open {file}: {reason}").trim_end_matches(": ").to_owned(),
            remedy,
        ));
    }
    None
}

/// `full` is the address with its domain; `devices` is where the kernel lists them.
fn pci(full: &str, lines: &[String], errno: i32, devices: &Path) -> Explained {
    let device = devices.join(full);
    if !device.exists() {
        return Explained::new(format!("there is no PCI device {full}"), "lspci -D shows those there are");
    }
    let bound = std::fs::read_link(device.join("driver")).ok();
    let bound = bound.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    match bound {
        Some("vfio-pci" | "igb_uio" | "uio_pci_generic") => {
            let mut explained = as_said(lines, errno);
            explained.remedy = Some(
                "is its whole IOMMU group bound to vfio-pci, is it in no other program's use, and does DPDK have a \
                 driver for it?"
                    .to_owned(),
            );
            explained
        }
        Some("mlx4_core" | "mlx5_core") => as_said(lines, errno),
        bound => Explained::new(
            format!("{full} is bound to {}, not to vfio-pci", bound.unwrap_or("no driver")),
            format!(
                "dpdk-devbind.py -b vfio-pci {full} takes it away from the kernel: check that it is the right one"
            ),
        ),
    }
}

/// Why EAL could not start.
pub(super) fn eal(lines: &[String], errno: i32, options: &EalOptions) -> Explained {
    if let Some(said) = line(lines, &["failed to parse device"]) {
        return Explained::new(said, "correct eal_args in [dpdk], or the devices of the ports");
    }
    if has(lines, &["Cannot init VFIO"]) {
        return Explained::new(
            "DPDK cannot look for vfio: is /sys/module there?",
            "mount sysfs at /sys; in a container, pass /sys/module, read-only will do",
        );
    }
    if has(lines, &["Cannot create lock"]) || has(lines, &["Is another primary process running"]) {
        return Explained::new(
            "another DPDK program holds the same files",
            "stop it, or name another file prefix",
        );
    }
    if has(lines, &["Permission denied"]) || matches!(errno, libc::EACCES | libc::EPERM) {
        return Explained::new(
            lines.first().cloned().unwrap_or_else(|| error_text(errno)),
            "run the director as root",
        );
    }
    let memory = has(lines, &["Cannot allocate memory"])
        || has(lines, &["Cannot init memory"])
        || has(lines, &["hugepage"])
        || errno == libc::ENOMEM;
    if memory {
        let remedy = match options.hugepages {
            Hugepages::No => "lower memory_mb in [dpdk]: the machine does not have as much",
            _ => "reserve more hugepages (sysctl vm.nr_hugepages=N), or set hugepages = \"no\" in [dpdk]",
        };
        return Explained { why: as_said(lines, errno).why, remedy: Some(remedy.to_owned()) };
    }
    if !options.extra_args.is_empty() && (lines.is_empty() || errno == libc::EINVAL) {
        let said = telling(lines).map(|line| format!(": {line}")).next().unwrap_or_default();
        return Explained::new(
            format!("EAL does not accept its arguments, {} among them{said}", options.extra_args.join(" ")),
            "correct eal_args in [dpdk] (dpdk-testpmd --help lists what EAL takes)",
        );
    }
    as_said(lines, errno)
}

/// How to come by more transmit queues.
pub(super) fn more_tx_queues(driver: &str, needed: u16) -> String {
    let more = match driver {
        "net_af_packet" => format!("set qpairs={needed} in its device string"),
        "net_af_xdp" => {
            format!("set queue_count={needed} in its device string (ethtool -L gives the interface as many)")
        }
        "net_pcap" => format!("name tx_pcap= or tx_iface= {needed} times in its device string, a file each"),
        "net_virtio_user" => format!("set queues={needed} in its device string"),
        _ => return "name fewer cpus in [lcores], or use another device".to_owned(),
    };
    format!("{more}, or name fewer cpus in [lcores]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_right_that_is_missing_is_named() {
        let packet = lines(&["rte_pmd_init_internals(): Could not open AF_PACKET socket"]);
        let explained = device("net_af_packet0,iface=lo", &packet, 0);
        assert_eq!(explained.why, "no right to open a socket on lo");
        let tap = lines(&[
            "tun_alloc(): Unable to set TUNSETIFF for dtap0: Operation not permitted",
            "EAL: Driver cannot attach the device (net_tap0)",
        ]);
        let explained = device("net_tap0,iface=dtap0", &tap, 0);
        assert_eq!(explained.why, "no right to make dtap0");
        let tun = lines(&["tun_alloc(): Unable to open /dev/net/tun interface"]);
        assert_eq!(device("net_tap0", &tun, 0).why, "/dev/net/tun cannot be opened");
    }

    #[test]
    fn a_container_without_modules_is_told_so() {
        let said = lines(&["EAL: FATAL: Cannot init VFIO"]);
        let explained = eal(&said, libc::EAGAIN, &EalOptions::default());
        assert_eq!(explained.why, "DPDK cannot look for vfio: is /sys/module there?");
    }

    #[test]
    fn a_device_in_use_is_named() {
        let tap = lines(&["tun_alloc(): Unable to set TUNSETIFF for dtap0: Device or resource busy"]);
        assert_eq!(device("net_tap0,iface=dtap0", &tap, 0).why, "dtap0 is in use by another process");
        assert_eq!(device("net_memif0", &[], libc::EBUSY).why, "the device is in use");
    }

    #[test]
    fn what_no_rule_knows_is_said_without_empty_words() {
        let said = lines(&[
            "vhost_user_setup(): connect error, Connection refused",
            "EAL: Driver cannot attach the device (net_virtio_user0)",
            "EAL: Failed to attach device on primary process",
        ]);
        let explained = device("net_virtio_user0,path=/x", &said, 1);
        assert_eq!(explained.why, "connect error, Connection refused");
        let explained = device("net_null0,a=b", &said[1..], 22);
        assert_eq!(explained.why, "net_null does not accept the device string");
    }

    #[test]
    fn a_pci_device_is_looked_up_where_the_kernel_lists_it() {
        let devices = tempfile::tempdir().unwrap();
        let address = "0000:03:00.0";
        let explain = || pci(address, &[], 19, devices.path());
        assert_eq!(explain().why, "there is no PCI device 0000:03:00.0");
        std::fs::create_dir(devices.path().join(address)).unwrap();
        assert_eq!(explain().why, "0000:03:00.0 is bound to no driver, not to vfio-pci");
        let driver = devices.path().join(address).join("driver");
        std::os::unix::fs::symlink("/sys/bus/pci/drivers/ixgbe", &driver).unwrap();
        assert_eq!(explain().why, "0000:03:00.0 is bound to ixgbe, not to vfio-pci");
        std::fs::remove_file(&driver).unwrap();
        std::os::unix::fs::symlink("/sys/bus/pci/drivers/vfio-pci", &driver).unwrap();
        assert!(explain().remedy.unwrap().contains("IOMMU group"));
    }

    #[test]
    fn eal_without_memory_says_so_by_the_kind_of_memory() {
        let said = lines(&["EAL: eal_legacy_hugepage_init: mmap() failed: Cannot allocate memory"]);
        let no = EalOptions { hugepages: Hugepages::No, ..Default::default() };
        assert!(eal(&said, 12, &no).remedy.unwrap().contains("lower memory_mb"));
        assert!(eal(&said, 12, &EalOptions::default()).remedy.unwrap().contains("vm.nr_hugepages"));
    }

    #[test]
    fn the_log_is_added_to_an_error_of_dpdk_and_not_to_ours() {
        let said = lines(&["xsk_configure(): Failed to create xsk socket."]);
        let error = with_log(DpdkError::of_code("port 1 (x): doing", -22), &said);
        assert_eq!(error.why(), "Invalid argument (Failed to create xsk socket.)");
        assert!(error.remedy_text().is_some());
        let ours = DpdkError::new("port 1 (x)", "too few", "use more");
        assert_eq!(with_log(ours.clone(), &said), ours);
    }
}
