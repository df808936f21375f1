//! KNI, the kernel network interface: gone from DPDK. capsule calls it only for ports whose
//! configuration says `kni = true`; such a port fails to start with `ENOTSUP`, and nothing past
//! [`rte_kni_init`] and [`rte_kni_alloc`] is ever reached with a device.

use std::ffi::{c_char, c_int, c_uint};

use crate::raw::{capsule_ffi_set_errno, rte_mbuf, rte_mempool};

/// `ENOTSUP` on Linux.
const ENOTSUP: c_int = 95;

/// Bytes in a device's name, its final NUL among them.
const NAME_SIZE: usize = 32;

/// A KNI device. None can be made.
#[derive(Debug)]
pub enum rte_kni {}

/// What capsule fills in of a device's configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct rte_kni_conf {
    /// The interface's name, ended by NUL.
    pub name: [c_char; NAME_SIZE],
    /// The port it belongs to.
    pub group_id: u16,
    /// Bytes in an mbuf of it.
    pub mbuf_size: u32,
    /// Its Ethernet address.
    pub mac_addr: [u8; 6],
}

/// What the kernel may ask of a device.
#[derive(Clone, Copy, Debug, Default)]
pub struct rte_kni_ops {
    /// The port it belongs to.
    pub port_id: u16,
    /// Asks for another MTU.
    pub change_mtu: Option<unsafe extern "C" fn(port_id: u16, new_mtu: c_uint) -> c_int>,
    /// Asks for up or down.
    pub config_network_if: Option<unsafe extern "C" fn(port_id: u16, if_up: u8) -> c_int>,
    /// Asks for another Ethernet address.
    pub config_mac_address: Option<unsafe extern "C" fn(port_id: u16, mac_addr: *mut u8) -> c_int>,
    /// Asks for promiscuous mode.
    pub config_promiscusity: Option<unsafe extern "C" fn(port_id: u16, to_on: u8) -> c_int>,
}

/// Fails with `-ENOTSUP`.
///
/// # Safety
/// None is asked of the caller; `unsafe` as DPDK's function is, so that it can stand in for it.
pub unsafe fn rte_kni_init(_max: c_uint) -> c_int {
    -ENOTSUP
}

/// Does nothing: there is nothing to close.
///
/// # Safety
/// As for [`rte_kni_init`].
pub unsafe fn rte_kni_close() {}

/// Returns null with `rte_errno` at `ENOTSUP`.
///
/// # Safety
/// As for [`rte_kni_init`]: the pointers are not looked at.
pub unsafe fn rte_kni_alloc(
    _pool: *mut rte_mempool,
    _conf: *const rte_kni_conf,
    _ops: *mut rte_kni_ops,
) -> *mut rte_kni {
    // SAFETY: stores a number in a variable of this thread.
    unsafe { capsule_ffi_set_errno(ENOTSUP) };
    std::ptr::null_mut()
}

/// Fails with `-ENOTSUP`.
///
/// # Safety
/// As for [`rte_kni_init`].
pub unsafe fn rte_kni_release(_kni: *mut rte_kni) -> c_int {
    -ENOTSUP
}

/// The empty string: no device has a name.
///
/// # Safety
/// As for [`rte_kni_init`].
pub unsafe fn rte_kni_get_name(_kni: *const rte_kni) -> *const c_char {
    c"".as_ptr()
}

/// Fails with `-ENOTSUP`.
///
/// # Safety
/// As for [`rte_kni_init`].
pub unsafe fn rte_kni_handle_request(_kni: *mut rte_kni) -> c_int {
    -ENOTSUP
}

/// Receives nothing.
///
/// # Safety
/// As for [`rte_kni_init`].
pub unsafe fn rte_kni_rx_burst(_kni: *mut rte_kni, _mbufs: *mut *mut rte_mbuf, _count: c_uint) -> c_uint {
    0
}

/// Takes nothing.
///
/// # Safety
/// As for [`rte_kni_init`].
pub unsafe fn rte_kni_tx_burst(_kni: *mut rte_kni, _mbufs: *mut *mut rte_mbuf, _count: c_uint) -> c_uint {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_device_can_be_made_and_errno_says_why() {
        let mut ops = rte_kni_ops::default();
        // SAFETY: the stand-in looks at none of its arguments.
        let kni = unsafe { rte_kni_alloc(std::ptr::null_mut(), &rte_kni_conf::default(), &mut ops) };
        assert!(kni.is_null());
        // SAFETY: reads a variable of this thread.
        assert_eq!(unsafe { crate::_rte_errno() }, ENOTSUP);
        // SAFETY: the stand-in has no preconditions.
        assert_eq!(unsafe { rte_kni_init(1) }, -ENOTSUP);
    }
}
