//! Pictures of what was measured, as SVG.

mod percentiles;

pub use percentiles::{Line, Percentiles};
