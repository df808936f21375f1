//! The one truth about what is balanced: virtual services and their real servers, validated.

mod edit;
mod error;
mod key;
mod mark;
#[expect(clippy::module_inception, reason = "one file one noun, and this noun is the model")]
mod model;
mod persistence;
mod service;
mod settings;
mod text;
mod thresholds;
mod tunnel;
mod validate;

pub use edit::Edit;
pub use error::{AddressFault, EditError, Limited};
pub use key::{Family, ServiceKey};
pub use mark::{Mark, MarkRule, PortRange, Prefix};
pub use model::{Change, Limits, Model};
pub use persistence::{Persistence, PersistenceEdit, PersistenceEngine};
pub use service::{
    ForwardingMethod, Protocol, RealServer, Scheduler, SchedulerFlags, Service, Timeouts, Weight,
};
pub use settings::{SettingError, SettingValue, Settings};
pub use text::ParseWordError;
pub use thresholds::Thresholds;
pub use tunnel::{GueChecksum, Tunnel};
pub use validate::{Fault, Place, faults};
