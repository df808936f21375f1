//! How a NIC spreads packets over its receive queues.

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info};

/// Two bytes repeated: with such a Toeplitz key the hash is the same wherever in the header a field sits,
/// so source-only on the way in and destination-only on the way back agree.
const PATTERN: [u8; 2] = [0x6d, 0x5a];

/// The longest key of a driver that we serve. ice and i40e take 52 bytes, mlx5 and ixgbe 40.
const LONGEST_KEY: usize = 64;

/// What every driver takes that does not say how long its key is.
const USUAL_KEY: usize = 40;

/// IP and, where there are ports, source and destination port too.
const WANTED: u64 = dpdk_sys::DPDK_SYS_RSS_IPV4
    | dpdk_sys::DPDK_SYS_RSS_FRAG_IPV4
    | dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV4_TCP
    | dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV4_UDP
    | dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV4_OTHER
    | dpdk_sys::DPDK_SYS_RSS_IPV6
    | dpdk_sys::DPDK_SYS_RSS_FRAG_IPV6
    | dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV6_TCP
    | dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV6_UDP
    | dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV6_OTHER;

/// Receive side scaling as it was set on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rss {
    /// DPDK's `RTE_ETH_RSS_*` bits that were asked for and that the driver offers.
    pub functions: u64,
    /// Bytes of the Toeplitz key, `6d 5a` repeated.
    pub key_len: u8,
}

/// What to set on a device with that many receive queues: nothing where there is one, or where the driver
/// does not offer to hash TCP or UDP over IPv4.
pub(super) fn plan(info: &rte_eth_dev_info, rx_queues: u16) -> Option<Rss> {
    let functions = info.flow_type_rss_offloads & WANTED;
    let ports = dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV4_TCP | dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV4_UDP;
    if rx_queues < 2 || functions & ports == 0 {
        return None;
    }
    let key_len = match usize::from(info.hash_key_size) {
        0 => USUAL_KEY,
        len @ 1..=LONGEST_KEY => len,
        _ => return None,
    };
    Some(Rss { functions, key_len: key_len as u8 })
}

/// A key, which has to outlive the call that configures the device.
pub(super) struct Key([u8; LONGEST_KEY]);

impl Key {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|i| PATTERN[i % PATTERN.len()]))
    }

    /// Enters the plan into a configuration, which then points to this key.
    pub(super) fn enter(&mut self, plan: Rss, conf: &mut rte_eth_conf) {
        conf.rxmode.mq_mode = dpdk_sys::RTE_ETH_MQ_RX_RSS;
        // Field by field: the struct grew an algorithm in 23.11.
        let rss = &mut conf.rx_adv_conf.rss_conf;
        rss.rss_key = self.0.as_mut_ptr();
        rss.rss_key_len = plan.key_len;
        rss.rss_hf = plan.functions;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(functions: u64, key: u8) -> rte_eth_dev_info {
        rte_eth_dev_info { flow_type_rss_offloads: functions, hash_key_size: key, ..Default::default() }
    }

    #[test]
    fn nothing_where_there_is_one_queue_or_no_rss() {
        assert_eq!(plan(&info(u64::MAX, 40), 1), None);
        assert_eq!(plan(&info(0, 0), 4), None);
        assert_eq!(plan(&info(u64::MAX, 65), 4), None);
    }

    #[test]
    fn takes_what_the_driver_offers() {
        let tcp = dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV4_TCP;
        assert_eq!(plan(&info(tcp, 52), 2), Some(Rss { functions: tcp, key_len: 52 }));
        assert_eq!(plan(&info(tcp, 0), 2), Some(Rss { functions: tcp, key_len: 40 }));
    }

    #[test]
    fn the_key_repeats() {
        let mut conf = rte_eth_conf::default();
        let mut key = Key::new();
        key.enter(Rss { functions: 1, key_len: 40 }, &mut conf);
        assert!(key.0.chunks(2).all(|pair| pair == [0x6d, 0x5a]));
        assert_eq!(conf.rxmode.mq_mode, dpdk_sys::RTE_ETH_MQ_RX_RSS);
    }
}
