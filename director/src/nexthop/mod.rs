//! Routes and neighbours as the data plane looks them up, mirrored from the kernel.

mod hop;
mod routes;
mod view;
mod vlan;

pub use hop::{CachedEgress, Egress, Hop, NextHops, NoWay, PortLink, Unresolved};
pub use routes::{RouteTable, source_address};
pub use view::{Address, KernelView, Link, MacAddr, Neighbour, Route, VlanLink};
pub use vlan::{Vlan, Vlans};
