//! The one truth about what is balanced: virtual services and their real servers, validated.

mod edit;
mod error;
#[expect(clippy::module_inception, reason = "one file one noun, and this noun is the model")]
mod model;
mod service;
mod text;
mod validate;

pub use edit::Edit;
pub use error::{AddressFault, EditError, Limited};
pub use model::{Change, Limits, Model};
pub use service::{
    ForwardingMethod, Protocol, RealServer, Scheduler, SchedulerFlags, Service, ServiceKey, Timeouts, Weight,
};
pub use text::ParseWordError;
pub use validate::{Fault, Place, faults};
