//! Pools of packets.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys::rte_mempool;

use super::eal::Eal;
use super::error::DpdkError;
use super::mbuf::{HEADROOM, Mbuf};
use crate::packet::PacketPool;

/// What a pool is to be.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Its name, unique in the process, at most 25 bytes.
    pub name: String,
    /// How many mbufs it holds. The memory is taken at once: some 2.4 kB each at an MTU of 1500.
    pub mbufs: u32,
    /// How many free ones an lcore keeps for itself; lowered where the pool is small.
    pub cache: u32,
    /// The largest MTU of the ports that receive into it, in bytes.
    pub mtu: u16,
    /// The NUMA node to take the memory from; any where `None`.
    pub socket: Option<u32>,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { name: "director".to_owned(), mbufs: 16384, cache: 256, mtu: 1500, socket: None }
    }
}

/// A pool of mbufs. A handle: clones share the pool, and each lcore has its own clone. Packets may be taken
/// and given back from any thread; from a worker lcore or a registered thread
/// ([`super::register_thread`]) it costs half as much.
///
/// The pool is freed with its last handle. Where packets are still out then, their memory and EAL stay until
/// the process ends.
#[derive(Clone)]
pub struct MbufPool(Arc<Inner>);

struct Inner {
    pool: NonNull<rte_mempool>,
    capacity: u32,
    /// The longest frame that fits behind the headroom.
    longest: u16,
    eal: Eal,
}

// SAFETY: a mempool may be used by several threads at once, and nothing else changes after its creation.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl MbufPool {
    /// Makes a pool.
    ///
    /// # Errors
    /// Where memory does not suffice or the name is taken.
    pub fn new(eal: &Eal, config: &PoolConfig) -> Result<Self, DpdkError> {
        let what = || format!("mbuf pool {} of {} mbufs", config.name, config.mbufs);
        let name = CString::new(config.name.as_str())
            .ok()
            .filter(|name| (1..=25).contains(&name.as_bytes().len()))
            .ok_or_else(|| {
                DpdkError::new(what(), "the name does not fit", "use 1 to 25 bytes without NUL")
            })?;
        if config.mbufs == 0 {
            return Err(DpdkError::new(what(), "a pool cannot be empty", "set mbufs to 1024 or more"));
        }
        let longest = longest_frame(config.mtu);
        // DPDK's limits: a fixed greatest size, and mbufs / 1.5.
        let cache = config.cache.min(dpdk_sys::RTE_MEMPOOL_CACHE_MAX_SIZE).min(config.mbufs / 3 * 2);
        let socket = config.socket.map_or(dpdk_sys::SOCKET_ID_ANY, |socket| socket as i32);
        // SAFETY: EAL runs, and the name is a C string that DPDK copies.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(
                name.as_ptr(),
                config.mbufs,
                cache,
                0,
                HEADROOM + longest,
                socket,
            )
        };
        let Some(pool) = NonNull::new(pool) else {
            let error = DpdkError::of_code(what(), -1);
            return Err(match error.errno() {
                libc::EEXIST => error.remedy("give it a name of its own"),
                libc::ENOMEM => error.remedy(eal.memory_remedy()),
                _ => error,
            });
        };
        Ok(Self(Arc::new(Inner { pool, capacity: config.mbufs, longest, eal: eal.clone() })))
    }

    /// A packet of `len` bytes of any content; `None` where the pool is empty or `len` is too much.
    #[inline]
    #[must_use]
    pub fn alloc(&self, len: usize) -> Option<Mbuf> {
        let len = u16::try_from(len).ok().filter(|len| *len <= self.0.longest)?;
        // SAFETY: the pool is valid.
        let mbuf = NonNull::new(unsafe { dpdk_sys::dpdk_sys_pktmbuf_alloc(self.0.pool.as_ptr()) })?;
        // SAFETY: fresh from the pool, and ours.
        let mut mbuf = unsafe { Mbuf::from_raw(mbuf) };
        mbuf.set_len(len);
        Some(mbuf)
    }

    /// Mbufs that are in the pool now, those kept by lcores included. Walks over all lcores.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.0.available()
    }

    /// How many there are, in the pool or out.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.0.capacity
    }

    /// The longest frame that one mbuf holds, in bytes.
    #[must_use]
    pub fn longest_frame(&self) -> usize {
        usize::from(self.0.longest)
    }

    pub(super) fn as_ptr(&self) -> *mut rte_mempool {
        self.0.pool.as_ptr()
    }
}

/// Room for a frame of an MTU: Ethernet header, two VLAN tags, checksum. Not below 2048: drivers
/// (net_af_packet) insist on it whatever the MTU.
const fn longest_frame(mtu: u16) -> u16 {
    const AROUND: u16 = 14 + 2 * 4 + 4;
    const MOST: u16 = u16::MAX - HEADROOM - 63;
    let frame = mtu.saturating_add(AROUND);
    let frame = if frame > MOST { MOST } else { frame };
    // Whole cache lines.
    let frame = frame.div_ceil(64) * 64;
    if frame < 2048 { 2048 } else { frame }
}

impl Inner {
    fn available(&self) -> u32 {
        // SAFETY: the pool is valid.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.pool.as_ptr()) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let out = self.capacity.saturating_sub(self.available());
        if out == 0 {
            // SAFETY: the last handle, and every mbuf is back: nobody refers to the pool.
            unsafe { dpdk_sys::rte_mempool_free(self.pool.as_ptr()) };
        } else {
            // Some `Mbuf` still points into it, and will be given back to it.
            tracing::debug!("{out} mbufs are out when their pool is dropped: its memory stays");
            std::mem::forget(self.eal.clone());
        }
    }
}

impl PacketPool for MbufPool {
    type Packet = Mbuf;

    #[inline]
    fn alloc(&mut self, len: usize) -> Option<Mbuf> {
        MbufPool::alloc(self, len)
    }
}

#[cfg(test)]
mod tests {
    use super::longest_frame;

    #[test]
    fn a_frame_of_the_mtu_fits() {
        assert_eq!(longest_frame(1500), 2048);
        assert_eq!(longest_frame(68), 2048);
        assert_eq!(longest_frame(9000), 9088);
        assert!(longest_frame(u16::MAX) >= 65000);
    }
}
