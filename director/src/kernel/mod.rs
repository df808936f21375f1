//! The kernel as slow path: mirror interfaces carry to it what is not for a virtual service, netlink
//! tells what it knows, and a guard keeps it from answering for virtual services on interfaces that
//! it keeps.

pub mod ingress;
pub mod mirror;
pub mod netlink;
pub mod slow_path;

use crate::id::IfIndex;

/// The index of an interface of this network namespace. (Not from sysfs, which shows the namespace in
/// which it was mounted.)
pub fn interface(name: &str) -> Option<IfIndex> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(any, name).ok().map(IfIndex)
}
