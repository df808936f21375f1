//! How a device becomes a port: queues, descriptors, MTU, offloads, as wanted and as the driver allows.

use std::ffi::CStr;
use std::sync::Arc;

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info};

use super::device::{Device, keeps_interface};
use super::error::DpdkError;
use super::flow::Wording;
use super::port::{Port, PortConfig};
use super::queue::{RxQueue, TxQueue};
use super::rss::{self, Rss, Spread};
use super::{explain, flow};

/// How a device is set up, as the configuration wants it and the driver allows it.
pub(super) struct Setup<'a> {
    device: &'a Arc<Device>,
    what: &'a str,
    config: &'a PortConfig,
    info: rte_eth_dev_info,
    driver: String,
    rx_queues: u16,
    tx_queues: u16,
}

/// Drivers whose receive queues come in pairs with transmit queues: the kernel's queues of a tap device, the
/// rings of net_ring and the sockets of net_af_packet each get packets whether somebody polls them or not.
fn has_queue_pairs(driver: &str) -> bool {
    matches!(driver, "net_tap" | "net_ring" | "net_af_packet" | "net_virtio_user")
}

impl<'a> Setup<'a> {
    pub(super) fn of(
        device: &'a Arc<Device>,
        what: &'a str,
        config: &'a PortConfig,
    ) -> Result<Self, DpdkError> {
        let info = device.info().map_err(|code| DpdkError::of_code(what, code))?;
        let driver = match info.driver_name.is_null() {
            true => String::new(),
            // SAFETY: a string of the driver, which stays loaded.
            false => unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned(),
        };
        let mut rx_queues = config.rx_queues.clamp(1, info.max_rx_queues.max(1));
        let mut tx_queues = config.tx_queues.max(1);
        if tx_queues > info.max_tx_queues {
            return Err(DpdkError::new(
                what,
                format!(
                    "{driver} has {} transmit queues here, and {tx_queues} are needed, one per lcore",
                    info.max_tx_queues
                ),
                explain::more_tx_queues(&driver, tx_queues),
            ));
        }
        if has_queue_pairs(&driver) {
            // net_af_packet has opened all of its sockets already.
            let pairs = if driver == "net_af_packet" { info.max_rx_queues } else { rx_queues.max(tx_queues) };
            rx_queues = pairs.min(info.max_rx_queues);
            tx_queues = pairs.min(info.max_tx_queues);
        }
        let setup = Self { device, what, config, info, driver, rx_queues, tx_queues };
        setup.check_mtu()?;
        Ok(setup)
    }

    /// DPDK's own complaint names neither the port nor the limit.
    fn check_mtu(&self) -> Result<(), DpdkError> {
        // What DPDK takes for the bytes around a packet where a driver names no MTU: header and checksum.
        const AROUND: u32 = 14 + 4;
        let most = match self.info.max_mtu {
            u16::MAX => u16::try_from(self.info.max_rx_pktlen.saturating_sub(AROUND)).unwrap_or(u16::MAX),
            most => most,
        };
        if (self.info.min_mtu..=most).contains(&self.config.mtu) {
            return Ok(());
        }
        Err(DpdkError::new(
            self.what,
            format!(
                "{} takes an MTU from {} to {most}, not {}",
                self.driver, self.info.min_mtu, self.config.mtu
            ),
            "set mtu in its [[port]] accordingly",
        ))
    }

    /// The MTU that the driver is to be told, so that it takes frames of the port's with two VLAN tags. What a driver
    /// adds to an MTU for the rest of a frame, it says by its limits; not every one counts the tags in.
    fn driver_mtu(&self) -> u16 {
        with_tags(self.config.mtu, self.info.max_mtu, self.info.max_rx_pktlen)
    }

    fn check(&self, doing: &str, code: i32) -> Result<(), DpdkError> {
        match code {
            0 => Ok(()),
            code => Err(DpdkError::of_code(format!("{}: {doing}", self.what), code)),
        }
    }

    pub(super) fn start(self) -> Result<Port, DpdkError> {
        let (port, socket) = (self.device.port(), self.socket());
        let (rss, tx_offloads) = self.configure()?;
        let (rx_descriptors, tx_descriptors) = self.descriptors()?;
        self.set_mtu()?;
        for queue in 0..self.rx_queues {
            let conf = self.info.default_rxconf;
            let pool = self.device.pool().as_ptr();
            // SAFETY: the port is configured with such a queue, and the pool outlives the port.
            let code =
                unsafe { dpdk_sys::rte_eth_rx_queue_setup(port, queue, rx_descriptors, socket, &conf, pool) };
            self.check("setting up a receive queue", code)?;
        }
        for queue in 0..self.tx_queues {
            let mut conf = self.info.default_txconf;
            conf.offloads = tx_offloads;
            // SAFETY: the port is configured with such a queue.
            let code =
                unsafe { dpdk_sys::rte_eth_tx_queue_setup(port, queue, tx_descriptors, socket, &conf) };
            self.check("setting up a transmit queue", code)?;
        }
        // SAFETY: all queues are set up.
        self.check("starting it", unsafe { dpdk_sys::rte_eth_dev_start(port) })?;
        if self.config.promiscuous {
            // SAFETY: the port is valid.
            let code = unsafe { dpdk_sys::rte_eth_promiscuous_enable(port) };
            if code != -libc::ENOTSUP {
                self.check("switching it to promiscuous mode", code)?;
            }
        }
        let rss = self.spread_by_one_side(rss);
        // SAFETY: the port is valid. Counters of a device that EAL kept would go on.
        unsafe { dpdk_sys::rte_eth_stats_reset(port) };
        Ok(Port {
            device: self.device.clone(),
            mtu: self.config.mtu,
            rss,
            descriptors: (rx_descriptors, tx_descriptors),
            rx: (0..self.rx_queues).map(|queue| Some(RxQueue::new(self.device, queue))).collect(),
            tx: (0..self.tx_queues).map(|queue| Some(TxQueue::new(self.device, queue))).collect(),
            driver: self.driver,
        })
    }

    /// The NUMA node for the queues' memory, as DPDK takes it.
    fn socket(&self) -> u32 {
        self.config.socket.unwrap_or_else(|| {
            // SAFETY: the port is valid. -1, any node, is what DPDK wants as the greatest number.
            unsafe { dpdk_sys::rte_eth_dev_socket_id(self.device.port()) as u32 }
        })
    }

    /// Numbers of queues, offloads, RSS. Returns what was set.
    fn configure(&self) -> Result<(Option<Rss>, u64), DpdkError> {
        let mut conf = rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(self.driver_mtu());
        conf.txmode.offloads = self.info.tx_offload_capa & dpdk_sys::DPDK_SYS_TX_OFFLOAD_MBUF_FAST_FREE;
        let offloads = conf.txmode.offloads;
        let mut key = rss::Key::new();
        // net_tap spreads by the kernel's hash, and claims an RSS that it only has as a flow rule.
        let plan = rss::plan(&self.info, self.rx_queues).filter(|_| self.driver != "net_tap");
        if let Some(plan) = plan {
            key.enter(plan, &mut conf);
            if self.configure_with(&conf) == 0 {
                return Ok((Some(plan), offloads));
            }
            tracing::warn!("{}: the driver refuses RSS, so packets are spread by software", self.what);
            conf.rxmode.mq_mode = dpdk_sys::RTE_ETH_MQ_RX_NONE;
            conf.rx_adv_conf = Default::default();
        }
        self.check("configuring it", self.configure_with(&conf))?;
        Ok((None, offloads))
    }

    /// Has the driver spread by one side alone, if that is wanted and the driver can. Returns what is in force.
    fn spread_by_one_side(&self, configured: Option<Rss>) -> Option<Rss> {
        let wanted = self.config.spread;
        let Some(side) = wanted.side().filter(|_| self.rx_queues > 1) else { return configured };
        let (key, key_len) = (rss::Key::new(), rss::key_len(&self.info));
        let queues: Vec<u16> = (0..self.rx_queues).collect();
        let whole = Wording::Whole { key: key.bytes(key_len), queues: &queues };
        // Without a configured RSS there is no key that a rule could leave out.
        let wordings = [whole, Wording::AsConfigured];
        let wordings = if configured.is_some() { &wordings[..] } else { &wordings[..1] };
        match flow::spread(self.device.port(), side, wordings) {
            Ok((flows, functions)) => {
                self.device.keep(flows);
                Some(Rss { spread: wanted, functions, key_len })
            }
            Err(reason) => {
                let instead = match configured {
                    Some(_) => Spread::Symmetric.word(),
                    None => "none",
                };
                tracing::warn!(
                    "{}: the driver does not take rss = \"{}\" ({reason}): RSS is {instead}, and lcores hand over \
                     to each other",
                    self.what,
                    wanted.word()
                );
                configured
            }
        }
    }

    fn configure_with(&self, conf: &rte_eth_conf) -> i32 {
        // SAFETY: the port is stopped; DPDK copies the configuration and drivers copy the key.
        unsafe { dpdk_sys::rte_eth_dev_configure(self.device.port(), self.rx_queues, self.tx_queues, conf) }
    }

    fn descriptors(&self) -> Result<(u16, u16), DpdkError> {
        let (mut rx, mut tx) = (self.config.rx_descriptors, self.config.tx_descriptors);
        if self.driver == "net_tap" {
            // It keeps an mbuf for each, and receives every frame into the first.
            rx = rx.min(8);
        }
        // SAFETY: the port is valid, and DPDK changes the numbers.
        let code =
            unsafe { dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.device.port(), &mut rx, &mut tx) };
        self.check("adjusting its descriptors", code)?;
        Ok((rx, tx))
    }

    fn set_mtu(&self) -> Result<(), DpdkError> {
        if keeps_interface(&self.driver) {
            return Ok(());
        }
        // SAFETY: the port is configured and stopped.
        let code = unsafe { dpdk_sys::rte_eth_dev_set_mtu(self.device.port(), self.driver_mtu()) };
        if code == -libc::ENOTSUP {
            return Ok(());
        }
        self.check("setting its MTU", code)
    }
}

/// An MTU with room for as many bytes as two VLAN tags have beyond what the driver adds to it, as far as `max_mtu` allows.
/// Where a driver does not name its limits it adds what it likes, and is told the MTU as it is: those are the drivers
/// without hardware.
fn with_tags(mtu: u16, max_mtu: u16, max_frame: u32) -> u16 {
    // Header, two tags, checksum.
    const AROUND: u32 = 14 + 2 * 4 + 4;
    let adds = max_frame.saturating_sub(u32::from(max_mtu));
    if max_mtu == u16::MAX || max_frame == u32::MAX || adds < 14 {
        return mtu;
    }
    let missing = AROUND.saturating_sub(adds) as u16;
    mtu.saturating_add(missing).min(max_mtu).max(mtu)
}

#[cfg(test)]
mod tests {
    use super::with_tags;

    #[test]
    fn a_driver_that_does_not_count_tags_is_told_a_greater_mtu() {
        // Header and checksum; one tag more; both.
        assert_eq!(with_tags(1500, 9000, 9018), 1508);
        assert_eq!(with_tags(1500, 9000, 9022), 1504);
        assert_eq!(with_tags(1500, 9000, 9026), 1500);
        assert_eq!(with_tags(9000, 9000, 9018), 9000, "no more than it takes");
        assert_eq!(with_tags(8998, 9000, 9018), 9000);
        // No limits named, or such that mean nothing.
        for (max_mtu, max_frame) in
            [(u16::MAX, u32::MAX), (u16::MAX, 1518), (9000, u32::MAX), (9000, 9000), (9000, 0)]
        {
            assert_eq!(with_tags(1500, max_mtu, max_frame), 1500);
        }
    }
}
