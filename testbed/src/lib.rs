//! Virtual labs, clients and real servers, and the demo: what proves the rest.

pub mod decap;
pub mod demo;
pub mod error;
pub mod lab;
pub mod traffic;
