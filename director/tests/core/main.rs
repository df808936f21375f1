//! The pure core from outside: packets in, packets out, time by hand. No DPDK, no root.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "tests, each of which uses a part of the world")]

mod affinity;
mod bypass;
mod capture;
mod changes;
mod dr;
mod explain;
mod fragments;
mod frames;
mod ftp;
mod icmp;
mod icmpv6;
mod ipsec;
mod ipv6;
mod lcore;
mod least;
mod local;
mod malformed;
mod marks;
mod nat;
mod persistence;
mod pieces;
mod refusal;
mod sctp;
mod settings;
mod signs;
mod sip;
mod snapshots;
mod table;
mod thresholds;
mod tunnel;
mod usual;
mod vlan;
mod world;
