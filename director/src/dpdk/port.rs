//! A port: a device of DPDK, set up and started.

use std::sync::Arc;

use dpdk_sys::{rte_eth_stats, rte_ether_addr};

use super::device::Device;
use super::eal::Eal;
use super::error::DpdkError;
use super::mempool::MbufPool;
use super::queue::{RxQueue, TxQueue};
use super::rss::{Rss, Spread};
use super::setup::Setup;
use super::{explain, log};
use crate::id::PortId;
use crate::nexthop::MacAddr;

/// What a port is to be.
#[derive(Clone, Debug)]
pub struct PortConfig {
    /// Receive queues wanted: one per lcore. There may be fewer, where the driver has no more, and more, where
    /// its receive and transmit queues come in pairs (net_tap, net_ring, net_af_packet): then each of them
    /// gets packets. [`Port::rx_queues`] says how many, and every one has to be polled.
    pub rx_queues: u16,
    /// Transmit queues needed: one per lcore, as a queue has one owner.
    pub tx_queues: u16,
    /// Descriptors of a receive queue, brought within what the driver allows.
    pub rx_descriptors: u16,
    /// Descriptors of a transmit queue, brought within what the driver allows.
    pub tx_descriptors: u16,
    /// The largest IP packet, in bytes.
    pub mtu: u16,
    /// Receive frames for any address. Where the director speaks under the port's own address (net_af_packet,
    /// net_af_xdp) there is no need to.
    pub promiscuous: bool,
    /// What packets are to be spread by over the receive queues. Where the driver does not spread by one side
    /// alone, it does so by both if it can, and the log says so.
    pub spread: Spread,
    /// NUMA node for the memory of the queues; the device's own where `None`.
    pub socket: Option<u32>,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            mtu: 1500,
            promiscuous: true,
            spread: Spread::Symmetric,
            socket: None,
        }
    }
}

/// What the driver has counted since the port was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames lost as no descriptor was free: the lcore is too slow.
    pub rx_missed: u64,
    /// Frames received with an error.
    pub rx_errors: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Frames lost as the pool was empty.
    pub rx_no_mbuf: u64,
}

/// State of the link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortLink {
    /// Up.
    pub up: bool,
    /// Speed in Mbit/s, where the driver knows one.
    pub speed_mbps: Option<u32>,
    /// Full duplex.
    pub full_duplex: bool,
}

/// A port that receives and sends. Stopped and closed when this and all its queues are dropped.
pub struct Port {
    pub(super) device: Arc<Device>,
    pub(super) driver: String,
    pub(super) mtu: u16,
    pub(super) rss: Option<Rss>,
    pub(super) descriptors: (u16, u16),
    pub(super) rx: Vec<Option<RxQueue>>,
    pub(super) tx: Vec<Option<TxQueue>>,
}

impl Port {
    /// Adds the device to EAL if it is not there yet (every virtual one), sets it up and starts it.
    ///
    /// All packets that are sent on the port must come from `pool`, where received ones go too: drivers are
    /// told so, and free what was sent without looking.
    ///
    /// # Errors
    /// Where the device or its driver is not there, is used by another port or process, has fewer transmit
    /// queues than needed, does not take the MTU, or memory or a right is missing. The text begins with the
    /// port and its device string, and ends with a remedy. Nothing is left behind: the device can be opened
    /// again.
    pub fn open(
        eal: &Eal,
        id: PortId,
        device: &str,
        config: &PortConfig,
        pool: &MbufPool,
    ) -> Result<Self, DpdkError> {
        let what = format!("port {} ({device})", id.0);
        let device = Arc::new(Device::attach(eal, id, device, &what, config, pool)?);
        let (port, lines) =
            log::capture(|| Setup::of(&device, &what, config).and_then(|setup| setup.start()));
        match port {
            Ok(port) => {
                for line in lines {
                    tracing::debug!(target: "dpdk", "{what}: {line}");
                }
                Ok(port)
            }
            Err(error) => Err(explain::with_log(error, &lines)),
        }
    }

    /// Its id in the configuration.
    #[must_use]
    pub fn id(&self) -> PortId {
        self.device.id()
    }

    /// Its device string, as configured.
    #[must_use]
    pub fn device(&self) -> &str {
        self.device.string()
    }

    /// DPDK's driver, e.g. `net_tap`.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// Number of receive queues that were set up.
    #[must_use]
    pub fn rx_queues(&self) -> u16 {
        self.rx.len() as u16
    }

    /// Number of transmit queues that were set up; at least as many as wanted.
    #[must_use]
    pub fn tx_queues(&self) -> u16 {
        self.tx.len() as u16
    }

    /// Descriptors of each receive and each transmit queue, as set up.
    #[must_use]
    pub fn descriptors(&self) -> (u16, u16) {
        self.descriptors
    }

    /// The largest IP packet, in bytes.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// How packets are spread over the receive queues; `None` where the NIC does not hash.
    #[must_use]
    pub fn rss(&self) -> Option<Rss> {
        self.rss
    }

    /// A receive queue, for the lcore that polls it. `None` if it was taken before or there is none.
    #[must_use]
    pub fn take_rx_queue(&mut self, queue: u16) -> Option<RxQueue> {
        self.rx.get_mut(usize::from(queue))?.take()
    }

    /// A transmit queue, for the lcore that sends on it. `None` if it was taken before or there is none.
    #[must_use]
    pub fn take_tx_queue(&mut self, queue: u16) -> Option<TxQueue> {
        self.tx.get_mut(usize::from(queue))?.take()
    }

    /// The port's Ethernet address.
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        let _one = self.device.control();
        let mut mac = rte_ether_addr::default();
        // SAFETY: the port is valid, and DPDK fills the address.
        unsafe { dpdk_sys::rte_eth_macaddr_get(self.device.port(), &mut mac) };
        MacAddr(mac.addr_bytes)
    }

    /// Sets the port's Ethernet address. On net_tap and net_af_packet this changes the kernel's interface.
    ///
    /// # Errors
    /// Where the driver cannot, or the address is none of a station.
    pub fn set_mac(&self, mac: MacAddr) -> Result<(), DpdkError> {
        let _one = self.device.control();
        let mut address = rte_ether_addr { addr_bytes: mac.0 };
        let (code, lines) = log::capture(|| {
            // SAFETY: the port is valid, and the address is copied.
            unsafe { dpdk_sys::rte_eth_dev_default_mac_addr_set(self.device.port(), &mut address) }
        });
        match code {
            0 => Ok(()),
            code => {
                let error =
                    DpdkError::of_code(format!("{}: setting its address to {mac}", self.device.what()), code)
                        .remedy("run it in promiscuous mode under the address it has");
                Err(explain::with_log(error, &lines))
            }
        }
    }

    /// What the driver has counted.
    #[must_use]
    pub fn stats(&self) -> PortStats {
        let _one = self.device.control();
        let mut stats = rte_eth_stats::default();
        // SAFETY: the port is valid, and DPDK fills the counters.
        unsafe { dpdk_sys::rte_eth_stats_get(self.device.port(), &mut stats) };
        PortStats {
            rx_packets: stats.ipackets,
            rx_bytes: stats.ibytes,
            tx_packets: stats.opackets,
            tx_bytes: stats.obytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            tx_errors: stats.oerrors,
            rx_no_mbuf: stats.rx_nombuf,
        }
    }

    /// State of the link, without waiting for it.
    #[must_use]
    pub fn link(&self) -> PortLink {
        let _one = self.device.control();
        let mut link = dpdk_sys::dpdk_sys_link::default();
        // SAFETY: the port is valid, and the shim fills the state.
        let code = unsafe { dpdk_sys::dpdk_sys_eth_link_get_nowait(self.device.port(), &mut link) };
        if code != 0 {
            return PortLink::default();
        }
        // 0 is none, and the greatest number unknown.
        let speed_mbps = (1..u32::MAX).contains(&link.speed_mbps).then_some(link.speed_mbps);
        PortLink { up: link.up != 0, speed_mbps, full_duplex: link.full_duplex != 0 }
    }
}
