//! How packets are changed on their way to a real server and back: one file for each forwarding
//! method. With direct routing nothing changes but TTL and next hop, which all methods share. What is too long for its
//! link leaves in pieces.

pub mod mss;
pub mod nat;
pub mod pieces;
pub mod tunnel;
