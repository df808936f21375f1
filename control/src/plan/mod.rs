//! From the configuration that runs to another one: what differs, in words, what that moves, and what has to be
//! made of it. All of it is computed from what is given; nothing here runs or changes anything.

mod check;
mod compare;
mod difference;
mod fixed;
mod keys;
mod live;
mod text;

pub use difference::{Difference, Fate, KeyChange, Moves, ServerChange, ServiceChange};
pub use fixed::{FIXED, needs_restart};
pub use live::Live;

#[cfg(test)]
mod tests;
