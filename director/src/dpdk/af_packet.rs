//! What net_af_packet leaves undone: its sockets also receive what this host sends on the interface. The
//! kernel's own packets (of ARP, of health checks, of the slow path) would come in as if a neighbour had sent
//! them. The driver offers no argument for it and keeps its sockets to itself, so they are found among the
//! process's descriptors.
//!
//! A filter does it. `PACKET_IGNORE_OUTGOING` does not: the driver puts its sockets into a fanout group, which
//! has that flag for itself, when it is made.

use std::collections::BTreeSet;
use std::ffi::{c_int, c_void};

/// Descriptors of this process that are open.
pub(super) struct Descriptors(BTreeSet<c_int>);

impl Descriptors {
    /// As of now.
    pub(super) fn now() -> Self {
        let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
        Self(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// Makes the packet sockets that were opened since leave out what is sent. Whether there was one, and all
    /// do.
    pub(super) fn new_sockets_leave_out_what_is_sent(&self) -> bool {
        let new = Self::now().0.into_iter().filter(|fd| !self.0.contains(fd));
        let mut sockets = new.filter(|fd| is_packet_socket(*fd)).peekable();
        sockets.peek().is_some() && sockets.all(leave_out_what_is_sent)
    }
}

fn is_packet_socket(fd: c_int) -> bool {
    let mut domain: c_int = 0;
    let mut size = size_of::<c_int>() as libc::socklen_t;
    let value = (&raw mut domain).cast::<c_void>();
    // SAFETY: writes an int. Whatever the descriptor is, this only asks.
    let code = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_DOMAIN, value, &mut size) };
    code == 0 && domain == libc::AF_PACKET
}

fn leave_out_what_is_sent(fd: c_int) -> bool {
    // Of the kernel's classic BPF: load the packet's type; sent by this host? take nothing : take all.
    let packet_type = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, packet_type),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::from(libc::PACKET_OUTGOING)),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let value = (&raw const program).cast::<c_void>();
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: reads the program, which the kernel checks and copies.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, value, size) == 0 }
}
