//! Virtual labs, clients and real servers, the demo and the benchmark: what proves the rest.

pub mod bench;
pub mod bottle;
pub mod decap;
pub mod demo;
pub mod error;
pub mod fuzz;
pub mod guest;
pub mod lab;
pub mod oracle;
pub mod pages;
pub mod pictures;
pub mod rfc2544;
pub mod traffic;
