//! What is balanced, as lcores see it: immutable, compiled from the operator's model and the kernel's
//! view, published whole.

mod accounts;
mod chunked;
mod compile;
mod lookup;
mod marks;
mod overload;
mod publish;
mod registry;
mod snapshot;
mod tunnels;

pub use chunked::Chunked;
pub use compile::{Compiler, Exhausted, Input, Services};
pub use lookup::{Endpoints, Lingering, ServiceLookup};
pub use marks::{MarkRules, Subject};
pub use publish::{Mailbox, Publisher, Reader};
pub use snapshot::{PortInfo, RealServer, ServerTable, ServiceTable, Snapshot, VirtualService};
pub use tunnels::{TunnelId, Tunnels};

/// A virtual service, as a number that stays the same as long as the service exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

impl ServiceId {
    /// None.
    pub const NONE: ServiceId = ServiceId(u32::MAX);
}

/// A real server of a virtual service, as a number that stays the same as long as the real server
/// exists or connections to it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u32);

impl ServerId {
    /// None: of a connection past a service.
    pub const NONE: ServerId = ServerId(u32::MAX);
}
