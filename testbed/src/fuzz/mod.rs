//! What fuzzers call, each with the bytes that it has thought of. Stable Rust, so that the corpus can be replayed by an
//! ordinary test (`tests/fuzz_corpus.rs`); `testbed/fuzz` makes fuzzers of them.

mod fragments;
mod ftp;
mod input;
mod parse;
mod pipeline;
mod quoted;
mod sip;

pub use fragments::fragments;
pub use ftp::ftp;
pub use parse::parse;
pub use pipeline::pipeline;
pub use quoted::quoted;
pub use sip::sip;

/// A target: what a fuzzer calls.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 6] = [
    ("fragments", fragments),
    ("ftp", ftp),
    ("parse", parse),
    ("pipeline", pipeline),
    ("quoted", quoted),
    ("sip", sip),
];
