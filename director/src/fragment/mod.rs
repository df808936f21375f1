//! Fragments, passed on without being put together: the first one of a packet tells the ports, the others are held until
//! it has come, and follow it then. One table for each lcore; all fragments of a packet meet at one lcore, their
//! collector, whichever lcore received them, and go from there to the lcore that owns the connection.
//!
//! Memory is fixed. A packet is remembered until all of it has passed, at most for [`PATIENCE`]; where there is no room,
//! the oldest makes some, so that pieces of packets that never become whole cost those of honest ones nothing lasting.

mod packets;
mod ranges;
mod slots;

pub use packets::{Fate, Packets, Ports, Released, Slot};

/// How long a packet's pieces may take to come, in milliseconds. Linux waits 30 s, for links that no longer exist.
pub const PATIENCE: u32 = 5000;
/// How many packets are remembered at a time on one lcore; a power of two.
pub const PACKETS: usize = 2048;
/// How many fragments wait for their first one at a time on one lcore.
pub const SLOTS: usize = 256;
/// How many of them may be of one packet: enough for the longest one over a link of 1500 bytes.
const SLOTS_PER_PACKET: u8 = 48;
