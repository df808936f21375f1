//! Drains: real servers that get no new connections, wait for those that they have, and then go.
//!
//! A drain lives in the daemon, so that it goes on when the operator's terminal does not. Nothing here has a clock or
//! counts connections; whoever calls says what time it is and how many are left.

mod decay;
#[expect(clippy::module_inception, reason = "one file one noun, and this noun is the drain")]
mod drain;
mod drains;

pub use decay::Decay;
pub use drain::{Drain, End, Plan};
pub use drains::{Drains, Due};
