//! DPDK's log, put into a sentence and a remedy. Functions of DPDK return little more than -1 when a device
//! cannot be opened; the reason is in the driver's log.

use std::path::Path;

use super::device::{argument, driver, is_pci, name};
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

/// What DPDK said, where no rule knows better. The first lines are the nearest to the cause.
fn as_said(lines: &[String], errno: i32) -> Explained {
    let why = match lines {
        [] => error_text(errno),
        lines => lines.iter().take(3).cloned().collect::<Vec<_>>().join(" / "),
    };
    Explained { why, remedy: None }
}

/// Adds to an error what DPDK logged meanwhile.
pub(super) fn with_log(error: DpdkError, lines: &[String]) -> DpdkError {
    let said = as_said(lines, error.errno());
    let why = if lines.is_empty() || error.errno() == 0 {
        error.why().to_owned()
    } else {
        format!("{} ({})", error.why(), said.why)
    };
    let remedy = error.remedy_text().map(str::to_owned).or_else(|| match error.errno() {
        libc::ENOMEM => {
            Some("raise mbufs and memory_mb in [dpdk], or lower rx_descriptors of the port".to_owned())
        }
        libc::EPERM | libc::EACCES => Some("run the director as root".to_owned()),
        _ => None,
    });
    DpdkError::explained(error.what(), error.errno(), Explained { why, remedy })
}

/// Why a device could not be added.
pub(super) fn device(device: &str, lines: &[String], errno: i32) -> Explained {
    if is_pci(device) {
        return pci(name(device), lines, errno, Path::new("/sys/bus/pci/devices"));
    }
    if has(lines, &["failed to parse device"]) {
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
        if has(lines, &["Device or resource busy"]) {
            return Explained::new(
                "the device is in use",
                "stop the program that has it, or name another one",
            );
        }
        let mut explained = as_said(lines, errno);
        if errno == libc::ENOMEM {
            explained.remedy = Some("raise memory_mb in [dpdk]".to_owned());
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
    if has(lines, &["SIOCGIFINDEX"])
        || has(lines, &["Failed to get interface info"])
        || has(lines, &["No such device"])
    {
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
        return Some(Explained::new(
            format!("cannot open {file}: {reason}").trim_end_matches(": ").to_owned(),
            "correct rx_pcap or iface; a file has to be a capture as tcpdump -w writes it",
        ));
    }
    None
}

fn pci(address: &str, lines: &[String], errno: i32, devices: &Path) -> Explained {
    let full = if address.matches(':').count() == 1 { format!("0000:{address}") } else { address.to_owned() };
    let device = devices.join(&full);
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
        return Explained::new(
            format!("EAL does not accept its arguments, {} among them", options.extra_args.join(" ")),
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
