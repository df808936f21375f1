//! `directorctl`: the operator's hand on a running director.
fn main() {}
