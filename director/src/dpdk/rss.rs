//! How a NIC spreads packets over its receive queues.

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info};

use super::flow::Side;
use crate::pipeline::owner::KEY_WORD;

/// Two bytes repeated: with such a Toeplitz key the hash is the same wherever in the header a field sits,
/// so source-only on the way in and destination-only on the way back agree.
const PATTERN: [u8; 2] = KEY_WORD.to_be_bytes();

/// The longest key that a driver can ask for. ice and i40e take 52 bytes, mlx5 and ixgbe 40.
const LONGEST_KEY: usize = u8::MAX as usize;

/// What every driver takes that does not say how long its key is.
const USUAL_KEY: u8 = 40;

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

/// What of a packet says which receive queue it goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spread {
    /// Addresses and ports of both sides.
    #[default]
    Symmetric,
    /// Its source: on a port that faces clients.
    Source,
    /// Its destination: on a port that faces real servers.
    Destination,
}

impl Spread {
    /// The name under which it is configured and listed.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Spread::Symmetric => "symmetric",
            Spread::Source => "source",
            Spread::Destination => "destination",
        }
    }

    /// The one side that counts.
    pub(super) fn side(self) -> Option<Side> {
        match self {
            Spread::Symmetric => None,
            Spread::Source => Some(Side::Source),
            Spread::Destination => Some(Side::Destination),
        }
    }
}

/// Receive side scaling as it was set on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rss {
    /// What is in force, whatever was wanted.
    pub spread: Spread,
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
    Some(Rss { spread: Spread::Symmetric, functions, key_len: key_len(info) })
}

/// How long the driver wants a key.
pub(super) fn key_len(info: &rte_eth_dev_info) -> u8 {
    match info.hash_key_size {
        0 => USUAL_KEY,
        len => len,
    }
}

/// A key, which has to outlive the call that configures the device.
pub(super) struct Key([u8; LONGEST_KEY]);

impl Key {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|i| PATTERN[i % PATTERN.len()]))
    }

    /// Its first bytes.
    pub(super) fn bytes(&self, len: u8) -> &[u8] {
        &self.0[..usize::from(len)]
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
    }

    #[test]
    fn takes_what_the_driver_offers() {
        let tcp = dpdk_sys::DPDK_SYS_RSS_NONFRAG_IPV4_TCP;
        let rss = |key_len| Some(Rss { spread: Spread::Symmetric, functions: tcp, key_len });
        assert_eq!(plan(&info(tcp, 52), 2), rss(52));
        assert_eq!(plan(&info(tcp, 0), 2), rss(40));
        assert_eq!(plan(&info(tcp, u8::MAX), 2), rss(u8::MAX));
    }

    #[test]
    fn the_key_repeats() {
        let mut conf = rte_eth_conf::default();
        let mut key = Key::new();
        key.enter(Rss { spread: Spread::Symmetric, functions: 1, key_len: 40 }, &mut conf);
        assert_eq!((key.bytes(40).len(), key.bytes(u8::MAX).len()), (40, 255));
        assert!(key.0.chunks_exact(2).all(|pair| pair == [0x6d, 0x5a]));
        assert_eq!(conf.rxmode.mq_mode, dpdk_sys::RTE_ETH_MQ_RX_RSS);
    }
}
