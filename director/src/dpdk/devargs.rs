//! The device string of a port: a PCI address or a virtual device with its arguments.

/// Whether a device string names a PCI device (`0000:03:00.0`, `03:00.0`, with or without arguments
/// after a comma) and not a virtual one.
#[must_use]
pub fn is_pci(device: &str) -> bool {
    let name = name(device);
    let hex = |text: &str, len: usize| text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let Some((rest, function)) = name.rsplit_once('.') else { return false };
    let mut parts = rest.rsplit(':');
    let (Some(device), Some(bus)) = (parts.next(), parts.next()) else { return false };
    let domain = parts.next();
    parts.next().is_none()
        && matches!(function.as_bytes(), [b'0'..=b'7'])
        && hex(device, 2)
        && hex(bus, 2)
        && domain.is_none_or(|domain| (4..=8).contains(&domain.len()) && hex(domain, domain.len()))
}

/// All before the first comma: a virtual device's name, or a PCI address as typed.
pub(super) fn name(device: &str) -> &str {
    device.split_once(',').map_or(device, |(name, _)| name)
}

/// The name by which DPDK knows the device: a PCI address in full.
pub(super) fn dpdk_name(device: &str) -> String {
    let name = name(device);
    match is_pci(device) {
        true if name.matches(':').count() == 1 => format!("0000:{}", name.to_ascii_lowercase()),
        true => name.to_ascii_lowercase(),
        false => name.to_owned(),
    }
}

/// The driver's part of a virtual device's name: `net_tap` of `net_tap0`.
pub(super) fn driver(device: &str) -> &str {
    name(device).trim_end_matches(|digit: char| digit.is_ascii_digit())
}

/// The value of an argument: `veth1` for `iface` in `net_af_packet0,iface=veth1`.
pub(super) fn argument<'a>(device: &'a str, key: &str) -> Option<&'a str> {
    device
        .split(',')
        .skip(1)
        .find_map(|pair| pair.split_once('=').filter(|(k, _)| *k == key).map(|(_, value)| value))
}

/// The device string as DPDK gets it: with what follows from the number of queues.
/// net_af_packet makes as many queue pairs as `qpairs` says, one by default.
pub(super) fn with_queues(device: &str, tx_queues: u16) -> String {
    if driver(device) == "net_af_packet" && tx_queues > 1 && argument(device, "qpairs").is_none() {
        return format!("{device},qpairs={tx_queues}");
    }
    device.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_pci_from_virtual() {
        for pci in ["0000:03:00.0", "03:00.1", "0000:3b:00.7,arg=1", "00010000:01:00.0"] {
            assert!(is_pci(pci), "{pci}");
        }
        for other in
            ["net_tap0,iface=x", "net_ring0", "0000:03:00", "03:00.8", "3:0.0", "", "a:b:c:d.0", "zz:00.0"]
        {
            assert!(!is_pci(other), "{other}");
        }
    }

    #[test]
    fn takes_a_device_string_apart() {
        let device = "net_af_packet12,iface=veth1,qpairs=2";
        assert_eq!((name(device), driver(device)), ("net_af_packet12", "net_af_packet"));
        assert_eq!((argument(device, "iface"), argument(device, "if")), (Some("veth1"), None));
    }

    #[test]
    fn a_pci_address_is_written_in_full() {
        assert_eq!(dpdk_name("3B:00.1,arg=1"), "0000:3b:00.1");
        assert_eq!(dpdk_name("0000:3b:00.1"), "0000:3b:00.1");
        assert_eq!(dpdk_name("net_tap0,iface=X"), "net_tap0");
    }

    #[test]
    fn af_packet_gets_a_queue_pair_for_each_lcore() {
        assert_eq!(with_queues("net_af_packet0,iface=a", 3), "net_af_packet0,iface=a,qpairs=3");
        assert_eq!(with_queues("net_af_packet0,iface=a,qpairs=2", 3), "net_af_packet0,iface=a,qpairs=2");
        assert_eq!(with_queues("net_af_packet0,iface=a", 1), "net_af_packet0,iface=a");
        assert_eq!(with_queues("net_tap0,iface=a", 3), "net_tap0,iface=a");
    }
}
