//! The kernel as slow path: mirror interfaces carry to it what is not for a virtual service, netlink
//! tells what it knows, and a guard keeps it from answering for virtual services on interfaces that
//! it keeps.

pub mod ingress;
pub mod mirror;
pub mod netlink;
pub mod slow_path;
