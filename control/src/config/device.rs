//! One port: its DPDK device and the kernel interface that mirrors it.

use super::errors::{Complaints, Site};
use super::number;
use super::raw::RawPort;
use super::services::word;
use super::walk::At;

/// One port of the data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The device as the EAL takes it: a full PCI address for `-a`, a vdev string for `--vdev`.
    pub device: String,
    /// What the device is.
    pub kind: PortDevice,
    /// The kernel interface on the same network.
    pub mirror: Mirror,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Receive descriptors per queue.
    pub rx_descriptors: u16,
    /// Transmit descriptors per queue.
    pub tx_descriptors: u16,
    /// What the device spreads packets by over the receive queues, if it can.
    pub rss: Rss,
}

/// What a device spreads packets by over its receive queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rss {
    /// Addresses and ports of both sides.
    #[default]
    Symmetric,
    /// The source alone: for a port that faces clients.
    Source,
    /// The destination alone: for a port that faces real servers.
    Destination,
}

impl Port {
    /// [`Port::mtu`] unless the configuration says otherwise.
    pub const DEFAULT_MTU: u16 = 1500;
    /// [`Port::rx_descriptors`] and [`Port::tx_descriptors`] unless the configuration says otherwise.
    pub const DEFAULT_DESCRIPTORS: u16 = 1024;
}

/// What a port's device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortDevice {
    /// A PCI device.
    Pci,
    /// A virtual device that the EAL makes.
    Vdev {
        /// The driver, e.g. `net_af_packet`.
        driver: String,
        /// The device's own name, e.g. `net_af_packet0`.
        name: String,
        /// What follows the name's comma, e.g. `iface=eth0`; empty if nothing does.
        args: String,
    },
}

impl PortDevice {
    /// The value of a vdev's argument `key=value`.
    pub fn arg(&self, key: &str) -> Option<&str> {
        let PortDevice::Vdev { args, .. } = self else {
            return None;
        };
        let pairs = args.split(',').filter_map(|arg| arg.split_once('='));
        pairs.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Whether the kernel keeps the device's interface and sees its traffic by itself.
    fn is_kept_by_kernel(&self) -> bool {
        matches!(self, PortDevice::Vdev { driver, .. } if driver == "net_af_packet" || driver == "net_af_xdp")
    }
}

/// The kernel interface that stands for a port in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mirror {
    /// A TAP of this name, attached to or made at start.
    Interface(String),
    /// Nothing: the kernel does not take part in this port.
    None,
    /// The kernel keeps the device's interface itself.
    KernelKeeps {
        /// That interface.
        interface: String,
    },
}

/// Drivers whose devices are numbered behind names that end in what could be part of the number, or that are
/// followed by a name of the operator's. The EAL matches a driver by the beginning of the device's name.
const VDEV_DRIVERS: &[&str] = &[
    "net_af_packet",
    "net_af_xdp",
    "net_bonding",
    "net_failsafe",
    "net_memif",
    "net_null",
    "net_pcap",
    "net_ring",
    "net_tap",
    "net_vdev_netvsc",
    "net_vhost",
    "net_virtio_user",
];

/// A port if it can be understood, and the names that no other port can have.
pub(super) struct Checked {
    pub(super) port: Port,
    /// The PCI address or the vdev's name.
    pub(super) identity: String,
    pub(super) identity_site: Site,
    /// The kernel interfaces that the port uses or makes.
    pub(super) interfaces: Vec<At<String>>,
}

/// Understands one `[[port]]`.
pub(super) fn port(raw: &RawPort, complaints: &mut Complaints<'_>) -> Option<Checked> {
    let mtu = number::within(raw.mtu.as_ref(), number::MTU, complaints);
    let rx = number::within(raw.rx_descriptors.as_ref(), number::DESCRIPTORS, complaints);
    let tx = number::within(raw.tx_descriptors.as_ref(), number::DESCRIPTORS, complaints);
    let rss = word(raw.rss.as_ref(), Rss::ALL, Rss::word, complaints);
    if !raw.has_device {
        complaints.add(
            &raw.site,
            "the port has no `device`",
            "add device = \"0000:03:00.0\" or another PCI address or vdev, e.g. \"net_af_packet0,iface=eth0\"",
        );
    }
    let device = raw.device.as_ref().and_then(|at| device(at, complaints).map(|found| (found, &at.site)));
    let Some(((device, kind), site)) = device else {
        // Without a device nobody knows whether it needs a mirror, but a name can be wrong by itself.
        if let Some(at) = raw.mirror.as_ref().filter(|at| at.value != "none") {
            interface_name(&at.value, &at.site, complaints);
        }
        return None;
    };

    let mut interfaces = Vec::new();
    if let Some(own) = kind.arg("iface")
        && interface_name(own, site, complaints)
    {
        interfaces.push(At { value: own.to_owned(), site: site.clone() });
    }
    let mirror = mirror(raw, &kind, site, complaints)?;
    if let (Mirror::Interface(name), Some(at)) = (&mirror, &raw.mirror) {
        interfaces.push(At { value: name.clone(), site: at.site.clone() });
    }
    let identity = match &kind {
        PortDevice::Pci => device.clone(),
        PortDevice::Vdev { name, .. } => name.clone(),
    };
    let port = Port {
        device,
        kind,
        mirror,
        mtu: mtu.unwrap_or(Port::DEFAULT_MTU),
        rx_descriptors: rx.unwrap_or(Port::DEFAULT_DESCRIPTORS),
        tx_descriptors: tx.unwrap_or(Port::DEFAULT_DESCRIPTORS),
        rss: rss.unwrap_or_default(),
    };
    Some(Checked { port, identity, identity_site: site.clone(), interfaces })
}

fn mirror(
    raw: &RawPort,
    kind: &PortDevice,
    device: &Site,
    complaints: &mut Complaints<'_>,
) -> Option<Mirror> {
    if kind.is_kept_by_kernel() {
        if let Some(at) = &raw.mirror {
            complaints.add(
                &at.site,
                "a device whose interface the kernel keeps has no mirror",
                "leave `mirror` out; the interface is the one that `iface=` names",
            );
        }
        let Some(interface) = kind.arg("iface") else {
            complaints.add(
                device,
                "the device does not say which kernel interface it opens",
                "append the interface, e.g. \",iface=eth0\"",
            );
            return None;
        };
        return Some(Mirror::KernelKeeps { interface: interface.to_owned() });
    }
    match &raw.mirror {
        Some(at) if at.value == "none" => Some(Mirror::None),
        Some(at) => {
            interface_name(&at.value, &at.site, complaints).then(|| Mirror::Interface(at.value.clone()))
        }
        None => {
            // A mirror of the wrong type has been complained of already.
            if !raw.has_mirror {
                complaints.add(
                    &raw.site,
                    "the port has no `mirror`, which every device needs that the kernel does not keep",
                    "add mirror = \"dir0\" or another name for its kernel interface, or mirror = \"none\"",
                );
            }
            None
        }
    }
}

/// Whether the kernel and every tool take this as an interface's name; complains if not.
fn interface_name(name: &str, site: &Site, complaints: &mut Complaints<'_>) -> bool {
    let odd = |character: char| !(character.is_ascii_alphanumeric() || "_-.".contains(character));
    let reason = if name.is_empty() {
        "the interface name is empty".to_owned()
    } else if name.len() > 15 {
        format!("the interface name `{name}` has {} bytes, and the kernel takes at most 15", name.len())
    } else if let Some(character) = name.chars().find(|&character| odd(character)) {
        format!("the interface name `{name}` contains {character:?}")
    } else if name.starts_with(['-', '.']) {
        format!("the interface name `{name}` does not start with a letter, a digit or an underscore")
    } else {
        return true;
    };
    complaints.add(site, reason, "use 1 to 15 letters, digits, `_`, `-` and `.`, e.g. \"dir0\"");
    false
}

/// The device as the EAL takes it, and what it is.
fn device(at: &At<String>, complaints: &mut Complaints<'_>) -> Option<(String, PortDevice)> {
    let text = at.value.as_str();
    if let Some(address) = pci_address(text) {
        return Some((address, PortDevice::Pci));
    }
    let (name, args) = text.split_once(',').unwrap_or((text, ""));
    let printable = text.chars().all(|character| character.is_ascii_graphic());
    if !printable || !name.starts_with("net_") || name.len() == "net_".len() {
        complaints.add(
            &at.site,
            format!("{text:?} is neither a PCI address nor a virtual network device"),
            "write e.g. \"0000:03:00.0\" or \"net_af_packet0,iface=eth0\"",
        );
        return None;
    }
    // The EAL keeps a device's name in 64 bytes with the final zero.
    if name.len() > 63 {
        complaints.add(&at.site, "the device's name has more than 63 bytes", "give it a shorter name");
        return None;
    }
    let known = VDEV_DRIVERS.iter().find(|driver| name.starts_with(**driver));
    let driver = known.copied().unwrap_or(name.trim_end_matches(|digit: char| digit.is_ascii_digit()));
    let kind = PortDevice::Vdev { driver: driver.to_owned(), name: name.to_owned(), args: args.to_owned() };
    Some((text.to_owned(), kind))
}

/// The full form of a PCI address such as `0000:03:00.0` or, for short, `03:00.0`.
fn pci_address(text: &str) -> Option<String> {
    let hex = |part: &str, digits: std::ops::RangeInclusive<usize>| {
        digits.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let (bus_and_device, function) = text.rsplit_once('.')?;
    let (bus, device) = bus_and_device.rsplit_once(':')?;
    let (domain, bus) = bus.split_once(':').unwrap_or(("0000", bus));
    let right = hex(domain, 4..=8)
        && hex(bus, 2..=2)
        && hex(device, 2..=2)
        && u8::from_str_radix(device, 16).is_ok_and(|device| device < 32)
        && matches!(function.as_bytes(), [b'0'..=b'7']);
    right.then(|| format!("{domain}:{bus}:{device}.{function}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_come_out_in_full() {
        assert_eq!(pci_address("0000:03:00.0").as_deref(), Some("0000:03:00.0"));
        assert_eq!(pci_address("3B:1f.7").as_deref(), Some("0000:3b:1f.7"));
        for bad in
            ["", "3:0.0", "03:00.8", "03:20.0", "zz:00.0", "0000:03:00", "0000:03:00.0,x=1", "1:03:00.0"]
        {
            assert_eq!(pci_address(bad), None, "{bad:?} was accepted");
        }
    }

    #[test]
    fn the_driver_is_what_the_name_begins_with() {
        let driver_of = |text: &str| {
            let mut complaints = Complaints::new("", "t.toml");
            let site = Site { offset: 0, key: String::new() };
            match device(&At { value: text.to_owned(), site }, &mut complaints) {
                Some((_, PortDevice::Vdev { driver, .. })) => Some(driver),
                _ => None,
            }
        };
        assert_eq!(driver_of("net_tap0,iface=dtap0").as_deref(), Some("net_tap"));
        assert_eq!(driver_of("net_pcap_wan,rx_pcap=a.pcap").as_deref(), Some("net_pcap"));
        assert_eq!(driver_of("net_novel12").as_deref(), Some("net_novel"));
        for bad in ["", "eth0", "net_", "net_tap 0", "crypto_null0", "net_tap0\u{e9}"] {
            assert_eq!(driver_of(bad), None, "{bad:?} was accepted");
        }
    }
}
