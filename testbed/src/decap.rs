//! The far end of a tunnel in user space, for kernels that have none of their own (`ipip`, `sit`, `ip6_tunnel`).
//!
//! Raw sockets hear every packet of IPv4 and IPv6 that is addressed to this machine and carries another packet; the
//! kernel has checked and reassembled the outer one. What is inside is handed back to the kernel by a tun device, as
//! if it had come in by that interface. Nothing goes the other way: replies leave by the ordinary route.

mod inner;

use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::sync::{Arc, mpsc};
use std::thread;

use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, ipproto, recv, socket_with, sockopt,
};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

pub use inner::{Refusal, Version, decapsulate};

use crate::error::{Context as _, Result};

/// The four kinds of tunnels: the outer packet's version and, by its protocol, the inner one's.
const KINDS: [(Version, Version); 4] = [
    (Version::V4, Version::V4),
    (Version::V4, Version::V6),
    (Version::V6, Version::V4),
    (Version::V6, Version::V6),
];

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
    let sockets = KINDS
        .iter()
        .map(|&(outer, inner)| Ok((outer, inner, raw_socket(outer, inner)?)))
        .collect::<Result<Vec<_>>>()?;
    println!("decap is ready: protocols 4 and 41 of IPv4 and IPv6 to {device} for {vips:?}");
    let (tun, vips) = (Arc::new(tun), Arc::<[IpAddr]>::from(vips));
    let (ended, end) = mpsc::channel();
    for (outer, inner, socket) in sockets {
        let (tun, vips, ended) = (Arc::clone(&tun), Arc::clone(&vips), ended.clone());
        thread::spawn(move || ended.send(take_out(outer, inner, &socket, &tun, &vips)));
    }
    // The first socket that breaks ends the program, and the others with it.
    end.recv().context(|| "nobody takes packets out of tunnels")?
}

fn raw_socket(outer: Version, inner: Version) -> Result<OwnedFd> {
    let family = match outer {
        Version::V4 => AddressFamily::INET,
        Version::V6 => AddressFamily::INET6,
    };
    let protocol: Protocol = match inner {
        Version::V4 => ipproto::IPIP,
        Version::V6 => ipproto::IPV6,
    };
    let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))
        .context(|| format!("cannot open a raw socket for {inner} in {outer} (root is needed)"))?;
    // Room for a burst of packets while this program waits for its turn on the CPU.
    sockopt::set_socket_recv_buffer_size(&socket, 8 << 20)
        .context(|| "cannot enlarge the raw socket's buffer")?;
    Ok(socket)
}

/// Takes packets out of one kind of tunnel.
fn take_out(
    outer: Version,
    inner: Version,
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
            Err(errno) => crate::fail!("the raw socket for {inner} in {outer} broke: {errno}"),
        };
        match decapsulate(outer, inner, packet, vips) {
            // A tun device that is down or full loses the packet, as a wire would.
            Ok(packet) => drop(tun.send(packet)),
            Err(refusal) => {
                if !said.contains(&refusal) && said.len() < 100 {
                    println!("decap refused a packet by {inner} in {outer}: {refusal}");
                    said.push(refusal);
                }
            }
        }
    }
}
