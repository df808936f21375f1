//! A slow director, plain enough to be seen to be right: every connection in one list, every packet taken apart and put
//! together again with checksums computed whole. It is written from what IPVS does (Linux `net/netfilter/ipvs`), not
//! from the data path, of which it uses nothing; `tests/differential.rs` holds the two against each other.

pub mod director;
pub mod fragments;
pub mod life;
pub mod network;
pub mod packet;
pub mod persistence;
pub mod schedule;
pub mod sip;

pub use director::{Decision, Director};
