//! What the hashing schedulers have in common.

use std::net::IpAddr;

/// The address folded to 32 bits as IPVS does it: IPv6 by XOR of its four words.
#[inline]
pub(super) fn fold(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(v4) => u32::from(v4),
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
        }
    }
}

/// How many slots the tables of `sh` and `dh` have: 2 to the power of this (`CONFIG_IP_VS_SH_TAB_BITS`,
/// `IP_VS_DH_TAB_BITS`).
const BITS: u32 = 8;
/// How many slots the tables of `sh` and `dh` have.
pub(super) const SLOTS: u32 = 1 << BITS;
/// Linux's `GOLDEN_RATIO_32`.
const GOLDEN_RATIO: u32 = 0x61C8_8647;

/// The slot of an address and a port: Linux's `hash_32`.
#[inline]
pub(super) fn slot(address: IpAddr, port: u16) -> u32 {
    u32::from(port).wrapping_add(fold(address)).wrapping_mul(GOLDEN_RATIO) >> (32 - BITS)
}

/// The way round a table from a slot whose real server is unavailable: the client is hashed anew with
/// a growing offset that starts at that slot (`ip_vs_sh_get_fallback`, `ip_vs_mh_get_fallback`).
#[inline]
pub(super) fn fallback<R>(
    size: u32,
    first: u32,
    slot: impl Fn(u32) -> u32,
    mut available: impl FnMut(u32) -> Option<R>,
) -> Option<R> {
    (0..size).find_map(|offset| available(slot((offset + first) % size)))
}
