//! Connections: what names them, what is known of them, the table that holds those of one lcore.

mod association;
mod entry;
mod index;
mod key;
mod page;
mod state;
mod table;
mod tables;
mod tags;
mod wheel;

pub use association::next_association_state;
pub use entry::{ConnId, Connection, MANY};
pub use key::{Address, Direction, FlowHash, FlowKey, HashSeed};
pub(crate) use page::BucketAt;
pub use state::{
    Event, Path, SCTP_PROTOCOL, State, Strictness, TCP_PROTOCOL, TimeoutTable, UDP_PROTOCOL, next_state,
    protocol_number, protocol_of,
};
pub use table::{ConnectionTable, Full, Guess, NewConnection};
pub use tables::{Capacity, Tables};
