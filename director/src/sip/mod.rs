//! SIP over UDP: which call a message is about.

mod call_id;

pub use call_id::{MAX_CALL_ID, call_id};
