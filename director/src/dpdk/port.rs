//! A port: a device of DPDK, set up and started.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info, rte_eth_stats, rte_ether_addr};

use super::af_packet::Descriptors;
use super::eal::Eal;
use super::error::{DpdkError, error_number};
use super::mempool::MbufPool;
use super::queue::{RxQueue, TxQueue};
use super::rss::{self, Rss};
use super::{device, explain, log};
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
    device: Arc<Device>,
    driver: String,
    mtu: u16,
    rss: Option<Rss>,
    descriptors: (u16, u16),
    rx: Vec<Option<RxQueue>>,
    tx: Vec<Option<TxQueue>>,
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
        self.device.id
    }

    /// Its device string, as configured.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device.string
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
        unsafe { dpdk_sys::rte_eth_macaddr_get(self.device.port, &mut mac) };
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
            unsafe { dpdk_sys::rte_eth_dev_default_mac_addr_set(self.device.port, &mut address) }
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
        unsafe { dpdk_sys::rte_eth_stats_get(self.device.port, &mut stats) };
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
        let code = unsafe { dpdk_sys::dpdk_sys_eth_link_get_nowait(self.device.port, &mut link) };
        if code != 0 {
            return PortLink::default();
        }
        // 0 is none, and the greatest number unknown.
        let speed_mbps = (1..u32::MAX).contains(&link.speed_mbps).then_some(link.speed_mbps);
        PortLink { up: link.up != 0, speed_mbps, full_duplex: link.full_duplex != 0 }
    }
}

/// A device of EAL that is ours: what the port and its queues share.
pub(super) struct Device {
    port: u16,
    id: PortId,
    string: String,
    /// DPDK's control functions are not to be called for one port by two threads at once.
    control: Mutex<()>,
    _pool: MbufPool,
    /// Last, as fields are dropped in order.
    _eal: Eal,
}

/// Names of devices that are open: DPDK would set up a started one once more.
static OPEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn open_devices() -> MutexGuard<'static, BTreeSet<String>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    /// Finds or adds it. From here on it is removed when dropped.
    fn attach(
        eal: &Eal,
        id: PortId,
        string: &str,
        what: &str,
        config: &PortConfig,
        pool: &MbufPool,
    ) -> Result<Self, DpdkError> {
        let nul =
            |_| DpdkError::new(what, "the device string holds a NUL byte", "correct device in [[port]]");
        let devargs = CString::new(device::with_queues(string, config.tx_queues)).map_err(nul)?;
        let name = device::name(string);
        let c_name = CString::new(name).map_err(nul)?;
        // Held over the whole, so that two threads do not add the same device.
        let mut open = open_devices();
        if open.contains(name) {
            return Err(DpdkError::new(
                what,
                format!("device {name} is used by another port"),
                "give each [[port]] a device of its own: net_tap0, net_tap1 and so on",
            ));
        }
        if find(&c_name).is_none() {
            let before = (device::driver(string) == "net_af_packet").then(Descriptors::now);
            let (code, lines) = log::capture(|| {
                // SAFETY: EAL runs, and the string is copied.
                let code = unsafe { dpdk_sys::rte_dev_probe(devargs.as_ptr()) };
                if code != 0 { Err(error_number(code)) } else { Ok(()) }
            });
            if let Err(errno) = code {
                return Err(DpdkError::explained(what, errno, explain::device(string, &lines, errno)));
            }
            if before.is_some_and(|before| !before.new_sockets_leave_out_what_is_sent()) {
                tracing::warn!("{what}: what this host sends on the interface comes in as well");
            }
        }
        let Some(port) = find(&c_name) else {
            return Err(DpdkError::new(
                what,
                format!("DPDK has added {name}, but that is no Ethernet port"),
                "name the device of a port",
            ));
        };
        open.insert(name.to_owned());
        Ok(Self {
            port,
            id,
            string: string.to_owned(),
            control: Mutex::new(()),
            _pool: pool.clone(),
            _eal: eal.clone(),
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn id(&self) -> PortId {
        self.id
    }

    fn control(&self) -> MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn what(&self) -> String {
        format!("port {} ({})", self.id.0, self.string)
    }

    fn info(&self) -> Result<rte_eth_dev_info, i32> {
        let mut info = rte_eth_dev_info::default();
        // SAFETY: the port is valid, and DPDK fills the struct.
        match unsafe { dpdk_sys::rte_eth_dev_info_get(self.port, &mut info) } {
            0 => Ok(info),
            code => Err(code),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let mut open = open_devices();
        let info = self.info();
        let ((), lines) = log::capture(|| {
            if keeps_interface(device::driver(&self.string)) {
                // The kernel's interface outlives the port, and net_af_packet set a flag of it.
                // SAFETY: the port is valid; where it is not promiscuous this does nothing.
                unsafe { dpdk_sys::rte_eth_promiscuous_disable(self.port) };
            }
            // SAFETY: the port is valid, and its queues are gone. One that is stopped is left as it is.
            unsafe { dpdk_sys::rte_eth_dev_stop(self.port) };
            // SAFETY: stopped.
            unsafe { dpdk_sys::rte_eth_dev_close(self.port) };
            let Ok(info) = info else { return };
            // SAFETY: the device of the port, which stays until it is removed.
            let other = unsafe { dpdk_sys::rte_eth_find_next_of(0, info.device) };
            if u32::from(other) >= dpdk_sys::RTE_MAX_ETHPORTS && !info.device.is_null() {
                // So that it can be opened again. SAFETY: no port of the device is left.
                unsafe { dpdk_sys::rte_dev_remove(info.device) };
            }
        });
        for line in lines {
            tracing::debug!(target: "dpdk", "{}: {line}", self.what());
        }
        open.remove(device::name(&self.string));
    }
}

/// DPDK's number of the port of a device.
fn find(name: &CStr) -> Option<u16> {
    let mut port = 0;
    // SAFETY: EAL runs, the name is a C string, and DPDK fills the number.
    let code = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut port) };
    (code == 0).then_some(port)
}

/// How a device is set up, as the configuration wants it and the driver allows it.
struct Setup<'a> {
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

/// Drivers on an interface that the kernel keeps: its MTU is the kernel's business.
fn keeps_interface(driver: &str) -> bool {
    matches!(driver, "net_af_packet" | "net_af_xdp")
}

impl<'a> Setup<'a> {
    fn of(device: &'a Arc<Device>, what: &'a str, config: &'a PortConfig) -> Result<Self, DpdkError> {
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

    fn check(&self, doing: &str, code: i32) -> Result<(), DpdkError> {
        match code {
            0 => Ok(()),
            code => Err(DpdkError::of_code(format!("{}: {doing}", self.what), code)),
        }
    }

    fn start(self) -> Result<Port, DpdkError> {
        let (port, socket) = (self.device.port, self.socket());
        let (rss, tx_offloads) = self.configure()?;
        let (rx_descriptors, tx_descriptors) = self.descriptors()?;
        self.set_mtu()?;
        for queue in 0..self.rx_queues {
            let conf = self.info.default_rxconf;
            let pool = self.device._pool.as_ptr();
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
            unsafe { dpdk_sys::rte_eth_dev_socket_id(self.device.port) as u32 }
        })
    }

    /// Numbers of queues, offloads, RSS. Returns what was set.
    fn configure(&self) -> Result<(Option<Rss>, u64), DpdkError> {
        let mut conf = rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(self.config.mtu);
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

    fn configure_with(&self, conf: &rte_eth_conf) -> i32 {
        // SAFETY: the port is stopped; DPDK copies the configuration and drivers copy the key.
        unsafe { dpdk_sys::rte_eth_dev_configure(self.device.port, self.rx_queues, self.tx_queues, conf) }
    }

    fn descriptors(&self) -> Result<(u16, u16), DpdkError> {
        let (mut rx, mut tx) = (self.config.rx_descriptors, self.config.tx_descriptors);
        if self.driver == "net_tap" {
            // It keeps an mbuf for each, and receives every frame into the first.
            rx = rx.min(8);
        }
        // SAFETY: the port is valid, and DPDK changes the numbers.
        let code = unsafe { dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(self.device.port, &mut rx, &mut tx) };
        self.check("adjusting its descriptors", code)?;
        Ok((rx, tx))
    }

    fn set_mtu(&self) -> Result<(), DpdkError> {
        if keeps_interface(&self.driver) {
            return Ok(());
        }
        // SAFETY: the port is configured and stopped.
        let code = unsafe { dpdk_sys::rte_eth_dev_set_mtu(self.device.port, self.config.mtu) };
        if code == -libc::ENOTSUP {
            return Ok(());
        }
        self.check("setting its MTU", code)
    }
}
