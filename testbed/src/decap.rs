//! The far end of a tunnel in user space, for kernels that have none of their own (`ipip`, `sit`, `ip6_tunnel`).
//!
//! Raw sockets hear every packet of IPv4 and IPv6 that is addressed to this machine and carries another packet; the
//! kernel has checked and reassembled the outer one. What is inside is handed back to the kernel by a tun device, as
//! if it had come in by that interface. Nothing goes the other way: replies leave by the ordinary route.

mod inner;

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::{Arc, mpsc};
use std::thread;

use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, bind, ipproto, recv, socket_with, sockopt,
};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

pub use inner::{Carrier, Refusal, Version, decapsulate};

use crate::error::{Context as _, Result};

/// The UDP port of GUE.
pub const GUE_PORT: u16 = 6080;

/// What may carry a packet, over either version of IP.
const CARRIERS: [Carrier; 4] =
    [Carrier::Ip(Version::V4), Carrier::Ip(Version::V6), Carrier::Gre, Carrier::Gue];

/// Takes packets out of tunnels until the process ends. Prints a line with `ready` once it listens, and
/// one for every kind of packet that it refuses, once.
///
/// # Errors
/// When a socket or the device cannot be made (not root), or a socket breaks.
pub fn serve(device: &str, vips: &[IpAddr]) -> Result<()> {
    let tun = DeviceBuilder::new()
        .name(device)
        .layer(Layer::L3)
        .build_sync()
        .context(|| format!("cannot make the tun device {device} (root and /dev/net/tun are needed)"))?;
    let kinds = [Version::V4, Version::V6].into_iter().flat_map(|outer| CARRIERS.map(|by| (outer, by)));
    let sockets = kinds.map(|(outer, by)| Ok((outer, by, socket(outer, by)?))).collect::<Result<Vec<_>>>()?;
    println!("decap is ready: IPv4, IPv6, GRE and GUE in IPv4 and IPv6 to {device} for {vips:?}");
    let (tun, vips) = (Arc::new(tun), Arc::<[IpAddr]>::from(vips));
    let (ended, end) = mpsc::channel();
    for (outer, carrier, socket) in sockets {
        let (tun, vips, ended) = (Arc::clone(&tun), Arc::clone(&vips), ended.clone());
        thread::spawn(move || ended.send(take_out(outer, carrier, &socket, &tun, &vips)));
    }
    // The first socket that breaks ends the program, and the others with it.
    end.recv().context(|| "nobody takes packets out of tunnels")?
}

fn socket(outer: Version, carrier: Carrier) -> Result<OwnedFd> {
    let family = match outer {
        Version::V4 => AddressFamily::INET,
        Version::V6 => AddressFamily::INET6,
    };
    let (kind, protocol): (SocketType, Protocol) = match carrier {
        Carrier::Ip(Version::V4) => (SocketType::RAW, ipproto::IPIP),
        Carrier::Ip(Version::V6) => (SocketType::RAW, ipproto::IPV6),
        Carrier::Gre => (SocketType::RAW, ipproto::GRE),
        Carrier::Gue => (SocketType::DGRAM, ipproto::UDP),
    };
    let what = || format!("cannot open a socket for {carrier} in {outer} (root is needed)");
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol)).context(what)?;
    if carrier == Carrier::Gue {
        let any: IpAddr = match outer {
            Version::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Version::V6 => {
                sockopt::set_ipv6_v6only(&socket, true).context(what)?;
                Ipv6Addr::UNSPECIFIED.into()
            }
        };
        // A GUE packet in IPv6 may do without a checksum (RFC 6935), which a socket must be told.
        if outer == Version::V6 {
            allow_no_checksum(&socket).context(what)?;
        }
        bind(&socket, &SocketAddr::new(any, GUE_PORT)).context(what)?;
    }
    // Room for a burst of packets while this program waits for its turn on the CPU.
    sockopt::set_socket_recv_buffer_size(&socket, 8 << 20)
        .context(|| "cannot enlarge the socket's buffer")?;
    Ok(socket)
}

/// Takes packets out of one kind of tunnel.
fn take_out(
    outer: Version,
    carrier: Carrier,
    socket: &OwnedFd,
    tun: &SyncDevice,
    vips: &[IpAddr],
) -> Result<()> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 65536];
    let mut said = Vec::new();
    loop {
        let packet = match recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok(((packet, _), _)) => &*packet,
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => crate::fail!("the socket for {carrier} in {outer} broke: {errno}"),
        };
        match decapsulate(outer, carrier, packet, vips) {
            // A tun device that is down or full loses the packet, as a wire would.
            Ok(packet) => drop(tun.send(packet)),
            Err(refusal) => {
                if !said.contains(&refusal) && said.len() < 100 {
                    println!("decap refused a packet by {carrier} in {outer}: {refusal}");
                    said.push(refusal);
                }
            }
        }
    }
}

/// Lets a socket of IPv6 hear datagrams without a checksum.
fn allow_no_checksum(socket: &OwnedFd) -> std::io::Result<()> {
    /// `UDP_NO_CHECK6_RX` of Linux `udp.h`.
    const UDP_NO_CHECK6_RX: libc::c_int = 102;
    let (on, len) = (1 as libc::c_int, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the option's value is an int, which lives until the call is over.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_UDP,
            UDP_NO_CHECK6_RX,
            std::ptr::from_ref(&on).cast(),
            len,
        )
    };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
