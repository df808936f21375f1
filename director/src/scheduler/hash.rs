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
