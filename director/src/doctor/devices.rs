//! The ports' devices: whether they are there, whose they are, and what kind they are of.

use control::config::{Mirror, Port, PortDevice};

use super::Case;
use super::facts::{Pci, PortFacts};
use super::finding::{Finding, Gain};

const ABOUT: &str = "port";

pub(super) fn check(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (port, facts) in case.config.ports.iter().zip(&case.facts.ports) {
        match facts {
            PortFacts::Pci(None) => findings.push(Finding::obstacle(
                ABOUT,
                format!("there is no PCI device {}", port.device),
                "lspci -D shows those there are",
            )),
            PortFacts::Pci(Some(pci)) => findings.extend(bound(port, pci).into_iter().chain(link(port, pci))),
            PortFacts::Interface { exists: false, .. } => findings.push(Finding::obstacle(
                ABOUT,
                format!("{}: the kernel has no such interface", port.device),
                "ip link shows those there are",
            )),
            PortFacts::Interface { mtu, exists: true } => findings.extend(interface(case, port, *mtu)),
            PortFacts::Virtual => findings.extend(virtual_port(port)),
        }
    }
    let needs_tun = |port: &Port| {
        let is_tap = matches!(&port.kind, PortDevice::Vdev { driver, .. } if driver == "net_tap");
        is_tap || matches!(port.mirror, Mirror::Interface(_))
    };
    if !case.facts.has_tun && case.config.ports.iter().any(needs_tun) {
        let says = "/dev/net/tun is missing, which taps and mirrors need";
        findings.push(Finding::obstacle(ABOUT, says, "modprobe tun (in a container: pass the device)"));
    }
    if !case.facts.has_modules {
        findings.push(Finding::obstacle(
            ABOUT,
            "/sys/module is missing, which DPDK reads at start, whatever the ports are",
            "mount -t sysfs sysfs /sys (in a container: pass /sys/module, read-only will do)",
        ));
    }
    if case.polls() != case.config.ports.iter().any(|port| port.kind == PortDevice::Pci) {
        findings.extend(idle(case));
    }
    findings
}

fn bound(port: &Port, pci: &Pci) -> Option<Finding> {
    let device = port.device.split(',').next().unwrap_or_default();
    let take = format!("dpdk-devbind.py -b vfio-pci {device}");
    Some(match pci.driver.as_deref() {
        Some(driver @ ("vfio-pci" | "mlx4_core" | "mlx5_core")) => {
            Finding::good(ABOUT, format!("{device} is bound to {driver}"))
        }
        Some(driver @ ("igb_uio" | "uio_pci_generic")) => Finding::advice(
            ABOUT,
            Gain::Little,
            format!("{device} is bound to {driver}"),
            "the NIC may write to all memory; the director must run as root",
            take,
        ),
        Some(driver) => Finding::obstacle(
            ABOUT,
            format!("{device} is bound to {driver}, and is the kernel's"),
            format!("{take} (it is taken away from the kernel: make sure that you do not come by it)"),
        ),
        None => Finding::obstacle(ABOUT, format!("{device} is bound to no driver"), take),
    })
}

fn link(port: &Port, pci: &Pci) -> Option<Finding> {
    let [current, most] = pci.link.as_ref()?;
    (current != most).then(|| {
        Finding::advice(
            ABOUT,
            Gain::Some,
            format!(
                "{} talks PCIe at {} x{}, and could at {} x{}",
                port.device, current.0, current.1, most.0, most.1
            ),
            "the slot may be slower than the wire",
            format!(
                "put it into a slot that is as fast: lspci -vv -s {} (LnkSta, LnkCap)",
                port.device.split(',').next().unwrap_or_default()
            ),
        )
    })
}

fn interface(case: &Case<'_>, port: &Port, mtu: Option<u32>) -> Vec<Finding> {
    let Mirror::KernelKeeps { interface } = &port.mirror else { return Vec::new() };
    let mut findings = vec![Finding::advice(
        ABOUT,
        Gain::Much,
        format!("{interface} stays the kernel's, and its packets come by a socket"),
        "a copy and the kernel's receive path for each packet: about a tenth of what a NIC by vfio does",
        "a NIC of its own: device = \"0000:03:00.0\" and mirror = \"wan0\" in [[port]]",
    )];
    if let Some(mtu) = mtu.filter(|mtu| *mtu < u32::from(port.mtu)) {
        findings.push(Finding::advice(
            ABOUT,
            Gain::Some,
            format!("{interface} has an MTU of {mtu}, and the port one of {}", port.mtu),
            "longer packets are lost on their way out",
            format!("ip link set dev {interface} mtu {}, or mtu = {mtu} in [[port]]", port.mtu),
        ));
    }
    let queues = port.kind.arg("qpairs").and_then(|queues| queues.parse().ok()).unwrap_or(1_usize);
    let is_af_packet = matches!(&port.kind, PortDevice::Vdev { driver, .. } if driver == "net_af_packet");
    if is_af_packet && queues < case.workers.len() {
        findings.push(Finding::obstacle(
            ABOUT,
            format!("{} has {queues} transmit queues for {} lcores", port.device, case.workers.len()),
            format!("add qpairs={} to its device string", case.workers.len()),
        ));
    }
    findings
}

fn virtual_port(port: &Port) -> Option<Finding> {
    let PortDevice::Vdev { driver, .. } = &port.kind else { return None };
    match driver.as_str() {
        "net_tap" => Some(Finding::advice(
            ABOUT,
            Gain::Much,
            format!("{} is a tap", port.device),
            "a system call for each packet: about a tenth of what a NIC by vfio does",
            "a NIC of its own: device = \"0000:03:00.0\" and mirror = \"wan0\" in [[port]]",
        )),
        "net_null" => Some(Finding::advice(
            ABOUT,
            Gain::Much,
            format!("{} swallows what is sent, and no client is behind it", port.device),
            "all traffic",
            "name a NIC (dpdk-devbind.py --status-dev net) or an interface (net_af_packet0,iface=eth0) in [[port]]",
        )),
        _ => None,
    }
}

/// Lcores that sleep beside a NIC, or poll without one.
fn idle(case: &Case<'_>) -> Option<Finding> {
    Some(match case.polls() {
        false => Finding::advice(
            ABOUT,
            Gain::Some,
            "lcores sleep when no packets come, though a port is a NIC (idle = \"sleep\" in [lcores])",
            "some 20 µs of latency and more; a NIC's queue may run over in a burst",
            "idle = \"auto\" in [lcores]",
        ),
        true => Finding::advice(
            ABOUT,
            Gain::Little,
            "lcores poll without end, though no port is a NIC (idle = \"poll\" in [lcores])",
            "a whole CPU each, for little",
            "idle = \"auto\" in [lcores]",
        ),
    })
}
