//! Mirror interfaces: for the kernel, the director's port is this interface.
//!
//! A mirror is a TAP. (virtio-user needs vhost-net in the kernel; a TAP is everywhere.) No transmit
//! offload is offered to the kernel, so that every frame that it sends has whole checksums and fits
//! the MTU.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::id::IfIndex;
use crate::nexthop::MacAddr;

/// Why there is no mirror interface.
#[derive(Debug, thiserror::Error)]
#[error("mirror interface {name}: {reason}: {remedy}")]
pub struct MirrorError {
    name: String,
    reason: String,
    remedy: String,
}

/// A mirror interface. One that the director made goes with it; one that was there before stays, with
/// its addresses.
pub struct Mirror {
    device: SyncDevice,
    name: String,
    link: IfIndex,
    mac: MacAddr,
}

impl Mirror {
    /// Attaches to the TAP of that name, or makes one; sets its MTU and, if given, its Ethernet
    /// address; brings it up.
    ///
    /// # Errors
    /// The name belongs to another kind of interface, another process holds the TAP, rights or
    /// `/dev/net/tun` are missing.
    pub fn open(name: &str, mtu: u16, mac: Option<MacAddr>) -> Result<Mirror, MirrorError> {
        let existed = super::interface(name).is_some();
        let failed = |error: &io::Error| explain(name, existed, error);
        let mut builder = DeviceBuilder::new().name(name).layer(Layer::L2).mtu(mtu).enable(true);
        if let Some(MacAddr(mac)) = mac {
            builder = builder.mac_addr(mac);
        }
        let device = builder.build_sync().map_err(|e| failed(&e))?;
        device.set_nonblocking(true).map_err(|e| failed(&e))?;
        let link = IfIndex(device.if_index().map_err(|e| failed(&e))?);
        let mac = MacAddr(device.mac_address().map_err(|e| failed(&e))?);
        Ok(Mirror { device, name: name.to_owned(), link, mac })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its index.
    pub fn link(&self) -> IfIndex {
        self.link
    }

    /// Its Ethernet address: the director's on this port.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Gives the kernel a frame as if it had received it.
    ///
    /// # Errors
    /// `WouldBlock` where the kernel's queue is full; others where the interface is down.
    pub fn deliver(&self, frame: &[u8]) -> io::Result<()> {
        self.device.send(frame).map(|_| ())
    }

    /// Takes a frame that the kernel sends, and says how long it is.
    ///
    /// # Errors
    /// `WouldBlock` where there is none.
    pub fn take(&self, frame: &mut [u8]) -> io::Result<usize> {
        self.device.recv(frame)
    }
}

impl AsFd for Mirror {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn explain(name: &str, existed: bool, error: &io::Error) -> MirrorError {
    let (reason, remedy) = match error.raw_os_error() {
        Some(libc::EBUSY) => (
            "another process is attached to it".to_owned(),
            "stop that process (another director?), or give this port a mirror of another name",
        ),
        Some(libc::EINVAL) if existed => (
            "there is an interface of that name already, and it is no TAP of a single queue".to_owned(),
            "give the mirror another name, or remove that interface",
        ),
        Some(libc::EPERM | libc::EACCES) => {
            ("no permission".to_owned(), "run the director as root or with CAP_NET_ADMIN")
        }
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => (
            "/dev/net/tun is missing".to_owned(),
            "load the kernel module tun, or pass the device into the container",
        ),
        _ => (error.to_string(), "see whether `ip tuntap add` can make it by hand"),
    };
    MirrorError { name: name.to_owned(), reason, remedy: remedy.to_owned() }
}
