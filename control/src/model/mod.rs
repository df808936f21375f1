//! The one truth about what is balanced: virtual services and their real servers, validated.

mod service;

pub use service::{
    ForwardingMethod, Protocol, RealServer, Scheduler, SchedulerFlags, Service, ServiceKey, Timeouts, Weight,
};
