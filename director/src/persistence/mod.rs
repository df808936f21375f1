//! Persistence templates: which real server a client's connections go to, whatever lcore they live on.
//!
//! Shared by all lcores and touched only when a connection is created, is established or ends, never for each packet.

mod call_ids;
mod copy;
mod shard;
mod template;
mod templates;

pub use copy::TemplateCopy;
pub use template::{Name, Template, TemplateKey};
pub use templates::{Full, TemplateId, Templates};
