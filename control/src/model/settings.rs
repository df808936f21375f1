//! What an operator can set of the whole director while it runs: IPVS's sysctls by their names.

use std::time::Duration;

/// The sysctls of `/proc/sys/net/ipv4/vs` that have a meaning here, with the kernel's defaults
/// (Linux `Documentation/networking/ipvs-sysctl.rst`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Any TCP segment without RST may open a connection, not SYN alone; for directors that stand in for each
    /// other.
    pub sloppy_tcp: bool,
    /// A packet of a connection whose real server was removed ends the connection at once and is treated as new;
    /// otherwise it is dropped.
    pub expire_nodest_conn: bool,
    /// A persistence template whose real server has weight 0 is used no more.
    pub expire_quiescent_template: bool,
    /// What a SYN on a known connection does, in bits. 1: schedule anew after TIME_WAIT and CLOSE. 2: also after a
    /// FIN_WAIT of which only the client's side is seen. 0: the real server stays. From 0 to 3.
    pub conn_reuse_mode: u8,
    /// Whether connections that carry little are ended at random: 0 never, 1 when memory runs short, 2 the same,
    /// and armed now, 3 always.
    pub drop_entry: u8,
    /// Whether one in so many new connections is refused: 0 to 3 as `drop_entry`.
    pub drop_packet: u8,
    /// Whether TCP follows the stricter table of states: 0 to 3 as `drop_entry`.
    pub secure_tcp: u8,
    /// With `drop_packet` 3, one new connection in so many is refused; at least 1.
    pub am_droprate: u32,
    /// With fewer free entries in an lcore's connection table than this, memory is short and defences in mode 1
    /// arm. The kernel counts pages of memory, which says nothing about tables of fixed size.
    pub amemthresh: u32,
    /// A NAT real server's packet that belongs to no connection is answered with an ICMP error.
    pub nat_icmp_send: bool,
    /// An ICMP error about an unknown connection may itself be scheduled.
    pub schedule_icmp: bool,
    /// The outer header of a tunnel takes over "don't fragment" from the inner one.
    pub pmtu_disc: bool,
    /// How long an unused entry of the `lblc` scheduler lasts; whole seconds, at most [`Settings::MAX_EXPIRATION`].
    pub lblc_expiration: Duration,
    /// After how long without a change the `lblcr` scheduler takes the most loaded real server from a set; whole
    /// seconds, at most [`Settings::MAX_EXPIRATION`].
    pub lblcr_expiration: Duration,
    /// Whether rates are estimated.
    pub run_estimation: bool,
}

impl Settings {
    /// The longest expiration: 31 days, which the data plane's clock can tell from nothing.
    pub const MAX_EXPIRATION: Duration = Duration::from_secs(31 * 24 * 3600);
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            sloppy_tcp: false,
            expire_nodest_conn: false,
            expire_quiescent_template: false,
            conn_reuse_mode: 1,
            drop_entry: 0,
            drop_packet: 0,
            secure_tcp: 0,
            am_droprate: 10,
            amemthresh: 1024,
            nat_icmp_send: false,
            schedule_icmp: false,
            pmtu_disc: true,
            lblc_expiration: Duration::from_secs(24 * 3600),
            lblcr_expiration: Duration::from_secs(24 * 3600),
            run_estimation: true,
        }
    }
}
