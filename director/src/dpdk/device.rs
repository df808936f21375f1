//! A device of EAL: found or added, and removed when nobody needs it any more.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dpdk_sys::rte_eth_dev_info;

use super::af_packet::Descriptors;
use super::eal::Eal;
use super::error::{DpdkError, error_number};
use super::flow::Flow;
use super::mempool::MbufPool;
use super::port::PortConfig;
use super::{devargs, explain, log};
use crate::id::PortId;

/// A device of EAL that is ours: what the port and its queues share.
pub(super) struct Device {
    port: u16,
    id: PortId,
    string: String,
    /// DPDK's control functions are not to be called for one port by two threads at once.
    control: Mutex<()>,
    /// Rules that the port has until it is closed.
    flows: Mutex<Vec<Flow>>,
    pool: MbufPool,
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
    pub(super) fn attach(
        eal: &Eal,
        id: PortId,
        string: &str,
        what: &str,
        config: &PortConfig,
        pool: &MbufPool,
    ) -> Result<Self, DpdkError> {
        let nul =
            |_| DpdkError::new(what, "the device string holds a NUL byte", "correct device in [[port]]");
        let devargs = CString::new(devargs::with_queues(string, config.tx_queues)).map_err(nul)?;
        let name = devargs::dpdk_name(string);
        let c_name = CString::new(name.as_str()).map_err(nul)?;
        // Held over the whole, so that two threads do not add the same device.
        let mut open = open_devices();
        if open.contains(&name) {
            return Err(DpdkError::new(
                what,
                format!("device {name} is used by another port"),
                "give each [[port]] a device of its own: net_tap0, net_tap1 and so on",
            ));
        }
        if find(&c_name).is_none() {
            let before = (devargs::driver(string) == "net_af_packet").then(Descriptors::now);
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
        open.insert(name);
        Ok(Self {
            port,
            id,
            string: string.to_owned(),
            control: Mutex::new(()),
            flows: Mutex::new(Vec::new()),
            pool: pool.clone(),
            _eal: eal.clone(),
        })
    }

    /// DPDK's number of the port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn id(&self) -> PortId {
        self.id
    }

    /// The device string, as configured.
    pub(super) fn string(&self) -> &str {
        &self.string
    }

    /// Where received packets go.
    pub(super) fn pool(&self) -> &MbufPool {
        &self.pool
    }

    /// Held around each of DPDK's control functions.
    pub(super) fn control(&self) -> MutexGuard<'_, ()> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps rules of the port until it is closed.
    pub(super) fn keep(&self, flows: Vec<Flow>) {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner).extend(flows);
    }

    /// As messages begin, e.g. `port 1 (net_tap0,iface=dtap0)`.
    pub(super) fn what(&self) -> String {
        format!("port {} ({})", self.id.0, self.string)
    }

    pub(super) fn info(&self) -> Result<rte_eth_dev_info, i32> {
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
        let flows = std::mem::take(self.flows.get_mut().unwrap_or_else(PoisonError::into_inner));
        let ((), lines) = log::capture(|| {
            for flow in flows {
                if let Err(reason) = flow.destroy(self.port) {
                    tracing::warn!("{}: a rule for RSS cannot be taken back: {reason}", self.what());
                }
            }
            if keeps_interface(devargs::driver(&self.string)) {
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
        open.remove(&devargs::dpdk_name(&self.string));
    }
}

/// DPDK's number of the port of a device.
fn find(name: &CStr) -> Option<u16> {
    let mut port = 0;
    // SAFETY: EAL runs, the name is a C string, and DPDK fills the number.
    let code = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut port) };
    (code == 0).then_some(port)
}

/// Drivers on an interface that the kernel keeps: its MTU is the kernel's business.
pub(super) fn keeps_interface(driver: &str) -> bool {
    matches!(driver, "net_af_packet" | "net_af_xdp")
}
