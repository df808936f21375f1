//! Virtual labs, packet generator, benchmarks and the demo.
